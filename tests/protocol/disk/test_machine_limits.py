"""What only a real machine shows: rights that are missing, and a disk that is full."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.protocol.disk.machine import run_unprivileged

WRITE = """
import sys
from tallow_protocol.disk.root import OutputRoot
from tallow_protocol.errors import ProtocolError
try:
    with OutputRoot.open(sys.argv[1]) as root:
        root.write_small(("f",), b"x", 0o644, 0)
except ProtocolError as error:
    print(error.code, "|", error)
"""

READ_ONLY_FOLDERS = """
import os, sys
from tallow_crypto import Fingerprint
from tallow_protocol.disk.partials import PartialFolder
from tallow_protocol.disk.root import OutputRoot
with OutputRoot.open(sys.argv[1]) as root:
    root.make_folder(("t",))
    root.make_folder(("t", "locked"))
    partials = PartialFolder(root, Fingerprint(bytes(32)))
    file = partials.begin("t/locked/f", 1, 65536, ("t", "locked", "f"), resumes=False)
    root.write_small(("t", "locked", "g"), b"x", 0o400, 0)
    file.write_at(0, b"x")
    file.commit(0o000, 0)
    partials.close()
    root.finish_folders([(("t",), 0o500, 7), (("t", "locked"), 0o000, 9)])
status = os.stat(sys.argv[1] + "/t/locked")
print(oct(status.st_mode), status.st_mtime_ns)
"""

FULL_DISK = """
import os, subprocess, sys
from pathlib import Path
from tallow_crypto import Fingerprint
from tallow_protocol.disk.partials import PartialFolder
from tallow_protocol.disk.root import OutputRoot
from tallow_protocol.errors import NoSpaceError
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", sys.argv[1]], check=True)
root = OutputRoot.open(sys.argv[1])
print("free", 0 < root.free_bytes() <= 2**20)
root.write_small(("t", "whole"), b"x" * 1000, 0o600, 0)
partials = PartialFolder(root, Fingerprint(bytes(32)))
file = partials.begin("t/big", 2**21, 65536, ("t", "big"), resumes=False)
try:
    file.write_at(0, b"x" * 2**21)
except NoSpaceError as error:
    print(error.code)
try:
    root.write_small(("t", "small"), b"x" * 2**20, 0o600, 0)
except NoSpaceError as error:
    print(error.code)
partials.close()
root.discard()
print(sorted(path.name for path in Path(sys.argv[1]).rglob("*")))
"""


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_an_output_directory_without_rights_is_one_clear_error(open_directory, mode):
    closed = open_directory / "closed"
    closed.mkdir()
    closed.chmod(mode)
    child = run_unprivileged(WRITE, closed)
    assert child.stdout.startswith("not_writable | cannot write into")
    assert "Permission denied" in child.stdout
    assert child.stderr == ""


def test_an_output_directory_that_cannot_be_created_is_one_clear_error(open_directory):
    open_directory.chmod(0o755 if os.geteuid() == 0 else 0o555)
    child = run_unprivileged(WRITE, open_directory / "new")
    open_directory.chmod(0o777)
    assert child.stdout.startswith("not_writable | cannot write into")
    assert child.stderr == ""


def test_read_only_and_closed_folders_are_filled_without_roots_rights(open_directory):
    child = run_unprivileged(READ_ONLY_FOLDERS, open_directory / "out")
    assert child.stderr == ""
    assert child.stdout.split() == ["0o40000", "9"]
    for folder in ("t", "t/locked"):
        if os.geteuid() != 0:
            (open_directory / "out" / folder).chmod(0o700)


@pytest.mark.netns
def test_a_full_disk_is_no_space_and_leaves_nothing_half_written(tmp_path):
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare to mount a small file system")
    child = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert child.stderr == ""
    assert child.stdout.splitlines() == ["free True", "no_space", "no_space", "['t', 'whole']"]
    assert list(Path(tmp_path).iterdir()) == []


SCAN = """
import sys
from tallow_protocol.disk.scan import scan
from tallow_protocol.errors import ProtocolError
try:
    print(len(scan(sys.argv[1:]).entries))
except ProtocolError as error:
    print(error.code, "|", error)
"""


def test_an_unreadable_file_is_one_clear_error_before_the_offer(open_directory):
    secret = open_directory / "t" / "secret"
    secret.parent.mkdir()
    secret.write_bytes(b"x")
    secret.chmod(0o000)
    child = run_unprivileged(SCAN, open_directory / "t")
    assert child.stdout == f"unreadable | cannot read '{secret}': Permission denied\n"


@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_an_unreadable_folder_is_one_clear_error_before_the_offer(open_directory, mode):
    closed = open_directory / "t" / "closed"
    closed.mkdir(parents=True)
    (closed / "f").write_bytes(b"x")
    closed.chmod(mode)
    child = run_unprivileged(SCAN, open_directory / "t")
    closed.chmod(0o700)
    assert child.stdout.startswith("unreadable | cannot read")
    assert "closed" in child.stdout
    assert child.stderr == ""


def test_a_path_inside_a_closed_folder_is_one_clear_error(open_directory):
    closed = open_directory / "closed"
    closed.mkdir()
    closed.chmod(0o000)
    child = run_unprivileged(SCAN, closed / "f")
    closed.chmod(0o700)
    assert child.stdout == f"unreadable | cannot read '{closed / 'f'}': Permission denied\n"

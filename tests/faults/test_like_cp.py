"""A transfer of a nasty tree against `cp -a` of the same: every byte, name, kind, mode, time and hole."""

import os
import random
import shutil
import subprocess

import pytest

from tests.protocol.api.running import both

pytestmark = pytest.mark.skipif(shutil.which("cp") is None, reason="there is no cp to compare with")

ODD_NAMES = [
    "with space",
    " leading",
    "-rf",
    "--help",
    "a..b",
    "~",
    "$HOME",
    "`id`",
    "quote'\"",
    "*?[]",
    "é",
    "日本語",
    "🎉",
    "#{}!%&",
    "x" * 255,
    "é" * 127,
    ".hidden",
    "...dots",
    "semi;colon|pipe",
    "naïve (1).tar.gz",
]
ODD_TIMES_NS = [
    0,
    1,
    999_999_999,
    1_700_000_000_123_456_789,
    4_000_000_000_987_654_321,  # after 2038 and 2106's half
    -1,
    -86_400_000_000_001,  # before 1970
]
MODES = [0o000, 0o400, 0o444, 0o555, 0o600, 0o644, 0o700, 0o755, 0o777]


def plant_odd_files(top, source):
    for number, name in enumerate(ODD_NAMES):
        (top / name).write_bytes(source.randbytes(number * 1_000))
    (top / "empty").touch()
    for size in (1, 65_535, 65_536, 65_537, 262_143, 262_144, 262_145, 3_000_001):
        (top / f"size{size}").write_bytes(source.randbytes(size))


def plant_holes(top):
    for name, pieces in {
        "hole in front": [(5 << 20, b"end")],
        "hole behind": [(0, b"begin")],
        "all hole": [],
        "many": [(at << 20, b"x" * 70_000) for at in range(0, 8, 2)],
    }.items():
        with (top / name).open("wb") as file:
            for offset, data in pieces:
                file.seek(offset)
                file.write(data)
            file.truncate(8 << 20)


def plant_links(top):
    (top / "to").mkdir()
    (top / "to" / "file").write_bytes(b"target")
    for number in range(1_000):
        (top / f"link{number}").symlink_to("to/file" if number % 2 else f"nothing{number}")
    (top / "to" / "up").symlink_to("../link1")
    (top / "loop").symlink_to("loop")
    (top / "folder").symlink_to("to")


def plant_deep(top):
    folder = top
    for level in range(55):
        folder = folder / f"level {level}"
        folder.mkdir()
    (folder / "bottom").write_bytes(b"deep")


def dressed(top):
    """Give everything odd modes and times, the deepest first, so that a folder's own stay."""
    paths = sorted(top.rglob("*"), key=lambda path: -len(path.parts))
    for number, path in enumerate(paths):
        if path.is_symlink():
            os.utime(path, ns=(0, ODD_TIMES_NS[number % len(ODD_TIMES_NS)]), follow_symlinks=False)
            continue
        mode = MODES[number % len(MODES)]
        # A file that its owner may not read cannot be sent by anybody but root.
        path.chmod(mode | 0o500 if path.is_dir() else mode | 0o400)
        os.utime(path, ns=(0, ODD_TIMES_NS[number % len(ODD_TIMES_NS)]))


def facts(top):
    """Return what is compared of every path: kind and permissions, time, target or bytes, and whether it has holes."""
    found = {}
    for path in [top, *top.rglob("*")]:
        status = path.lstat()
        content = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        sparse = path.is_file() and not path.is_symlink() and status.st_blocks * 512 < status.st_size - 65_536
        mode = None if path.is_symlink() else status.st_mode
        found[str(path.relative_to(top))] = (mode, status.st_mtime_ns, content, sparse)
    return found


def copied(top, copy):
    subprocess.run(["cp", "-a", top, copy], check=True, timeout=60)


async def test_a_transfer_gives_what_cp_gives(tmp_path):
    source = random.Random(5)
    top = tmp_path / "tree"
    for name in ("odd", "holes", "links", "deep", "read only/inner", "empty folder"):
        (top / name).mkdir(parents=True)
    (top / "read only" / "inner" / "f").write_bytes(b"x")
    plant_odd_files(top / "odd", source)
    plant_holes(top / "holes")
    plant_links(top / "links")
    plant_deep(top / "deep")
    dressed(top)
    (top / "read only" / "inner").chmod(0o555)
    (top / "read only").chmod(0o555)
    os.utime(top, ns=(0, -1_000_000_001))
    copied(top, tmp_path / "copy")
    received = tmp_path / "received"

    a, b = await both(top, into=received)
    assert (a.outcome, b.outcome) == ("done", "done")

    expected = facts(tmp_path / "copy")
    assert len(expected) > 1_080
    assert facts(received / "tree") == expected
    assert [path.name for path in received.iterdir()] == ["tree"]

"""No word of a code, and no key, in what a machine keeps or shows: arguments, debug output, crash reports, files."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.kit import END_S, TALLOW, needs_programs, stage

__all__ = ["stage"]

WORDS = ("graffiti", "platypus", "snowdrift")
CODE = "-".join(("4821", *WORDS))
OTHER = "4821-graffiti-platypus-trombone"

pytestmark = needs_programs


class Watched:
    """A command that is run with all diagnostics on, and of which everything is kept."""

    def __init__(self, folder: Path, arguments: list[str], *, code: str | None, typed: bool = False) -> None:
        folder.mkdir()
        self.home = folder / "home"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TALLOW_")}
        environment |= {"TALLOW_HOME": str(self.home), "TALLOW_DEBUG": "1", "PYTHONASYNCIODEBUG": "1"}
        if code is not None and not typed:
            environment["TALLOW_CODE"] = code
        self.child = subprocess.Popen(
            [str(TALLOW), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=folder,
        )
        if code is not None and typed:
            assert self.child.stdin is not None
            self.child.stdin.write(f"{code}\n".encode())
            self.child.stdin.flush()

    def arguments(self, command: str) -> str:
        """Return what any user of this machine sees of the process, once it is `command` and no longer the fork of us."""
        end = time.monotonic() + END_S
        while time.monotonic() < end and self.child.poll() is None:
            seen = Path(f"/proc/{self.child.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            if f" {command} " in seen:
                return seen
        raise AssertionError(f"{self.child.args} never showed its arguments")

    def end(self) -> tuple[int, str, str]:
        out, err = self.child.communicate(timeout=END_S)
        return self.child.returncode, out.decode(), err.decode()


def words_in(text: str) -> set[str]:
    return {word for word in (*WORDS, "trombone") if word in text.lower()}


def kept(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def first_address(sender: Watched) -> str:
    """Read what the sender shows up to its address; return that, on this machine."""
    assert sender.child.stdout is not None
    shown = ""
    end = time.monotonic() + END_S
    while time.monotonic() < end:
        shown += sender.child.stdout.readline().decode()
        if found := re.search(r"--peer \S*:(\d+)", shown):
            return f"127.0.0.1:{found[1]}"
    raise AssertionError(shown)


@pytest.mark.parametrize("typed", [False, True], ids=["environment", "standard input"])
def test_a_code_stands_in_no_argument_no_diagnosis_and_no_file(tmp_path: Path, typed: bool) -> None:
    (tmp_path / "report.txt").write_bytes(b"figures")
    sender = Watched(tmp_path / "a", ["send", "--code", CODE, str(tmp_path / "report.txt")], code=None)
    peer = first_address(sender)
    receiver = Watched(tmp_path / "b", ["receive", "--yes", "--peer", peer], code=CODE, typed=typed)
    seen = receiver.arguments("receive")
    code, out, err = receiver.end()
    sent, _out, diagnosis = sender.end()
    assert (code, sent) == (0, 0), (err, diagnosis)
    assert (tmp_path / "b" / "report.txt").read_bytes() == b"figures"
    assert words_in(seen) == set()
    assert words_in(out + err) == set(), "the receiver shows the code"
    # The sender shows it: on its screen, where it is copied from, and nowhere else.
    for name, data in kept(tmp_path).items():
        assert words_in(name + data.decode("latin-1")) == set(), name


def test_a_wrong_code_and_a_crash_show_no_word(tmp_path: Path) -> None:
    (tmp_path / "report.txt").write_bytes(b"figures")
    sender = Watched(tmp_path / "a", ["send", "--code", CODE, str(tmp_path / "report.txt")], code=None)
    receiver = Watched(tmp_path / "b", ["receive", "--yes", "--peer", first_address(sender)], code=OTHER)
    code, out, err = receiver.end()
    assert code == 6
    assert words_in(out + err) == set()
    # As a crash would: everything that faulthandler and a traceback could show of the waiting sender.
    sender.child.send_signal(signal.SIGABRT)
    _code, _out, diagnosis = sender.end()
    assert words_in(diagnosis.replace(CODE, "")) == set()
    for name, data in kept(tmp_path).items():
        assert words_in(name + data.decode("latin-1")) == set(), name


def test_what_a_transfer_keeps_is_closed_to_others(tmp_path: Path) -> None:
    """Keys, database and settings at home 0600 in folders 0700, also under a umask that would let everybody in."""
    (tmp_path / "big.bin").write_bytes(os.urandom(3_000_000))
    before = os.umask(0)
    try:
        sender = Watched(tmp_path / "a", ["send", "--code", CODE, str(tmp_path / "big.bin")], code=None)
        receiver = Watched(tmp_path / "b", ["receive", "--yes", "--peer", first_address(sender)], code=CODE)
        ends = receiver.end(), sender.end()
    finally:
        os.umask(before)
    assert [code for code, _out, _err in ends] == [0, 0], ends
    homes = [tmp_path / "a" / "home", tmp_path / "b" / "home"]
    private = [path for home in homes for path in (home, *home.rglob("*"))]
    private += list((tmp_path / "b").rglob(".tallow-partial*"))
    assert len(private) >= 6
    for path in private:
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), f"{path} {mode:o}"
    keys = [data for home in homes for name, data in kept(home).items() if Path(name).name == "store.key"]
    for name, data in kept(tmp_path).items():
        assert Path(name).name == "store.key" or not any(key in data for key in keys), name


def test_this_check_sees_a_code_that_was_given_as_an_argument(tmp_path: Path) -> None:
    """The naive way, which `tallow receive CODE` still allows: the code can be read until it is spent."""
    receiver = Watched(tmp_path / "b", ["receive", "--peer", "127.0.0.1:9", CODE], code=None)
    seen = receiver.arguments("receive")
    receiver.end()
    assert words_in(seen) == set(WORDS)

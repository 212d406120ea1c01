"""Killed in mid-file and started again: what the receiver has is not sent a second time, and the file is the same."""

import os
import subprocess

import pytest

from tests.e2e.kit import TALLOW, Process, local, needs_programs, stage, write_random

__all__ = ["stage"]

pytestmark = needs_programs

MIB = 1 << 20
SIZE_MIB = 150
KILL_AT = 110 * MIB
"""More than is sent before the first sync at this rate, three seconds after the start."""

RATE = "30M"


class Both:
    """A sender and a receiver with homes of their own, so that they are the same two each time."""

    def __init__(self, stage, folder):
        self.stage, self.folder, self.out = stage, folder, folder / "out"

    def start(self, source, *, limit=()):
        sender = self.run("a", "send", "--no-compress", *limit, source)
        ready = sender.wait_for("code")
        receiver = self.run("b", "receive", "--yes", "--peer", local(ready), "--out", self.out, ready["code"])
        return sender, receiver

    def run(self, home, command, *words):
        process = Process([TALLOW, command, "--json", *words], self.folder / home)
        self.stage.processes.append(process)
        return process

    def resume(self, *words):
        """Run `tallow resume` where the receiver would, but in another folder."""
        return subprocess.run(
            [TALLOW, "resume", *words],
            env={**os.environ, "TALLOW_HOME": str(self.folder / "b")},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )

    def interrupted(self, source, victim, *, rate=RATE, at_bytes=KILL_AT):
        """Kill one side once so much is verified, and end the other."""
        sides = dict(zip(("sender", "receiver"), self.start(source, limit=("--limit", rate)), strict=True))
        while sides["receiver"].wait_for("progress")["bytes"] < at_bytes:
            pass
        sides[victim].child.kill()
        sides[victim].child.wait(20)
        other = sides["sender" if victim == "receiver" else "receiver"]
        other.interrupt()
        other.end()

    def interrupted_in_mid_file(self, source, victim):
        """The same; nothing has its final name by then."""
        self.interrupted(source, victim)
        assert [path.name for path in self.out.iterdir()] == [".tallow-partial"]


@pytest.fixture
def both(stage, tmp_path):
    return Both(stage, tmp_path)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "report.iso"
    write_random(path, SIZE_MIB)
    return path


@pytest.mark.parametrize("victim", ["receiver", "sender"])
def test_killed_in_mid_file_the_next_transfer_sends_the_rest(both, source, victim):
    both.interrupted_in_mid_file(source, victim)

    sender, receiver = both.start(source)
    ended = [(side.end(), side.errors) for side in (sender, receiver)]
    assert [code for code, _errors in ended] == [0, 0], ended
    for side in (sender, receiver):
        (resumed,) = [event for event in side.events if event["event"] == "resumed"]
        assert 64 * MIB <= resumed["bytes"] < SIZE_MIB * MIB == resumed["total"]
        told = side.events.index(resumed)
        after = [event["bytes"] for event in side.events[told:] if event["event"] == "progress"]
        assert min(after) >= resumed["bytes"]  # what was there is counted, not sent

    assert (both.out / source.name).read_bytes() == source.read_bytes()
    assert [path.name for path in both.out.iterdir()] == [source.name]


def test_a_source_that_changed_under_the_same_time_starts_anew_and_says_so(both, source):
    status = source.stat()
    both.interrupted_in_mid_file(source, "receiver")
    with source.open("r+b") as file:
        file.write(b"another beginning")
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))

    sender, receiver = both.start(source)
    for side in (sender, receiver):
        assert side.end() == 0, side.errors
        assert any("starts anew" in event["text"] for event in side.events if event["event"] == "warning")
        assert not any(event["event"] == "resumed" for event in side.events)

    assert (both.out / source.name).read_bytes() == source.read_bytes()


def test_what_is_left_is_listed_and_cleaned(both, source):
    both.interrupted_in_mid_file(source, "receiver")
    listed = both.resume("list").stdout  # the store remembers the place
    assert "report.iso" in listed
    assert str(both.out) in listed
    assert "Removed 0 partial files" in both.resume("clean", "--older-than", "1").stderr
    assert "Removed 1 partial file, " in both.resume("clean").stderr
    assert list(both.out.iterdir()) == []
    assert both.resume("list").stdout == ""

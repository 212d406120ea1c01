"""Real processes for whole transfers: a relay, a sender, a receiver, each with a home of its own.

A thread reads each process's JSON lines, so every wait has a deadline and nothing sleeps.
"""

import contextlib
import json
import os
import queue
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

TALLOW = Path(sys.executable).with_name("tallow")
RELAY = Path(sys.executable).with_name("tallow-relay")
START_S, END_S = 30, 60
MTIME_NS = 1_600_000_000_123_456_789

NOBODY = 65534
WITHOUT_ROOT = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]

needs_programs = pytest.mark.skipif(
    not (TALLOW.exists() and RELAY.exists()), reason="the programs are not installed beside Python"
)


class Process:
    """A running program and the JSON lines that it has written."""

    def __init__(self, command, home, *, prefix=()):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TALLOW_")}
        environment["TALLOW_HOME"] = str(home)
        self.child = subprocess.Popen(
            [*prefix, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        self.events = []
        self.raw = []
        self.errors = ""
        self.peak_kib = 0
        self._lines = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._read_lines, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read_lines(self):
        for line in self.child.stdout:
            self.measure()
            self._lines.put(line.decode())
        self._lines.put(None)

    def _read_errors(self):
        self.errors = self.child.stderr.read().decode()

    def measure(self):
        """Note the peak resident memory so far; a process that has ended has no more."""
        with contextlib.suppress(OSError, StopIteration):
            status = Path(f"/proc/{self.child.pid}/status").read_text()
            line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
            self.peak_kib = max(self.peak_kib, int(line.split()[1]))

    def next(self, end):
        """Return the next event, None after the last; fails at `end` (monotonic seconds)."""
        try:
            line = self._lines.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            raise AssertionError(f"no event in time after {self.raw}") from None
        if line is None:
            self._lines.put(None)
            return None
        self.raw.append(line)
        self.events.append(json.loads(line))
        return self.events[-1]

    def wait_for(self, name, seconds=START_S, **fields):
        """Return the next event of this name with these fields."""
        end = time.monotonic() + seconds
        while (event := self.next(end)) is not None:
            if event["event"] == name and fields.items() <= event.items():
                return event
        raise AssertionError(f"it ended without {name}: {self.raw} {self.errors}")

    def interrupt(self):
        self.child.send_signal(signal.SIGINT)

    def end(self, seconds=END_S):
        """Wait for the process to end by itself, read everything, and return its exit code."""
        end = time.monotonic() + seconds
        while self.next(end) is not None:
            pass
        code = self.child.wait(max(0.1, end - time.monotonic()))
        for thread in self._threads:
            thread.join(END_S)
        assert "Traceback" not in self.errors, self.errors
        return code

    def close(self):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait(END_S)
        for thread in self._threads:
            thread.join(END_S)
        self.child.stdout.close()
        self.child.stderr.close()

    @property
    def error(self):
        """The last event, which is the error."""
        assert self.events, self.errors
        assert self.events[-1]["event"] == "error", (self.events[-1], self.errors)
        return self.events[-1]

    def only_error_line(self):
        """The one sentence on standard error."""
        lines = [line for line in self.errors.splitlines() if not line.startswith("hint: ")]
        assert len(lines) == 1, self.errors
        assert lines[0].startswith("tallow: error: ")
        return lines[0]


class Stage:
    """Starts processes and kills what is left of them at the end."""

    def __init__(self, folder):
        self.folder = folder
        self.processes = []

    def start(self, command, *, prefix=()):
        home = self.folder / f"home{len(self.processes)}"
        if prefix:  # the child is somebody else, and its home must be its own
            home.mkdir(mode=0o700)
            os.chown(home, NOBODY, NOBODY)
        process = Process(command, home, prefix=prefix)
        self.processes.append(process)
        return process

    def relay(self):
        process = self.start([RELAY, "serve", "--listen", "127.0.0.1:0", "--json"])
        line = process.wait_for("listening")
        process.address = f"{line['listen']}#{line['fingerprint']}"
        return process

    def send(self, *words, relay=None, transport=None, prefix=()):
        return self.start(
            [TALLOW, "send", "--json", *_where(relay, transport), *words],
            prefix=prefix,
        )

    def receive(self, code, out, *words, relay=None, peer=None, transport=None, yes=True, prefix=()):
        options = [
            *_where(relay, transport),
            *(("--peer", peer) if peer else ()),
            *(("--yes",) if yes else ()),
        ]
        return self.start(
            [TALLOW, "receive", "--json", *options, "--out", out, *words, code],
            prefix=prefix,
        )

    def close(self):
        for process in reversed(self.processes):
            process.close()


def _where(relay, transport):
    return [
        *(("--relay", relay.address) if relay else ()),
        *(("--transport", transport) if transport else ()),
    ]


@pytest.fixture
def stage(tmp_path):
    """A stage in tmp_path; a test module imports this name."""
    made = Stage(tmp_path)
    try:
        yield made
    finally:
        made.close()


def local(code_event):
    """The sender's own address as this machine reaches it."""
    return None if code_event["peer"] is None else "127.0.0.1:" + code_event["peer"].rpartition(":")[2]


def write_random(path, mib):
    draw = random.Random(mib)
    with path.open("wb") as file:
        for _ in range(mib):
            file.write(draw.randbytes(1 << 20))


def make_source(folder, mib):
    """Everything that a transfer must carry; return the folder's paths to send."""
    folder.mkdir()
    write_random(folder / "random.bin", mib)
    (folder / "text.txt").write_text("one line\nanother\n" * 4000)
    (folder / "empty").touch()
    tree = folder / "tree"
    for number in range(2000):
        below = tree / f"d{number % 40:02}"
        below.mkdir(parents=True, exist_ok=True)
        (below / f"f{number}").write_bytes(b"%d" % number * (number % 97))
    scripts = folder / "scripts"
    for name in (
        "Grüße.txt",
        "日本語",
        "русский",
        "العربية",
        "हिन्दी",
        "ไทย",
        "한국어",
        "🦊 fox",
        "a b'c\"$d",
    ):
        (scripts / name).mkdir(parents=True)
        (scripts / name / name).write_text(name)
    (folder / "nothing" / "inside" / "empty").mkdir(parents=True)
    (tree / "d00" / "f0").chmod(0o755)
    (folder / "text.txt").chmod(0o600)
    (folder / "nothing" / "inside").chmod(0o700)
    stamp(folder)
    return sorted(folder.iterdir())


def stamp(folder):
    """Give everything a time of its own, folders last and deepest first."""
    for number, path in enumerate(sorted(folder.rglob("*"), reverse=True)):
        os.utime(path, ns=(MTIME_NS, MTIME_NS + number * 1_000_003))


def described(folder):
    """Path to kind, mode, mtime_ns and bytes of everything below `folder`."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        found[path.relative_to(folder).as_posix()] = (
            stat.filemode(status.st_mode),
            status.st_mtime_ns,
            None if path.is_dir() else path.read_bytes(),
        )
    return found


def assert_same(source, out):
    """Bytes, modes and times of files and folders; says which paths differ, not their bytes."""
    left, right = described(source), described(out)
    assert left.keys() == right.keys(), sorted(left.keys() ^ right.keys())
    differing = [(path, left[path][:2], right[path][:2]) for path in left if left[path] != right[path]]
    assert not differing, differing[:5]


def assert_nothing_left(out):
    """No final name and no folder of an unfinished transfer."""
    assert not out.exists() or not list(out.rglob("*")), list(out.rglob("*"))


def assert_only_partials_left(out):
    """Nothing but what the next session goes on from."""
    assert {path.name for path in out.iterdir()} <= {".tallow-partial"} if out.exists() else True

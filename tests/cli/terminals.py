"""Runs Python in a child on a pseudo-terminal, as a person at a keyboard sees it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time

DEADLINE_S = 30


class Child:
    """A process whose standard streams are a pseudo-terminal of 80 by 24, or whose standard output is a pipe."""

    def __init__(self, arguments, *, environment=None, cwd=None, stdout_is_terminal=True):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            arguments,
            stdin=slave,
            stdout=slave if stdout_is_terminal else subprocess.PIPE,
            stderr=slave,
            cwd=cwd,
            env={**os.environ, "TERM": "dumb", "COLUMNS": "80", "LINES": "24", **(environment or {})},
            preexec_fn=_take_the_terminal,  # noqa: PLW1509 - one system call, no lock is taken in it
            start_new_session=True,
            close_fds=True,
        )
        os.close(slave)
        self.screen = ""
        self._found = 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        os.close(self.master)

    def until(self, text):
        """Read the screen until it shows `text` behind what the last call found; return what was shown from there on."""
        start = self._found
        deadline = time.monotonic() + DEADLINE_S
        while (at := self.screen.find(text, start)) < 0:
            if not self._read(deadline):
                raise AssertionError(f"{text!r} did not appear in {self.screen[start:]!r}")
        self._found = at + len(text)
        return self.screen[start:]

    def type(self, text):
        os.write(self.master, text.encode())

    def type_until(self, keys, text):
        """Type `keys` until `text` appears: Python misses a Ctrl-C that comes while readline handles another key."""
        deadline = time.monotonic() + DEADLINE_S
        while text not in self.screen:
            assert time.monotonic() < deadline, f"{text!r} did not appear in {self.screen!r}"
            self.type(keys)
            patience = time.monotonic() + 1
            while text not in self.screen and self._ready(patience):
                self._read(deadline)

    def end(self):
        """Read the rest and return the exit code."""
        deadline = time.monotonic() + DEADLINE_S
        while self._read(deadline):
            pass
        return self.process.wait(max(0.1, deadline - time.monotonic()))

    def _ready(self, deadline):
        return bool(select.select([self.master], [], [], max(0, deadline - time.monotonic()))[0])

    def _read(self, deadline):
        if not self._ready(deadline):
            raise AssertionError(f"nothing more appeared after {self.screen!r}")
        try:
            piece = os.read(self.master, 65536)
        except OSError:  # Linux: the other end is closed
            return False
        self.screen += piece.decode(errors="replace").replace("\r\n", "\n")
        return bool(piece)


def _take_the_terminal():
    """Make the pseudo-terminal the child's own, so that Ctrl-C typed there is a signal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def python(source, arguments=(), **options):
    return Child([sys.executable, "-c", source, *arguments], **options)

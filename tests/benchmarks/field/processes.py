"""Programs under measurement: their time, their CPU seconds and their peak memory, children included."""

from __future__ import annotations

import os
import queue
import select
import signal
import socket
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

TICKS = os.sysconf("SC_CLK_TCK")
START_S = 30.0


class FailedError(Exception):
    """A program ended badly, said something unexpected or took too long; the text says which."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What is known of a program that has ended.

    CPU seconds are user and system time of it and of all children that it waited for. `peak_mb` is the largest resident
    set of any of them; the kernel counts our own memory at the fork too, so that less than about 30 MB is not told apart.
    """

    seconds: float
    cpu_s: float
    peak_mb: float


class Program:
    """A running program whose output is kept. Start it from the main thread: some are told to die with it."""

    def __init__(
        self,
        words: Sequence[object],
        *,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.words = [str(word) for word in words]
        self.text: list[str] = []
        self.times: list[float] = []  # when each line came
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.started = time.perf_counter()
        self.child = subprocess.Popen(
            self.words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            cwd=folder,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self.times.append(time.perf_counter())
            self.text.append(line)
            self._lines.put(line)
        self._lines.put(None)

    @property
    def name(self) -> str:
        """The program's name, for messages; what enters a namespace before it is left out."""
        entered = next((place + 1 for place, word in enumerate(self.words) if word.startswith("--net=")), 0)
        return Path(self.words[entered]).name

    def line(self, wanted: Callable[[str], bool], timeout_s: float = START_S) -> str:
        """Wait for a line of its output."""
        end = time.monotonic() + timeout_s
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise FailedError(
                    f"{self.name} said nothing of use in {timeout_s:.0f} s{self.tail()}"
                ) from None
            if line is None:
                raise FailedError(f"{self.name} ended early{self.tail()}")
            if wanted(line):
                return line

    def wait(self, timeout_s: float) -> Ended:
        """Wait for its end; raises FailedError for a bad exit code or after the time."""
        poll, descriptor = select.poll(), os.pidfd_open(self.child.pid)
        poll.register(descriptor, select.POLLIN)
        try:
            is_over = bool(poll.poll(timeout_s * 1000))
        finally:
            os.close(descriptor)
        if not is_over:
            self.stop()
            raise FailedError(f"{self.name} was ended after {timeout_s:.0f} s{self.tail()}")
        seconds = time.perf_counter() - self.started
        _, status, usage = os.wait4(self.child.pid, 0)
        self.child.returncode = os.waitstatus_to_exitcode(status)
        self._reader.join(START_S)
        if self.child.returncode != 0:
            raise FailedError(f"{self.name} ended with {self.child.returncode}{self.tail()}")
        return Ended(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000)

    def stop(self) -> None:
        """End it if it still runs."""
        if self.child.returncode is None and self.child.poll() is None:
            self.child.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.child.wait(5)
        if self.child.returncode is None:
            self.child.send_signal(signal.SIGKILL)
            self.child.wait(START_S)
        self._reader.join(START_S)
        if self.child.stdout is not None and not self._reader.is_alive():
            self.child.stdout.close()

    def tail(self) -> str:
        """Return the last words of its output."""
        last = "".join(self.text[-4:]).strip()
        return f": {last[-400:]}" if last else ""

    def cpu_s(self) -> float:
        """Return the CPU seconds so far of a server that runs on, with those of its children that have ended."""
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(ticks) for ticks in fields[11:15]) / TICKS

    def peak_mb(self) -> float:
        """Return the peak resident memory so far of a server that runs on."""
        status = Path(f"/proc/{self.child.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1000


def output_of(words: Sequence[object], timeout_s: float = 30.0) -> str:
    """Return what a program says, stdout and stderr; empty where it cannot be run."""
    try:
        done = subprocess.run(
            [str(word) for word in words], capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def free_port() -> int:
    """Return a TCP port that nobody uses at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def free_ports(count: int) -> int:
    """Return the first of `count` neighbouring TCP ports that nobody uses at the moment; raises FailedError."""
    for _ in range(100):
        first = free_port()
        try:
            with ExitStack() as servers:
                for port in range(first, first + count):
                    servers.enter_context(socket.create_server(("127.0.0.1", port)))
        except (OSError, OverflowError):
            continue
        return first
    raise FailedError(f"there are no {count} neighbouring free ports")

"""A real `tallow-relay serve` process, its first line, its log and its memory."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("tallow-relay")


class Process:
    """A running relay: `listening` is its first line, `port` the number in it."""

    def __init__(self, child: asyncio.subprocess.Process, listening: dict[str, object]) -> None:
        self.child = child
        self.listening = listening
        self.port = int(str(listening["listen"]).rpartition(":")[2])
        self.log: list[dict[str, object]] = []
        self.raw_log = b""

    def resident_kib(self) -> int:
        status = Path(f"/proc/{self.child.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])

    async def end(self, number: int = signal.SIGTERM) -> int:
        """Send the signal, if it still runs, and return the exit code; the log is read whole then."""
        if self.child.returncode is None:
            self.child.send_signal(number)
        async with asyncio.timeout(30):
            _, self.raw_log = await self.child.communicate()
        self.log = [json.loads(line) for line in self.raw_log.splitlines()]
        return self.child.returncode or 0


@asynccontextmanager
async def process(state: Path, *options: str) -> AsyncIterator[Process]:
    child = await asyncio.create_subprocess_exec(
        PROGRAM, "serve", "--listen", "127.0.0.1:0", "--json", "--state", str(state), *options,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    try:
        async with asyncio.timeout(20):
            line = await child.stdout.readline()
        yield Process(child, json.loads(line))
    finally:
        if child.returncode is None:
            child.kill()
            await child.communicate()


async def run(*arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Run the command to its end; return exit code, stdout and stderr."""
    child = await asyncio.create_subprocess_exec(
        PROGRAM, *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=dict(os.environ) | (environment or {}),
    )  # fmt: skip
    async with asyncio.timeout(20):
        out, err = await child.communicate()
    return child.returncode or 0, out.decode(), err.decode()

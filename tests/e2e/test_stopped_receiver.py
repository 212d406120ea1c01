"""A receiver that is stopped in mid-transfer: nobody's memory grows, no leg is closed, and the bytes are right.

The form of the issue (30 s, 1 GiB) is `pytest -m slow -n0 --timeout 900 tests/e2e/test_stopped_receiver.py`.
"""

import asyncio
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tallow_net import RelayAddress, TransportChoice
from tallow_protocol import OfferReceived, PathLimit, Receiver, TransferOptions, TransferProgress
from tallow_protocol.disk.partials import PartialFile

from tests.relay.process_kit import process

TALLOW = Path(sys.executable).with_name("tallow")
TCP, QUIC = TransportChoice.TCP, TransportChoice.QUIC
LEGS = [(TCP, TCP), (TCP, QUIC), (QUIC, TCP), (QUIC, QUIC)]
INSIDE = ("--relay-only", "--encrypt-twice")
"""File data stays in the legs whose transports a test names."""

MIB = 1024 * 1024
GROWTH_KIB = 32 * 1024
SAMPLE_S = 0.1


class Command:
    """A running `tallow --json` and the events that it has printed."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self.child = child
        self.events: list[dict[str, Any]] = []
        self._changed = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.child.stdout is not None
        async for line in self.child.stdout:
            async with self._changed:
                self.events.append(json.loads(line))
                self._changed.notify_all()
        async with self._changed:
            self._changed.notify_all()

    def last(self, name: str) -> dict[str, Any] | None:
        return next((event for event in reversed(self.events) if event["event"] == name), None)

    async def until(self, name: str, *, at_least: int = 0) -> dict[str, Any]:
        """Wait for an event, with `bytes` of at least so many where that is given."""

        def there() -> bool:
            event = self.last(name)
            found = event is not None and event.get("bytes", 0) >= at_least
            return found or self._reading.done() or self.child.stdout.at_eof()

        async with self._changed:
            await self._changed.wait_for(there)
        event = self.last(name)
        assert event is not None, self.events[-3:]
        return event

    async def exit_code(self) -> int:
        await self._reading
        return await self.child.wait()

    async def end(self) -> None:
        if self.child.returncode is None:
            self.child.send_signal(signal.SIGCONT)
            self.child.kill()
            await self.child.wait()
        await self._reading


@asynccontextmanager
async def tallow(home: Path, *arguments: str | Path) -> AsyncIterator[Command]:
    child = await asyncio.create_subprocess_exec(
        TALLOW,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env=dict(os.environ) | {"TALLOW_HOME": str(home)},
        limit=8 * MIB,
    )
    command = Command(child)
    try:
        yield command
    finally:
        await command.end()
        child._transport.close()  # its pipe would warn of itself otherwise


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def write_random(path: Path, size: int) -> str:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, size, 8 * MIB):
            piece = os.urandom(min(8 * MIB, size - start))
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def stop_and_go_on(
    tmp_path: Path,
    legs: tuple[TransportChoice, TransportChoice],
    size: int,
    stop_s: float,
    way: tuple[str, ...] = INSIDE,
) -> None:
    path, out = tmp_path / "random.bin", tmp_path / "out"
    wanted = await asyncio.to_thread(write_random, path, size)
    async with process(tmp_path / "relay") as relay:
        address = f"127.0.0.1:{relay.port}"
        common = ("--json", "--anonymous", *way, "--relay", address, "--transport")
        async with tallow(tmp_path / "a", "send", *common, legs[0].value, path) as a:
            code = (await a.until("code"))["code"]
            b_arguments = ("receive", *common, legs[1].value, "--yes", "--out", out, code)
            async with tallow(tmp_path / "b", *b_arguments) as b:
                await b.until("progress", at_least=size // 10)
                before = [resident_kib(a.child.pid), relay.resident_kib()]
                b.child.send_signal(signal.SIGSTOP)
                stopped_at = time.monotonic()
                highest = list(before)
                while time.monotonic() - stopped_at < stop_s:
                    await asyncio.sleep(SAMPLE_S)
                    now = [resident_kib(a.child.pid), relay.resident_kib()]
                    highest = [max(pair) for pair in zip(highest, now, strict=True)]
                assert a.child.returncode is None
                assert a.last("error") is None
                reached = a.last("progress")
                assert reached is not None
                assert reached["bytes"] < size, "the whole file had arrived before the receiver was stopped"
                b.child.send_signal(signal.SIGCONT)
                assert await b.exit_code() == 0, b.events[-1]
                assert await a.exit_code() == 0, a.events[-1]
        assert await relay.end() == 0
    growth = [after - first for after, first in zip(highest, before, strict=True)]
    assert max(growth) < GROWTH_KIB, f"sender and relay grew by {growth} KiB"
    closed = [line for line in relay.log if line["event"] == "room_closed"]
    assert len(closed) == 1
    assert (closed[0]["bytes"] > size) is ("--relay-only" in way)
    assert await asyncio.to_thread(digest_of, out / path.name) == wanted


@pytest.mark.parametrize("legs", LEGS, ids=lambda legs: f"{legs[0].value}-{legs[1].value}")
async def test_a_stopped_receiver_grows_nobody_and_goes_on(
    tmp_path: Path, legs: tuple[TransportChoice, TransportChoice]
) -> None:
    size = 64 * MIB
    async with asyncio.timeout(120):
        await stop_and_go_on(tmp_path, legs, size, 3.0)


@pytest.mark.parametrize("way", [("--relay-only",), ()], ids=["plain-connections-of-the-relay", "direct"])
async def test_a_stopped_receiver_holds_back_data_connections_too(
    tmp_path: Path, way: tuple[str, ...]
) -> None:
    async with asyncio.timeout(120):
        await stop_and_go_on(tmp_path, (TCP, TCP), 512 * MIB, 3.0, way)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("legs", LEGS, ids=lambda legs: f"{legs[0].value}-{legs[1].value}")
async def test_a_receiver_stopped_for_half_a_minute_in_one_gibibyte(
    tmp_path: Path, legs: tuple[TransportChoice, TransportChoice]
) -> None:
    async with asyncio.timeout(800):
        await stop_and_go_on(tmp_path, legs, 1024 * MIB, 30.0)


@pytest.mark.parametrize("legs", LEGS, ids=lambda legs: f"{legs[0].value}-{legs[1].value}")
async def test_a_disk_that_takes_50_ms_a_write_holds_the_sender_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, legs: tuple[TransportChoice, TransportChoice]
) -> None:
    size = 64 * MIB
    path, out = tmp_path / "random.bin", tmp_path / "out"
    wanted = await asyncio.to_thread(write_random, path, size)
    calls = 0
    write_at = PartialFile.write_at

    def write_slowly(self: PartialFile, offset: int, data: memoryview) -> None:
        nonlocal calls
        calls += 1
        time.sleep(0.05)
        write_at(self, offset, data)

    monkeypatch.setattr(PartialFile, "write_at", write_slowly)
    async with process(tmp_path / "relay") as relay:
        common = ("--json", "--anonymous", *INSIDE, "--relay", f"127.0.0.1:{relay.port}", "--transport")
        async with tallow(tmp_path / "a", "send", *common, legs[0].value, path) as a:
            code = (await a.until("code"))["code"]
            samples: list[list[int]] = []
            options = TransferOptions(
                relays=(RelayAddress("127.0.0.1", relay.port),),
                transport=legs[1],
                paths=PathLimit.RELAY_ONLY,
                plain_data=False,
            )
            async with asyncio.timeout(100), Receiver(code, out, options=options) as receiver:
                async for event in receiver:
                    if isinstance(event, OfferReceived):
                        receiver.accept()
                    elif isinstance(event, TransferProgress):
                        samples.append([resident_kib(a.child.pid), relay.resident_kib()])
            assert await a.exit_code() == 0
        assert await relay.end() == 0
    assert calls >= size // (4 * MIB)
    growth = [max(of_one) - of_one[0] for of_one in zip(*samples, strict=True)]
    assert max(growth) < GROWTH_KIB, f"sender and relay grew by {growth} KiB"
    assert await asyncio.to_thread(digest_of, out / path.name) == wanted

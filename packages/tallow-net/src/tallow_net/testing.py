"""For tests, ours and those of embedding programs: a faulty memory pair, and what every transport must do.

`check_transport(make_pair)` runs all checks on a transport of your own; TRANSPORT_CHECKS has them one by one.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallow_net.errors import ConnectionLostError, MisuseError, NetError
from tallow_net.transport.memory import CAPACITY_BYTES, MemoryPipe, MemoryTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
    from types import TracebackType
    from typing import Self

    from tallow_net.transport.interface import Transport

    MakePair = Callable[[], Awaitable[tuple[Transport, Transport]]]
    TransportCheck = Callable[[MakePair], Awaitable[None]]

__all__ = ["TRANSPORT_CHECKS", "FaultyPair", "check_transport", "faulty_pair"]

# What two sides and the kernel between them may hold of a stream that nobody reads.
CEILING_BYTES = 32 * 1024 * 1024

# What is written at a reader that has stopped: twice the ceiling.
STOPPED_READER_BYTES = 64 * 1024 * 1024

# A writer that made no progress for this long is blocked.
BLOCKED_S = 1.0

# No check takes longer, on a slow machine under load.
DEADLINE_S = 120.0


@dataclass(frozen=True, slots=True)
class FaultyPair:
    """Two connected memory transports and the path between them."""

    a: MemoryTransport
    b: MemoryTransport
    there: MemoryPipe
    back: MemoryPipe

    def cut(self) -> None:
        """Lose the connection, and everything that is under way, in both directions."""
        self.there.cut("network")
        self.back.cut("network")

    def clog(self) -> None:
        """Let nothing arrive any more; what is sent waits, and the senders block."""
        self.there.clogged = self.back.clogged = True

    def unclog(self) -> None:
        """Let everything go on."""
        self.there.clogged = self.back.clogged = False


def faulty_pair(*, latency_s: float = 0.0, capacity_bytes: int = CAPACITY_BYTES) -> FaultyPair:
    """Return a memory pair: each byte takes `latency_s`, each direction holds `capacity_bytes`."""
    there, back = MemoryPipe(capacity_bytes, latency_s), MemoryPipe(capacity_bytes, latency_s)
    return FaultyPair(
        MemoryTransport("memory:2", there, back), MemoryTransport("memory:1", back, there), there, back
    )


async def check_transport(make_pair: MakePair) -> None:
    """Run every check on fresh pairs from `make_pair`; AssertionError, or TimeoutError after a deadline."""
    for check in TRANSPORT_CHECKS:
        await check(make_pair)


# --- the checks ------------------------------------------------------------------------------------------------


async def a_stopped_reader_stops_the_writer(make_pair: MakePair) -> None:
    """Check: nobody reads: the writer blocks under the ceiling; somebody reads: every byte arrives."""
    async with _pair(make_pair) as (writer, reader):
        piece = _pattern(1024 * 1024 - 7)
        sent = hashlib.sha256()
        accepted = 0
        progress = asyncio.Event()

        async def write() -> None:
            nonlocal accepted
            while accepted < STOPPED_READER_BYTES:
                await writer.send(piece)
                sent.update(piece)
                accepted += len(piece)
                progress.set()
            await writer.finish()

        task = asyncio.create_task(write())
        try:
            await _until_quiet(progress)
            _require(not task.done(), "the writer was never held back")
            _require(accepted <= CEILING_BYTES, f"{accepted} bytes were accepted, and nobody read")
            received = await _digest_to_end(reader)
            await task
        finally:
            task.cancel()
        _require(received == (sent.digest(), accepted), "what arrived is not what was sent")


async def reads_and_writes_of_every_size_keep_the_bytes(make_pair: MakePair) -> None:
    """Check: odd writes up to 3 MiB against reads of one byte and more give the same stream."""
    async with _pair(make_pair) as (writer, reader):
        sizes = (1, 0, 2, 3, 255, 4095, 4096, 16384, 16385, 65537, 262143, 1_000_003, 3 * 1024 * 1024 + 1)
        data = _pattern(sum(sizes))

        async def write() -> None:
            start = 0
            for size in sizes:
                middle = start + size // 3
                await writer.send(data[start:middle], memoryview(data)[middle : start + size])
                start += size
            await writer.finish()

        _, received = await asyncio.gather(write(), _read_all(reader, _read_sizes()))
        _require(received == data, "what arrived is not what was sent")


async def both_directions_run_at_once(make_pair: MakePair) -> None:
    """Check: neither direction waits for the other, both being larger than every buffer."""
    async with _pair(make_pair) as (a, b):
        data = _pattern(8 * 1024 * 1024)
        _, _, at_a, at_b = await asyncio.gather(
            _send_and_finish(a, data), _send_and_finish(b, data[::-1]), _read_all(a), _read_all(b)
        )
        _require(at_b == data and at_a == data[::-1], "what arrived is not what was sent")


async def either_side_may_speak_first(make_pair: MakePair) -> None:
    """Check: the accepting side can send, and finish, before the other has sent a byte."""
    for turn in (0, 1):
        async with _pair(make_pair) as pair:
            speaker, listener = pair[turn], pair[1 - turn]
            await _send_and_finish(speaker, b"first")
            _require(await _read_all(listener) == b"first", "the first word was lost")


async def each_direction_ends_alone(make_pair: MakePair) -> None:
    """Check: after finish() the other direction goes on, until it finishes too; then 0 is read again and again."""
    for turn in (0, 1):
        async with _pair(make_pair) as pair:
            first, second = pair[turn], pair[1 - turn]
            await _send_and_finish(first, b"question")
            await first.finish()
            _require(await _read_all(second) == b"question", "the bytes before the end were lost")
            answer = _pattern(1024 * 1024 + 1)
            _, received = await asyncio.gather(_send_and_finish(second, answer), _read_all(first))
            _require(received == answer, "the other direction ended too")
            for end in pair:
                _require(await end.receive_into(memoryview(bytearray(1))) == 0, "bytes came after the end")


async def an_unread_direction_survives_the_half_close(make_pair: MakePair) -> None:
    """Check: data that had arrived, read in part, is still there after finish()."""
    async with _pair(make_pair) as (a, b):
        data = _pattern(100_000)
        await b.send(data)
        start = await _read_exactly(a, 7)
        await a.finish()
        await b.finish()
        _require(start + await _read_all(a) == data, "finish() lost bytes of the other direction")


async def a_cancelled_receive_loses_nothing(make_pair: MakePair) -> None:
    """Check: what arrives after a cancelled receive is read by the next."""
    async with _pair(make_pair) as (a, b):
        data = _pattern(50_000)
        for start in range(0, len(data), 10_000):
            waiting = asyncio.create_task(a.receive_into(memoryview(bytearray(100))))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            _require(waiting.cancelled(), "a receive finished with nothing to receive")
            await b.send(data[start : start + 10_000])
            got = await _read_exactly(a, 10_000)
            _require(got == data[start : start + 10_000], "a cancelled receive lost bytes")


async def a_cancelled_send_ends_sending_only(make_pair: MakePair) -> None:
    """Check: after a cancelled send the next is refused, and the other direction goes on."""
    async with _pair(make_pair) as (a, b):
        task = asyncio.create_task(a.send(bytes(STOPPED_READER_BYTES)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        _require(task.cancelled(), "the send was not held back")
        with _Raises(ConnectionLostError):
            await a.send(b"more")
        await b.send(b"still here")
        _require(await _read_exactly(a, 10) == b"still here", "the other direction ended too")


async def a_lost_connection_is_told(make_pair: MakePair) -> None:
    """Check: after abort() the peer's receive and send raise ConnectionLostError, and so does our own."""
    for turn in (0, 1):
        async with _pair(make_pair) as pair:
            leaver, stayer = pair[turn], pair[1 - turn]
            await leaver.send(b"x")
            await _read_exactly(stayer, 1)
            waiting = asyncio.create_task(stayer.receive_into(memoryview(bytearray(1))))
            await asyncio.sleep(0)
            leaver.abort()
            with _Raises(ConnectionLostError):
                await waiting
            with _Raises(ConnectionLostError):
                while True:
                    await stayer.send(bytes(100_000))
            with _Raises(ConnectionLostError):
                await leaver.receive_into(memoryview(bytearray(1)))
            with _Raises(ConnectionLostError):
                await leaver.send(b"x")


async def close_delivers_what_was_sent(make_pair: MakePair) -> None:
    """Check: with or without finish() before it, close() lets everything arrive, then the end."""
    data = _pattern(3 * 1024 * 1024)
    for finish_first in (True, False):
        async with _pair(make_pair) as (a, b):

            async def write(a: Transport = a, *, finish_first: bool = finish_first) -> None:
                await a.send(data)
                if finish_first:
                    await a.finish()
                await a.close()

            async def read(b: Transport = b) -> bytes:
                received = await _read_all(b)
                await b.close()
                return received

            _, received = await asyncio.gather(write(), read())
            _require(received == data, "close() lost bytes")


async def close_is_idempotent_and_ends_every_wait(make_pair: MakePair) -> None:
    """Check: several closes at once end once; a receive that waits ends with ConnectionLostError by us."""
    async with _pair(make_pair) as (a, b):
        waiting = asyncio.create_task(a.receive_into(memoryview(bytearray(1))))
        await asyncio.sleep(0)
        await asyncio.gather(a.close(), a.close(), b.close(), b.close(), a.close())
        with _Raises(ConnectionLostError) as caught:
            await waiting
        _require(getattr(caught.error, "by", None) == "us", "the wrong side was named")
        await a.close()
        a.abort()
        await a.finish()
        for end in (a, b):
            with _Raises(ConnectionLostError):
                await end.send(b"x")
            with _Raises(ConnectionLostError):
                await end.receive_into(memoryview(bytearray(1)))


async def buffers_may_be_reused_after_send(make_pair: MakePair) -> None:
    """Check: the bytes that count are those at the time of the call."""
    async with _pair(make_pair) as (a, b):
        buffer = bytearray(300_000)

        async def write() -> None:
            for value in range(8):
                buffer[:] = bytes([value]) * len(buffer)
                await a.send(memoryview(buffer))
            buffer[:] = b"\xff" * len(buffer)
            await a.finish()

        _, received = await asyncio.gather(write(), _read_all(b))
        _require(received == b"".join(bytes([v]) * len(buffer) for v in range(8)), "a buffer was read late")


async def overlapping_calls_are_misuse(make_pair: MakePair) -> None:
    """Check: a second receive, or send, at the same time raises MisuseError and harms nothing."""
    async with _pair(make_pair) as (a, b):
        receiving = asyncio.create_task(_read_exactly(a, 1))
        sending = asyncio.create_task(a.send(bytes(STOPPED_READER_BYTES)))
        await asyncio.sleep(0)
        with _Raises(MisuseError):
            await a.receive_into(memoryview(bytearray(1)))
        with _Raises(MisuseError):
            await a.send(b"x")
        await b.send(b"!")
        _require(await receiving == b"!", "the first receive was harmed")
        sending.cancel()
        await asyncio.wait([sending])


async def flush_waits_for_nothing_once_all_arrived(make_pair: MakePair) -> None:
    """Check: flush() returns, before and after the end of our direction."""
    async with _pair(make_pair) as (a, b):
        await a.flush()
        _, _, received = await asyncio.gather(a.send(b"x"), a.flush(), _read_exactly(b, 1))
        await a.finish()
        await asyncio.gather(a.flush(), _read_all(b))
        _require(received == b"x", "the byte was lost")


TRANSPORT_CHECKS: tuple[TransportCheck, ...] = (
    a_stopped_reader_stops_the_writer,
    reads_and_writes_of_every_size_keep_the_bytes,
    both_directions_run_at_once,
    either_side_may_speak_first,
    each_direction_ends_alone,
    an_unread_direction_survives_the_half_close,
    a_cancelled_receive_loses_nothing,
    a_cancelled_send_ends_sending_only,
    a_lost_connection_is_told,
    close_delivers_what_was_sent,
    close_is_idempotent_and_ends_every_wait,
    buffers_may_be_reused_after_send,
    overlapping_calls_are_misuse,
    flush_waits_for_nothing_once_all_arrived,
)


# --- what the checks are made of ---------------------------------------------------------------------------------


@asynccontextmanager
async def _pair(make_pair: MakePair) -> AsyncIterator[tuple[Transport, Transport]]:
    async with asyncio.timeout(DEADLINE_S):
        pair = await make_pair()
        try:
            yield pair
        finally:
            # A check says for itself what an orderly end must do; here nothing may stay open.
            for end in pair:
                end.abort()


class _Raises:
    """A `with` that asks for an error; it stands in `error` afterwards."""

    def __init__(self, kind: type[NetError]) -> None:
        self._kind = kind
        self.error: NetError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            raise AssertionError(f"{self._kind.__name__} was not raised")
        if not isinstance(error, self._kind):
            return False
        self.error = error
        return True


def _require(condition: object, sentence: str) -> None:
    if not condition:
        raise AssertionError(sentence)


def _pattern(size: int) -> bytes:
    """Return bytes that repeat nowhere near the size of any buffer."""
    return hashlib.shake_128(size.to_bytes(8, "big")).digest(size)


def _read_sizes() -> Iterable[int]:
    for _ in range(2000):
        yield 1
    while True:
        yield from (2, 4093, 7, 65536, 262_144, 16_384)


async def _until_quiet(progress: asyncio.Event) -> None:
    while True:
        progress.clear()
        try:
            async with asyncio.timeout(BLOCKED_S):
                await progress.wait()
        except TimeoutError:
            return


async def _send_and_finish(transport: Transport, data: bytes) -> None:
    await transport.send(data)
    await transport.finish()


async def _read_all(transport: Transport, sizes: Iterable[int] | None = None) -> bytes:
    parts = bytearray()
    buffer = memoryview(bytearray(256 * 1024))
    for size in sizes if sizes is not None else _always(len(buffer)):
        count = await transport.receive_into(buffer[:size])
        if count == 0:
            break
        parts += buffer[:count]
    return bytes(parts)


def _always(size: int) -> Iterable[int]:
    while True:
        yield size


async def _read_exactly(transport: Transport, size: int) -> bytes:
    buffer = bytearray(size)
    view = memoryview(buffer)
    filled = 0
    while filled < size:
        count = await transport.receive_into(view[filled:])
        _require(count > 0, "the stream ended early")
        filled += count
    return bytes(buffer)


async def _digest_to_end(transport: Transport) -> tuple[bytes, int]:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(1024 * 1024))
    total = 0
    while count := await transport.receive_into(buffer):
        digest.update(buffer[:count])
        total += count
    return digest.digest(), total

"""A transport inside one process, for tests of what stands above."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from tallow_net.errors import ConnectionLostError
from tallow_net.transport.guarded import GuardedTransport
from tallow_net.transport.interface import TransportKind
from tallow_net.transport.sockets import CLOSED_HERE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallow_net.errors import LostBy

# As much as a pair of kernel socket buffers holds, so that back-pressure comes as early as it does there.
CAPACITY_BYTES = 256 * 1024


class MemoryPipe:
    """One direction: at most `capacity` bytes wait in it. `latency_s` delays each piece.

    `clogged` holds back what was sent, as a dead path does, and lets it go when unset.
    """

    def __init__(self, capacity: int, latency_s: float) -> None:
        self.capacity = capacity
        self.latency_s = latency_s
        self.buffered = 0
        self._clogged = False
        self._finished = False
        self._lost: LostBy | None = None
        self._pieces: deque[tuple[float, memoryview]] = deque()
        self._changed = asyncio.Event()

    @property
    def clogged(self) -> bool:
        """Whether nothing comes out of the pipe at present."""
        return self._clogged

    @clogged.setter
    def clogged(self, value: bool) -> None:
        self._clogged = value
        self._wake()

    def finish(self) -> None:
        """Put the end of the stream behind all that was sent."""
        self._finished = True
        self._wake()

    def cut(self, by: LostBy) -> None:
        """Lose the connection and everything that is under way."""
        if self._lost is None:
            self._lost = by
            self._pieces.clear()
            self.buffered = 0
            self._wake()

    async def put(self, data: memoryview) -> None:
        """Copy all of `data` in, waiting for room."""
        while len(data):
            await self._until(lambda: self.buffered < self.capacity)
            piece = bytes(data[: self.capacity - self.buffered])
            data = data[len(piece) :]
            self.buffered += len(piece)
            self._pieces.append((self._now() + self.latency_s, memoryview(piece)))
            self._wake()

    async def take(self, buffer: memoryview) -> int:
        """Fill the start of `buffer`; 0 at the end of the stream."""
        await self._until(self._readable)
        if not self._pieces:
            return 0
        due, piece = self._pieces[0]
        count = min(len(piece), len(buffer))
        buffer[:count] = piece[:count]
        if count == len(piece):
            self._pieces.popleft()
        else:
            self._pieces[0] = (due, piece[count:])
        self.buffered -= count
        self._wake()
        return count

    async def empty(self) -> None:
        """Wait until everything has been taken."""
        await self._until(lambda: not self._pieces)

    def _readable(self) -> bool:
        if self._clogged:
            return False
        if not self._pieces:
            return self._finished
        return self._pieces[0][0] <= self._now()

    async def _until(self, ready: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if self._lost is not None:
                raise ConnectionLostError("The connection was lost.", by=self._lost)
            if ready():
                return
            self._changed.clear()
            timer = None
            if self._pieces and self._pieces[0][0] > loop.time():
                timer = loop.call_at(self._pieces[0][0], self._changed.set)
            try:
                await self._changed.wait()
            finally:
                if timer is not None:
                    timer.cancel()

    def _wake(self) -> None:
        self._changed.set()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


class MemoryTransport(GuardedTransport):
    """One end of a memory pair."""

    kind = TransportKind.MEMORY

    def __init__(self, name: str, outgoing: MemoryPipe, incoming: MemoryPipe) -> None:
        self.remote = name
        self._out = outgoing
        self._in = incoming

    async def _send(self, views: list[memoryview]) -> None:
        for view in views:
            await self._out.put(view)

    async def _receive(self, buffer: memoryview) -> int:
        try:
            return await self._in.take(buffer)
        except ConnectionLostError:
            if self._closing:
                raise ConnectionLostError(CLOSED_HERE, by="us") from None
            raise

    async def _end_stream(self) -> None:
        self._out.finish()

    async def flush(self) -> None:
        """See Transport."""
        await self._out.empty()

    async def _close_in_order(self) -> None:
        if not self._closing:
            self._closing = True
            await self._finish_once()
            # What we do not read any more must not hold the peer's send for ever.
            self._in.cut("peer")
            self._report_end()

    def abort(self) -> None:
        """See Transport."""
        if not self._closing:
            self._closing = True
            self._out.cut("peer")
            self._in.cut("peer")
            self._report_end()


def memory_pair(
    *, capacity_bytes: int = CAPACITY_BYTES, latency_s: float = 0.0
) -> tuple[MemoryTransport, MemoryTransport]:
    """Return two connected ends; at most `capacity_bytes` are under way in each direction."""
    there, back = MemoryPipe(capacity_bytes, latency_s), MemoryPipe(capacity_bytes, latency_s)
    return MemoryTransport("memory:2", there, back), MemoryTransport("memory:1", back, there)

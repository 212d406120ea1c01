"""DataForwarder: copies the bytes of one pair, both ways, and decodes nothing.

Each direction is one task with one reused buffer: it reads, counts, sends, and reads again only when the
destination has taken everything, so a receiver that stops makes the sender stop. The ends:

- a side finishes: its FIN is passed on after all its bytes; the other direction goes on for at most 10 s;
- a leg breaks: what came from it is flushed to the other for at most 5 s, then the other is closed;
- no byte for 120 s: both are closed.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from tallow_net.errors import ConnectionLostError
from tallow_net.limits import FLUSH_S, HALF_CLOSE_S, PAIR_IDLE_S
from tallow_net.signaling import Side
from tallow_net.transport.interface import Transport

# A pair that talks little (a handshake, pings) stays with the small buffer; a read that fills it asks for the
# large one. 256 KiB is where the cost of a call stops to matter; twice that much per busy pair is what a relay
# holds in user memory.
SMALL_BUFFER_BYTES = 16 * 1024
LARGE_BUFFER_BYTES = 256 * 1024
# So many small reads in a row give the large buffer back.
SMALL_READS = 64
# A leg whose side came back on another connection is drained until nothing more came for this long.
QUIET_S = 0.25


class Outcome(Enum):
    """How a pair ended; the words of the log."""

    FINISHED = "finished"  # both sides finished
    HALF_CLOSED = "half_closed"  # one side finished, the other did not within 10 s
    LOST = "lost"  # a leg broke
    SUPERSEDED = "superseded"  # a side came back on a new connection
    IDLE = "idle"  # no byte for 120 s
    SHUTDOWN = "shutdown"  # the relay's grace was over
    NOT_READY = "not_ready"  # a side did not answer Ready
    INTERNAL = "internal"  # a bug of the relay


@dataclass(frozen=True, slots=True)
class Leg:
    """One side of a pair: its open transport and what was received behind its last frame."""

    transport: Transport
    leftover: bytes


@dataclass(frozen=True, slots=True)
class ForwardTimes:
    """The deadlines in seconds; the wire's own unless a test shortens them."""

    half_close_s: float = HALF_CLOSE_S
    flush_s: float = FLUSH_S
    idle_s: float = PAIR_IDLE_S


@dataclass(slots=True)
class Activity:
    """When a pair moved a byte last, over all its connections together (the loop's seconds)."""

    moved_at: float = -math.inf

    def moved(self, *, at: float) -> None:
        """Note that it moved something; a time that lies ahead, after a pause, stays."""
        self.moved_at = max(self.moved_at, at)


class _End(Enum):
    FINISHED = "finished"
    SOURCE_LOST = "source_lost"
    TARGET_LOST = "target_lost"


class DataForwarder:
    """Forwards one pair until it ends.

    `charge(count)` is called for the bytes that moved and returns for how many seconds this pair pauses, or is
    None where nothing is limited. `on_ending` is called once, when the first side finishes or breaks. `activity` is
    the pair's, if it has other connections too.
    """

    def __init__(
        self,
        a: Leg,
        b: Leg,
        *,
        charge: Callable[[int], float] | None = None,
        on_ending: Callable[[], None] | None = None,
        times: ForwardTimes | None = None,
        activity: Activity | None = None,
    ) -> None:
        self._legs = {Side.A: a, Side.B: b}
        self._charge = charge
        self._on_ending = on_ending
        self._times = times or ForwardTimes()
        self._activity = activity or Activity()
        self._bytes = {Side.A: 0, Side.B: 0}
        self._order: asyncio.Future[Side | None] | None = None
        self._early_order: tuple[Side | None] | None = None

    @property
    def bytes_moved(self) -> int:
        """The bytes that were taken from both sides so far."""
        return self._bytes[Side.A] + self._bytes[Side.B]

    def supersede(self, side: Side) -> None:
        """Note that the connection of this side is dead: drain it shortly, then close the other."""
        self._give_order(side)

    def stop(self) -> None:
        """End the pair: the relay shuts down."""
        self._give_order(None)

    async def run(self) -> Outcome:
        """Forward until the end and return how it came; both transports are closed then."""
        loop = asyncio.get_running_loop()
        self._activity.moved(at=loop.time())
        order: asyncio.Future[Side | None] = loop.create_future()
        if self._early_order is not None:
            order.set_result(self._early_order[0])
        self._order = order
        pumps = {side: loop.create_task(self._pump(side)) for side in Side}
        try:
            return await self._watch(pumps, order)
        finally:
            for pump in pumps.values():
                pump.cancel()
            await asyncio.gather(*pumps.values(), return_exceptions=True)
            order.cancel()
            await asyncio.gather(*(leg.transport.close() for leg in self._legs.values()))

    def _give_order(self, order: Side | None) -> None:
        if self._order is None:
            self._early_order = (order,)
        elif not self._order.done():
            self._order.set_result(order)

    async def _watch(
        self, pumps: dict[Side, asyncio.Task[_End]], order: asyncio.Future[Side | None]
    ) -> Outcome:
        clock = asyncio.get_running_loop().time
        half_close_at = math.inf
        while True:
            due = min(half_close_at, self._activity.moved_at + self._times.idle_s)
            watched: set[asyncio.Future[_End] | asyncio.Future[Side | None]] = {order}
            watched.update(pump for pump in pumps.values() if not pump.done())
            await asyncio.wait(watched, timeout=max(0.0, due - clock()), return_when=asyncio.FIRST_COMPLETED)
            if order.done():
                return await self._obey(order.result(), pumps)
            ended = [side for side, pump in pumps.items() if pump.done()]
            if ended:
                self._tell_ending()
                half_close_at = min(half_close_at, clock() + self._times.half_close_s)
            for side in ended:
                if pumps[side].result() is not _End.FINISHED:
                    return await self._lost(side, pumps[side].result(), pumps)
            if len(ended) == len(pumps):
                return Outcome.FINISHED
            if clock() >= half_close_at:
                return Outcome.HALF_CLOSED
            if clock() >= self._activity.moved_at + self._times.idle_s:
                self._tell_ending()
                return Outcome.IDLE

    async def _lost(self, side: Side, end: _End, pumps: dict[Side, asyncio.Task[_End]]) -> Outcome:
        """Finish after a leg broke; `side` is the direction (its source) in which that was seen."""
        broken = side if end is _End.SOURCE_LOST else Side(1 - side)
        healthy = Side(1 - broken)
        # What arrived from the broken leg before it broke still belongs to the other side.
        await asyncio.wait({pumps[broken]}, timeout=self._times.flush_s)
        self._legs[broken].transport.abort()
        await self._flush(healthy)
        return Outcome.LOST

    async def _obey(self, order: Side | None, pumps: dict[Side, asyncio.Task[_End]]) -> Outcome:
        self._tell_ending()
        if order is None:
            return Outcome.SHUTDOWN
        loop = asyncio.get_running_loop()
        until = loop.time() + self._times.flush_s
        moved = -1
        while not pumps[order].done() and loop.time() < until and moved != self._bytes[order]:
            moved = self._bytes[order]
            await asyncio.wait({pumps[order]}, timeout=QUIET_S)
        self._legs[order].transport.abort()
        await self._flush(Side(1 - order))
        return Outcome.SUPERSEDED

    async def _flush(self, side: Side) -> None:
        try:
            async with asyncio.timeout(self._times.flush_s):
                await self._legs[side].transport.flush()
        except (TimeoutError, ConnectionLostError):
            pass  # it had its time; close() follows in any case

    def _tell_ending(self) -> None:
        told, self._on_ending = self._on_ending, None
        if told is not None:
            told()

    async def _pump(self, side: Side) -> _End:
        """Copy from `side` to the other one until the source ends or one of them breaks."""
        source, target = self._legs[side].transport, self._legs[Side(1 - side)].transport
        try:
            if self._legs[side].leftover:
                self._legs[side], leftover = Leg(source, b""), self._legs[side].leftover
                await self._pass_on(side, target, memoryview(leftover))
            await self._copy(side, source, target)
            await target.finish()
        except _SourceLostError:
            return _End.SOURCE_LOST
        except ConnectionLostError:
            return _End.TARGET_LOST
        return _End.FINISHED

    async def _copy(self, side: Side, source: Transport, target: Transport) -> None:
        view = memoryview(bytearray(SMALL_BUFFER_BYTES))
        small_reads = 0
        while True:
            try:
                count = await source.receive_into(view)
            except ConnectionLostError:
                raise _SourceLostError from None
            if count == 0:
                return
            await self._pass_on(side, target, view[:count])
            if len(view) == SMALL_BUFFER_BYTES:
                if count == SMALL_BUFFER_BYTES:
                    view, small_reads = memoryview(bytearray(LARGE_BUFFER_BYTES)), 0
            elif count > SMALL_BUFFER_BYTES:
                small_reads = 0
            else:
                small_reads += 1
                if small_reads == SMALL_READS:
                    view = memoryview(bytearray(SMALL_BUFFER_BYTES))

    async def _pass_on(self, side: Side, target: Transport, data: memoryview) -> None:
        clock = asyncio.get_running_loop().time
        self._bytes[side] += len(data)
        self._activity.moved(at=clock())
        await target.send(data)
        self._activity.moved(at=clock())
        if self._charge is not None:
            pause_s = self._charge(len(data))
            if pause_s > 0:
                # A pair that we hold up ourselves is not idle.
                self._activity.moved(at=clock() + pause_s)
                await asyncio.sleep(pause_s)


class _SourceLostError(Exception):
    """The source of a direction broke, as opposed to its destination."""

"""A wire: what a TCP, TLS or QUIC connection is to a session, an ordered stream of bytes each way that may fail.

A stream can be slow, stall, end, be cut, or go deaf in one direction; its bytes come in any pieces. Under a wire that
is made of datagrams, some of them are lost and sent again after a timeout, come twice, or overtake each other; the
reading end puts them in order again, as QUIC does, and what stood behind a lost one comes all at once. A hostile middle
sees whole frames and may flip, drop, repeat and swap them.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sim.world import World

DATAGRAM_BYTES = 1200
LEAST_TIMEOUT_S = 0.02
FATES = ("whole", "whole", "whole", "whole", "lost", "doubled", "late", "lost twice")
CAPACITY = 256 * 1024
"""Bytes that a direction holds, as socket buffers do, before its writer has to wait."""


@dataclass(frozen=True)
class Nature:
    """How a wire behaves: bytes a second, seconds, whether pieces are cut anywhere, chance of jitter in 8.

    `datagrams`: whether it is made of those, and they are lost, doubled and reordered.
    """

    rate: float = 4e6
    delay_s: float = 0.01
    recut: bool = False
    jitter_s: float = 0.0
    datagrams: bool = False


class End:
    """One end of a wire. Its owner sets the callbacks; `write` never blocks, but `room` says when to stop."""

    def __init__(self, wire: Wire, side: int) -> None:
        self.wire = wire
        self._side = side
        self.on_data: Callable[[bytes], None] = lambda data: None
        self.on_end: Callable[[bool], None] = lambda cut: None
        self.on_room: Callable[[], None] = lambda: None
        self.reading = True
        self.closed = False

    @property
    def _out(self) -> _Direction:
        return self.wire.directions[self._side]

    @property
    def _in(self) -> _Direction:
        return self.wire.directions[1 - self._side]

    @property
    def room(self) -> bool:
        """Return whether a writer that waits for its socket would go on."""
        return self._out.held < CAPACITY and not self._out.ended

    def write(self, data: bytes) -> None:
        """Send; what is written on a dead wire goes nowhere."""
        if not self.closed:
            self._out.write(data)

    def finish(self) -> None:
        """Send the end of the stream behind everything."""
        if not self.closed:
            self._out.finish()

    def close(self) -> None:
        """Finish, and hear nothing more."""
        self.finish()
        self.closed = True
        self._in.drop()

    def abort(self) -> None:
        """Reset: the other end hears of it after a while."""
        if not self.closed:
            self.closed = True
            self._in.drop()
            self._out.reset()

    def pause(self) -> None:
        """Read no more; the other end will come to wait."""
        self.reading = False

    def resume(self) -> None:
        """Read again."""
        if not self.reading:
            self.reading = True
            self.wire.world.after(0.0, self._in.deliver)


class _Direction:
    def __init__(self, world: World, nature: Nature) -> None:
        self.world = world
        self.nature = nature
        self.end: End | None = None
        self.writer: End | None = None
        self.held = 0
        self.ended = False
        self.deaf = False
        self.stalled_until = 0.0
        self.tamper: Callable[[bytes], list[bytes]] | None = None
        self._free_at = 0.0
        self._last_at = 0.0
        self._flying: list[
            tuple[float, int, int, bytes | None]
        ] = []  # when, tie, place in the stream, bytes or end
        self._ties = 0
        self._sent = 0
        self._next = 0
        self._early: dict[int, bytes] = {}
        self._end_at: int | None = None
        self._arrived = bytearray()
        self._dead = False

    def write(self, data: bytes) -> None:
        if self._dead or self.ended:
            return
        pieces = [data] if self.tamper is None else self.tamper(data)
        for piece in pieces:
            self.held += len(piece)
            if self.deaf:
                continue
            self._free_at = max(self._free_at, self.world.now) + len(piece) / self.nature.rate
            self._send(self._free_at, piece)

    def finish(self) -> None:
        if not self._dead and not self.ended:
            self.ended = True
            if not self.deaf:
                self._fly(max(self._free_at, self.world.now) + self.nature.delay_s, self._sent, None)

    def _send(self, leaves_at: float, piece: bytes) -> None:
        arrives = leaves_at + self.nature.delay_s
        if self.nature.datagrams:
            self._send_train(arrives, piece)
        else:
            if self.nature.jitter_s and self.world.tape.chance(8):
                arrives += self.nature.jitter_s
            self._fly(arrives, self._sent, piece)
        self._sent += len(piece)

    def _send_train(self, arrives: float, piece: bytes) -> None:
        """Send datagrams, of which one may be lost, come twice, or come late."""
        tape, offset = self.world.tape, self._sent
        fate = tape.pick(FATES)
        if fate == "whole":
            self._fly(arrives, offset, piece)
            return
        at = tape.below((len(piece) - 1) // DATAGRAM_BYTES + 1) * DATAGRAM_BYTES
        one, after = piece[at : at + DATAGRAM_BYTES], piece[at + DATAGRAM_BYTES :]
        again_s = 2 * self.nature.delay_s + LEAST_TIMEOUT_S
        if at:
            self._fly(arrives, offset, piece[:at])
        times = {
            "lost": (again_s,),
            "lost twice": (2 * again_s,),
            "doubled": (0.0, self.nature.delay_s / 2),
            "late": (self.nature.delay_s / 2 + 0.002,),
        }
        for later_s in times[fate]:
            self._fly(arrives + later_s, offset + at, one)
        if after:
            self._fly(arrives, offset + at + len(one), after)

    def _fly(self, arrives: float, offset: int, piece: bytes | None) -> None:
        if not self.nature.datagrams:  # nothing overtakes
            arrives = self._last_at = max(arrives, self._last_at)
        self._ties += 1
        heapq.heappush(self._flying, (arrives, self._ties, offset, piece))
        self.world.at(arrives, self.deliver)

    def deliver(self) -> None:
        """Hand over what has come by now, a part of it where pieces are cut anywhere."""
        if self._dead or self.end is None or self.end.closed:
            return
        if self.world.now < self.stalled_until:
            self.world.at(self.stalled_until, self.deliver)
            return
        self._land()
        if not self.end.reading:
            return
        ended = self._end_at == self._next
        if self._arrived:
            self._hand_over(whole=ended)
        if ended and not self._dead:
            self._dead = True
            self.end.on_end(False)

    def _land(self) -> None:
        """Take what has come by now, and put it in order."""
        while self._flying and self._flying[0][0] <= self.world.now:
            _, _, offset, piece = heapq.heappop(self._flying)
            if piece is None:
                self._end_at = offset
            elif offset >= self._next:
                self._early[offset] = piece
        while (piece := self._early.pop(self._next, None)) is not None:
            self._arrived += piece
            self._next += len(piece)

    def _hand_over(self, *, whole: bool) -> None:
        count = len(self._arrived)
        if self.nature.recut and not whole and self.world.tape.chance(3):
            count = 1 + self.world.tape.below(count)
            self.world.after(0.001, self.deliver)
        data = bytes(self._arrived[:count])
        del self._arrived[:count]
        full = self.held >= CAPACITY
        self.held -= count
        self.end.on_data(data)
        if full and self.held < CAPACITY and self.writer is not None and not self.writer.closed:
            self.writer.on_room()

    def drop(self) -> None:
        """Forget everything: nobody listens any more."""
        self._flying.clear()
        self._early.clear()
        self._arrived.clear()
        self.held = 0

    def reset(self) -> None:
        """Let the reading end hear, after the delay, that the connection is gone."""
        self.ended = True
        self.drop()
        if not self.deaf:
            self.world.after(self.nature.delay_s, self._gone)

    def _gone(self) -> None:
        if not self._dead:
            self._dead = True
            if self.end is not None and not self.end.closed:
                self.end.on_end(True)


class Wire:
    """Two ends and a direction from each to the other."""

    def __init__(self, world: World, nature: Nature, name: str = "") -> None:
        self.world = world
        self.name = name
        self.directions = (_Direction(world, nature), _Direction(world, nature))
        self.ends = (End(self, 0), End(self, 1))
        for side in (0, 1):
            self.directions[side].writer = self.ends[side]
            self.directions[side].end = self.ends[1 - side]

    @property
    def open(self) -> bool:
        """Return whether both ends still hold it."""
        return not any(end.closed for end in self.ends)

    def cut(self, later_s: float = 0.0) -> None:
        """Lose the connection and what is on its way; the second end hears of it `later_s` after the first."""
        for side, direction in enumerate(self.directions):
            direction.drop()
            direction.ended = True
            self.world.after(later_s * side, direction._gone)

    def stall(self, seconds: float) -> None:
        """Let nothing arrive for a while."""
        for direction in self.directions:
            direction.stalled_until = self.world.now + seconds

    def deafen(self, side: int) -> None:
        """Let the reader of one direction hear nothing more, and nobody be told."""
        direction = self.directions[side]
        direction.deaf = True
        held = direction.held
        direction.drop()
        direction.held = held

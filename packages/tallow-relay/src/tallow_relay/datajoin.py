"""DataJoin: two plain TCP connections that are one, until they end.

Everything happens in callbacks of the event loop, one turn of at most 1 MiB for each readiness of a socket, so a
hundred rooms take turns. A direction reads only while its target can take something; when a push stops midway it waits
for the target alone. So a receiver that stops makes its sender stop, and what the relay holds for a direction is one
pipe and the kernel's own socket buffers.

The ends are those of every pair: a FIN is passed on behind all bytes, the other direction then has 10 s; where a
connection breaks, what came from it goes to the other for at most 5 s, and then the other is ended.
"""

import asyncio
import contextlib
import select
import socket
from collections.abc import Callable
from enum import Enum

from tallow_net.limits import CLOSE_TCP_S
from tallow_net.signaling import Side

from tallow_relay.carriers import Carrier, Engine
from tallow_relay.config import TURN_BYTES
from tallow_relay.forward import Activity, ForwardTimes

# A data connection of a pair that moves its bytes elsewhere is ended after this long without a byte of its own.
UNUSED_S = 600.0
_DROP_BYTES = 64 * 1024


class DataSocket:
    """A connection that showed its token. `key` is its address for the limits; `gone` is called once, at its end."""

    def __init__(self, sock: socket.socket, key: str, gone: Callable[[], None]) -> None:
        self.sock = sock
        self.key = key
        self._gone: Callable[[], None] | None = gone

    def close(self) -> None:
        """Close it. Idempotent."""
        gone, self._gone = self._gone, None
        if gone is not None:
            self.sock.close()
            gone()


class _Watch(Enum):
    NOTHING = "nothing"
    SOURCE = "source"
    TARGET = "target"


class _Direction:
    """From one socket to the other."""

    def __init__(
        self, join: "DataJoin", source: socket.socket, target: socket.socket, carrier: Carrier
    ) -> None:
        self.source = source
        self.target = target
        self.over = False
        self._join = join
        self._carrier = carrier
        self._loop = asyncio.get_running_loop()
        self._source_fd = source.fileno()
        self._target_fd = target.fileno()
        self._watched = _Watch.NOTHING
        self._paused = False
        self._room = select.poll() if hasattr(select, "poll") else None
        if self._room is not None:
            self._room.register(self._target_fd, select.POLLOUT)

    def go_on(self) -> None:
        """Begin, or begin again after a pause."""
        self._paused = False
        if not self.over and self._carrier.pending == 0:
            self._watch(_Watch.SOURCE)

    def pause(self) -> None:
        """Read no more until `go_on`; what is pending still goes out."""
        self._paused = True
        if self._carrier.pending == 0:
            self._watch(_Watch.NOTHING)

    def stop(self) -> None:
        """End it here, dropping what is pending. Idempotent."""
        if not self.over:
            self.over = True
            self._watch(_Watch.NOTHING)
            self._carrier.release()

    def _watch(self, what: _Watch) -> None:
        if what is _Watch.SOURCE and self._paused:
            what = _Watch.NOTHING
        if what is self._watched:
            return
        if self._watched is _Watch.SOURCE:
            self._loop.remove_reader(self._source_fd)
        elif self._watched is _Watch.TARGET:
            self._loop.remove_writer(self._target_fd)
        self._watched = what
        if what is _Watch.SOURCE:
            self._loop.add_reader(self._source_fd, self._on_readable)
        elif what is _Watch.TARGET:
            self._loop.add_writer(self._target_fd, self._on_writable)

    def _on_readable(self) -> None:
        if self.over:
            return  # a readiness that was noticed before the end
        if self._room is None or self._room.poll(0):
            self._turn()
        else:
            self._watch(_Watch.TARGET)

    def _on_writable(self) -> None:
        if self.over:
            return
        if self._carrier.pending:
            self._push()
        elif self._paused:
            self._watch(_Watch.NOTHING)
        else:
            self._turn()

    def _turn(self) -> None:
        try:
            count = self._carrier.pull(self.source, self._join.turn_bytes)
        except (BlockingIOError, InterruptedError):
            self._watch(_Watch.SOURCE)
        except OSError:
            self.stop()
            self._join.source_lost(self)
        else:
            if count:
                self._push()
                self._join.moved(count)
            else:
                self.stop()
                self._join.source_finished(self)

    def _push(self) -> None:
        try:
            self._carrier.push(self.target)
        except (BlockingIOError, InterruptedError):
            self._watch(_Watch.TARGET)
        except OSError:
            self.stop()
            self._join.target_lost(self)
        else:
            self._watch(_Watch.SOURCE)


class DataJoin:
    """Joins two data connections; `on_end` is called once, when both are closed.

    `charge(count)` is called for what moved and returns for how many seconds this connection pauses, or is None where
    nothing is limited.
    """

    def __init__(
        self,
        a: DataSocket,
        b: DataSocket,
        engine: Engine,
        *,
        activity: Activity,
        times: ForwardTimes,
        on_end: Callable[["DataJoin"], None],
        charge: Callable[[int], float] | None = None,
        turn_bytes: int = TURN_BYTES,
    ) -> None:
        self.bytes_moved = 0
        self.turn_bytes = turn_bytes
        self._ends = {Side.A: a, Side.B: b}
        self._activity = activity
        self._times = times
        self._on_end = on_end
        self._charge = charge
        self._loop = asyncio.get_running_loop()
        self._moved_at = self._loop.time()
        self._closed = False
        self._broken = False
        self._ending: asyncio.TimerHandle | None = None
        self._resume: asyncio.TimerHandle | None = None
        self._draining: socket.socket | None = None
        self._directions = (
            _Direction(self, a.sock, b.sock, engine.carrier()),
            _Direction(self, b.sock, a.sock, engine.carrier()),
        )
        self._unused = self._loop.call_later(UNUSED_S, self._look_unused)

    def start(self) -> None:
        """Move bytes from now on."""
        for direction in self._directions:
            direction.go_on()

    def close(self) -> None:
        """Close both at once. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for direction in self._directions:
            direction.stop()
        if self._draining is not None:
            self._loop.remove_reader(self._draining.fileno())
        for timer in (self._ending, self._resume, self._unused):
            if timer is not None:
                timer.cancel()
        for end in self._ends.values():
            end.close()
        self._on_end(self)

    # -- what the directions tell -------------------------------------------------------------------------

    def moved(self, count: int) -> None:
        """Count what was taken from a source."""
        self.bytes_moved += count
        self._moved_at = self._loop.time()
        self._activity.moved(at=self._moved_at)
        pause_s = self._charge(count) if self._charge is not None else 0.0
        if pause_s > 0 and not self._closed:
            # Held up by ourselves is not idle.
            self._activity.moved(at=self._moved_at + pause_s)
            for direction in self._directions:
                direction.pause()
            if self._resume is not None:
                self._resume.cancel()
            self._resume = self._loop.call_later(pause_s, self._go_on)

    def source_finished(self, direction: _Direction) -> None:
        """Pass a FIN on; close both if it was the second."""
        if self._broken:
            self._end_healthy(direction.target)
            return
        _finish(direction.target)
        if all(each.over for each in self._directions):
            self.close()
        else:
            self._end_in(self._times.half_close_s, self.close)

    def source_lost(self, direction: _Direction) -> None:
        """End the healthy side: what came from the broken one is in the kernel."""
        self._end_healthy(direction.target)

    def target_lost(self, direction: _Direction) -> None:
        """Let what the broken side had sent reach the healthy one, then end that."""
        self._broken = True
        healthy, back = direction.source, self._opposite(direction)
        if back.over:
            self._end_healthy(healthy)
        else:
            self._end_in(self._times.flush_s, lambda: self._end_healthy(healthy))

    # -- inside -------------------------------------------------------------------------------------------

    def _opposite(self, direction: _Direction) -> _Direction:
        return self._directions[direction is self._directions[0]]

    def _go_on(self) -> None:
        self._resume = None
        for direction in self._directions:
            direction.go_on()

    def _end_healthy(self, healthy: socket.socket) -> None:
        """Send FIN, drop what still comes for at most 2 s (unread bytes would reset what was sent), close."""
        if self._closed or self._draining is not None:
            return
        for direction in self._directions:
            direction.stop()
        for end in self._ends.values():
            if end.sock is not healthy:
                end.close()
        _finish(healthy)
        self._draining = healthy
        self._loop.add_reader(healthy.fileno(), self._drop)
        self._end_in(min(CLOSE_TCP_S, self._times.flush_s), self.close)

    def _drop(self) -> None:
        if self._draining is None:
            return
        try:
            if self._draining.recv(_DROP_BYTES):
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass  # reset: nothing is left to drop
        self.close()

    def _end_in(self, after_s: float, then: Callable[[], None]) -> None:
        if self._ending is not None:
            self._ending.cancel()
        self._ending = self._loop.call_later(after_s, then)

    def _look_unused(self) -> None:
        left_s = self._moved_at + UNUSED_S - self._loop.time()
        if left_s <= 0:
            self.close()
        else:
            self._unused = self._loop.call_later(left_s, self._look_unused)


def _finish(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # reset meanwhile
        sock.shutdown(socket.SHUT_WR)

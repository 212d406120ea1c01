"""DataPair: the data connections of one pair, from their tokens to their end.

They stand beside the pair's two encrypted connections. When these have ended, a token that was not used is worth
nothing any more and a data connection that waits for its other half is closed; those that are joined go on until they
end by themselves, since a session may live on in them alone (a client whose encrypted connection was cut, or that has
moved what it says to another path).
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from tallow_net.signaling import Side

from tallow_relay.carriers import Engine
from tallow_relay.config import TURN_BYTES
from tallow_relay.datajoin import DataJoin, DataSocket
from tallow_relay.forward import Activity, ForwardTimes

Charge = Callable[[int], float]


@dataclass(frozen=True, slots=True)
class HalfOpenLimits:
    """Data connections that wait for their other half: how many at once, how many of one address, how long (seconds).

    Each is an open socket; a client connects both halves within a round trip.
    """

    at_once: int = 1024
    per_address: int = 256
    wait_s: float = 10.0


class HalfOpen:
    """Counts the data connections of one relay that wait for their other half, by address."""

    def __init__(self, limits: HalfOpenLimits) -> None:
        self.limits = limits
        self._keys: Counter[str] = Counter()
        self.count = 0

    def admit(self, key: str) -> bool:
        """Count one more and return True; False, nothing counted, beyond a limit."""
        if self.count >= self.limits.at_once or self._keys[key] >= self.limits.per_address:
            return False
        self.count += 1
        self._keys[key] += 1
        return True

    def gone(self, key: str) -> None:
        """Forget one."""
        self.count -= 1
        self._keys[key] -= 1
        if self._keys[key] <= 0:
            del self._keys[key]


@dataclass(frozen=True, slots=True)
class _Waiting:
    side: Side
    end: DataSocket
    timer: asyncio.TimerHandle


class DataPair:
    """What data connections a pair has. `charger(keys)` returns who is charged for bytes between these addresses.

    `on_sealed` is called once, when no token of this pair is good any more.
    """

    def __init__(
        self,
        engine: Engine,
        half_open: HalfOpen,
        *,
        charger: Callable[[frozenset[str]], Charge | None],
        on_sealed: Callable[[], None],
        times: ForwardTimes | None = None,
        turn_bytes: int = TURN_BYTES,
    ) -> None:
        self.activity = Activity()
        self._engine = engine
        self._half_open = half_open
        self._charger = charger
        self._on_sealed = on_sealed
        self._times = times or ForwardTimes()
        self._turn_bytes = turn_bytes
        self._sealed = False
        self._waiting: dict[int, _Waiting] = {}
        self._joins: set[DataJoin] = set()
        self._ended_bytes = 0
        self._changed = asyncio.Event()

    @property
    def bytes_moved(self) -> int:
        """The bytes that were taken from both sides of all its data connections so far."""
        return self._ended_bytes + sum(join.bytes_moved for join in self._joins)

    @property
    def joins(self) -> int:
        """The data connections that are joined now."""
        return len(self._joins)

    def enter(self, side: Side, index: int, end: DataSocket) -> None:
        """Take a connection that showed the token `index` of a side: join it, or let it wait; else close it."""
        other = self._waiting.get(index)
        if self._sealed or (other is not None and other.side is side):
            end.close()
        elif other is not None:
            self._take_waiting(index)
            self._join(end, other.end)
        elif self._half_open.admit(end.key):
            loop = asyncio.get_running_loop()
            timer = loop.call_later(self._half_open.limits.wait_s, self._give_up, index)
            self._waiting[index] = _Waiting(side, end, timer)
        else:
            end.close()

    def seal(self) -> None:
        """End what is not joined: the pair's encrypted connections are over. Idempotent."""
        if not self._sealed:
            self._sealed = True
            self._on_sealed()
            for index in list(self._waiting):
                self._give_up(index)

    def abort(self) -> None:
        """Close everything. Idempotent."""
        self.seal()
        for join in list(self._joins):
            join.close()

    async def over(self) -> None:
        """Seal, wait until no connection is left, and close those that move no byte for the pair's idle time."""
        self.seal()
        clock = asyncio.get_running_loop().time
        while self._joins:
            left_s = self.activity.moved_at + self._times.idle_s - clock()
            if left_s <= 0:
                self.abort()
                return
            self._changed.clear()
            try:
                async with asyncio.timeout(left_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _join(self, one: DataSocket, other: DataSocket) -> None:
        self.activity.moved(at=asyncio.get_running_loop().time())
        join = DataJoin(
            one,
            other,
            self._engine,
            activity=self.activity,
            times=self._times,
            on_end=self._ended,
            charge=self._charger(frozenset({one.key, other.key})),
            turn_bytes=self._turn_bytes,
        )
        self._joins.add(join)
        join.start()

    def _ended(self, join: DataJoin) -> None:
        self._joins.discard(join)
        self._ended_bytes += join.bytes_moved
        self._changed.set()

    def _take_waiting(self, index: int) -> _Waiting:
        waiting = self._waiting.pop(index)
        waiting.timer.cancel()
        self._half_open.gone(waiting.end.key)
        return waiting

    def _give_up(self, index: int) -> None:
        self._take_waiting(index).end.close()

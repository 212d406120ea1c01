"""The world: one seeded heap of (virtual time, tie), a tape for every draw, and what must hold after every step.

Nothing here knows Tallow. An event is a call at a time; after each, the watchers look. The same tape gives the same
events in the same order, which the trace's digest proves.
"""

from __future__ import annotations

import hashlib
import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sim.tape import Tape

EVENTS = 60_000
"""More than any sound run needs by far: a world that never rests is a finding."""

SPINS = 2_000
"""Events at one instant; a timer that is due at once again and again never lets time pass."""


class BrokenRuleError(AssertionError):
    """Something that must hold did not: `rule` names it."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule


class Timer:
    """One event to come; `cancel` takes it back."""

    __slots__ = ("at", "call")

    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at = at
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Let it not happen."""
        self.call = None


class World:
    """Time, order, chance."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.now = 0.0
        self.healed = False
        self.watchers: list[Callable[[], None]] = []
        self.log: list[str] = []
        self._heap: list[tuple[float, int, Timer]] = []
        self._tie = 0
        self._drawn = 0
        self._digest = hashlib.blake2b(digest_size=16)
        self.events = 0

    def after(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Let `call` happen in `delay_s` seconds."""
        return self.at(self.now + max(delay_s, 0.0), call)

    def at(self, when: float, call: Callable[[], None]) -> Timer:
        """Let `call` happen at `when`, or now."""
        timer = Timer(max(when, self.now), call)
        self._tie += 1
        heapq.heappush(self._heap, (timer.at, self._tie, timer))
        return timer

    def fresh(self, length: int) -> bytes:
        """Return bytes that were never given before: nonces and leases need no more than that."""
        self._drawn += 1
        return hashlib.shake_128(b"sim" + self._drawn.to_bytes(8, "big")).digest(length)

    def note(self, text: str) -> None:
        """Write into the trace."""
        self.log.append(f"{self.now:10.4f} {text}")

    @property
    def digest(self) -> str:
        """Return what two runs of one tape have in common."""
        whole = self._digest.copy()
        whole.update("\n".join(self.log).encode())
        return whole.hexdigest()

    def run(self, until: Callable[[], bool], limit_s: float) -> bool:
        """Let things happen until `until` holds; False where the time came to `limit_s` or nothing is left."""
        spins = 0
        while not until():
            if not self._heap:
                return False
            when, tie, timer = heapq.heappop(self._heap)
            if timer.call is None:
                continue
            if when > limit_s:
                heapq.heappush(self._heap, (when, tie, timer))
                return False
            spins = spins + 1 if when == self.now else 0
            if spins > SPINS:
                raise BrokenRuleError("time passes", f"{spins} events at {when:.6f} s")
            self.now = when
            self.events += 1
            if self.events > EVENTS:
                raise BrokenRuleError("the world comes to rest", f"{self.events} events")
            timer.call()
            for watch in self.watchers:
                watch()
        return True

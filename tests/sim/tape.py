"""The tape: every draw of a world, so that a seed replays exactly and a failing run can be made smaller.

Zero is always the simplest choice: no fault, no jitter, the least. A shorter tape with more zeros is a simpler run.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

BLOCKS = (256, 64, 16, 4, 1)


class Tape:
    """Draws from a seed and keeps what it drew, or repeats what was kept and then gives zeros."""

    def __init__(self, seed: int | None = None, values: Sequence[int] | None = None) -> None:
        self._source = random.Random(seed) if values is None else None
        self._given = list(values or ())
        self.values: list[int] = []

    def below(self, bound: int) -> int:
        """Return a number from 0 to bound - 1."""
        if bound <= 1:
            return 0
        if self._source is not None:
            value = self._source.randrange(bound)
        else:
            at = len(self.values)
            value = min(self._given[at], bound - 1) if at < len(self._given) else 0
        self.values.append(value)
        return value

    def chance(self, of: int) -> bool:
        """Return True once in `of` draws."""
        return self.below(of) == of - 1

    def pick(self, choices: Sequence[T]) -> T:
        """Return one of the choices, the first being the simplest."""
        return choices[self.below(len(choices))]

    def span(self, low: float, high: float, steps: int = 64) -> float:
        """Return one of `steps` numbers from low to high, low being the simplest."""
        return low + (high - low) * self.below(steps) / (steps - 1)


class _Shrinking:
    def __init__(self, values: Sequence[int], fails: Callable[[list[int]], bool], runs: int) -> None:
        self.best = list(values)
        self._fails = fails
        self._left = runs

    def better(self, candidate: list[int]) -> bool:
        """Keep the candidate if it fails too."""
        if self._left <= 0 or candidate == self.best:
            return False
        self._left -= 1
        if self._fails(candidate):
            self.best = candidate
            return True
        return False

    def cut_end(self) -> None:
        """Find how much of the tape is needed at all."""
        low = 0
        while low < len(self.best) and self._left > 0:
            middle = (low + len(self.best)) // 2
            if not self.better(self.best[:middle]):
                low = middle + 1

    def zero(self, size: int) -> None:
        """Make blocks simple."""
        for at in range(0, len(self.best), size):
            if any(self.best[at : at + size]):
                self.better(self.best[:at] + [0] * size + self.best[at + size :])

    def drop(self, size: int) -> None:
        """Leave blocks out."""
        at = 0
        while at < len(self.best) and self._left > 0:
            if not self.better(self.best[:at] + self.best[at + size :]):
                at += size

    def lower(self) -> None:
        """Halve single draws."""
        for at in range(len(self.best)):
            if at < len(self.best) and self.best[at] > 1:
                self.better([*self.best[:at], self.best[at] // 2, *self.best[at + 1 :]])


def shrink(values: Sequence[int], fails: Callable[[list[int]], bool], *, runs: int = 300) -> list[int]:
    """Return a tape that still fails and is shorter, or has more zeros and smaller numbers; at most `runs` tries."""
    work = _Shrinking(values, fails, runs)
    work.cut_end()
    for size in BLOCKS:
        work.zero(size)
        work.drop(size)
    work.lower()
    while work.best and work.best[-1] == 0:
        work.best.pop()
    return work.best

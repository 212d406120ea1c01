"""What a file of the simulated disk holds: bytes, holes, and stretches that are made anew from a name when they are read.

So a file may be a terabyte: of what is the file that it is promised to be only this is kept, that it is.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sim.offers import Contents

STEP = 4 * 1024 * 1024
"""So much at a time is made to be compared."""


@dataclass(frozen=True)
class Made:
    """The bytes of an offered file, each at its own place: `other` counts how often the file was replaced before."""

    contents: Contents
    path: str
    other: int

    def piece(self, start: int, end: int) -> bytes:
        """Return these bytes."""
        return self.contents.piece_of(self.path, self.other, start, end - start)

    def holds(self, start: int, data: bytes) -> bool:
        """Return whether the file holds `data` from `start` on: a glance first, since most of what is compared differs."""
        return data[:64] == self.piece(start, start + min(len(data), 64)) and data == self.piece(
            start, start + len(data)
        )


class Stretches:
    """Bytes from 0 to `size`. What no stretch covers is a hole."""

    __slots__ = ("_ends", "_starts", "_whats", "size")

    def __init__(self, data: bytes = b"") -> None:
        self.size = 0
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._whats: list[bytes | Made] = []
        if data:
            self.put(0, data)

    def __len__(self) -> int:
        return self.size

    def __bytes__(self) -> bytes:
        return self.piece(0, self.size)

    def copy(self) -> Stretches:
        """Return another of the same content."""
        other = Stretches()
        other.size = self.size
        other._starts, other._ends, other._whats = self._starts[:], self._ends[:], self._whats[:]
        return other

    def put(self, start: int, what: bytes | Made, end: int | None = None) -> None:
        """Hold `what` from `start` on; `end` is where it ends, for what is made."""
        if end is None:
            assert isinstance(what, bytes)
            end = start + len(what)
        self.size = max(self.size, end)
        if start == end:
            return
        if self._ends and self._ends[-1] > start:
            self._make_way(start, end)
        at = bisect_right(self._starts, start)
        if at and self._ends[at - 1] == start and isinstance(what, Made) and self._whats[at - 1] == what:
            self._ends[at - 1] = end
        else:
            self._starts.insert(at, start)
            self._ends.insert(at, end)
            self._whats.insert(at, what)
            at += 1
        if at < len(self._starts) and self._starts[at] == end and isinstance(what, Made):
            self._join(at, what)

    def _join(self, at: int, what: Made) -> None:
        if self._whats[at] == what:
            self._ends[at - 1] = self._ends[at]
            self._take_out(at, at + 1)

    def _take_out(self, low: int, high: int) -> None:
        del self._starts[low:high], self._ends[low:high], self._whats[low:high]

    def _make_way(self, start: int, end: int) -> None:
        """Leave nothing from `start` to `end`."""
        low = bisect_right(self._ends, start)
        high = low
        kept: list[tuple[int, int, bytes | Made]] = []
        while high < len(self._starts) and self._starts[high] < end:
            first, last, what = self._starts[high], self._ends[high], self._whats[high]
            if first < start:
                kept.append((first, start, _part(what, 0, start - first)))
            if last > end:
                kept.append((end, last, _part(what, end - first, last - first)))
            high += 1
        self._starts[low:high] = [first for first, _, _ in kept]
        self._ends[low:high] = [last for _, last, _ in kept]
        self._whats[low:high] = [what for _, _, what in kept]

    def cut(self, size: int) -> None:
        """End at `size`, which is no more than there is."""
        self._make_way(size, self.size)
        self.size = size

    def _between(self, start: int, end: int) -> Iterator[tuple[int, int, bytes | Made | None, int]]:
        """Yield every stretch from `start` to `end`, holes as None: where it begins and ends, and its own start."""
        at = bisect_right(self._ends, start)
        while start < end:
            first, last, what = end, end, None
            if at < len(self._starts):
                first, last, what = self._starts[at], self._ends[at], self._whats[at]
            if start < first:
                yield start, min(first, end), None, start
                start = min(first, end)
            if start < end:
                yield start, min(last, end), what, first
                start = min(last, end)
            at += 1

    def piece(self, start: int, length: int) -> bytes:
        """Return up to `length` bytes from `start` on."""
        pieces = []
        for first, last, what, own in self._between(start, min(start + length, self.size)):
            if what is None:
                pieces.append(bytes(last - first))
            elif isinstance(what, Made):
                pieces.append(what.piece(first, last))
            else:
                pieces.append(what[first - own : last - own])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def differs(self, made: Made, start: int, end: int) -> bool:
        """Return whether anything from `start` to `end` is not what is made there; what is known is not made again."""
        if end > self.size:
            return True
        for first, last, what, _ in self._between(start, end):
            if what == made:
                continue
            for at in range(first, last, STEP):
                if not made.holds(at, self.piece(at, min(STEP, last - at))):
                    return True
        return False

    @property
    def kept_bytes(self) -> int:
        """Return how many bytes are kept as bytes."""
        return sum(len(what) for what in self._whats if isinstance(what, bytes))


def _part(what: bytes | Made, low: int, high: int) -> bytes | Made:
    return what[low:high] if isinstance(what, bytes) else what

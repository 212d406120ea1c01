"""Which files of an offer are asked for, as the ranges that Accept has room for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallow_protocol.core.entries import EntryKind
from tallow_protocol.limits import ACCEPT_RANGES

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from tallow_protocol.core.entries import Entry

__all__ = ["accepted_ranges", "expanded"]


def accepted_ranges(
    entries: Sequence[Entry], left_out: Container[int], *, most: int = ACCEPT_RANGES
) -> tuple[tuple[int, int], ...] | None:
    """Return (first, count) ranges of entry numbers that hold every file that is not left out; None for all files.

    What lies between two wanted files and is no file joins them. Where more than `most` ranges were needed, files that
    are left out come too, the fewest bytes that will do: a receiver takes those and drops them.
    """
    ranges: list[tuple[int, int]] = []
    gaps: list[int] = []  # the bytes that are left out before each range
    begun, end, gap_bytes, missed = -1, 0, 0, False
    for number, entry in enumerate(entries):
        if entry.kind is not EntryKind.FILE:
            continue
        if number in left_out:
            if begun >= 0:
                ranges.append((begun, end - begun))
                begun, gap_bytes = -1, 0
            gap_bytes += entry.size or 0
            missed = True
            continue
        if begun < 0:
            begun = number
            gaps.append(gap_bytes)
        end = number + 1
    if begun >= 0:
        ranges.append((begun, end - begun))
    if not missed:
        return None
    return _fewer(ranges, gaps, most) if len(ranges) > most else tuple(ranges)


def _fewer(ranges: list[tuple[int, int]], gaps: list[int], most: int) -> tuple[tuple[int, int], ...]:
    closed = set(sorted(range(1, len(ranges)), key=gaps.__getitem__)[: len(ranges) - most])
    fewer: list[tuple[int, int]] = []
    for at, (first, count) in enumerate(ranges):
        if at in closed:
            start = fewer.pop()[0]
            fewer.append((start, first + count - start))
        else:
            fewer.append((first, count))
    return tuple(fewer)


def expanded(ranges: tuple[tuple[int, int], ...] | None, entries: int) -> frozenset[int] | None:
    """Return the numbers that ranges hold; None for all of `entries` entries."""
    if ranges is None:
        return None
    return frozenset(
        number for first, count in ranges for number in range(first, min(first + count, entries))
    )

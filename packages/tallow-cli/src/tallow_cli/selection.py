"""Which entries of an offer are wanted: globs of --select, and numbers and ranges of the prompt."""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING

from tallow_protocol import OfferedKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tallow_protocol import OfferedEntry

__all__ = ["by_numbers", "by_patterns", "selectable", "with_folders"]

_RANGE = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?")


def selectable(entries: Sequence[OfferedEntry]) -> list[int]:
    """Return the numbers of the entries that are chosen one by one: all but folders."""
    return [number for number, entry in enumerate(entries) if entry.kind is not OfferedKind.FOLDER]


def by_patterns(entries: Sequence[OfferedEntry], patterns: Iterable[str]) -> frozenset[int]:
    """Return what matches one of the globs, by its whole path, its name, or a folder that it is in, and its folders."""
    wanted = [re.compile(fnmatch.translate(pattern.rstrip("/"))) for pattern in patterns]
    chosen: set[int] = set()
    for number, entry in enumerate(entries):
        parts = entry.path.raw.split("/")
        paths = ["/".join(parts[: length + 1]) for length in range(len(parts))]
        if any(match.match(text) for match in wanted for text in (*paths, parts[-1])):
            chosen.add(number)
    return with_folders(entries, chosen)


def by_numbers(entries: Sequence[OfferedEntry], answer: str) -> frozenset[int] | None:
    """Return what an answer such as `1 3-5` picks of `selectable`, counted from 1; None where it is no such thing."""
    numbers = selectable(entries)
    chosen: set[int] = set()
    for word in re.split(r"[,\s]+", answer.strip()):
        match = _RANGE.fullmatch(word)
        if match is None:
            return None
        first, last = int(match[1]), int(match[2] or match[1])
        if not 1 <= first <= last <= len(numbers):
            return None
        chosen.update(numbers[first - 1 : last])
    return with_folders(entries, chosen)


def with_folders(entries: Sequence[OfferedEntry], chosen: set[int]) -> frozenset[int]:
    """Return `chosen` and the folders that hold it; empty where nothing was."""
    needed: set[str] = set()
    for number in chosen:
        parts = entries[number].path.raw.split("/")
        needed.update("/".join(parts[:length]) for length in range(1, len(parts)))
    folders = {
        number
        for number, entry in enumerate(entries)
        if entry.kind is OfferedKind.FOLDER and entry.path.raw in needed
    }
    return frozenset(chosen | folders)

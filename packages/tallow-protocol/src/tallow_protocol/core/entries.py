"""Entries: what an offer lists. Apart from the messages that carry them, whose codec a scan does not need."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

__all__ = ["Entry", "EntryKind"]


class EntryKind(IntEnum):
    """What an entry of an offer is."""

    FILE = 0
    FOLDER = 1
    LINK = 2


class Entry(NamedTuple):
    """One file, folder or link of an offer. A tuple: an offer has up to 262,144, made in half the time.

    `path` is what the sender chose, "/" between components; only the receiver's path gate may turn it into a
    place on disk. `size` in bytes for files alone, `target` for links alone, `mode` the nine permission bits,
    `mtime_ns` nanoseconds since 1970.
    """

    path: str
    kind: EntryKind
    size: int | None
    mode: int
    mtime_ns: int
    target: str | None = None

"""Entries: what an offer lists. Apart from the messages that carry them, whose codec a scan does not need."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from tallow_protocol.limits import MODE_MAX, TEXT_MODE

__all__ = ["MODES", "Entry", "EntryKind"]

MODES: Final = tuple(range(MODE_MAX + 1))
"""Each mode once, by itself: an offer has few, and 28 bytes for each of a hundred thousand entries add up."""


class EntryKind(IntEnum):
    """What an entry of an offer is."""

    FILE = 0
    FOLDER = 1
    LINK = 2


class Entry(NamedTuple):
    """One file, folder or link of an offer. A tuple: an offer has up to 262,144, made in half the time.

    `path` is what the sender chose, "/" between components; only the receiver's path gate may turn it into a
    place on disk. `size` in bytes for files alone, `target` for links alone, `mode` the nine permission bits,
    `mtime_ns` nanoseconds since 1970. A file whose size is None is a stream: its end says how long it was.
    """

    path: str
    kind: EntryKind
    size: int | None
    mode: int
    mtime_ns: int
    target: str | None = None

    @property
    def is_stream(self) -> bool:
        """Return whether this is a file of unknown length."""
        return self.size is None and self.kind is EntryKind.FILE

    @property
    def is_text(self) -> bool:
        """Return whether this is a text to be shown."""
        return bool(self.mode & TEXT_MODE)

    @property
    def permissions(self) -> int:
        """Return the nine permission bits."""
        return self.mode & MODE_MAX

"""Sources: the files of a scan, opened for the send pipeline, and what is remembered of their digests."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tallow_protocol.disk.scan import open_source
from tallow_protocol.ports import SourceDigests, SourceVersion

if TYPE_CHECKING:
    from tallow_protocol.core.resuming import Learned
    from tallow_protocol.disk.scan import Scan, SourceFile
    from tallow_protocol.ports import DigestCache

__all__ = ["ScanDigests", "Sources"]

SETTLED_NS = 2_000_000_000
"""A file that changed within the last two seconds may change again with the same times: its digests are not kept."""


class Sources:
    """Opens entries of one scan by their number."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan

    def open(self, file: int) -> SourceFile:
        """Open entry `file`; raises FileError where it is gone, unreadable or not what was scanned."""
        return open_source(self._scan.entries[file])


class ScanDigests:
    """The digest cache, asked by the numbers of one scan's entries: it is about the versions that were scanned."""

    def __init__(self, scan: Scan, cache: DigestCache) -> None:
        self._scan = scan
        self._cache = cache

    def known(self, file: int, chunk_size: int) -> bytes:
        """Return the digests of the file's first chunks, as far as they are known."""
        version = self._version(file)
        return b"" if version is None else self._cache.digests(version, chunk_size)

    def learn(self, learned: list[Learned]) -> None:
        """Keep digests of files that have settled."""
        pieces = []
        for piece in learned:
            version = self._version(piece.file)
            if version is not None and abs(time.time_ns() - version.ctime_ns) > SETTLED_NS:
                pieces.append(SourceDigests(version, piece.chunk_size, piece.first, piece.digests))
        if pieces:
            self._cache.remember(pieces)

    def _version(self, file: int) -> SourceVersion | None:
        identity = self._scan.entries[file].identity
        return None if identity is None else SourceVersion(*identity)

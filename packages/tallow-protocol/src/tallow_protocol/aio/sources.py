"""Sources: the files of a scan, opened for the send pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallow_protocol.disk.scan import open_source

if TYPE_CHECKING:
    from tallow_protocol.disk.scan import Scan, SourceFile

__all__ = ["Sources"]


class Sources:
    """Opens entries of one scan by their number."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan

    def open(self, file: int) -> SourceFile:
        """Open entry `file`; raises FileError where it is gone, unreadable or not what was scanned."""
        return open_source(self._scan.entries[file])

"""OfferSink: an offer's entries on their way through the gate. What `ReceivePipeline` calls a sink."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallow_protocol.disk.calls import SYSTEM
from tallow_protocol.disk.names import check_offer, quoted
from tallow_protocol.disk.root import OutputRoot, StagedFile
from tallow_protocol.errors import ConflictError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from tallow_protocol.core.messages import Entry
    from tallow_protocol.disk.calls import SystemCalls

__all__ = ["OfferSink", "OutputFolder"]


@dataclass(frozen=True, slots=True)
class _Checked:
    """The entries of an offer whose names may be written, and the components of each."""

    entries: tuple[Entry, ...]
    places: tuple[tuple[str, ...], ...]


def _check(entries: Sequence[Entry]) -> _Checked:
    kept = tuple(entries)
    return _Checked(kept, check_offer(kept))


class OutputFolder:
    """Where a receiver was told to write. Opening it is what creates it, after the user's yes."""

    def __init__(self, directory: str | os.PathLike[str], *, calls: SystemCalls = SYSTEM) -> None:
        self._directory = directory
        self._calls = calls
        self._checked = _Checked((), ())

    def check(self, entries: Sequence[Entry]) -> None:
        """Refuse names that cannot be written; raises BadNameError. Touches no disk."""
        self._checked = _check(entries)

    def open(self) -> OfferSink:
        """Open the gate; raises NotWritableError or NoSpaceError."""
        return OfferSink(OutputRoot.open(self._directory, calls=self._calls), self._checked)


class OfferSink:
    """Maps the paths of one checked offer to the gate's components. One caller at a time."""

    def __init__(self, root: OutputRoot, checked: _Checked) -> None:
        self._root = root
        self._checked = checked
        self._places: dict[str, tuple[str, ...]] = {}
        self._count = 0

    def begin_offer(self, entries: Sequence[Entry]) -> None:
        """Check every name, then that nothing of them exists."""
        # What was checked when it was offered is not checked again; comparing is quick where entries are the same.
        checked = self._checked if self._checked.entries == tuple(entries) else _check(entries)
        self._places = {
            entry.path: components for entry, components in zip(checked.entries, checked.places, strict=True)
        }
        taken = self._root.existing({components[0] for components in checked.places})
        if taken:
            shown = ", ".join(quoted(name) for name in taken[:3]) + (" and more" if len(taken) > 3 else "")
            raise ConflictError(f"the output directory already has {shown}; nothing was written")

    def make_folder(self, path: str) -> None:
        """Create a folder, private until `finish_folders`."""
        self._root.make_folder(self._places[path])

    def make_link(self, path: str, target: str, mtime_ns: int) -> None:
        """Create a link that stays inside the offer."""
        self._root.make_link(self._places[path], target, mtime_ns)

    def begin_file(self, path: str, size_bytes: int) -> StagedFile:
        """Open a file for receiving."""
        self._count += 1
        return self._root.begin(self._count, self._places[path], size_bytes)

    def write_small(self, path: str, data: memoryview, mode: int, mtime_ns: int) -> None:
        """Write a whole small file under its final name."""
        self._root.write_small(self._places[path], data, mode, mtime_ns)

    def finish_folders(self, folders: Sequence[tuple[str, int, int]]) -> None:
        """Give folders their modes and times, deepest first."""
        self._root.finish_folders((self._places[path], mode, mtime_ns) for path, mode, mtime_ns in folders)

    def discard(self) -> None:
        """Remove what is staged and not committed."""
        self._root.discard()

    def close(self) -> None:
        """Release every handle."""
        self._root.close()

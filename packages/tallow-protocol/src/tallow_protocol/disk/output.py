"""OfferSink: an offer's entries on their way through the gate. What `ReceivePipeline` calls a sink."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallow_protocol.core.chunking import PACK_FILE_BYTES
from tallow_protocol.disk.calls import SYSTEM
from tallow_protocol.disk.errors import NameRefusedError
from tallow_protocol.disk.leftovers import PARTIALS_NAME
from tallow_protocol.disk.names import check_offer, quoted
from tallow_protocol.disk.partials import PartialFile, PartialFolder
from tallow_protocol.disk.root import OutputRoot
from tallow_protocol.errors import ConflictError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from tallow_crypto import Fingerprint

    from tallow_protocol.core.messages import Entry
    from tallow_protocol.core.receiving import Existing
    from tallow_protocol.disk.calls import SystemCalls

__all__ = ["OfferSink", "OutputFolder"]


@dataclass(frozen=True, slots=True)
class _Checked:
    """The entries of an offer whose names may be written, and the components of each."""

    entries: tuple[Entry, ...]
    places: tuple[tuple[str, ...], ...]


def _check(entries: Sequence[Entry]) -> _Checked:
    kept = tuple(entries)
    places = check_offer(kept)
    for top in {components[0] for components in places}:
        if top.casefold().startswith(PARTIALS_NAME):
            raise NameRefusedError(f"{quoted(top)} is where Tallow keeps what is on its way")
    return _Checked(kept, places)


class OutputFolder:
    """Where a receiver was told to write. Opening it is what creates it, after the user's yes."""

    def __init__(self, directory: str | os.PathLike[str], *, calls: SystemCalls = SYSTEM) -> None:
        self._directory = directory
        self._calls = calls
        self._checked = _Checked((), ())

    def check(self, entries: Sequence[Entry]) -> None:
        """Refuse names that cannot be written; raises BadNameError. Touches no disk."""
        self._checked = _check(entries)

    def open(self, sender: Fingerprint) -> OfferSink:
        """Open the gate; raises NotWritableError or NoSpaceError."""
        return OfferSink(OutputRoot.open(self._directory, calls=self._calls), self._checked, sender)


class OfferSink:
    """Maps the paths of one checked offer to the gate's components. One caller at a time."""

    def __init__(self, root: OutputRoot, checked: _Checked, sender: Fingerprint) -> None:
        self._root = root
        self._partials = PartialFolder(root, sender)
        self._checked = checked
        self._places: dict[str, tuple[str, ...]] = {}

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

    def have(self, number: int, entry: Entry) -> Existing | None:
        """Return what an interrupted transfer of this sender left of a file. What travels packed is never left."""
        del number
        size = entry.size or 0
        return None if size <= PACK_FILE_BYTES else self._partials.find(entry.path, size)

    def begin_file(
        self, path: str, size_bytes: int, chunk_size: int, *, resume: Existing | None = None
    ) -> PartialFile:
        """Open a file for receiving, anew or after what `have` found of it."""
        return self._partials.begin(
            path, size_bytes, chunk_size, self._places[path], resumes=resume is not None
        )

    def write_small(self, path: str, data: memoryview, mode: int, mtime_ns: int) -> None:
        """Write a whole small file under its final name."""
        self._root.write_small(self._places[path], data, mode, mtime_ns)

    def finish_folders(self, folders: Sequence[tuple[str, int, int]]) -> None:
        """Give folders their modes and times, deepest first."""
        self._root.finish_folders((self._places[path], mode, mtime_ns) for path, mode, mtime_ns in folders)

    def discard(self) -> None:
        """Remove what is staged and not committed; partial files stay."""
        self._partials.close()
        self._root.discard()

    def close(self) -> None:
        """Release every handle."""
        self._partials.close()
        self._root.close()

"""OfferSink: an offer's entries on their way through the gate. What `ReceivePipeline` calls a sink.

What stands in the output directory already is looked at once, when the offer begins: `OnConflict` then says what
becomes of each entry. The gate itself asks that policy again at the moment when something would be replaced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallow_protocol.core.chunking import PACK_FILE_BYTES
from tallow_protocol.core.entries import EntryKind
from tallow_protocol.disk import conflicts
from tallow_protocol.disk.calls import SYSTEM
from tallow_protocol.disk.conflicts import Decision, Standing
from tallow_protocol.disk.errors import NameRefusedError
from tallow_protocol.disk.leftovers import PARTIALS_NAME
from tallow_protocol.disk.names import Kind, checked_offer, fold, quoted
from tallow_protocol.disk.partials import PartialFile, PartialFolder
from tallow_protocol.disk.root import OutputRoot
from tallow_protocol.disk.space import check_space
from tallow_protocol.disk.standing import NowhereFile, StandingFile
from tallow_protocol.errors import ConflictError
from tallow_protocol.events import OnConflict

if TYPE_CHECKING:
    import os
    from collections.abc import Container, Iterable, Sequence

    from tallow_crypto import Fingerprint

    from tallow_protocol.core.messages import Entry
    from tallow_protocol.core.receiving import Existing
    from tallow_protocol.disk.calls import SystemCalls

__all__ = ["OfferSink", "OutputFolder"]

_SHOWN_NAMES = 3

_KINDS = {EntryKind.FILE: Kind.FILE, EntryKind.FOLDER: Kind.FOLDER, EntryKind.LINK: Kind.LINK}


@dataclass(frozen=True, slots=True)
class _Checked:
    """The entries of an offer whose names may be written. Their components are cut when they are asked for."""

    entries: tuple[Entry, ...]
    tops: frozenset[str]
    """The names of the top level."""


def _check(entries: Sequence[Entry]) -> _Checked:
    kept = tuple(entries)
    checked = _Checked(kept, frozenset(components[0] for components in checked_offer(kept)))
    for top in checked.tops:
        if top.casefold().startswith(PARTIALS_NAME):
            raise NameRefusedError(f"{quoted(top)} is where Tallow keeps what is on its way")
    return checked


class OutputFolder:
    """Where a receiver was told to write. Opening it is what creates it, after the user's yes.

    `on_conflict` may be set until then. `force_space` goes on where the disk seems too small.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        on_conflict: OnConflict = OnConflict.ASK,
        calls: SystemCalls = SYSTEM,
        force_space: bool = False,
    ) -> None:
        self._directory = directory
        self._calls = calls
        self._checked = _Checked((), frozenset())
        self._force_space = force_space
        self.on_conflict = on_conflict

    def check(self, entries: Sequence[Entry]) -> None:
        """Refuse names that cannot be written; raises BadNameError. Touches no disk."""
        self._checked = _check(entries)

    def conflicts(self) -> tuple[str, ...]:
        """Return the top-level names of the checked offer that stand in the directory, sorted.

        Makes nothing: a directory that is missing has none. Raises NotWritableError.
        """
        with OutputRoot.existing_only(self._directory, calls=self._calls) as root:
            return () if root is None else root.existing(self._checked.tops)

    def open(self, sender: Fingerprint) -> OfferSink:
        """Open the gate; raises NotWritableError or NoSpaceError."""
        root = OutputRoot.open(self._directory, calls=self._calls, on_conflict=self.on_conflict)
        return OfferSink(root, self._checked, sender, force_space=self._force_space)


class OfferSink:
    """Maps the paths of one checked offer to the gate's components. One caller at a time."""

    def __init__(
        self, root: OutputRoot, checked: _Checked, sender: Fingerprint, *, force_space: bool = False
    ) -> None:
        self._root = root
        self._partials = PartialFolder(root, sender)
        self._checked = checked
        self._force_space = force_space
        self._new_names: dict[str, str] = {}
        self._left_out: frozenset[int] = frozenset()
        self._left_paths: frozenset[str] = frozenset()
        self._replaced: frozenset[int] = frozenset()
        self._standing: dict[str, StandingFile] = {}

    @property
    def left_out(self) -> frozenset[int]:
        """Numbers of the entries that are not written: not chosen, or left as they stand. After `begin_offer`."""
        return self._left_out

    def begin_offer(self, entries: Sequence[Entry], chosen: Container[int] | None = None) -> None:
        """Check every name, then decide what becomes of each of the `chosen` entries. Writes nothing.

        Raises BadNameError, and ConflictError where the policy has no answer to what stands there.
        """
        # What was checked when it was offered is not checked again; comparing is quick where entries are the same.
        checked = self._checked if self._checked.entries == tuple(entries) else _check(entries)
        count = len(entries)
        numbers = [number for number in range(count) if chosen is None or number in chosen]
        left_out = set() if chosen is None else set(range(count)).difference(numbers)
        taken = self._root.existing({_top(entries[number].path) for number in numbers})
        if taken and self._root.on_conflict is OnConflict.ASK:
            raise _conflict(taken)
        if taken and self._root.on_conflict is OnConflict.RENAME:
            self._new_names = self._renamed(checked, taken)
        elif taken:
            merged = frozenset(taken)
            self._decide(
                entries, [number for number in numbers if _top(entries[number].path) in merged], left_out
            )
        self._left_out = frozenset(left_out)
        self._left_paths = frozenset(entries[number].path for number in left_out)

    def _decide(
        self,
        entries: Sequence[Entry],
        numbers: Iterable[int],
        left_out: set[int],
    ) -> None:
        policy = self._root.on_conflict
        refused: list[str] = []
        replaced: set[int] = set()
        for number in numbers:
            entry = entries[number]
            components = self._place(entry.path)
            try:
                status = self._root.look(components)
            except ConflictError:  # it would be below a file, a link or somebody else's folder
                decision, there = (
                    Decision.LEAVE if policy is OnConflict.SKIP else Decision.REFUSE,
                    Standing.OTHER,
                )
            else:
                there = Standing.NOTHING if status is None else conflicts.standing(status.st_mode)
                decision = conflicts.decide(
                    policy,
                    _KINDS[entry.kind],
                    there,
                    there_mtime_ns=0 if status is None else status.st_mtime_ns,
                    mtime_ns=entry.mtime_ns,
                )
            if decision is Decision.LEAVE:
                left_out.add(number)
            elif decision is Decision.REFUSE:
                refused.append(entry.path)
            elif there is Standing.FILE:
                replaced.add(number)
        if refused:
            raise _conflict(refused, "; neither a file nor a folder takes the place of the other")
        self._replaced = frozenset(replaced)

    def _renamed(self, checked: _Checked, taken: Iterable[str]) -> dict[str, str]:
        """Return a free name for each top-level name that is taken."""
        folders = {
            _top(entry.path)
            for entry in checked.entries
            if entry.kind is EntryKind.FOLDER or "/" in entry.path
        }
        used = {fold(top) for top in checked.tops}
        new_names: dict[str, str] = {}
        for top in taken:
            name = conflicts.free_name(
                top,
                folder=top in folders,
                taken=lambda name: fold(name) in used or bool(self._root.existing((name,))),
            )
            if name is None:
                raise _conflict([top])
            used.add(fold(name))
            new_names[top] = name
        return new_names

    def _place(self, path: str) -> tuple[str, ...]:
        """Return the components of a checked path. Not kept: they cost more than all the rest of an entry."""
        components = tuple(path.split("/"))
        if self._new_names:
            return (self._new_names.get(components[0], components[0]), *components[1:])
        return components

    def check_space(self, size_bytes: int) -> None:
        """Raise NoSpaceError where so many bytes have no room, unless the user wants to try."""
        if not self._force_space:
            check_space(self._root, size_bytes)

    def make_folder(self, path: str) -> None:
        """Create a folder, private until `finish_folders`, or enter the one that stands there."""
        if path not in self._left_paths:
            self._root.make_folder(self._place(path))

    def make_link(self, path: str, target: str, mtime_ns: int) -> None:
        """Create a link that stays inside the offer."""
        if path not in self._left_paths:
            self._root.make_link(self._place(path), target, mtime_ns)

    def have(self, number: int, entry: Entry) -> Existing | None:
        """Return what an interrupted transfer of this sender left of a file, or else what stands in its place.

        What travels packed is never left unfinished.
        """
        size = entry.size or 0
        found = None if size <= PACK_FILE_BYTES else self._partials.find(entry.path, size)
        if found is None and number in self._replaced and size:
            standing = StandingFile(self._root, self._place(entry.path), size)
            found = standing.existing()
            if found is not None:
                self._standing[entry.path] = standing
        return found

    def begin_file(
        self, path: str, size_bytes: int | None, chunk_size: int, *, resume: Existing | None = None
    ) -> PartialFile | StandingFile | NowhereFile:
        """Open a file for receiving, anew or after what `have` found of it."""
        if path in self._left_paths:
            return NowhereFile()
        if resume is not None and not resume.partial:
            return self._standing.pop(path)
        return self._partials.begin(
            path, size_bytes, chunk_size, self._place(path), resumes=resume is not None
        )

    def write_small(self, path: str, data: memoryview, mode: int, mtime_ns: int) -> None:
        """Write a whole small file under its final name."""
        if path not in self._left_paths:
            self._root.write_small(self._place(path), data, mode, mtime_ns)

    def finish_folders(self, folders: Sequence[tuple[str, int, int]]) -> None:
        """Give folders their modes and times, deepest first; those that stood there keep theirs.

        With this a transfer ends, so all of it is made durable: the sender is told "done" after it, and what was packed
        and every name would be lost with the machine's power until then.
        """
        self._root.finish_folders(
            (self._place(path), mode, mtime_ns)
            for path, mode, mtime_ns in folders
            if path not in self._left_paths
        )
        self._root.sync()

    def discard(self) -> None:
        """Remove what is staged and not committed; partial files stay."""
        self._partials.close()
        self._root.discard()

    def close(self) -> None:
        """Release every handle."""
        self._partials.close()
        self._root.close()


def _top(path: str) -> str:
    return path.partition("/")[0]


def _conflict(taken: Sequence[str], why: str = "") -> ConflictError:
    shown = ", ".join(quoted(name) for name in taken[:_SHOWN_NAMES])
    more = " and more" if len(taken) > _SHOWN_NAMES else ""
    return ConflictError(f"the output directory already has {shown}{more}{why}; nothing was written")

"""OfferSink: an offer's entries on their way through the gate. What `ReceivePipeline` calls a sink.

What stands in the output directory already is looked at once, when the offer begins: `OnConflict` then says what
becomes of each entry. The gate itself asks that policy again at the moment when something would be replaced.
"""

from __future__ import annotations

import contextlib
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
from tallow_protocol.disk.staging import is_staging_name
from tallow_protocol.disk.standing import NowhereFile, StandingFile
from tallow_protocol.disk.unfinished import Own, Unfinished
from tallow_protocol.errors import ConflictError
from tallow_protocol.events import OnConflict

if TYPE_CHECKING:
    import os
    from collections.abc import Container, Iterable, Iterator, Sequence

    from tallow_crypto import Fingerprint

    from tallow_protocol.core.messages import Entry
    from tallow_protocol.core.receiving import Existing
    from tallow_protocol.disk.calls import FileStatus, SystemCalls

__all__ = ["SYNC_EACH", "OfferSink", "OutputFolder"]

_SHOWN_NAMES = 3

SYNC_EACH = 4
"""So few entries are synced one by one: syncing the file system waits for whatever other programs wrote to it. Each file
is a commit of its journal, so that more are better synced together."""

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
        if top.casefold().startswith(PARTIALS_NAME) or is_staging_name(top):
            raise NameRefusedError(f"{quoted(top)} is where Tallow keeps what is on its way")
    return checked


@dataclass(frozen=True, slots=True)
class _Look:
    """What a look at the output directory goes through."""

    root: OutputRoot
    own: Own
    partials: PartialFolder
    unfinished: Unfinished


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

    def conflicts(self, sender: Fingerprint) -> tuple[str, ...]:
        """Return the top-level names of the checked offer that stand in the directory, sorted.

        Those that an unfinished transfer of the same sender made are none. Makes nothing: a directory that is missing
        has none. Raises NotWritableError.
        """
        with self._looking(sender) as look:
            return () if look is None else look.root.existing(self._checked.tops.difference(look.own.tops))

    def unfinished_bytes(self, sender: Fingerprint) -> int:
        """Return how many bytes of the checked offer an unfinished transfer of the same sender left here.

        As names, times and journals say; the bytes themselves are compared when the transfer goes on. Makes nothing.
        Raises NotWritableError.
        """
        with self._looking(sender) as look:
            if look is None:
                return 0
            own = look.own
            look.root.go_on(own.folders, {})
            times: dict[str, int] = {}
            sizes: dict[str, int] = {}
            there = 0
            for entry in self._checked.entries:
                size = entry.size or 0
                noted = look.partials.noted_bytes(entry.path, size) if size > PACK_FILE_BYTES else 0
                there += noted
                top, slash, rest = entry.path.partition("/")
                if noted or not size or top not in own.tops:
                    continue
                with contextlib.suppress(ConflictError):  # below what the user put in a folder's place
                    status = look.root.look(tuple((own.tops[top] + slash + rest).split("/")))
                    if status is not None:
                        times[entry.path], sizes[entry.path] = status.st_mtime_ns, min(size, status.st_size)
            return there + sum(sizes[path] for path in look.unfinished.wrote(times))

    @contextlib.contextmanager
    def _looking(self, sender: Fingerprint) -> Iterator[_Look | None]:
        """Give the gate for a look, None where there is no directory, and what stands there of an unfinished transfer."""
        with OutputRoot.existing_only(self._directory, calls=self._calls) as root:
            if root is None:
                yield None
                return
            partials = PartialFolder(root, sender)
            unfinished = Unfinished(partials, sender)
            try:
                yield _Look(root, unfinished.find(self._checked.entries), partials, unfinished)
            finally:
                unfinished.close(keep=True)
                partials.close()

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
        self._unfinished = Unfinished(self._partials, sender)
        self._own = Own()
        self._free_tops: dict[str, str] = {}
        self._begun = False
        self._checked = checked
        self._force_space = force_space
        self._new_names: dict[str, str] = {}
        self._left_out: frozenset[int] = frozenset()
        self._left_paths: frozenset[str] = frozenset()
        self._replaced: frozenset[int] = frozenset()
        self._standing: dict[str, StandingFile] = {}
        self._chunked = False

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
        self._checked = checked
        own = self._own = self._unfinished.find(entries)
        self._root.go_on(own.folders, {})
        tops = {_top(entries[number].path) for number in numbers}
        taken = self._root.existing(tops.difference(own.tops))
        if taken and self._root.on_conflict is OnConflict.ASK:
            raise _conflict(taken)
        self._new_names = {offered: placed for offered, placed in own.tops.items() if placed != offered}
        looked_at = tops.intersection(own.tops)
        if self._root.on_conflict is OnConflict.RENAME:
            self._new_names.update(self._renamed(checked, taken))
        else:
            looked_at.update(taken)
            tops.difference_update(taken)
        self._free_tops = {top: self._new_names.get(top, top) for top in tops.difference(own.tops)}
        if looked_at:
            self._decide(
                entries, [number for number in numbers if _top(entries[number].path) in looked_at], left_out
            )
        self._left_out = frozenset(left_out)
        self._left_paths = frozenset(entries[number].path for number in left_out)

    def _decide(self, entries: Sequence[Entry], numbers: Iterable[int], left_out: set[int]) -> None:
        refused: list[str] = []
        replaced: set[int] = set()

        def take(number: int, decision: Decision, status: FileStatus | None) -> None:
            if decision is Decision.LEAVE:
                left_out.add(number)
            elif decision is Decision.REFUSE:
                refused.append(entries[number].path)
            elif status is not None and conflicts.standing(status.st_mode) is Standing.FILE:
                replaced.add(number)

        own: list[tuple[int, FileStatus]] = []
        for number in numbers:
            decision, status = self._decision(entries[number])
            if decision is not None:
                take(number, decision, status)
            elif status is not None:
                own.append((number, status))
        wrote = self._unfinished.wrote({entries[number].path: status.st_mtime_ns for number, status in own})
        for number, status in own:
            entry = entries[number]
            if entry.path in wrote:
                self._root.go_on({}, {self._place(entry.path): status.st_mtime_ns})
                take(number, Decision.WRITE, status)
            else:
                take(number, self._decision_beside_own(entry, status), status)
        self._refuse(refused)
        self._replaced = frozenset(replaced)

    def _refuse(self, refused: Sequence[str]) -> None:
        if refused:
            merges = self._root.on_conflict.merges
            raise _conflict(
                refused, "; neither a file nor a folder takes the place of the other" if merges else ""
            )

    def _decision(self, entry: Entry) -> tuple[Decision | None, FileStatus | None]:
        """Return what becomes of an entry, and what stands in its place.

        None where an unfinished transfer of the same sender may have written what stands there.
        """
        policy = self._root.on_conflict
        try:
            status = self._root.look(self._place(entry.path))
        except ConflictError:  # it would be below a file, a link or somebody else's folder
            return Decision.LEAVE if policy is OnConflict.SKIP else Decision.REFUSE, None
        if status is not None and _top(entry.path) in self._own.tops:
            there = conflicts.standing(status.st_mode)
            if there in conflicts.GIVE_WAY and entry.kind is not EntryKind.FOLDER:
                return None, status
            if there is Standing.FOLDER and entry.kind is EntryKind.FOLDER:
                return Decision.WRITE, status
        return self._unless_same_link(_decision(policy, entry, status), entry, status), status

    def _unless_same_link(self, decision: Decision, entry: Entry, status: FileStatus | None) -> Decision:
        """Leave a link that leads where the offered one does: made again, it would move its folder's time."""
        if decision is not Decision.WRITE or status is None or entry.kind is not EntryKind.LINK:
            return decision
        return Decision.LEAVE if self._root.read_link(self._place(entry.path)) == entry.target else decision

    def _decision_beside_own(self, entry: Entry, status: FileStatus) -> Decision:
        """Return what becomes of an entry in whose place, in an own folder, stands what somebody else changed or made.

        What is the same is fine under every policy. For a file that is found out later, and the gate refuses one that
        is not.
        """
        policy, there = self._root.on_conflict, conflicts.standing(status.st_mode)
        if policy.merges:
            return _decision(policy, entry, status)
        if there is Standing.LINK and entry.kind is EntryKind.LINK:
            same = self._root.read_link(self._place(entry.path)) == entry.target
            return Decision.LEAVE if same else Decision.REFUSE
        if there is Standing.FILE and entry.kind is EntryKind.FILE and status.st_size == entry.size:
            return Decision.WRITE if entry.size else Decision.LEAVE
        return Decision.REFUSE

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

    def _begin(self) -> None:
        """Note, before the first name is made, what this transfer makes."""
        if not self._begun:
            self._begun = True
            self._root.clean()
            self._unfinished.begin(self._checked.entries, self._free_tops)
            self._root.on_top = self._unfinished.made

    def check_space(self, size_bytes: int) -> None:
        """Raise NoSpaceError where so many bytes have no room, unless the user wants to try."""
        if not self._force_space:
            check_space(self._root, size_bytes)

    def make_folder(self, path: str) -> None:
        """Create a folder, private until `finish_folders`, or enter the one that stands there."""
        if path not in self._left_paths:
            self._begin()
            self._root.make_folder(self._place(path))

    def make_link(self, path: str, target: str, mtime_ns: int) -> None:
        """Create a link that stays inside the offer."""
        if path not in self._left_paths:
            self._begin()
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
        self._begin()
        self._unfinished.settle()
        self._chunked = True
        return self._partials.begin(
            path, size_bytes, chunk_size, self._place(path), resumes=resume is not None
        )

    def write_small(self, path: str, data: memoryview, mode: int, mtime_ns: int) -> None:
        """Write a whole small file under its final name."""
        if path not in self._left_paths:
            self._begin()
            self._unfinished.settle()
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
        self._root.sync(self._few_places())
        self._unfinished.end()

    def _few_places(self) -> list[tuple[str, ...]] | None:
        """Return all that this transfer wrote, if that is little and came whole.

        What came in chunks had another name before its own, and may be written to under that one where its end is lost:
        with the whole file system both are synced.
        """
        entries = self._checked.entries
        if self._chunked or len(entries) > SYNC_EACH:
            return None
        return [self._place(entry.path) for entry in entries if entry.path not in self._left_paths]

    def discard(self) -> None:
        """Remove what is staged and not committed; partial files stay."""
        self._release()
        self._root.discard()

    def close(self) -> None:
        """Release every handle."""
        self._release()
        self._root.close()

    def _release(self) -> None:
        self._unfinished.close(keep=self._root.gave_names or bool(self._own.tops))
        self._partials.close()


def _decision(policy: OnConflict, entry: Entry, status: FileStatus | None) -> Decision:
    return conflicts.decide(
        policy,
        _KINDS[entry.kind],
        Standing.NOTHING if status is None else conflicts.standing(status.st_mode),
        there_mtime_ns=0 if status is None else status.st_mtime_ns,
        mtime_ns=entry.mtime_ns,
    )


def _top(path: str) -> str:
    return path.partition("/")[0]


def _conflict(taken: Sequence[str], why: str = "") -> ConflictError:
    shown = ", ".join(quoted(name) for name in taken[:_SHOWN_NAMES])
    more = " and more" if len(taken) > _SHOWN_NAMES else ""
    return ConflictError(f"the output directory already has {shown}{more}{why}; nothing was written")

# A tree has a hundred thousand paths: strings cost a third of the memory and time of Path objects.
# ruff: noqa: PTH114, PTH115, PTH116, PTH119, PTH208
"""What a sender offers: the entries under some paths, in a stable order, and the files behind them.

Synchronous, for one worker thread. Links inside a folder stay links where they point inside it; a path
that was given by the user is followed. What cannot be sent (sockets, pipes, devices, links that lead out)
is left out with a warning; what should be sent and cannot be is an error before the offer.
"""

import errno
import os
import stat
import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self, overload

from tallow_protocol.core.entries import MODES, Entry, EntryKind
from tallow_protocol.disk import names
from tallow_protocol.disk.errors import NameClashError, NameRefusedError
from tallow_protocol.disk.ignore import GIT_IGNORE, TALLOW_IGNORE, Ignore, ScanOptions
from tallow_protocol.errors import PathMissingError, SourceChangedError, UnreadableError

_RENAME = ("rename it, then send again",)

_EFFECTIVE_IDS = os.access in os.supports_effective_ids

_SPARSE_BYTES = 256 * 1024
"""A file up to this size is read as it is: it travels packed, and asking costs more than reading."""

_ZEROS = memoryview(bytes(4 * 1024 * 1024))

_SPECIAL = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a pipe",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


class FileIdentity(NamedTuple):
    """What told this version of a file from any other when it was scanned."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int


class ScannedEntry(NamedTuple):
    """One entry of the offer and where it came from."""

    entry: Entry
    source_path: str
    """Where it lies, as the operating system spells it; empty for what comes from no file."""

    identity: FileIdentity | None
    """Of a file; None for folders and links, and for what comes from no file."""

    @property
    def source(self) -> Path:
        """Where it lies."""
        return Path(self.source_path)


class _Top(NamedTuple):
    """A path that the user gave, and how many characters of the offered paths below it are its own name."""

    path: str
    cut: int


class ScannedEntries(Sequence[ScannedEntry]):
    """The entries of a scan, made when they are asked for: kept in columns, a tree's cost half of what objects do."""

    __slots__ = ("_below", "_devices", "_inodes", "_offered", "_origins", "_times")

    def __init__(self) -> None:
        self._offered: list[Entry] = []
        self._origins: list[_Top | str] = []
        self._below = _Top("", 0)
        self._devices, self._inodes, self._times = array("Q"), array("Q"), array("q")

    @property
    def offered(self) -> Sequence[Entry]:
        """The entries alone, as they are offered: not to be changed."""
        return self._offered

    def begin_top(self, path: str, name: str) -> None:
        """Say that what is added from now on lies at `path`, which is offered as `name`, and below it."""
        self._below = _Top(path, len(name))

    def add(self, entry: Entry, source_path: str = "", status: os.stat_result | None = None) -> None:
        """Add an entry, and what its identity is made of if it is a file."""
        below = self._below
        # Where a name was brought into its composed form, the offered path does not say where the file lies.
        known = source_path == below.path + entry.path[below.cut :]
        self._offered.append(entry)
        self._origins.append(below if known else source_path)
        if status is None:
            device, inode, ctime_ns = 0, 0, 0
        else:
            device, inode, ctime_ns = status.st_dev, _inode(status), status.st_ctime_ns
        self._devices.append(device)
        self._inodes.append(inode)
        self._times.append(ctime_ns)

    @overload
    def __getitem__(self, number: int) -> ScannedEntry: ...
    @overload
    def __getitem__(self, number: slice) -> tuple[ScannedEntry, ...]: ...
    def __getitem__(self, number: int | slice) -> ScannedEntry | tuple[ScannedEntry, ...]:
        if isinstance(number, slice):
            return tuple(self[place] for place in range(*number.indices(len(self))))
        entry, origin = self._offered[number], self._origins[number]
        path = origin if isinstance(origin, str) else origin.path + entry.path[origin.cut :]
        identity = None
        if path and entry.kind is EntryKind.FILE:
            device, inode, ctime_ns = self._devices[number], self._inodes[number], self._times[number]
            identity = FileIdentity(device, inode, entry.size or 0, entry.mtime_ns, ctime_ns)
        return ScannedEntry(entry, path, identity)

    def __len__(self) -> int:
        return len(self._offered)


@dataclass(frozen=True, slots=True)
class Scan:
    """Everything that would be sent: parents before children, names sorted, so the order is stable."""

    entries: ScannedEntries
    warnings: tuple[str, ...]
    """One sentence for each thing that was left out."""

    @classmethod
    def of_one(cls, entry: Entry) -> Self:
        """Return the offer of one entry that comes from no file."""
        entries = ScannedEntries()
        entries.add(entry)
        return cls(entries, ())

    @property
    def files(self) -> int:
        """How many entries are files."""
        return sum(1 for entry in self.entries.offered if entry.kind is EntryKind.FILE)

    @property
    def total_bytes(self) -> int:
        """The bytes of all files together, those of a stream left out."""
        return sum(entry.size or 0 for entry in self.entries.offered)


def scan(paths: Sequence[str | os.PathLike[str]], options: ScanOptions | None = None) -> Scan:
    """Return what sending `paths` would offer; each path becomes one top-level entry under its base name.

    `options` and ignore files say what is left out of folders; a path that was given itself is never left out.

    Costs about 300 bytes of memory an entry. Raises PathMissingError, UnreadableError, NameClashError (two
    names that would be one on some systems) and NameRefusedError (a name that a receiver would refuse).
    """
    scanner = _Scanner(options or ScanOptions())
    for path in paths:
        scanner.top(os.fspath(path))
    return Scan(scanner.entries, (*scanner.warnings, *scanner.left_out()))


def check(paths: Sequence[str | os.PathLike[str]], options: ScanOptions | None = None) -> None:
    """Raise what `scan` would raise for the given paths and options themselves; what folders hold is not looked at."""
    scanner = _Scanner(options or ScanOptions())
    for path in paths:
        scanner.top(os.fspath(path), below=False)


def open_source(scanned: ScannedEntry) -> "SourceFile":
    """Open a scanned file for reading, without following a link.

    Raises PathMissingError, UnreadableError, and SourceChangedError if it is not the file that was scanned.
    """
    if scanned.identity is None:
        raise ValueError("only files can be opened")
    return SourceFile(scanned.source_path, scanned.identity)


class SourceFile:
    """An open file of the offer. Calls may not overlap."""

    __slots__ = ("_data_at", "_descriptor", "_hole_at", "_identity", "_path", "_sparse")

    def __init__(self, path: str, identity: FileIdentity) -> None:
        self._path = path
        self._identity = identity
        self._descriptor = -1
        self._sparse: bool | None = None
        self._hole_at = self._data_at = 0
        # O_NONBLOCK: a pipe that was put in the file's place must not hold the thread.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            self._descriptor = os.open(path, flags)
        except FileNotFoundError:
            raise PathMissingError(
                f"{names.quoted(path)} was there when the offer was made and is gone"
            ) from None
        except OSError as error:
            if os.path.islink(path):
                raise self._changed_error() from None
            raise UnreadableError(f"cannot read {names.quoted(path)}: {error.strerror}") from error
        if self.changed():
            self.close()
            raise self._changed_error()

    @property
    def size_bytes(self) -> int:
        """The size when it was scanned, which is what the offer says."""
        return self._identity.size_bytes

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` from `offset`, up to the scanned size; return how many bytes that was.

        Raises SourceChangedError if the file has become shorter, UnreadableError if it cannot be read.
        """
        wanted = min(len(buffer), max(self._identity.size_bytes - offset, 0))
        if self._in_hole(offset, offset + wanted):
            buffer[:wanted] = _ZEROS[:wanted] if wanted <= len(_ZEROS) else bytes(wanted)
            return wanted
        done = 0
        while done < wanted:
            try:
                got = os.preadv(self._descriptor, [buffer[done:wanted]], offset + done)
            except OSError as error:
                raise UnreadableError(f"cannot read {names.quoted(self._path)}: {error.strerror}") from error
            if got == 0:
                raise self._changed_error()
            done += got
        return done

    def _in_hole(self, offset: int, end: int) -> bool:
        """Return whether the file system stores nothing of a range, so that nothing need be read: all of it is zeros."""
        if self._sparse is None:
            self._sparse = self._identity.size_bytes > _SPARSE_BYTES and _has_holes(self._descriptor)
        if not self._sparse:
            return False
        if not self._hole_at <= offset < self._data_at:
            try:
                self._data_at = os.lseek(self._descriptor, offset, os.SEEK_DATA)
            except OSError as error:
                # ENXIO: no data up to the end. Anything else: it cannot say, and is read.
                self._sparse = error.errno == errno.ENXIO
                self._data_at = self._identity.size_bytes if self._sparse else offset
            self._hole_at = offset
        return end <= self._data_at

    def changed(self) -> bool:
        """Whether this is no longer the version that was scanned, as far as the file system tells.

        ctime is not asked: a new link or mode moves it and leaves the content alone.
        """
        try:
            now = os.fstat(self._descriptor)
        except OSError:
            return True
        before = self._identity
        return not stat.S_ISREG(now.st_mode) or (now.st_dev, _inode(now), now.st_size, now.st_mtime_ns) != (
            before.device,
            before.inode,
            before.size_bytes,
            before.mtime_ns,
        )

    def close(self) -> None:
        """Close it; a second call does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _changed_error(self) -> SourceChangedError:
        return SourceChangedError(f"{names.quoted(self._path)} changed while it was being sent")


class _Scanner:
    def __init__(self, options: ScanOptions) -> None:
        self.entries = ScannedEntries()
        self.warnings: list[str] = []
        self._ignore = Ignore.of(options)
        self._tops: dict[str, str] = {}
        self._user = os.geteuid()
        # What patterns left out, and where those stand that may have.
        self._files_out = self._folders_out = 0
        self._rules = {"--exclude"} if options.exclude else set[str]()
        self._rule_files = {TALLOW_IGNORE, GIT_IGNORE} if options.gitignore else {TALLOW_IGNORE}

    def top(self, given: str, *, below: bool = True) -> None:
        """Add one path of the user's, followed if it is a link, and everything below it."""
        status = _followed_status(given)
        path, name = _real_place(given)
        name = self._checked(name, given)
        key = names.fold(name)
        if key in self._tops:
            raise NameClashError(
                f"{names.quoted(self._tops[key])} and {names.quoted(given)} would both be sent as {names.quoted(name)}"
            )
        self._tops[key] = given
        self.entries.begin_top(path, name)
        if stat.S_ISREG(status.st_mode):
            self._file(path, name, status)
        elif not stat.S_ISDIR(status.st_mode):
            special = _SPECIAL.get(stat.S_IFMT(status.st_mode), "no file")
            raise UnreadableError(
                f"{names.quoted(given)} is {special}; only files and folders can be sent",
                hints=()
                if stat.S_ISSOCK(status.st_mode)
                else ("what it gives can be sent: tallow send - < FILE",),
            )
        elif below:
            self._tree(path, name, status)
        else:
            self._folder(name, path, status)

    def _tree(self, top: str, top_name: str, top_status: os.stat_result) -> None:
        """Add a folder, then all below it; one open list of names a level, never a whole tree at once."""
        self._folder(top_name, top, top_status)
        begin = len(top) + 1 if top[-1] != "/" else 1
        pending, ignore = self._sorted(top, "", self._ignore)
        stack = [(top, top_name, pending, ignore)]
        while stack:
            folder, folder_name, pending, ignore = stack[-1]
            step = next(pending, None)
            if step is None:
                stack.pop()
                continue
            name, own_name = step
            path = f"{folder}/{own_name}" if folder[-1] != "/" else folder + own_name
            offered = f"{folder_name}/{name}"
            try:
                status = os.stat(path, follow_symlinks=False)
            except FileNotFoundError:
                self.warnings.append(f"{names.quoted(path)} disappeared during the scan and is left out")
                continue
            except OSError as error:
                raise UnreadableError(f"cannot read {names.quoted(path)}: {error.strerror}") from error
            if stat.S_ISREG(status.st_mode):
                self._file(path, offered, status)
            elif stat.S_ISDIR(status.st_mode):
                self._folder(offered, path, status)
                stack.append((path, offered, *self._sorted(path, path[begin:], ignore)))
            elif stat.S_ISLNK(status.st_mode):
                self._link(path, offered, status)
            else:
                special = _SPECIAL.get(stat.S_IFMT(status.st_mode), "no file")
                self.warnings.append(f"{names.quoted(path)} is {special} and is left out")

    def _sorted(self, folder: str, relative: str, ignore: Ignore) -> tuple[Iterator[tuple[str, str]], Ignore]:
        """Return (name as offered, name on this disk) of what a folder holds, sorted, all acceptable; and its rules.

        `relative` is the folder's path from the given one, `ignore` the rules outside of it.
        """
        try:
            found = os.listdir(folder)
        except FileNotFoundError:
            raise PathMissingError(f"{names.quoted(folder)} disappeared during the scan") from None
        except OSError as error:
            raise UnreadableError(
                f"cannot read the folder {names.quoted(folder)}: {error.strerror}"
            ) from error
        inside = ignore.inside(folder, relative, found)
        if inside is not ignore:
            self._rules.update(self._rule_files.intersection(found))
        ignore = inside
        if not ignore.idle:
            found = self._wanted(folder, relative, found, ignore)
        pairs: list[tuple[str, str]] = []
        seen: dict[str, str] = {}
        for own_name in found:
            name = own_name if names.usual(own_name) else self._checked(own_name, f"{folder}/{own_name}")
            other = seen.setdefault(names.fold(name), own_name)
            if other is not own_name:
                raise NameClashError(
                    f"{names.quoted(other)} and {names.quoted(own_name)} in {names.quoted(folder)} differ only "
                    "by case or Unicode form, so one would take the other's place on some systems"
                )
            pairs.append((name, own_name))
        pairs.sort()
        return iter(pairs), ignore

    def _wanted(self, folder: str, relative: str, found: list[str], ignore: Ignore) -> list[str]:
        """Return the names that are not left out, and count the others."""
        inner = f"{relative}/" if relative else ""
        kept: list[str] = []
        for name in found:
            is_folder = _is_folder(f"{folder}/{name}")
            if not ignore.leaves_out(inner + name, folder=is_folder):
                kept.append(name)
            elif is_folder:
                self._folders_out += 1
            else:
                self._files_out += 1
        return kept

    def left_out(self) -> Iterator[str]:
        """Yield the sentence, if any, that says how much was left out by patterns; what is in a folder counts with it."""
        counts = [
            f"{count:,} {thing}{'' if count == 1 else 's'}"
            for count, thing in ((self._files_out, "file"), (self._folders_out, "folder"))
            if count
        ]
        if counts:
            verb = "is" if self._files_out + self._folders_out == 1 else "are"
            yield f"{' and '.join(counts)} {verb} left out by {' or '.join(sorted(self._rules))}"

    def _checked(self, own_name: str, path: str) -> str:
        """Return a name in the form that is offered (NFC)."""
        try:
            own_name.encode()
        except UnicodeEncodeError:
            raise NameRefusedError(
                f"the name of {names.quoted(path)} is not UTF-8, so it cannot be sent", hints=_RENAME
            ) from None
        name = unicodedata.normalize("NFC", own_name)
        try:
            names.check_component(name)
        except NameRefusedError as error:
            raise NameRefusedError(f"{names.quoted(path)} cannot be sent: {error}", hints=_RENAME) from None
        return name

    def _file(self, path: str, offered: str, status: os.stat_result) -> None:
        # Of a file of one's own the bit decides, also beside an access list; only for others the system is asked.
        readable = status.st_uid == self._user and status.st_mode & stat.S_IRUSR
        if not readable and not _access(path, os.R_OK):
            raise UnreadableError(f"cannot read {names.quoted(path)}: Permission denied")
        entry = self._entry(offered, EntryKind.FILE, status, size=status.st_size)
        self.entries.add(entry, path, status)

    def _folder(self, offered: str, path: str, status: os.stat_result) -> None:
        self.entries.add(self._entry(offered, EntryKind.FOLDER, status), path)

    def _link(self, path: str, offered: str, status: os.stat_result) -> None:
        try:
            target = _canonical_target(os.readlink(path))
            names.check_link_target(tuple(offered.split("/")), target)
        except NameRefusedError as error:
            self.warnings.append(f"{names.quoted(path)} is left out: {error}")
            return
        except OSError as error:
            raise UnreadableError(f"cannot read the link {names.quoted(path)}: {error.strerror}") from error
        self.entries.add(self._entry(offered, EntryKind.LINK, status, target=target), path)

    def _entry(
        self,
        offered: str,
        kind: EntryKind,
        status: os.stat_result,
        *,
        size: int | None = None,
        target: str | None = None,
    ) -> Entry:
        try:
            names.check_length(offered)
        except NameRefusedError as error:
            raise NameRefusedError(
                f"{names.quoted(offered)} cannot be sent: {error}", hints=_RENAME
            ) from None
        return Entry(offered, kind, size, MODES[status.st_mode & 0o777], status.st_mtime_ns, target)


def _real_place(given: str) -> tuple[str, str]:
    """Return where a path of the user's leads, and the base name that it is sent under.

    The name is the one given, also for a link; "." and ".." have none of their own and are resolved.
    """
    stripped = given.rstrip("/") or given[:1]
    name = os.path.basename(stripped)
    real = os.path.realpath(given)
    if name in {"", ".", ".."}:
        name = os.path.basename(real)
    if not name:
        raise NameRefusedError(
            f"{names.quoted(given)} has no name of its own; send what is in it instead", hints=()
        )
    return real, name


def _followed_status(given: str) -> os.stat_result:
    try:
        return os.stat(given)
    except FileNotFoundError:
        if os.path.islink(given):
            raise PathMissingError(f"{names.quoted(given)} is a link to nothing") from None
        raise PathMissingError(f"there is no file or folder {names.quoted(given)}") from None
    except (NotADirectoryError, ValueError):  # ValueError: a NUL, which no name on disk has
        raise PathMissingError(f"there is no file or folder {names.quoted(given)}") from None
    except OSError as error:
        raise UnreadableError(f"cannot read {names.quoted(given)}: {error.strerror}") from error


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path, follow_symlinks=False).st_mode)
    except OSError:  # gone: the scan says so
        return False


def _has_holes(descriptor: int) -> bool:
    """Return whether a file takes less room than its size, and the system can say where."""
    if not hasattr(os, "SEEK_DATA"):
        return False
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return status.st_blocks * 512 < status.st_size


def _inode(status: os.stat_result) -> int:
    """Return the number of a file, cut to 64 bits: some file systems have longer ones."""
    return status.st_ino & 0xFFFF_FFFF_FFFF_FFFF


def _access(path: str, mode: int) -> bool:
    return os.access(path, mode, effective_ids=_EFFECTIVE_IDS)


def _canonical_target(target: str) -> str:
    """Return a link's target as it is offered: NFC, without "." and empty parts.

    An absolute target stays absolute, to be refused; so does one that is not UTF-8.
    """
    try:
        target.encode()
    except UnicodeEncodeError:
        raise NameRefusedError(f"its target {names.quoted(target)} is not UTF-8") from None
    parts = [part for part in unicodedata.normalize("NFC", target).split("/") if part not in {"", "."}]
    return ("/" if target.startswith("/") else "") + "/".join(parts)

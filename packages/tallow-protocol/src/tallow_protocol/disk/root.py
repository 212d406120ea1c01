"""The one gate: the only code that turns a peer's path into a place on disk.

Everything goes component by component through directory handles, never through a path, and never through
a link (O_NOFOLLOW), so a link that somebody plants between check and open leads nowhere. Only folders that
this gate made are written into, or, under a policy that merges, folders that stood there: ours or of the output
directory's owner, entered without following links, their modes and times left alone. Data is written to files without their final name, in a private directory
(0700, an unguessable name) inside the output directory, so on the same file system; a whole file then gets
its final name. What stands there is replaced only under a policy that says so, only if it is a plain file or a
link, and only by the rename of a whole file that is on the device. No directory but that private one is ever removed,
none is ever replaced.

Synchronous; one thread at a time. OSError never leaves: ENOSPC and EDQUOT are NoSpaceError, what exists is
ConflictError, everything else is NotWritableError.
"""

import contextlib
import errno
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

from tallow_protocol.disk import conflicts, names, system
from tallow_protocol.disk.calls import SYSTEM, FileStatus, SystemCalls
from tallow_protocol.disk.errors import NameRefusedError
from tallow_protocol.disk.links import LinkRule
from tallow_protocol.disk.places import (
    FULL,
    identity,
    open_known_folder,
    set_mode,
    set_time,
    taken,
    translated,
    write_all,
)
from tallow_protocol.disk.staging import Staging, clean_staging
from tallow_protocol.errors import (
    MisuseError,
    NoSpaceError,
    NotWritableError,
    ProtocolError,
)
from tallow_protocol.events import OnConflict

Buffer = bytes | bytearray | memoryview

FOLDER_HANDLES = 256
"""Directory handles kept open. Sorted offers revisit few folders; a process often may open 1,024 files."""

_OLD_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FILLED = 0o700
"""What the owner of a folder may do as long as it is filled."""


class OutputRoot:
    """The output directory of one transfer, and all that this transfer makes in it.

    Order of use: `conflicts`, then files, folders and links in any order, then `finish_folders`, then
    `close`; on failure `discard` instead. Paths are components as `names.check_path` returns them, and are
    checked again here, since this is the gate.
    """

    def __init__(
        self,
        directory: Path,
        descriptor: int,
        calls: SystemCalls = SYSTEM,
        on_conflict: OnConflict = OnConflict.ASK,
    ) -> None:
        self.calls = calls
        self.on_conflict = on_conflict
        self._directory = directory
        self._descriptor = descriptor
        self._staging = Staging(calls, descriptor)
        # Folders that this gate made or entered, by device and inode, to know them again when a handle was given up.
        self._made: dict[tuple[str, ...], tuple[int, int]] = {}
        self._entered: set[tuple[str, ...]] = set()
        # Of an unfinished transfer that goes on: its folders at the top, and what it wrote, by the times that it gave.
        self._continued: dict[str, tuple[int, int]] = {}
        self._written: dict[tuple[str, ...], int] = {}
        self.on_top: Callable[[str, int, int], None] | None = None
        """Called with name, device and inode when a folder of the top level was made."""
        self._only_looks = False
        self._owner = -1
        self.links = LinkRule(self)
        self._handles: OrderedDict[tuple[str, ...], int] = OrderedDict()
        self.gave_names = False
        """Whether anything was given a name in the output directory."""

        self.attributes_lost = 0
        """Files and folders whose mode or time the file system would not keep (FAT)."""

    @classmethod
    def open(
        cls,
        directory: str | os.PathLike[str],
        *,
        calls: SystemCalls = SYSTEM,
        on_conflict: OnConflict = OnConflict.ASK,
    ) -> "OutputRoot":
        """Return the gate to `directory`, which is created if it is missing, parents included.

        The directory is the user's own choice, so a link there is followed. Raises NotWritableError.
        """
        path = Path(directory)
        descriptor = -1
        try:
            calls.make_folders(str(path))
            descriptor = calls.open(str(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if not calls.writable(descriptor):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except (FileExistsError, NotADirectoryError):
            raise NotWritableError(f"{names.quoted(str(path))} is not a directory") from None
        except (OSError, ValueError) as error:
            if descriptor >= 0:
                calls.close(descriptor)
            if isinstance(error, OSError) and error.errno in FULL:
                raise NoSpaceError(f"no space left to create {names.quoted(str(path))}") from error
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise NotWritableError(f"cannot write into {names.quoted(str(path))}: {reason}") from error
        return cls(path, descriptor, calls, on_conflict)

    @classmethod
    @contextlib.contextmanager
    def existing_only(
        cls, directory: str | os.PathLike[str], *, calls: SystemCalls = SYSTEM
    ) -> Iterator["OutputRoot | None"]:
        """Give the gate to a directory that is there, for looking only; None where it is missing.

        Raises NotWritableError.
        """
        path = Path(directory)
        try:
            descriptor = calls.open(str(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            yield None
            return
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise NotWritableError(f"cannot look into {names.quoted(str(path))}: {reason}") from error
        with cls(path, descriptor, calls) as root:
            root._only_looks = True
            yield root

    @property
    def directory(self) -> Path:
        """The output directory, as given."""
        return self._directory

    @property
    def handle(self) -> int:
        """The output directory's handle."""
        if self._descriptor < 0:
            raise MisuseError("this output directory was closed already")
        return self._descriptor

    def free_bytes(self) -> int | None:
        """Return how many bytes this user may still write to the file system, None where it does not count (ramfs).

        Raises NotWritableError.
        """
        try:
            status = self.calls.fstatvfs(self._descriptor)
        except OSError as error:
            raise translated(error, ()) from error
        return status.f_bavail * status.f_frsize if status.f_blocks else None

    def conflicts(self, entries: Iterable[names.NamedEntry]) -> tuple[str, ...]:
        """Return the top-level names of the offer that exist in the output directory, sorted; writes nothing.

        Raises NameRefusedError for a path that the rules refuse.
        """
        return self.existing({names.check_path(entry.path)[0] for entry in entries})

    def existing(self, tops: Iterable[str]) -> tuple[str, ...]:
        """Return those of some top-level names that exist in the output directory, sorted; writes nothing.

        Raises NameRefusedError for a name that the rules refuse.
        """
        found: list[str] = []
        for top in tops:
            names.check_component(top)
            if self._exists(self._descriptor, top):
                found.append(top)
        return tuple(sorted(found))

    def claim(self, components: tuple[str, ...]) -> None:
        """Make the parents of a file that is placed later.

        Raises ConflictError if the place is taken, NameRefusedError, NoSpaceError, NotWritableError.
        """
        self._check(components)
        try:
            self._check_free(components)
        except OSError as error:
            raise translated(error, components) from error

    def write_small(self, components: tuple[str, ...], data: Buffer, mode: int, mtime_ns: int) -> None:
        """Write a whole file and place it: the fast way for data that is complete and verified.

        Raises as `claim` does; nothing of the file is left then.
        """
        self._check(components)
        calls = self.calls
        name = ""
        try:
            folder = self._folder(components[:-1])
            descriptor, name = self._staging.new_file(mode & 0o777)
            try:
                written = calls.pwrite(descriptor, data, 0)
                if written != len(data):
                    write_all(calls, descriptor, memoryview(data)[written:], written)
                if calls.fstat(descriptor).st_mode & 0o7777 != mode & 0o777:  # the umask took a bit
                    self.finish_file(descriptor, mode, mtime_ns)
                elif not set_time(calls, descriptor, mtime_ns):
                    self.attributes_lost += 1
            finally:
                calls.close(descriptor)
            try:
                system.place(calls, name, self._staging.handle, components[-1], folder)
            except FileExistsError:
                self._replace(name, self._staging.handle, components)
            self.gave_names = True
        except OSError as error:
            self._staging.remove(name)
            raise translated(error, components) from error
        except ProtocolError:
            self._staging.remove(name)
            raise

    def make_folder(self, components: tuple[str, ...]) -> None:
        """Make a folder, private (0700) until `finish_folders`, and missing parents; ours already is fine.

        Raises ConflictError if something that this transfer did not make stands there; a policy that merges enters a
        folder that does.
        """
        self._check(components)
        try:
            self._folder(components, asked=True)
        except OSError as error:
            raise translated(error, components) from error

    def make_link(self, components: tuple[str, ...], target: str, mtime_ns: int | None = None) -> None:
        """Make a symbolic link, whose target stays inside its own top-level folder.

        Raises NameRefusedError for any other target, ConflictError if the place is taken.
        """
        self._check(components)
        names.check_link_target(components, target)
        try:
            folder = self._folder(components[:-1])
            if self._entered or self._continued:
                self.links.check(components, target)
            try:
                self._new_link(target, components[-1], folder, mtime_ns)
            except FileExistsError:
                if components[0] not in self._continued or self.read_link(components) != target:
                    self._replace_by_link(target, components, mtime_ns)
        except OSError as error:
            self.links.forget(components)
            raise translated(error, components) from error
        except ProtocolError:
            self.links.forget(components)
            raise

    def finish_folders(self, folders: Iterable[tuple[tuple[str, ...], int, int]]) -> None:
        """Set (components, mode, mtime_ns) of folders, deepest first, when all that is in them is placed.

        So a read-only folder can be filled, and a folder's time is not moved by its content. Folders that
        only a path implied keep the mode that the umask gave them.
        """
        for components, mode, mtime_ns in sorted(folders, key=lambda folder: -len(folder[0])):
            self._check(components)
            try:
                handle = self._folder(components, asked=True)
                if components not in self._entered:
                    self.finish_file(handle, mode, mtime_ns)
            except OSError as error:
                raise translated(error, components) from error

    def clean(self) -> None:
        """Remove what killed transfers of this user left of their staging. Never raises."""
        clean_staging(self.calls, self._descriptor)

    def sync(self, places: Iterable[tuple[str, ...]] | None = None) -> None:
        """Wait until all that was written is on the device: one call for a whole transfer. May take long.

        `places`, where they are few, are all that was: then nothing that other programs wrote is waited for.
        """
        try:
            if places is None or not self._sync_each(places):
                self.calls.sync_file_system(self._descriptor)
        except OSError as error:
            raise translated(error, ()) from error

    def _sync_each(self, places: Iterable[tuple[str, ...]]) -> bool:
        """Sync files, folders and the names in them; return False where a file cannot be opened for it. OSError."""
        folders: set[tuple[str, ...]] = {()}
        for components in places:
            folders.update(components[:depth] for depth in range(1, len(components)))
            folder = self._folder(components[:-1])
            try:
                there = conflicts.standing(self.calls.stat(components[-1], dir_fd=folder).st_mode)
                if there is conflicts.Standing.FILE:
                    self._sync_file(components[-1], folder)
            except (
                FileNotFoundError,
                PermissionError,
            ):  # taken away, or its mode lets not even its owner read it
                return False
            if there is conflicts.Standing.FOLDER:
                folders.add(components)
        for components in sorted(folders, key=len, reverse=True):
            self.calls.sync_file(self._folder(components))
        return True

    def _sync_file(self, name: str, folder: int) -> None:
        handle = self.calls.open(name, _OLD_FILE, dir_fd=folder)
        try:
            self.calls.sync_file(handle)
        finally:
            self.calls.close(handle)

    def discard(self) -> None:
        """End a transfer that failed: what is staged goes, what has its final name stays. Never raises."""
        self.close()

    def close(self) -> None:
        """Remove the staging directory and close every handle; repeatable."""
        for handle in self._handles.values():
            self.calls.close(handle)
        self._handles.clear()
        self._staging.close()
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            self.calls.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- for partial files ----

    def finish_file(self, descriptor: int, mode: int, mtime_ns: int) -> None:
        """Set permission bits (never set-user-id, set-group-id, sticky) and time through an open handle."""
        mode_kept = set_mode(self.calls, descriptor, mode & 0o777)
        if not (set_time(self.calls, descriptor, mtime_ns) and mode_kept):
            self.attributes_lost += 1

    def place_from(self, folder: int, name: str, components: tuple[str, ...]) -> None:
        """Give a file of another folder of ours its final name. Raises OSError, FileExistsError where something stands."""
        try:
            system.place(self.calls, name, folder, components[-1], self._folder(components[:-1]))
        except FileExistsError:
            self._replace(name, folder, components)
        self.gave_names = True

    # ---- what an unfinished transfer made ----

    def go_on(self, folders: Mapping[str, tuple[int, int]], written: Mapping[tuple[str, ...], int]) -> None:
        """Take folders of the top level (name: device, inode) for folders of this gate's own, and all folders in them.

        What stands at a place of `written` gives its place, whatever the policy, as long as it has that time (mtime_ns).
        """
        self._continued.update(folders)
        self._written.update(written)

    def look_at_top(self, name: str) -> FileStatus | None:
        """Return the status of what stands under a top-level name, a link itself, or None; enters and makes nothing."""
        self._check((name,))
        try:
            return self._status(self.handle, name)
        except OSError as error:
            raise translated(error, (name,)) from error

    def is_empty(self, name: str) -> bool:
        """Return whether a top-level name is that of a folder that holds nothing."""
        handle = self.open_standing((name,))
        if handle is None:
            return False
        try:
            return not self.calls.listdir(handle)
        except OSError:  # no folder
            return False
        finally:
            self.calls.close(handle)

    def _is_written(self, components: tuple[str, ...], status: FileStatus) -> bool:
        return self._written.get(components) == status.st_mtime_ns and (
            conflicts.standing(status.st_mode) in conflicts.GIVE_WAY
        )

    # ---- what stands there ----

    def look(self, components: tuple[str, ...]) -> FileStatus | None:
        """Return the status of what stands at a place, a link itself, or None; makes nothing.

        Folders on the way are entered. Raises ConflictError where something else stands in their place.
        """
        self._check(components)
        try:
            folder = self._standing_folder(components[:-1])
            return None if folder is None else self._status(folder, components[-1])
        except OSError as error:
            raise translated(error, components) from error

    def read_link(self, components: tuple[str, ...]) -> str | None:
        """Return where a standing link leads, None where no link stands. Raises as `look` does."""
        status = self.look(components)
        if status is None or conflicts.standing(status.st_mode) is not conflicts.Standing.LINK:
            return None
        try:
            return self.calls.readlink(components[-1], dir_fd=self._folder(components[:-1]))
        except OSError as error:
            raise translated(error, components) from error

    def open_standing(self, components: tuple[str, ...]) -> int | None:
        """Return a handle for reading a standing file, or None where no file can be read. The caller closes it."""
        self._check(components)
        try:
            folder = self._standing_folder(components[:-1])
            return None if folder is None else self.calls.open(components[-1], _OLD_FILE, dir_fd=folder)
        except OSError:  # unreadable or gone: then it is sent again
            return None

    def _standing_folder(self, components: tuple[str, ...]) -> int | None:
        """Return a handle of a folder that stands, None where nothing does; ConflictError for anything else."""
        if not components or components in self._made:
            return self._folder(components)
        parent = self._standing_folder(components[:-1])
        if parent is None or self._status(parent, components[-1]) is None:
            return None
        return self._keep(components, self._enter(parent, components))

    def _status(self, folder: int, name: str) -> FileStatus | None:
        try:
            return self.calls.stat(name, dir_fd=folder)
        except FileNotFoundError:
            return None

    def _check_free(self, components: tuple[str, ...]) -> None:
        """Raise ConflictError where the policy lets nothing be placed; OSError."""
        status = self._status(self._folder(components[:-1]), components[-1])
        if status is None or self._is_written(components, status):
            return
        if not (
            self.on_conflict.merges
            and self.on_conflict is not OnConflict.SKIP
            and conflicts.standing(status.st_mode) in conflicts.GIVE_WAY
        ):
            raise taken(components)

    def _replace(self, name: str, source: int, components: tuple[str, ...]) -> None:
        """Let a whole file or a link take the place of what stands, if the policy says so; else ConflictError.

        The kernel refuses to rename it over a folder that comes in between. What replaces a file is on the device
        before, so that a crash leaves the old one or the new one.
        """
        folder = self._folder(components[:-1])
        own = self.calls.stat(name, dir_fd=source)
        status = self.calls.stat(components[-1], dir_fd=folder)
        there = conflicts.standing(status.st_mode)
        if not self._is_written(components, status) and not conflicts.replaceable(
            self.on_conflict, there, there_mtime_ns=status.st_mtime_ns, mtime_ns=own.st_mtime_ns
        ):
            raise taken(components)
        if conflicts.standing(own.st_mode) is conflicts.Standing.FILE:
            handle = self.calls.open(name, _OLD_FILE, dir_fd=source)
            try:
                self.calls.sync_data(handle)
            finally:
                self.calls.close(handle)
        try:
            self.calls.rename(name, components[-1], src_dir_fd=source, dst_dir_fd=folder)
        except (IsADirectoryError, NotADirectoryError):
            raise taken(components) from None

    def _new_link(self, target: str, name: str, folder: int, mtime_ns: int | None) -> None:
        self.calls.symlink(target, name, dir_fd=folder)
        if mtime_ns is not None:
            try:
                self.calls.lutime(name, mtime_ns, dir_fd=folder)
            except (OSError, NotImplementedError, OverflowError):
                self.attributes_lost += 1

    def _replace_by_link(self, target: str, components: tuple[str, ...], mtime_ns: int | None) -> None:
        name, staging = self._staging.new_name("link"), self._staging.handle
        try:
            self._new_link(target, name, staging, mtime_ns)
            self._replace(name, staging, components)
        finally:
            self._staging.remove(name)

    # ---- handles ----

    def _check(self, components: tuple[str, ...]) -> None:
        """Raise NameRefusedError unless the components are what names.check_path returns."""
        if not components:
            raise NameRefusedError("a path is empty")
        if len(components) > names.PATH_DEPTH:
            raise NameRefusedError(f"a path has more than {names.PATH_DEPTH} levels")
        # The names of a folder that was made have been checked then.
        for component in components[-1:] if components[:-1] in self._made else components:
            names.check_component(component)

    def _folder(self, components: tuple[str, ...], *, asked: bool = False) -> int:
        """Return a handle of a folder that this gate made, making it and its parents where missing.

        The handle is good until the next call. Raises OSError, ConflictError for what is not ours.
        """
        if not components:
            if self._descriptor < 0:
                raise MisuseError("this output directory was closed already")
            return self._descriptor
        handle = self._handles.get(components)
        if handle is not None:
            self._handles.move_to_end(components)
            return handle
        parent = self._folder(components[:-1])
        known = self._made.get(components)
        if known is not None:
            return self._keep(components, self._reopen(parent, components, known))
        try:
            # With an entry of its own it is closed to others until finish_folders; else the umask decides.
            self.calls.mkdir(components[-1], 0o700 if asked else 0o777, dir_fd=parent)
        except FileExistsError:
            if not self.on_conflict.merges and components[0] not in self._continued:
                raise taken(components) from None
            return self._keep(components, self._enter(parent, components))
        self.gave_names = True
        handle = self._keep(components, self._reopen(parent, components, None))
        if len(components) == 1 and self.on_top is not None:
            self.on_top(components[0], *self._made[components])
        return handle

    def _reopen(self, parent: int, components: tuple[str, ...], known: tuple[int, int] | None) -> int:
        owners = self._owners() if components in self._entered else {self.calls.user()}
        return open_known_folder(self.calls, parent, components, known, owners)

    def _enter(self, parent: int, components: tuple[str, ...]) -> int:
        """Return a handle of a folder that stood there; ConflictError for a link, a file or a stranger's folder."""
        if components[0] in self._continued:
            known = self._continued[components[0]] if len(components) == 1 else None
            handle = open_known_folder(self.calls, parent, components, known, {self.calls.user()}, stood=True)
            if (
                not self._only_looks and self.calls.fstat(handle).st_mode & _FILLED != _FILLED
            ):  # it had its final mode already
                self.calls.fchmod(handle, _FILLED)
            return handle
        handle = open_known_folder(self.calls, parent, components, None, self._owners(), stood=True)
        self._entered.add(components)
        return handle

    def _owners(self) -> set[int]:
        """Return whose standing folders are written into: this user's, and those of the output directory's owner."""
        if self._owner < 0:
            self._owner = self.calls.fstat(self.handle).st_uid
        return {self.calls.user(), self._owner}

    def _keep(self, components: tuple[str, ...], handle: int) -> int:
        if components not in self._made:
            self._made[components] = identity(self.calls.fstat(handle))
        self._handles[components] = handle
        if len(self._handles) > FOLDER_HANDLES:
            self.calls.close(self._handles.popitem(last=False)[1])
        return handle

    def _exists(self, folder: int, name: str) -> bool:
        try:
            self.calls.stat(name, dir_fd=folder)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise translated(error, (name,)) from error
        return True

"""One file or folder of the gate's through its handle: opened again, given mode and time, written; and what an error means."""

import errno
import os

from tallow_protocol.disk import names
from tallow_protocol.disk.calls import FileStatus, SystemCalls
from tallow_protocol.errors import ConflictError, NoSpaceError, NotWritableError, ProtocolError

__all__ = [
    "FULL",
    "OPEN_FOLDER",
    "identity",
    "open_known_folder",
    "set_mode",
    "set_time",
    "taken",
    "translated",
    "write_all",
]

OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What a system says where there is no room."""

# A file system without modes or times (FAT) answers its files' owner with one of these.
_NOT_KEPT = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


def open_known_folder(
    calls: SystemCalls,
    parent: int,
    components: tuple[str, ...],
    known: tuple[int, int] | None,
    owners: set[int],
    *,
    stood: bool = False,
) -> int:
    """Return a handle of a folder of ours, `known` if it was open before, or one that stood there.

    ConflictError if a link or another folder is there instead.
    """
    where = names.quoted("/".join(components))
    replaced = (
        ConflictError(
            f"{where} exists in the output directory and is no folder of yours; nothing was overwritten"
        )
        if stood
        else ConflictError(f"the folder {where} was replaced by something else while it was being written")
    )
    try:
        handle = calls.open(components[-1], OPEN_FOLDER, dir_fd=parent)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.ENOENT}:
            raise replaced from None
        raise
    status = calls.fstat(handle)
    if status.st_uid not in owners or known not in {None, identity(status)}:
        calls.close(handle)
        raise replaced
    return handle


def set_mode(calls: SystemCalls, descriptor: int, mode: int) -> bool:
    """Return whether the file system keeps it."""
    try:
        calls.fchmod(descriptor, mode)
    except OSError as error:
        if error.errno not in _NOT_KEPT:
            raise
        return False
    return True


def set_time(calls: SystemCalls, descriptor: int, mtime_ns: int) -> bool:
    """Return whether the file system keeps it."""
    try:
        calls.futime(descriptor, mtime_ns)
    except OverflowError:
        return False
    except OSError as error:
        if error.errno not in _NOT_KEPT:
            raise
        return False
    return True


def write_all(calls: SystemCalls, descriptor: int, data: memoryview, offset: int) -> None:
    """Write all of `data` at `offset`. Raises OSError."""
    done = 0
    while done < len(data):
        done += calls.pwrite(descriptor, data[done:], offset + done)


def identity(status: FileStatus) -> tuple[int, int]:
    """Return device and inode."""
    return status.st_dev, status.st_ino


def taken(components: tuple[str, ...]) -> ConflictError:
    """Return the error that says that something stands at a place."""
    return ConflictError(
        f"{names.quoted('/'.join(components))} exists in the output directory; nothing was overwritten"
    )


def translated(error: OSError, components: tuple[str, ...]) -> ProtocolError:
    """Return the error of this package that says what an OSError means for the user."""
    where = names.quoted("/".join(components)) if components else "the output directory"
    if error.errno in FULL:
        return NoSpaceError(f"no space left on the disk while writing {where}")
    if isinstance(error, FileExistsError):
        return taken(components)
    return NotWritableError(f"cannot write {where}: {error.strerror or error}")

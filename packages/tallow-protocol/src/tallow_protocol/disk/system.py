"""The two system calls that Python lacks, a rename that never replaces and a sync of one file system; and `place`."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tallow_protocol.disk.calls import SystemCalls

_RENAME_NOREPLACE = 1  # linux/fs.h
_UNSUPPORTED = frozenset(
    {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EMLINK}
)


def place(calls: SystemCalls, name: str, source_directory: int, final_name: str, directory: int) -> None:
    """Give the file `name` its final name in another directory of the same file system, never replacing one.

    Raises FileExistsError if something stands there, a link to nothing included, and OSError otherwise;
    either way the source stays where it was. Three ways, for file systems that lack the ones before:
    a hard link and an unlink; renameat2 with RENAME_NOREPLACE (Linux 3.15); an empty file of our own,
    created exclusively under the final name, then renamed over (such as FAT outside Linux).
    """
    try:
        calls.link(name, final_name, src_dir_fd=source_directory, dst_dir_fd=directory)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    else:
        with contextlib.suppress(OSError):  # the file is placed; a name left in staging is no failure of it
            calls.unlink(name, dir_fd=source_directory)
        return
    if not calls.rename_noreplace(name, final_name, src_dir_fd=source_directory, dst_dir_fd=directory):
        _rename_over_own(calls, name, source_directory, final_name, directory)


def _rename_over_own(
    calls: SystemCalls, name: str, source_directory: int, final_name: str, directory: int
) -> None:
    """Take the final name with an empty file that only we can have made, then rename over it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    placeholder = calls.open(final_name, flags, 0o600, dir_fd=directory)
    try:
        calls.rename(name, final_name, src_dir_fd=source_directory, dst_dir_fd=directory)
    except OSError:
        with contextlib.suppress(OSError):
            standing = calls.stat(final_name, dir_fd=directory)
            own = calls.fstat(placeholder)
            if (standing.st_dev, standing.st_ino) == (own.st_dev, own.st_ino):
                calls.unlink(final_name, dir_fd=directory)
        raise
    finally:
        calls.close(placeholder)


def sync_file_system(descriptor: int) -> None:
    """Wait until everything written to the descriptor's file system is on the device. Raises OSError."""
    library = _libc()
    if library is None or not hasattr(library, "syncfs"):
        os.sync()
        return
    import ctypes

    if library.syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def lock(descriptor: int) -> bool:
    """Lock an open file until it is closed; return False where somebody else holds it. Raises OSError.

    Where the system or the file system has no such locks, there is nobody to be kept out.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}:
            raise
    return True


def write_direct(descriptor: int, *, on: bool) -> bool:
    """Set or clear O_DIRECT of an open file, which Linux has; return whether it is set. Never raises."""
    import fcntl

    try:
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT if on else flags & ~os.O_DIRECT)
    except OSError:
        return False
    return on


def rename_noreplace(name: str, source_directory: int, final_name: str, directory: int) -> bool:
    """Rename by renameat2; return False where kernel, library or file system has no such thing."""
    library = _libc()
    if library is None or not hasattr(library, "renameat2"):
        return False
    import ctypes

    source, target = os.fsencode(name), os.fsencode(final_name)
    if library.renameat2(source_directory, source, directory, target, _RENAME_NOREPLACE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), final_name)


@cache
def _libc() -> Any:
    """Return the C library, loaded when first needed (ctypes costs 10 ms), or None where it is not Linux's."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    return ctypes.CDLL(None, use_errno=True)

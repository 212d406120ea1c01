"""Every call to the operating system with which this package writes, as one object that a simulation can replace.

`SYSTEM` is the real one. All that the gate does goes through `SystemCalls`, so that a simulated disk sees every
operation in its order and may fail, tear or forget each of them. Handles are opaque numbers, at least 0; names are
single components below a handle, never paths, except where it says so; links are never followed, except in the
path that the user chose. Every failure is an OSError with its errno, as the operating system's is.
"""

import os
from pathlib import Path
from typing import Protocol

from tallow_protocol.disk import system

Buffer = bytes | bytearray | memoryview

_EFFECTIVE_IDS = os.access in os.supports_effective_ids


class FileStatus(Protocol):
    """What is asked of an `os.stat_result`."""

    @property
    def st_mode(self) -> int:
        """Kind and permission bits."""

    @property
    def st_ino(self) -> int:
        """The number of the file on its device."""

    @property
    def st_dev(self) -> int:
        """The device."""

    @property
    def st_uid(self) -> int:
        """Whose it is."""

    @property
    def st_nlink(self) -> int:
        """How many names it has."""

    @property
    def st_size(self) -> int:
        """Its length in bytes."""

    @property
    def st_mtime_ns(self) -> int:
        """When its content changed last, in nanoseconds since 1970."""


class SpaceStatus(Protocol):
    """What is asked of an `os.statvfs_result`."""

    @property
    def f_frsize(self) -> int:
        """The bytes of a block."""

    @property
    def f_blocks(self) -> int:
        """All blocks; 0 where the file system does not count (ramfs)."""

    @property
    def f_bavail(self) -> int:
        """The free blocks that this user may take."""


class SystemCalls(Protocol):
    """The operations of a disk. One thread at a time, except `sync_data`; each raises OSError."""

    def make_folders(self, path: str) -> None:
        """Create the folder at `path` and its parents where they are missing; links in it are followed."""

    def open(self, name: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        """Open `name` below a handle (a whole path without one) with the flags of os.open; return a handle."""

    def close(self, handle: int) -> None:
        """Give a handle back; it is gone also when this raises."""

    def mkdir(self, name: str, mode: int = 0o777, *, dir_fd: int) -> None:
        """Create a folder; FileExistsError where anything stands."""

    def rmdir(self, name: str, *, dir_fd: int) -> None:
        """Remove an empty folder."""

    def listdir(self, handle: int) -> list[str]:
        """Return the names in an open folder, in any order."""

    def stat(self, name: str, *, dir_fd: int) -> FileStatus:
        """Return the status of what stands under a name, of a link itself."""

    def fstat(self, handle: int) -> FileStatus:
        """Return the status of what is open."""

    def writable(self, handle: int) -> bool:
        """Return whether this process may create files in an open folder."""

    def user(self) -> int:
        """Return who this process acts as: `st_uid` of what it creates."""

    def pread(self, handle: int, length: int, offset: int) -> bytes:
        """Return up to `length` bytes from `offset`; none at the end."""

    def pread_into(self, handle: int, buffer: memoryview, offset: int) -> int:
        """Fill a buffer from `offset`; return how many bytes that was, 0 at the end."""

    def pwrite(self, handle: int, data: Buffer, offset: int) -> int:
        """Write at `offset`; return how many bytes that was, which may be fewer than given."""

    def write_direct(self, handle: int, *, on: bool) -> bool:
        """Have `pwrite` go past the memory of the system to the device, or no more; return whether it does.

        Offsets, lengths and places in memory are then whole blocks, or `pwrite` raises EINVAL. Nothing is durable
        before a sync all the same.
        """

    def ftruncate(self, handle: int, length: int) -> None:
        """Set the length of an open file; what is new is a hole."""

    def fchmod(self, handle: int, mode: int) -> None:
        """Set permission bits."""

    def futime(self, handle: int, mtime_ns: int) -> None:
        """Set access and modification time of what is open; OverflowError for a time that it cannot hold."""

    def lutime(self, name: str, mtime_ns: int, *, dir_fd: int) -> None:
        """Set both times of a link itself; NotImplementedError where a system cannot."""

    def link(self, name: str, new_name: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        """Give a file a second name; FileExistsError where anything stands."""

    def symlink(self, target: str, name: str, *, dir_fd: int) -> None:
        """Create a symbolic link; FileExistsError where anything stands."""

    def readlink(self, name: str, *, dir_fd: int) -> str:
        """Return the target of a link."""

    def unlink(self, name: str, *, dir_fd: int) -> None:
        """Remove a name that is no folder's."""

    def rename(self, name: str, new_name: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        """Move a file; what stands under the new name is replaced."""

    def rename_noreplace(self, name: str, new_name: str, *, src_dir_fd: int, dst_dir_fd: int) -> bool:
        """Move a file, FileExistsError where anything stands; return False where there is no such call."""

    def sync_file(self, handle: int) -> None:
        """Wait until an open file with its status, or the names in an open folder, are on the device."""

    def sync_data(self, handle: int) -> None:
        """Wait until the data of an open file, and its length, are on the device. Any thread."""

    def sync_file_system(self, handle: int) -> None:
        """Wait until everything that was written to the handle's file system is on the device."""

    def lock(self, handle: int) -> bool:
        """Lock an open file for this process until it is closed; return False where another one has the lock."""

    def fstatvfs(self, handle: int) -> SpaceStatus:
        """Return how full the handle's file system is."""


class _OperatingSystem:
    """The real thing. Names of `os` are looked up at each call: that costs 50 ns, and a test may replace them."""

    __slots__ = ()

    def make_folders(self, path: str) -> None:
        Path(path).mkdir(parents=True, exist_ok=True)

    def open(self, name: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        return os.open(name, flags, mode, dir_fd=dir_fd)

    def close(self, handle: int) -> None:
        os.close(handle)

    def mkdir(self, name: str, mode: int = 0o777, *, dir_fd: int) -> None:
        os.mkdir(name, mode, dir_fd=dir_fd)

    def rmdir(self, name: str, *, dir_fd: int) -> None:
        os.rmdir(name, dir_fd=dir_fd)

    def listdir(self, handle: int) -> list[str]:
        return os.listdir(handle)

    def stat(self, name: str, *, dir_fd: int) -> FileStatus:
        return os.stat(name, dir_fd=dir_fd, follow_symlinks=False)

    def fstat(self, handle: int) -> FileStatus:
        return os.fstat(handle)

    def writable(self, handle: int) -> bool:
        return os.access(".", os.W_OK | os.X_OK, dir_fd=handle, effective_ids=_EFFECTIVE_IDS)

    def user(self) -> int:
        return os.geteuid()

    def pread(self, handle: int, length: int, offset: int) -> bytes:
        return os.pread(handle, length, offset)

    def pread_into(self, handle: int, buffer: memoryview, offset: int) -> int:
        return os.preadv(handle, [buffer], offset)

    def pwrite(self, handle: int, data: Buffer, offset: int) -> int:
        return os.pwrite(handle, data, offset)

    def write_direct(self, handle: int, *, on: bool) -> bool:
        if not hasattr(os, "O_DIRECT") or (on and os.major(os.fstat(handle).st_dev) == 0):
            return False  # only a block device gains: nothing that lies in memory or beyond a network
        return system.write_direct(handle, on=on)

    def ftruncate(self, handle: int, length: int) -> None:
        os.ftruncate(handle, length)

    def fchmod(self, handle: int, mode: int) -> None:
        os.fchmod(handle, mode)

    def futime(self, handle: int, mtime_ns: int) -> None:
        os.utime(handle, ns=(mtime_ns, mtime_ns))

    def lutime(self, name: str, mtime_ns: int, *, dir_fd: int) -> None:
        os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=dir_fd, follow_symlinks=False)

    def link(self, name: str, new_name: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        os.link(name, new_name, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=False)

    def symlink(self, target: str, name: str, *, dir_fd: int) -> None:
        os.symlink(target, name, dir_fd=dir_fd)

    def readlink(self, name: str, *, dir_fd: int) -> str:
        return os.readlink(name, dir_fd=dir_fd)

    def unlink(self, name: str, *, dir_fd: int) -> None:
        os.unlink(name, dir_fd=dir_fd)

    def rename(self, name: str, new_name: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        os.rename(name, new_name, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    def rename_noreplace(self, name: str, new_name: str, *, src_dir_fd: int, dst_dir_fd: int) -> bool:
        return system.rename_noreplace(name, src_dir_fd, new_name, dst_dir_fd)

    def sync_file(self, handle: int) -> None:
        os.fsync(handle)

    def sync_data(self, handle: int) -> None:
        getattr(os, "fdatasync", os.fsync)(handle)  # macOS has no fdatasync

    def sync_file_system(self, handle: int) -> None:
        system.sync_file_system(handle)

    def lock(self, handle: int) -> bool:
        return system.lock(handle)

    def fstatvfs(self, handle: int) -> SpaceStatus:
        return os.fstatvfs(handle)


SYSTEM: SystemCalls = _OperatingSystem()
"""The operating system itself."""

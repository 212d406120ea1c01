"""The private directory in which whole small files and links get their data before they get their names.

It lies in the output directory, so on the same file system, under an unguessable name, and is locked while it is used. A
process that is killed leaves it; whoever writes into the same output directory next removes it (`clean_staging`): only one
that is this user's, private and locked by nobody, and of what is in it only what this module names so.
"""

import contextlib
import errno
import os
import re
import secrets

from tallow_protocol.disk.calls import FileStatus, SystemCalls
from tallow_protocol.disk.places import OPEN_FOLDER, identity

__all__ = ["STAGING_PREFIX", "Staging", "clean_staging", "is_staging_name"]

STAGING_PREFIX = ".tallow-"
"""Begins the name of the private directory; 32 random hexadecimal digits follow."""

_SMALL = "small"

_DIRECTORY = re.compile(r"\.tallow-[0-9a-f]{32}\Z")
_CONTENT = re.compile(r"(?:small(?:-[0-9]+)?|link-[0-9]+)\Z")

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Staging:
    """The private directory of one transfer, made when it is first needed. Methods raise OSError, except where they say so."""

    def __init__(self, calls: SystemCalls, directory: int) -> None:
        """`directory` is the handle of the output directory."""
        self._calls = calls
        self._directory = directory
        self._handle = -1
        self._name = ""
        self._identity = (0, 0)
        self._counter = 0

    @property
    def handle(self) -> int:
        """The directory's handle; made now, if it was not yet."""
        if self._handle < 0:
            self._open()
        return self._handle

    def new_file(self, mode: int) -> tuple[int, str]:
        """Return handle and name of a new file.

        It is placed before the next one begins, so that all may have one name: that is cheaper.
        """
        try:
            return self._calls.open(_SMALL, _NEW_FILE, mode, dir_fd=self.handle), _SMALL
        except FileExistsError:  # one that could not be removed
            name = self.new_name(_SMALL)
            return self._calls.open(name, _NEW_FILE, mode, dir_fd=self.handle), name

    def new_name(self, label: str) -> str:
        """Return a name that was not given before: "small" or "link" and a number."""
        self._counter += 1
        return f"{label}-{self._counter}"

    def remove(self, name: str) -> None:
        """Remove what has such a name, if it is there. Never raises."""
        if name and self._handle >= 0:
            with contextlib.suppress(OSError):  # placed already, or a failing disk: nothing more can be done
                self._calls.unlink(name, dir_fd=self._handle)

    def close(self) -> None:
        """Remove the directory and close it; repeatable. Never raises.

        Not empty, or moved by somebody, it stays: never more than an rmdir of what was made here.
        """
        handle, self._handle = self._handle, -1
        if handle < 0:
            return
        with contextlib.suppress(OSError):
            if identity(self._calls.stat(self._name, dir_fd=self._directory)) == self._identity:
                self._calls.rmdir(self._name, dir_fd=self._directory)
        with contextlib.suppress(OSError):
            self._calls.close(handle)

    def _open(self) -> None:
        for _ in range(3):  # somebody who cleans may take a new one for left over until it is locked
            name = STAGING_PREFIX + secrets.token_hex(16)
            self._calls.mkdir(name, 0o700, dir_fd=self._directory)
            try:
                handle = self._calls.open(name, OPEN_FOLDER, dir_fd=self._directory)
            except FileNotFoundError:
                continue
            status = self._calls.fstat(handle)
            if status.st_uid != self._calls.user():
                self._calls.close(handle)
                break
            if self._calls.lock(handle) and self._stands(name, status):
                self._handle, self._name, self._identity = handle, name, identity(status)
                return
            self._calls.close(handle)
        raise PermissionError(errno.EACCES, "the staging directory was replaced by somebody else's")

    def _stands(self, name: str, status: FileStatus) -> bool:
        try:
            return identity(self._calls.stat(name, dir_fd=self._directory)) == identity(status)
        except FileNotFoundError:
            return False


def is_staging_name(name: str) -> bool:
    """Return whether a name could be that of such a directory, on a file system that ignores case too."""
    return _DIRECTORY.match(name.casefold()) is not None


def clean_staging(calls: SystemCalls, directory: int) -> int:
    """Remove what killed processes of this user left in an open output directory; return how many. Never raises."""
    found: list[str] = []
    gone = 0
    with contextlib.suppress(OSError):
        found = [name for name in calls.listdir(directory) if _DIRECTORY.match(name)]
    for name in found:
        with contextlib.suppress(OSError):
            handle = calls.open(name, OPEN_FOLDER, dir_fd=directory)
            try:
                status = calls.fstat(handle)
                if (
                    status.st_uid == calls.user()
                    and status.st_mode & 0o7777 == 0o700
                    and calls.lock(handle)
                    and identity(calls.stat(name, dir_fd=directory)) == identity(status)
                ):
                    for content in calls.listdir(handle):
                        if _CONTENT.match(content):
                            calls.unlink(content, dir_fd=handle)
                    calls.rmdir(name, dir_fd=directory)
                    gone += 1
            finally:
                calls.close(handle)
    return gone

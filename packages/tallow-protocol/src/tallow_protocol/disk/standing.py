"""A file that stands under an offered name already and may be the same: read, compared by its digests, left as it is."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from tallow_crypto import chunk_digest

from tallow_protocol.core.chunking import PACK_CHUNK_BYTES, PACK_FILE_BYTES, ChunkConfig
from tallow_protocol.core.receiving import Existing
from tallow_protocol.disk.names import quoted
from tallow_protocol.errors import ConflictError, MisuseError

if TYPE_CHECKING:
    from tallow_protocol.disk.calls import Buffer, FileStatus
    from tallow_protocol.disk.root import OutputRoot

__all__ = ["NowhereFile", "StandingFile"]


class StandingFile:
    """A user's own file in the place of an offered one of the same size. No handle stays open."""

    def __init__(self, root: OutputRoot, components: tuple[str, ...], size_bytes: int) -> None:
        self._root = root
        self._components = components
        self._size = size_bytes
        self._seen: tuple[int, int, int, int] | None = None

    def existing(self) -> Existing | None:
        """Return the digests of the whole file, at the chunk size that a file of its size usually has.

        None where it is no file of this size that can be read. Reads all of it.
        """
        handle = self._root.open_standing(self._components)
        if handle is None:
            return None
        calls = self._root.calls
        small = self._size <= PACK_FILE_BYTES
        chunk_size = PACK_CHUNK_BYTES if small else ChunkConfig().chunk_size(self._size)
        try:
            status = calls.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or status.st_size != self._size:
                return None
            self._seen = _version(status)
            buffer = memoryview(bytearray(min(chunk_size, self._size)))
            digests = bytearray()
            for offset in range(0, self._size, chunk_size):
                chunk = buffer[: min(chunk_size, self._size - offset)]
                done = 0
                while done < len(chunk):
                    count = calls.pread_into(handle, chunk[done:], offset + done)
                    if not count:
                        return None
                    done += count
                digests += chunk_digest(chunk)
        except OSError:  # a bad spot on the disk: then the file is sent
            return None
        finally:
            calls.close(handle)
        return Existing(chunk_size, bytes(digests), partial=False)

    def write_at(self, offset: int, data: Buffer) -> None:
        """Nothing is written into a standing file."""
        raise MisuseError("a file that stands whole is not written into")

    def sync(self, first: int, digests: bytes) -> None:
        """Nothing was written."""

    def commit(self, mode: int, mtime_ns: int) -> None:
        """Leave it, as it is the same; ConflictError if it changed since it was read."""
        del mode, mtime_ns
        status = self._root.look(self._components)
        if status is None or _version(status) != self._seen:
            raise ConflictError(
                f"{quoted('/'.join(self._components))} was the same as what is offered, and was changed since"
            )

    def abandon(self) -> None:
        """Leave it."""


class NowhereFile:
    """A file that is taken, verified and dropped: it lay between two that are wanted."""

    def write_at(self, offset: int, data: Buffer) -> None:
        """Drop it."""

    def sync(self, first: int, digests: bytes) -> None:
        """Nothing was written."""

    def commit(self, mode: int, mtime_ns: int) -> None:
        """Nothing is placed."""

    def abandon(self) -> None:
        """Nothing is there."""


def _version(status: FileStatus) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

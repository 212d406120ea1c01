"""StreamBuffer: an input of unknown length, cut into chunks that are kept until the receiver has them.

Its bytes can be read only once, so what may have to be sent again stays here; a reader that is ahead of the receiver
waits. One thread puts, others read and release.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tallow_protocol.core.streams import STREAM_CHUNK_BYTES, STREAM_KEPT_BYTES, Piece
from tallow_protocol.errors import MisuseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallow_protocol.errors import ProtocolError

__all__ = ["StreamBuffer"]


class StreamBuffer:
    """Chunks between whoever reads the input and whoever sends. `moved` is called after each put, in that thread."""

    def __init__(self, *, kept_bytes: int = STREAM_KEPT_BYTES) -> None:
        self._most = max(kept_bytes // STREAM_CHUNK_BYTES, 2)
        self._room = threading.Condition()
        # Under the condition:
        self._chunks: dict[int, bytes] = {}
        self._count = 0
        self._ended = False
        self._closed = False
        self.error: ProtocolError | None = None
        self.moved: Callable[[], None] = lambda: None

    # -- the reader's thread -------------------------------------------------------------------------------

    def put(self, chunk: bytes) -> bool:
        """Add the next chunk, all but the last of STREAM_CHUNK_BYTES; wait for room. False: nobody wants more."""
        with self._room:
            self._room.wait_for(lambda: self._closed or len(self._chunks) < self._most)
            if self._closed:
                return False
            self._chunks[self._count] = chunk
            self._count += 1
        self.moved()
        return True

    def end(self, error: ProtocolError | None = None) -> None:
        """Note the end of the input, or that it cannot be read any further."""
        with self._room:
            self._ended, self.error = True, error
        self.moved()

    # -- the sender ----------------------------------------------------------------------------------------

    def piece(self, index: int) -> Piece | None:
        """Return what is to be sent as chunk `index`, None while that is not known.

        A chunk is known once the next one, or the end, is there: the last chunk says so of itself.
        """
        with self._room:
            if index >= self._count or (index == self._count - 1 and not self._ended) or self.error:
                return None
            return Piece(len(self._chunks[index]), last=index == self._count - 1)

    @property
    def empty(self) -> bool:
        """Return whether the input ended without a byte."""
        with self._room:
            return self._ended and not self._count and self.error is None

    def release(self, index: int) -> None:
        """Drop a chunk that the receiver has."""
        with self._room:
            self._chunks.pop(index, None)
            self._room.notify()

    def stop(self) -> None:
        """Drop everything; the reader is told."""
        with self._room:
            self._closed = True
            self._chunks.clear()
            self._room.notify()

    # -- as a Source ---------------------------------------------------------------------------------------

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill the buffer with the chunk at `offset`."""
        with self._room:
            chunk = self._chunks.get(offset // STREAM_CHUNK_BYTES)
        if chunk is None or offset % STREAM_CHUNK_BYTES or len(chunk) != len(buffer):
            raise MisuseError("a chunk of a stream was read that is not there")
        buffer[:] = chunk
        return len(chunk)

    def changed(self) -> bool:
        """Return False: a stream is what it is."""
        return False

    def close(self) -> None:
        """Do nothing: the chunks go with their acknowledgements."""

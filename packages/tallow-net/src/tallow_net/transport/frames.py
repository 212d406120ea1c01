"""Frames over a transport: `u32 big-endian length || body` (see framing.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallow_net.errors import EndOfStreamError
from tallow_net.framing import HEADER_BYTES, frame_header, parse_header

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallow_net.transport.interface import Buffer, Transport

# One TLS record. Small frames come many to a read; of a large one only this much is copied, the rest goes
# straight to its place.
READ_AHEAD_BYTES = 16 * 1024


class FrameStream:
    """Reads and writes whole frames; `limit` is the longest body (bytes) that it takes, settable at any time.

    One reader and one writer at a time. A cancelled `read` loses nothing and may be repeated; a cancelled
    `read_into` or `write` leaves that direction unusable. `heard` is called as bytes come, long before a frame is whole.
    """

    def __init__(self, transport: Transport, *, limit: int) -> None:
        self.transport = transport
        self.limit = limit
        self.heard: Callable[[], None] | None = None
        self._ahead = bytearray(READ_AHEAD_BYTES)
        self._view = memoryview(self._ahead)
        self._start = 0
        self._stop = 0
        self._body: bytearray | None = None
        self._filled = 0

    async def read(self) -> bytes | None:
        """Return the next body, or None where the peer finished between two frames.

        Raises EndOfStreamError where it finished inside one, FrameTooLargeError (nothing was allocated) and
        ConnectionLostError.
        """
        if self._body is None:
            length = await self._header(self.limit)
            if length is None:
                return None
            self._body, self._filled = bytearray(length), 0
        await self._fill(memoryview(self._body))
        body, self._body = bytes(self._body), None
        return body

    async def read_into(self, buffer: memoryview) -> int | None:
        """Read the next body into the start of `buffer`; return its length (bytes), or None at a clean end.

        The length is checked against the smaller of `limit` and the buffer before a byte of the body is
        read: FrameTooLargeError. Raises as `read` does.
        """
        length = await self._header(min(self.limit, len(buffer)))
        if length is None:
            return None
        self._filled = 0
        await self._fill(buffer[:length])
        return length

    async def write(self, *parts: Buffer) -> None:
        """Send one frame whose body is all parts in order; the parts may be reused after the return."""
        length = sum(map(len, parts))
        await self.transport.send(frame_header(length), *parts)

    async def write_raw(self, *buffers: Buffer) -> None:
        """Send bytes that are framed already."""
        await self.transport.send(*buffers)

    def detach(self) -> tuple[Transport, bytes]:
        """Give the transport back, with the bytes that were received behind the last frame."""
        leftover = bytes(self._view[self._start : self._stop])
        self._start = self._stop = 0
        return self.transport, leftover

    async def _header(self, limit: int) -> int | None:
        while self._stop - self._start < HEADER_BYTES:
            have = self._stop - self._start
            if self._start:
                self._ahead[:have] = self._ahead[self._start : self._stop]
                self._start, self._stop = 0, have
            count = await self.transport.receive_into(self._view[have:])
            if count == 0:
                if have:
                    raise EndOfStreamError("The peer ended the connection inside a frame.", by="peer")
                return None
            self._stop += count
            if self.heard is not None:
                self.heard()
        header = bytes(self._view[self._start : self._start + HEADER_BYTES])
        length = parse_header(header, limit)
        self._start += HEADER_BYTES
        return length

    async def _fill(self, target: memoryview) -> None:
        size = len(target)
        ready = min(size - self._filled, self._stop - self._start)
        if ready:
            target[self._filled : self._filled + ready] = self._view[self._start : self._start + ready]
            self._filled += ready
            self._start += ready
        while self._filled < size:
            count = await self.transport.receive_into(target[self._filled :])
            if count == 0:
                raise EndOfStreamError("The peer ended the connection inside a frame.", by="peer")
            self._filled += count
            if self.heard is not None:
                self.heard()

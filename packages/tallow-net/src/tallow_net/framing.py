"""Frames: `u32 big-endian length || body`, the length checked before anything is allocated for it."""

from typing import Final

from tallow_net.errors import FrameTooLargeError, MisuseError

__all__ = ["HEADER_BYTES", "Buffer", "FrameDecoder", "encode_frame", "frame_header", "parse_header"]

Buffer = bytes | bytearray | memoryview

HEADER_BYTES: Final = 4
_MAX_LENGTH: Final = 0xFFFFFFFF


def frame_header(length: int) -> bytes:
    """Return the 4-byte header of a frame with a body of `length` bytes; MisuseError beyond a u32."""
    if not 0 <= length <= _MAX_LENGTH:
        raise MisuseError(f"A frame body has 0 to {_MAX_LENGTH} bytes, not {length}.")
    return length.to_bytes(HEADER_BYTES, "big")


def encode_frame(body: Buffer) -> bytes:
    """Return the whole frame of `body`: header and body, in one bytes object."""
    return frame_header(len(body)) + body


def parse_header(header: Buffer, limit: int) -> int:
    """Return the body length that a 4-byte header announces, from 0 to `limit` bytes.

    Raises FrameTooLargeError above `limit`, and MisuseError where `header` is not 4 bytes long.
    """
    if len(header) != HEADER_BYTES:
        raise MisuseError(f"A frame header has {HEADER_BYTES} bytes, not {len(header)}.")
    length = int.from_bytes(header, "big")
    if length > limit:
        raise FrameTooLargeError(
            f"The other end announced a frame of {length} bytes; at most {limit} are allowed."
        )
    return length


class FrameDecoder:
    """Cut a byte stream into frame bodies.

    `limit` is the longest body in bytes; it may be changed between frames, and holds for every header that is
    parsed after that. The decoder never holds more than what was pushed and not yet taken out: it allocates
    nothing for a length that was only announced. After FrameTooLargeError it is of no further use.
    """

    __slots__ = ("_buffer", "_start", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._buffer = bytearray()
        self._start = 0

    def feed(self, data: Buffer) -> list[bytes]:
        """Take in `data` and return every body that is now complete, in order. Raises FrameTooLargeError."""
        self.push(data)
        bodies = []
        while (body := self.pop()) is not None:
            bodies.append(body)
        return bodies

    def push(self, data: Buffer) -> None:
        """Take in `data` without parsing it."""
        if self._start:
            # Once per push, not per frame: many small frames in one push cost one move.
            del self._buffer[: self._start]
            self._start = 0
        self._buffer += data

    def pop(self) -> bytes | None:
        """Return the next complete body, or None until more bytes came. Raises FrameTooLargeError.

        Taking frames out one by one is for the reader that must stop at a certain one, for what follows it
        belongs to somebody else.
        """
        body_start = self._start + HEADER_BYTES
        if len(self._buffer) < body_start:
            return None
        length = parse_header(self._buffer[self._start : body_start], self.limit)
        end = body_start + length
        if len(self._buffer) < end:
            return None
        body = bytes(memoryview(self._buffer)[body_start:end])
        self._start = end
        return body

    @property
    def pending(self) -> bytes:
        """The bytes that were pushed and belong to no body that was taken out."""
        return bytes(memoryview(self._buffer)[self._start :])

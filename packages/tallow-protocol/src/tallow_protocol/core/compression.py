"""Compression of chunks, each by itself, only where a sample of the data shrinks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallow_protocol.errors import ViolationError

if TYPE_CHECKING:
    import zstandard

__all__ = ["Compressor", "Decompressor"]

LEVEL = 3
"""zstd's default: about 400 MB/s a core; higher levels cost more time than most links give back."""

SAMPLE_PIECES = 4
SAMPLE_PIECE_BYTES = 4096
WORTH = 0.9
"""A sample, or a chunk, that does not shrink below this part of itself travels as it is."""

LONGEST_PAUSE = 64
"""After this many chunks at most, data that did not shrink is sampled again."""


class Compressor:
    """Decides per chunk, remembers what did not pay. One caller at a time."""

    def __init__(self, *, enabled: bool = True) -> None:
        self._enabled = enabled
        self._full: zstandard.ZstdCompressor | None = None
        self._quick: zstandard.ZstdCompressor | None = None
        self._pause = 0
        self._next_pause = 1

    def compress(self, raw: memoryview) -> bytes | None:
        """Return the compressed form of `raw`, or None where it is not worth it."""
        if not self._enabled or len(raw) < 128:
            return None
        if self._pause:
            self._pause -= 1
            return None
        if self._full is None or self._quick is None:
            import zstandard

            self._full = zstandard.ZstdCompressor(level=LEVEL, write_checksum=False)
            self._quick = zstandard.ZstdCompressor(level=1, write_checksum=False)
        sample = self._sample(raw)
        if len(self._quick.compress(sample)) <= WORTH * len(sample):
            shrunk = self._full.compress(raw)
            if len(shrunk) <= WORTH * len(raw):
                self._next_pause = 1
                return shrunk
        self._pause = self._next_pause
        self._next_pause = min(self._next_pause * 2, LONGEST_PAUSE)
        return None

    def new_file(self) -> None:
        """Forget what the last file was like."""
        self._pause, self._next_pause = 0, 1

    @staticmethod
    def _sample(raw: memoryview) -> bytes:
        if len(raw) <= SAMPLE_PIECES * SAMPLE_PIECE_BYTES:
            return bytes(raw)
        step = (len(raw) - SAMPLE_PIECE_BYTES) // (SAMPLE_PIECES - 1)
        return b"".join(raw[i * step : i * step + SAMPLE_PIECE_BYTES] for i in range(SAMPLE_PIECES))


class Decompressor:
    """Opens what a peer compressed, into no more memory than it declared. One caller at a time."""

    def __init__(self) -> None:
        self._context: zstandard.ZstdDecompressor | None = None

    def decompress(self, body: memoryview, raw_length: int) -> memoryview:
        """Return exactly `raw_length` bytes.

        Raises ViolationError for data that is no zstd frame, or whose frame does not declare that very
        length: the declared size is checked before anything is allocated.
        """
        import zstandard

        if self._context is None:
            self._context = zstandard.ZstdDecompressor()
        try:
            declared = zstandard.get_frame_parameters(bytes(body[:18])).content_size
            if declared != raw_length:
                raise ViolationError("The peer sent compressed data of another length than it declared.")
            raw = self._context.decompress(body, max_output_size=raw_length, allow_extra_data=False)
        except zstandard.ZstdError:
            raise ViolationError("The peer sent compressed data that cannot be opened.") from None
        if len(raw) != raw_length:
            raise ViolationError("The peer sent compressed data of another length than it declared.")
        return memoryview(raw)

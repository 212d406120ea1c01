"""Streams: inputs of unknown length, as the pipelines see them. `aio/streambuffer.py` holds the bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = [
    "STREAM_CHUNK_BYTES",
    "STREAM_GUESS_BYTES",
    "STREAM_KEPT_BYTES",
    "STREAM_ROOT_SIZE",
    "Piece",
    "Stream",
]

STREAM_CHUNK_BYTES = 256 * 1024
"""Small enough for a slow producer to be heard of soon, large enough for 600 MB/s of one core."""

STREAM_KEPT_BYTES = 32 * 1024 * 1024
"""Twice of what a relay lets be on its way; the bound on memory."""

STREAM_GUESS_BYTES = 1 << 30
"""A stream counts as this long, on both sides, where paths are chosen by the size of an offer."""

STREAM_ROOT_SIZE = 2**64 - 1
"""Stands for the size in a stream's root, which is begun before the size is known. The digests fix it all the same."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk that can be sent: its length in bytes, and whether it is the last."""

    length: int
    last: bool


class Stream(Protocol):
    """Chunks of an input that are kept until the receiver has them."""

    def piece(self, index: int) -> Piece | None:
        """Return what is to be sent as chunk `index`, None while that is not known."""

    @property
    def empty(self) -> bool:
        """Return whether the input ended without a byte."""

    def release(self, index: int) -> None:
        """Drop a chunk that the receiver has."""

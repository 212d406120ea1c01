"""Memory for a record of any length."""

from __future__ import annotations

import mmap

from tallow_net.limits import SEALED_FRAME_BYTES

from tallow_protocol.core.records import CHUNK_DATA_AT

__all__ = ["frame_buffer"]


def frame_buffer() -> memoryview:
    """Return memory for the body of the longest frame, whose pages come with use: a bytearray so long takes 2 ms and 4 MiB.

    What a chunk holds begins with a page there, as writing it past the page cache wants it.
    """
    return memoryview(mmap.mmap(-1, mmap.PAGESIZE + SEALED_FRAME_BYTES))[mmap.PAGESIZE - CHUNK_DATA_AT :]

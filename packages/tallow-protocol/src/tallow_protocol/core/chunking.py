"""How a file is cut: chunk sizes, and which files travel packed."""

from __future__ import annotations

from dataclasses import dataclass

from tallow_crypto import chunk_digest, file_root

__all__ = ["PACK_CHUNK_BYTES", "PACK_FILE_BYTES", "ChunkConfig", "chunk_count", "packed_root"]

KIB = 1024
MIB = 1024 * KIB

PACK_CHUNK_BYTES = 64 * KIB
"""The chunk size of a file that travels packed, and of an empty one; its root is made over such pieces."""

PACK_FILE_BYTES = 256 * KIB
"""A file up to this size travels whole, inside a pack: no FileDone, four digests at most."""


def chunk_count(size_bytes: int, chunk_size_bytes: int) -> int:
    """Return how many chunks a file of `size_bytes` has; an empty file has none."""
    return -(-size_bytes // chunk_size_bytes)


def packed_root(data: memoryview) -> bytes:
    """Return the root of a whole file that travels packed."""
    size_bytes = len(data)
    if 0 < size_bytes <= PACK_CHUNK_BYTES:
        return file_root(size_bytes, PACK_CHUNK_BYTES, (chunk_digest(data),))
    pieces = (data[at : at + PACK_CHUNK_BYTES] for at in range(0, size_bytes, PACK_CHUNK_BYTES))
    return file_root(size_bytes, PACK_CHUNK_BYTES, map(chunk_digest, pieces))


@dataclass(frozen=True, slots=True)
class ChunkConfig:
    """The rule for chunk sizes, all powers of two from 64 KiB to 4 MiB.

    `smallest_bytes` bounds the overhead of a record (0.1 ms of work and 4 KiB of padding at most);
    `usual_bytes` was the fastest size measured together with 1 MiB; above `largest_bytes` nothing was gained,
    and a window of eight would cost 32 MiB.
    """

    smallest_bytes: int = 64 * KIB
    usual_bytes: int = 512 * KIB
    largest_bytes: int = 1 * MIB

    def chunk_size(self, file_size_bytes: int, throughput_bytes_per_s: float | None = None) -> int:
        """Return the chunk size for a file, in bytes, fixed for the life of its transfer.

        A short file has at least eight chunks, so that reading, sealing and writing overlap. A slow link gets
        chunks that take at most a quarter of a second, so that progress moves and a cut costs little; one
        above 500 MB/s gets the largest, so that work per chunk does not decide.
        """
        wanted = self.usual_bytes
        if throughput_bytes_per_s is not None:
            if throughput_bytes_per_s > 500e6:
                wanted = self.largest_bytes
            wanted = min(wanted, int(throughput_bytes_per_s / 4))
        wanted = min(wanted, file_size_bytes // 8)
        size = self.smallest_bytes
        while size * 2 <= wanted and size < self.largest_bytes:
            size *= 2
        return size

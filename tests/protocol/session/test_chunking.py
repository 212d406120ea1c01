"""How files are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_crypto import chunk_digest, file_root
from tallow_protocol.core.chunking import KIB, MIB, PACK_CHUNK_BYTES, ChunkConfig, chunk_count, packed_root


@given(st.integers(0, 2**50), st.none() | st.floats(1, 1e11))
def test_every_chunk_size_is_a_power_of_two_from_64_kib_to_4_mib(size: int, rate: float | None) -> None:
    chunk = ChunkConfig().chunk_size(size, rate)
    assert chunk & (chunk - 1) == 0
    assert 64 * KIB <= chunk <= 4 * MIB


@pytest.mark.parametrize(
    ("size", "rate", "chunk"),
    [
        (0, None, 64 * KIB),
        (300 * KIB, None, 64 * KIB),
        (1 * MIB, None, 128 * KIB),
        (1024 * MIB, None, 512 * KIB),
        (1024 * MIB, 1e6, 128 * KIB),
        (1024 * MIB, 1e9, 1 * MIB),
    ],
)
def test_the_chunk_size_follows_the_file_and_the_link(size: int, rate: float | None, chunk: int) -> None:
    assert ChunkConfig().chunk_size(size, rate) == chunk


@pytest.mark.parametrize(("size", "count"), [(0, 0), (1, 1), (64, 1), (65, 2), (128, 2)])
def test_the_last_chunk_may_be_short_and_an_empty_file_has_none(size: int, count: int) -> None:
    assert chunk_count(size, 64) == count


@pytest.mark.parametrize("size", [0, 1, PACK_CHUNK_BYTES, PACK_CHUNK_BYTES + 1, 4 * PACK_CHUNK_BYTES])
def test_a_packed_files_root_is_that_of_its_64_kib_chunks(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    digests = [chunk_digest(data[at : at + PACK_CHUNK_BYTES]) for at in range(0, size, PACK_CHUNK_BYTES)]
    assert packed_root(memoryview(data)) == file_root(size, PACK_CHUNK_BYTES, digests)

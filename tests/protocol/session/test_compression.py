"""Compression where it pays, and a decompressor that a peer cannot blow up."""

from __future__ import annotations

import os
import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from tallow_protocol.core.compression import LONGEST_PAUSE, Compressor, Decompressor
from tallow_protocol.errors import ViolationError

TEXT = memoryview(b"all work and no play makes a dull file\n" * 10_000)


def shrunk_by(compressor: Compressor, raw: memoryview) -> memoryview | None:
    """Take one record through a compressor; None where it travels as it is."""
    target = memoryview(bytearray(len(raw)))
    length = compressor.compress(raw, target) if compressor.begin(len(raw)) else None
    compressor.end(len(raw), len(raw) if length is None else length)
    return None if length is None else target[:length]


def test_text_shrinks_and_comes_back_whole() -> None:
    shrunk = shrunk_by(Compressor(), TEXT)
    assert shrunk is not None
    assert len(shrunk) < len(TEXT) / 10
    assert Decompressor().decompress(shrunk, len(TEXT)) == TEXT


def test_random_data_travels_as_it_is_and_is_sampled_less_and_less() -> None:
    compressor = Compressor()
    noise = memoryview(os.urandom(300_000))
    sampled = 0
    for _ in range(300):
        before = compressor._pause
        assert shrunk_by(compressor, noise) is None
        sampled += before == 0
    assert sampled <= 12
    assert compressor._pause <= LONGEST_PAUSE


def test_data_that_changes_its_nature_is_compressed_again() -> None:
    compressor = Compressor()
    noise = memoryview(os.urandom(300_000))
    for _ in range(20):
        shrunk_by(compressor, noise)
    assert any(shrunk_by(compressor, TEXT) is not None for _ in range(LONGEST_PAUSE + 1))


def test_nothing_is_compressed_when_it_is_turned_off() -> None:
    assert shrunk_by(Compressor(enabled=False), TEXT) is None


@given(st.binary(max_size=5000))
def test_whatever_is_compressed_comes_back(data: bytes) -> None:
    shrunk = shrunk_by(Compressor(), memoryview(data))
    if shrunk is not None:
        assert Decompressor().decompress(shrunk, len(data)) == data


@given(st.binary(max_size=200), st.integers(1, 2**22))
def test_garbage_is_refused(data: bytes, raw_length: int) -> None:
    with pytest.raises(ViolationError):
        Decompressor().decompress(memoryview(data), raw_length)


def test_a_bomb_that_declares_more_than_it_may_is_refused_before_memory_is_taken() -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(256 * 1024 * 1024))
    assert len(bomb) < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(ViolationError):
            Decompressor().decompress(memoryview(bomb), 512 * 1024)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_a_bomb_that_lies_about_its_size_is_cut_at_the_declared_length() -> None:
    honest = zstandard.ZstdCompressor().compress(bytes(1_000_000))
    small = zstandard.ZstdCompressor().compress(bytes(1000))
    header = len(small)
    assert header > 0
    parameters = zstandard.ZstdCompressionParameters(write_content_size=False)
    sizeless = zstandard.ZstdCompressor(compression_params=parameters).compress(bytes(1_000_000))
    with pytest.raises(ViolationError):
        Decompressor().decompress(memoryview(sizeless), 1_000_000)
    with pytest.raises(ViolationError):
        Decompressor().decompress(memoryview(honest), 1000)


def test_bytes_behind_the_frame_are_refused() -> None:
    frame = zstandard.ZstdCompressor().compress(bytes(5000)) + b"more"
    with pytest.raises(ViolationError):
        Decompressor().decompress(memoryview(frame), 5000)


def test_raw_bytes_of_a_truncated_frame_are_refused() -> None:
    frame = zstandard.ZstdCompressor().compress(os.urandom(5000))
    with pytest.raises(ViolationError):
        Decompressor().decompress(memoryview(frame)[:-10], 5000)

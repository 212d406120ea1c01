"""The buffer of a stream: chunks are known once their place in the stream is, and kept until they have arrived."""

from __future__ import annotations

import threading

from tallow_protocol.aio.streambuffer import StreamBuffer
from tallow_protocol.core.streams import STREAM_CHUNK_BYTES, Piece
from tallow_protocol.errors import UnreadableError

FULL = bytes(STREAM_CHUNK_BYTES)


def test_a_chunk_is_known_when_the_next_one_is_there():
    buffer = StreamBuffer()
    buffer.put(FULL)
    assert buffer.piece(0) is None
    buffer.put(b"end")
    assert buffer.piece(0) == Piece(STREAM_CHUNK_BYTES, last=False)
    assert buffer.piece(1) is None
    buffer.end()
    assert buffer.piece(1) == Piece(3, last=True)


def test_a_stream_that_ends_with_a_full_chunk_says_so_of_that_chunk():
    buffer = StreamBuffer()
    buffer.put(FULL)
    buffer.end()
    assert buffer.piece(0) == Piece(STREAM_CHUNK_BYTES, last=True)


def test_an_input_without_a_byte_is_empty_and_one_that_failed_is_not():
    ended, failed = StreamBuffer(), StreamBuffer()
    assert not ended.empty
    ended.end()
    failed.end(UnreadableError("gone"))
    assert ended.empty
    assert not failed.empty


def test_a_chunk_can_be_read_again_until_it_is_released():
    buffer = StreamBuffer()
    buffer.put(b"abc")
    buffer.end()
    for _ in range(2):
        place = bytearray(3)
        assert buffer.read_into(0, memoryview(place)) == 3
        assert place == b"abc"


def test_whoever_reads_ahead_waits_for_room():
    buffer = StreamBuffer(kept_bytes=2 * STREAM_CHUNK_BYTES)
    assert buffer.put(FULL)
    assert buffer.put(FULL)
    third = threading.Thread(target=buffer.put, args=(FULL,))
    third.start()
    third.join(0.05)
    assert third.is_alive()
    buffer.release(0)
    third.join(10)
    assert not third.is_alive()


def test_whoever_waits_for_room_is_told_that_nobody_wants_more():
    buffer = StreamBuffer(kept_bytes=2 * STREAM_CHUNK_BYTES)
    buffer.put(FULL)
    buffer.put(FULL)
    answers = []
    third = threading.Thread(target=lambda: answers.append(buffer.put(FULL)))
    third.start()
    buffer.stop()
    third.join(10)
    assert answers == [False]

"""Frames: round trips at every cut, limits on both sides, and no allocation for a promise."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_net.errors import FrameTooLargeError, MisuseError
from tallow_net.framing import HEADER_BYTES, FrameDecoder, encode_frame, frame_header, parse_header
from tallow_net.limits import PLAIN_FRAME_BYTES, SEALED_FRAME_BYTES, SIGNALING_FRAME_BYTES

BODIES = st.lists(st.binary(max_size=300), max_size=20)


@given(BODIES, st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_frames_survive_every_way_of_cutting_the_stream(bodies, pieces):
    stream = b"".join(map(encode_frame, bodies))
    decoder, decoded, start = FrameDecoder(300), [], 0
    while start < len(stream):
        length = pieces[start % len(pieces)]
        decoded += decoder.feed(stream[start : start + length])
        start += length
    assert decoded == bodies
    assert decoder.pending == b""


@given(st.binary(max_size=2000))
def test_garbage_is_bodies_within_the_limit_or_a_named_error(data):
    decoder = FrameDecoder(64)
    try:
        bodies = decoder.feed(data)
    except FrameTooLargeError:
        return
    assert all(len(body) <= 64 for body in bodies)
    assert b"".join(map(encode_frame, bodies)) + decoder.pending == data


@given(BODIES, st.binary(max_size=3))
def test_what_is_no_whole_frame_stays_pending(bodies, rest):
    decoder = FrameDecoder(300)
    assert decoder.feed(b"".join(map(encode_frame, bodies)) + rest) == bodies
    assert decoder.pending == rest


@pytest.mark.parametrize("limit", [0, 1, PLAIN_FRAME_BYTES, SIGNALING_FRAME_BYTES, SEALED_FRAME_BYTES])
def test_a_body_as_long_as_the_limit_is_taken_and_one_byte_more_is_refused(limit):
    assert parse_header(frame_header(limit), limit) == limit
    assert FrameDecoder(limit).feed(frame_header(limit)) == ([b""] if limit == 0 else [])
    with pytest.raises(FrameTooLargeError, match=f"{limit + 1} bytes; at most {limit}"):
        parse_header(frame_header(limit + 1), limit)
    with pytest.raises(FrameTooLargeError):
        FrameDecoder(limit).feed(frame_header(limit + 1))


def test_an_announced_length_is_not_allocated():
    decoder = FrameDecoder(SEALED_FRAME_BYTES)
    tracemalloc.start()
    try:
        decoder.feed(frame_header(SEALED_FRAME_BYTES))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024


def test_the_largest_length_of_all_is_refused():
    with pytest.raises(FrameTooLargeError):
        FrameDecoder(SEALED_FRAME_BYTES).feed(b"\xff\xff\xff\xff")


def test_a_new_limit_holds_from_the_next_frame_on():
    decoder = FrameDecoder(4)
    decoder.push(encode_frame(b"1234") + encode_frame(b"12345"))
    assert decoder.pop() == b"1234"
    decoder.limit = 5
    assert decoder.pop() == b"12345"
    assert decoder.pop() is None


def test_frames_are_taken_out_one_by_one_and_the_rest_can_be_handed_on():
    decoder = FrameDecoder(16)
    decoder.push(encode_frame(b"ready") + b"the peer's bytes")
    assert decoder.pop() == b"ready"
    assert decoder.pending == b"the peer's bytes"


@pytest.mark.parametrize("length", [-1, 1 << 32])
def test_a_body_beyond_a_u32_is_misuse(length):
    with pytest.raises(MisuseError):
        frame_header(length)


@pytest.mark.parametrize("length", [0, (1 << 32) - 1])
def test_a_header_is_four_big_endian_bytes(length):
    header = frame_header(length)
    assert len(header) == HEADER_BYTES
    assert int.from_bytes(header, "big") == length


@pytest.mark.parametrize("header", [b"", b"\0\0\0", b"\0\0\0\0\0"])
def test_a_header_of_another_length_is_misuse(header):
    with pytest.raises(MisuseError):
        parse_header(header, 10)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_kind_of_buffer_is_taken(kind):
    frame = encode_frame(kind(b"body"))
    assert frame == b"\0\0\0\4body"
    assert FrameDecoder(4).feed(kind(frame)) == [b"body"]

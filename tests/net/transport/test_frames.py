"""Frames over a transport."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_net.errors import EndOfStreamError, FrameTooLargeError
from tallow_net.framing import encode_frame
from tallow_net.transport.frames import READ_AHEAD_BYTES, FrameStream
from tallow_net.transport.memory import memory_pair

DEADLINE_S = 10


@given(
    bodies=st.lists(st.binary(max_size=3 * READ_AHEAD_BYTES), max_size=8),
    pieces=st.lists(st.integers(1, 40_000), min_size=1, max_size=8),
)
def test_frames_come_out_as_they_went_in_however_the_bytes_are_cut(bodies, pieces):
    async def run() -> list[bytes]:
        a, b = memory_pair(capacity_bytes=1 << 20)
        stream = b"".join(map(encode_frame, bodies))
        frames = FrameStream(b, limit=3 * READ_AHEAD_BYTES)

        async def write() -> None:
            start = 0
            while start < len(stream):
                for size in pieces:
                    await a.send(stream[start : start + size])
                    await asyncio.sleep(0)
                    start += size
            await a.finish()

        async def read() -> list[bytes]:
            out = []
            buffer = memoryview(bytearray(3 * READ_AHEAD_BYTES))
            while True:
                if len(out) % 2:
                    length = await frames.read_into(buffer)
                    body = None if length is None else bytes(buffer[:length])
                else:
                    body = await frames.read()
                if body is None:
                    return out
                out.append(body)

        async with asyncio.timeout(DEADLINE_S):
            _, read_back = await asyncio.gather(write(), read())
        return read_back

    assert asyncio.run(run()) == bodies


async def test_a_frame_of_the_limit_is_read():
    a, b = memory_pair()
    await FrameStream(a, limit=0).write(b"x" * 100)
    assert await FrameStream(b, limit=100).read() == b"x" * 100


async def test_a_frame_above_the_limit_is_refused_before_its_body():
    a, b = memory_pair()
    await a.send(encode_frame(b"x" * 101)[:4])
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(FrameTooLargeError):
            await FrameStream(b, limit=100).read()


async def test_a_frame_above_the_buffer_is_refused_before_its_body():
    a, b = memory_pair()
    await a.send(encode_frame(b"x" * 101)[:4])
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(FrameTooLargeError):
            await FrameStream(b, limit=1000).read_into(memoryview(bytearray(100)))


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 103])
async def test_an_end_inside_a_frame_is_an_error(cut):
    a, b = memory_pair()
    await a.send(encode_frame(b"x" * 100)[:cut])
    await a.finish()
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(EndOfStreamError):
            await FrameStream(b, limit=100).read()


async def test_an_end_between_frames_is_none():
    a, b = memory_pair()
    await a.send(encode_frame(b""))
    await a.finish()
    frames = FrameStream(b, limit=100)
    assert await frames.read() == b""
    assert await frames.read() is None


async def test_the_limit_may_change_between_frames():
    a, b = memory_pair()
    writer, reader = FrameStream(a, limit=0), FrameStream(b, limit=10)
    await writer.write(b"short")
    await writer.write(b"x" * 11)
    assert await reader.read() == b"short"
    reader.limit = 11
    assert await reader.read() == b"x" * 11


async def test_a_frame_is_written_from_its_parts():
    a, b = memory_pair()
    await FrameStream(a, limit=0).write(b"one", bytearray(b"two"), memoryview(b"three"))
    assert await FrameStream(b, limit=100).read() == b"onetwothree"


async def test_detach_gives_back_what_came_behind_the_last_frame():
    a, b = memory_pair()
    await a.send(encode_frame(b"last frame") + b"bytes of another protocol")
    frames = FrameStream(b, limit=100)
    assert await frames.read() == b"last frame"
    transport, leftover = frames.detach()
    assert transport is b
    assert leftover == b"bytes of another protocol"


async def test_a_cancelled_read_may_be_repeated():
    a, b = memory_pair()
    frame = encode_frame(bytes(range(200)))
    frames = FrameStream(b, limit=1000)
    for cut in (2, 50):
        await a.send(frame[:cut])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await frames.read()
        await a.send(frame[cut:])
        async with asyncio.timeout(DEADLINE_S):
            assert await frames.read() == bytes(range(200))

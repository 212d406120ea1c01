"""The memory pair's faults, and the public suite run as an embedding program would."""

import asyncio

import pytest
from tallow_net.errors import ConnectionLostError
from tallow_net.testing import check_transport, faulty_pair

from tests.net.transport.pairs import memory


async def test_the_whole_suite_runs_by_one_call():
    await check_transport(memory)


async def test_a_cut_pair_loses_what_is_under_way_on_both_sides():
    pair = faulty_pair()
    await pair.a.send(b"never read")
    pair.cut()
    for end in (pair.a, pair.b):
        with pytest.raises(ConnectionLostError) as caught:
            await end.receive_into(memoryview(bytearray(1)))
        assert caught.value.by == "network"


async def test_a_clogged_pair_delivers_nothing_until_it_is_unclogged():
    pair = faulty_pair()
    pair.clog()
    await pair.a.send(b"late")
    buffer = memoryview(bytearray(10))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await pair.b.receive_into(buffer)
    pair.unclog()
    async with asyncio.timeout(5):
        assert await pair.b.receive_into(buffer) == 4


async def test_a_byte_takes_the_latency():
    pair = faulty_pair(latency_s=0.05)
    loop = asyncio.get_running_loop()
    start = loop.time()
    await pair.a.send(b"x")
    async with asyncio.timeout(5):
        await pair.b.receive_into(memoryview(bytearray(1)))
    assert loop.time() - start >= 0.05

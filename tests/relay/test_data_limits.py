"""What data connections may hold and how fast they may be, through a whole relay with both engines."""

import asyncio
import os
import socket
import time
from contextlib import AsyncExitStack

import pytest
from tallow_net.relay.data import DATA_PREAMBLE
from tallow_relay.carriers import Engine
from tallow_relay.datapair import HalfOpenLimits
from tallow_relay.splicing import PipePool, SpliceEngine

from tests.relay.data_kit import (
    MIB,
    both_engines,
    dial,
    hear,
    is_closed,
    joined,
    met,
    room_with_data,
    say,
    say_until_full,
    show,
)
from tests.relay.relay_kit import receive_exactly, relay, until

# -- bounds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [HalfOpenLimits(at_once=2), HalfOpenLimits(per_address=2)])
async def test_half_open_connections_are_taken_up_to_the_limit_and_closed_beyond(limits) -> None:
    async with relay(half_open=limits) as server, met(server.port) as (a, b):
        with await show(server.port, a.tokens[0]), await show(server.port, a.tokens[1]):
            await until(lambda: server.half_open == 2)
            with await show(server.port, a.tokens[2]) as beyond:
                assert await is_closed(beyond)
            with await show(server.port, b.tokens[0]):  # completes one, so it takes no place
                await until(lambda: server.half_open == 1)
                with await show(server.port, a.tokens[3]):
                    await until(lambda: server.half_open == 2)


async def test_a_half_that_nobody_joins_is_closed_after_its_time() -> None:
    async with relay(half_open=HalfOpenLimits(wait_s=0.2)) as server, met(server.port) as (a, b):
        with await show(server.port, a.tokens[0]) as one:
            assert await is_closed(one)
        assert server.half_open == 0
        with await show(server.port, b.tokens[0]) as late:
            assert await is_closed(late)


async def test_a_token_that_is_not_whole_takes_the_place_of_a_handshake() -> None:
    async with relay(handshakes=1) as server, met(server.port) as (a, b):
        with await dial(server.port, DATA_PREAMBLE) as one:
            await until(lambda: server.connections == 3)
            with await show(server.port, b.tokens[0]) as beyond:
                assert await is_closed(beyond)
            await say(one, a.tokens[0])
            await until(lambda: server.half_open == 1)
            with await show(server.port, b.tokens[0]) as other:
                await say(one, b"fits")
                assert await hear(other, 4) == b"fits"


async def test_data_connections_count_as_connections_of_their_address() -> None:
    async with relay(connections_per_address=4) as server, met(server.port) as (a, b):
        async with joined(server.port, a, b) as (one, other):
            await say(one, b"fits")
            assert await hear(other, 4) == b"fits"
            with await show(server.port, a.tokens[1]) as beyond:
                assert await is_closed(beyond)
        await until(lambda: server.connections == 2)
        async with joined(server.port, a, b, 2) as (one, other):
            await say(one, b"fits again")
            assert await hear(other, 10) == b"fits again"


@both_engines
async def test_a_receiver_that_stops_makes_its_sender_stop_within_the_in_flight_bound(
    engine: type[Engine],
) -> None:
    async with room_with_data(engine=engine()) as room:
        await say_until_full(room.one, limit=2 * 16 * MIB)


async def test_slow_receivers_hold_about_one_pipe_together() -> None:
    engine = SpliceEngine()
    async with relay(engine=engine) as server, met(server.port) as (a, b), met(server.port) as (c, d):
        held: list[int] = []

        async def slow(one: socket.socket, other: socket.socket) -> None:
            saying = asyncio.create_task(say(one, bytes(64 * MIB)))
            for _ in range(150):
                await asyncio.get_running_loop().sock_recv(other, 40_000)
                held.append(engine.pool.in_use)
                await asyncio.sleep(0.002)
            saying.cancel()
            await asyncio.gather(saying, return_exceptions=True)

        async with AsyncExitStack() as stack:
            pairs = [(a, b, index) for index in range(4)] + [(c, d, index) for index in range(4)]
            ends = [await stack.enter_async_context(joined(server.port, *each)) for each in pairs]
            await asyncio.gather(*(slow(*each) for each in ends))
        assert sum(held) / len(held) <= 2, held


async def test_stopped_receivers_take_no_pipe_from_others_and_get_their_bytes_later() -> None:
    engine = SpliceEngine(PipePool(1))
    async with relay(engine=engine) as server, met(server.port) as (a, b):
        async with (
            joined(server.port, a, b, 0) as (one, stopped),
            joined(server.port, a, b, 1) as (two, _),
            joined(server.port, a, b, 2) as (three, other),
        ):
            sent = await say_until_full(one, limit=32 * MIB)
            await say_until_full(two, limit=32 * MIB)
            there = os.urandom(4 * MIB)
            _, got = await asyncio.gather(say(three, there), hear(other, len(there)))
            assert got == there
            assert await hear(stopped, sent) == bytes(sent)
        await until(lambda: engine.pool.in_use == 0)


async def test_without_a_pipe_of_its_size_a_relay_copies() -> None:
    there = os.urandom(4 * MIB)
    async with room_with_data(engine=SpliceEngine(PipePool(0))) as room:
        _, got = await asyncio.gather(say(room.one, there), hear(room.other, len(there)))
        assert got == there


@both_engines
async def test_sixteen_rooms_at_once_get_equal_shares(engine: type[Engine]) -> None:
    count, seconds = 16, 1.0
    async with relay(engine=engine()) as server:
        got = [0] * count
        start = asyncio.Event()
        ready = asyncio.Semaphore(0)

        async def room(place: int) -> None:
            async with met(server.port) as (a, b), joined(server.port, a, b) as (one, other):
                ready.release()
                await start.wait()
                saying = asyncio.create_task(say(one, bytes(1 << 30)))
                loop = asyncio.get_running_loop()
                end = loop.time() + seconds
                buffer = bytearray(MIB)
                while loop.time() < end:
                    got[place] += await loop.sock_recv_into(other, buffer)
                saying.cancel()
                await asyncio.gather(saying, return_exceptions=True)
                a.transport.abort()
                b.transport.abort()

        rooms = [asyncio.create_task(room(place)) for place in range(count)]
        for _ in range(count):
            await ready.acquire()
        start.set()
        await asyncio.gather(*rooms)
        jain = sum(got) ** 2 / (count * sum(each**2 for each in got))
        assert jain >= 0.95, got


# -- rates -----------------------------------------------------------------------------------------------------


@both_engines
@pytest.mark.parametrize("limit", ["room_bytes_per_s", "address_bytes_per_s", "total_bytes_per_s"])
async def test_all_connections_of_a_pair_together_hold_to_a_rate(engine: type[Engine], limit: str) -> None:
    rate, size = 2_000_000, 1_000_000
    async with (
        relay(engine=engine(), **{limit: rate}) as server,
        met(server.port) as (a, b),
        joined(server.port, a, b, 0) as first,
        joined(server.port, a, b, 1) as second,
    ):
        began = time.monotonic()
        await asyncio.gather(
            say(first[0], bytes(size)),
            hear(first[1], size),
            say(second[1], bytes(size)),
            hear(second[0], size),
            a.transport.send(bytes(size)),
            receive_exactly(b.transport, size),
        )
        took = time.monotonic() - began
    # A second's worth at once, the other million at the rate; the last pieces are charged when they have arrived.
    assert 0.25 <= took < 5


async def test_one_slow_rooms_rate_does_not_hold_another_room_up() -> None:
    async with (
        relay(room_bytes_per_s=1_000_000) as server,
        met(server.port) as (a, b),
        met(server.port) as (c, d),
        joined(server.port, a, b) as (one, _),
        joined(server.port, c, d) as (three, four),
    ):
        saying = asyncio.create_task(say(one, bytes(64 * MIB)))
        began = time.monotonic()
        await asyncio.gather(say(three, bytes(900_000)), hear(four, 900_000))
        assert time.monotonic() - began < 1.0
        saying.cancel()
        await asyncio.gather(saying, return_exceptions=True)


async def test_two_rooms_have_the_sum_of_their_rates_and_not_one_of_them() -> None:
    rate, size = 1_000_000, 2_000_000
    async with (
        relay(room_bytes_per_s=rate) as server,
        met(server.port) as (a, b),
        met(server.port) as (c, d),
        joined(server.port, a, b) as (one, two),
        joined(server.port, c, d) as (three, four),
    ):
        began = time.monotonic()
        await asyncio.gather(
            say(one, bytes(size)), hear(two, size), say(three, bytes(size)), hear(four, size)
        )
        took = time.monotonic() - began
    # Each has a second's worth at once and the rest in a second; one limit for both would take three.
    assert 0.6 <= took < 2.5

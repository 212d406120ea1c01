"""How data connections end, through a whole relay with both engines."""

import asyncio
import os
import random
import socket
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
from tallow_net.relay.data import DATA_PREAMBLE
from tallow_relay.carriers import Engine
from tallow_relay.forward import ForwardTimes
from tallow_relay.splicing import SpliceEngine

from tests.relay.data_kit import (
    MIB,
    both_engines,
    dial,
    hear,
    hear_all,
    is_closed,
    joined,
    met,
    reset,
    room_with_data,
    say,
    say_until_full,
    show,
)
from tests.relay.relay_kit import receive_exactly, relay, until


@both_engines
async def test_a_fin_goes_through_and_an_answer_comes_back(engine: type[Engine]) -> None:
    data = os.urandom(3 * MIB)
    async with room_with_data(engine=engine()) as room:
        got = asyncio.create_task(hear_all(room.other))
        await say(room.one, data)
        room.one.shutdown(socket.SHUT_WR)
        assert await got == data
        await say(room.other, b"done")
        room.other.shutdown(socket.SHUT_WR)
        assert await hear_all(room.one) == b"done"
        await until(lambda: room.server.connections == 2)


@both_engines
async def test_after_one_fin_the_other_direction_has_its_time_and_no_more(engine: type[Engine]) -> None:
    async with room_with_data(engine=engine(), times=ForwardTimes(half_close_s=0.3)) as room:
        room.one.shutdown(socket.SHUT_WR)
        assert await hear_all(room.other) == b""
        await say(room.other, b"in time")
        assert await hear(room.one, 7) == b"in time"
        assert await is_closed(room.one)
        await until(lambda: room.server.connections == 2)


@both_engines
async def test_a_reset_ends_the_other_side_behind_what_was_said(engine: type[Engine]) -> None:
    async with room_with_data(engine=engine()) as room:
        await say(room.one, b"before")
        assert await hear(room.other, 6) == b"before"
        await say(room.other, b"never read")
        reset(room.one)
        assert await is_closed(room.other)
        await until(lambda: room.server.connections == 2)


@both_engines
async def test_a_receiver_that_vanishes_ends_a_sender_in_full_flow(engine: type[Engine]) -> None:
    async with room_with_data(engine=engine(), times=ForwardTimes(flush_s=0.3)) as room:

        async def say_for_ever() -> None:
            while True:
                await say(room.one, bytes(MIB))

        saying = asyncio.create_task(say_for_ever())
        await hear(room.other, MIB)
        reset(room.other)
        with pytest.raises(ConnectionError):
            await saying
        await until(lambda: room.server.connections == 2)


async def test_a_joined_data_connection_outlives_the_encrypted_ones() -> None:
    async with relay() as server, met(server.port) as (a, b):
        async with joined(server.port, a, b) as (one, other):
            await say(one, b"x")
            assert await hear(other, 1) == b"x"
            a.transport.abort()
            assert await b.is_over()
            await say(one, b"goes on")
            assert await hear(other, 7) == b"goes on"
            assert server.pairs == 1
        await until(lambda: server.pairs == 0)


async def test_an_idle_pair_loses_all_its_connections() -> None:
    async with room_with_data(times=ForwardTimes(idle_s=0.4)) as room:
        await say(room.one, b"x")
        assert await hear(room.other, 1) == b"x"
        assert (await room.a.is_over(), await room.b.is_over()) == (True, True)
        assert (await is_closed(room.one), await is_closed(room.other)) == (True, True)


@pytest.mark.parametrize("inside", [True, False])
async def test_bytes_on_one_kind_of_connection_keep_the_other_alive(*, inside: bool) -> None:
    idle_s = 0.5
    async with room_with_data(times=ForwardTimes(idle_s=idle_s)) as room:
        loop = asyncio.get_running_loop()
        end = loop.time() + 2 * idle_s
        while loop.time() < end:
            if inside:
                await room.a.transport.send(b"x")
                await receive_exactly(room.b.transport, 1)
            else:
                await say(room.one, b"x")
                await hear(room.other, 1)
        await say(room.one, b"alive")
        assert await hear(room.other, 5) == b"alive"
        await room.a.transport.send(b"alive")
        assert await receive_exactly(room.b.transport, 5) == b"alive"


async def test_an_orphaned_data_connection_ends_when_it_is_idle() -> None:
    async with room_with_data(times=ForwardTimes(idle_s=0.4)) as room:
        await say(room.one, b"x")
        assert await hear(room.other, 1) == b"x"
        room.a.transport.abort()
        assert (await is_closed(room.one), await is_closed(room.other)) == (True, True)
        await until(lambda: room.server.pairs == 0)


async def test_a_data_connection_of_a_busy_pair_ends_when_it_is_long_unused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tallow_relay.datajoin.UNUSED_S", 0.3)
    async with room_with_data() as room:
        await say(room.one, b"x")
        assert await hear(room.other, 1) == b"x"
        assert await is_closed(room.other)
        await room.a.transport.send(b"alive")
        assert await receive_exactly(room.b.transport, 5) == b"alive"


@both_engines
async def test_nothing_is_left_open(engine: type[Engine]) -> None:
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    async with (
        relay(engine=engine()) as server,
        met(server.port) as (a, b),
        joined(server.port, a, b, 0) as (one, other),
        joined(server.port, a, b, 1) as (full, _),
    ):
        await asyncio.gather(say(one, bytes(MIB)), hear(other, MIB))
        await say_until_full(full, limit=32 * MIB)
        with await show(server.port, a.tokens[2]), await dial(server.port, DATA_PREAMBLE):
            await until(lambda: server.connections == 8)
            reset(full)
    assert len(list(descriptors.iterdir())) == before


async def test_a_relay_that_ends_closes_what_is_joined_and_what_waits() -> None:
    async with room_with_data() as room:
        await say(room.one, b"x")
        with await show(room.server.port, room.a.tokens[1]) as half:
            await until(lambda: room.server.half_open == 1)
            await room.server.drain(0)
            assert (await is_closed(half), await is_closed(room.one)) == (True, True)


@both_engines
@pytest.mark.parametrize("seed", range(3))
async def test_whatever_order_ends_come_in_nothing_stays_behind(engine: type[Engine], seed: int) -> None:
    chance = random.Random(seed)
    made = engine()
    times = ForwardTimes(half_close_s=0.3, flush_s=0.3, idle_s=20.0)

    async def live(one: socket.socket, other: socket.socket) -> None:
        """Say, hear and end in a random order; an end that was closed takes no further part."""
        ends = [one, other]
        deeds = chance.choices(("say", "hear", "fin", "reset", "close"), weights=(6, 6, 2, 1, 1), k=30)
        for deed in deeds:
            end = chance.choice(ends)
            with suppress(OSError):
                if deed == "say":
                    end.send(bytes(chance.randrange(1, 2 * MIB)))
                elif deed == "hear":
                    end.recv(chance.randrange(1, MIB))
                elif deed == "fin":
                    end.shutdown(socket.SHUT_WR)
                elif deed == "reset":
                    reset(end)
                else:
                    end.close()
            await asyncio.sleep(chance.random() / 100)

    async with relay(engine=made, times=times) as server:
        for _ in range(2):
            async with met(server.port) as (a, b), AsyncExitStack() as stack:
                ends = [
                    await stack.enter_async_context(joined(server.port, a, b, index)) for index in range(4)
                ]
                await asyncio.gather(*(live(*each) for each in ends))
        await until(lambda: server.pairs == 0)
        assert (server.connections, server.half_open) == (0, 0)
        if isinstance(made, SpliceEngine):
            assert made.pool.in_use == 0

"""Plain data connections through a whole relay over real sockets, with both engines."""

import asyncio
import os
import random
import socket
import struct
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
import uvloop
from tallow_net.limits import TOKEN_BYTES, TOKENS_PER_READY
from tallow_net.relay.data import DATA_PREAMBLE
from tallow_net.signaling import Side
from tallow_relay.carriers import CopyEngine, Engine
from tallow_relay.datapair import HalfOpenLimits
from tallow_relay.forward import ForwardTimes
from tallow_relay.splicing import PipePool, SpliceEngine

from tests.relay.data_kit import (
    dial,
    hear,
    hear_all,
    is_closed,
    joined,
    met,
    room_with_data,
    say,
    show,
)
from tests.relay.relay_kit import BOTH, client, receive_exactly, relay, until, until_still

MIB = 1 << 20
both_engines = pytest.mark.parametrize("engine", [SpliceEngine, CopyEngine])


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def say_until_full(sock: socket.socket, limit: int) -> int:
    """Send until nothing more is taken; return the bytes, which stay below `limit`."""
    piece = bytes(MIB)
    sent = 0

    def say_more() -> int:
        nonlocal sent
        with suppress(BlockingIOError):
            while sent < limit:
                sent += sock.send(piece)
        assert sent < limit
        return sent

    await until_still(say_more)
    return sent


# -- bytes -----------------------------------------------------------------------------------------------------


@both_engines
async def test_mebibytes_arrive_identical_both_ways_at_once(engine: type[Engine]) -> None:
    there, back = os.urandom(24 * MIB), os.urandom(24 * MIB)
    async with room_with_data(engine=engine()) as room:
        _, _, got_there, got_back = await asyncio.gather(
            say(room.one, there),
            say(room.other, back),
            hear(room.other, len(there)),
            hear(room.one, len(back)),
        )
        assert (got_there == there, got_back == back) == (True, True)


@both_engines
def test_the_same_under_uvloop(engine: type[Engine]) -> None:
    uvloop.run(test_mebibytes_arrive_identical_both_ways_at_once(engine))


@both_engines
async def test_four_data_connections_of_a_pair_carry_side_by_side(engine: type[Engine]) -> None:
    async with relay(engine=engine()) as server, met(server.port) as (a, b):
        data = [os.urandom(2 * MIB) for _ in range(TOKENS_PER_READY)]

        async def carry(index: int) -> bool:
            async with joined(server.port, a, b, index) as (one, other):
                _, got = await asyncio.gather(say(one, data[index]), hear(other, len(data[index])))
                return got == data[index]

        assert await asyncio.gather(*map(carry, range(TOKENS_PER_READY))) == [True] * TOKENS_PER_READY


@pytest.mark.parametrize("first", list(Side))
async def test_what_is_said_before_the_other_side_is_there_waits_for_it(first: Side) -> None:
    async with relay() as server, met(server.port) as sides:
        one = await show(server.port, sides[first].tokens[0], b"behind the token, in one segment")
        with one:
            await until(lambda: server.half_open == 1)
            await say(one, b" and later")
            with await show(server.port, sides[1 - first].tokens[0]) as other:
                assert await hear(other, 42) == b"behind the token, in one segment and later"


@both_engines
async def test_a_receiver_that_reads_slowly_gets_every_byte(engine: type[Engine]) -> None:
    data = os.urandom(16 * MIB)
    async with room_with_data(engine=engine()) as room:
        saying = asyncio.create_task(say(room.one, data))
        got = bytearray()
        async with asyncio.timeout(60):
            while len(got) < len(data):
                got += await asyncio.get_running_loop().sock_recv(room.other, 40_000)
                await asyncio.sleep(0)
        await saying
        assert got == data


async def test_bytes_are_counted_with_those_of_the_encrypted_connections(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="tallow_relay")
    async with relay() as server, met(server.port) as (a, b):
        await a.transport.send(b"12345")
        await receive_exactly(b.transport, 5)
        async with joined(server.port, a, b) as (one, other):
            await say(one, bytes(1000))
            await hear(other, 1000)
            await say(other, bytes(200))
            await hear(one, 200)
        a.transport.abort()
        await until(lambda: server.pairs == 0)
    closed = [record for record in caplog.records if record.message == "room_closed"]
    assert [record.__dict__["fields"]["bytes"] for record in closed] == [1205]


# -- tokens ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", BOTH)
async def test_ready_has_four_tokens_a_side_and_no_two_are_equal(choice) -> None:
    async with relay() as server, met(server.port, (choice, choice)) as (a, b):
        tokens = a.tokens + b.tokens
        assert [len(token) for token in tokens] == [TOKEN_BYTES] * 2 * TOKENS_PER_READY
        assert len(set(tokens)) == 2 * TOKENS_PER_READY


async def test_a_used_token_opens_nothing() -> None:
    async with room_with_data() as room:
        with await show(room.server.port, room.a.tokens[0]) as thief:
            assert await is_closed(thief)
        await say(room.one, b"unharmed")
        assert await hear(room.other, 8) == b"unharmed"


async def test_a_token_is_used_up_while_it_waits_for_the_other_half() -> None:
    async with relay() as server, met(server.port) as (a, b):
        with await show(server.port, a.tokens[0]) as one:
            await until(lambda: server.half_open == 1)
            with await show(server.port, a.tokens[0]) as thief:
                assert await is_closed(thief)
            with await show(server.port, b.tokens[0]) as other:
                await say(other, b"still joined")
                assert await hear(one, 12) == b"still joined"


async def test_tokens_of_different_numbers_or_pairs_are_not_joined() -> None:
    async with relay() as server, met(server.port) as (a, _), met(server.port) as (_, d):
        with await show(server.port, a.tokens[0]), await show(server.port, d.tokens[0]):
            await until(lambda: server.half_open == 2)
            with await show(server.port, a.tokens[1]):
                await until(lambda: server.half_open == 3)


async def test_an_unknown_token_opens_nothing() -> None:
    async with relay() as server, met(server.port):
        with await show(server.port, os.urandom(TOKEN_BYTES)) as thief:
            assert await is_closed(thief)
        await until(lambda: server.connections == 2)


async def test_tokens_end_with_the_encrypted_connections() -> None:
    async with relay() as server, met(server.port) as (a, b):
        with await show(server.port, a.tokens[0]) as early:
            await until(lambda: server.half_open == 1)
            a.transport.abort()
            assert await b.is_over()
            assert await is_closed(early)
            with await show(server.port, b.tokens[1]) as late:
                assert await is_closed(late)
            await until(lambda: server.half_open == 0)


async def test_turned_off_there_are_no_tokens_and_such_connections_are_closed() -> None:
    async with relay(data_connections=False) as server, met(server.port) as (a, b):
        assert (a.tokens, b.tokens) == ((), ())
        with await show(server.port, bytes(TOKEN_BYTES)) as one:
            assert await is_closed(one)
        await a.transport.send(b"inside")
        assert await receive_exactly(b.transport, 6) == b"inside"


async def test_no_token_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    async with room_with_data() as room:
        await say(room.one, b"x")
        assert await hear(room.other, 1) == b"x"
        with await show(room.server.port, room.a.tokens[0]) as thief:
            assert await is_closed(thief)
    text = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    for token in room.a.tokens + room.b.tokens:
        assert token.hex() not in text
        assert repr(token) not in text


# -- the port --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [b"TLW2" + bytes(32), b"T" * 36, b"TLX", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 36, b"tlw1" + bytes(32)],
)
async def test_a_garbage_preamble_is_closed_and_costs_nobody_else(garbage: bytes) -> None:
    async with room_with_data() as room:
        with await dial(room.server.port, garbage) as stranger:
            async with asyncio.timeout(20):
                with suppress(ConnectionError):
                    await hear_all(stranger)  # other first bytes get TLS's alert, as they always did
        await until(lambda: room.server.connections == 4)
        await say(room.one, b"unharmed")
        assert await hear(room.other, 8) == b"unharmed"


async def test_a_preamble_that_comes_byte_by_byte_is_taken() -> None:
    async with relay() as server, met(server.port) as (a, b):
        one, other = await dial(server.port), await show(server.port, b.tokens[0])
        with one, other:
            for byte in DATA_PREAMBLE + a.tokens[0] + b"!":
                await say(one, bytes([byte]))
                await asyncio.sleep(0)
            assert await hear(other, 1) == b"!"


async def test_a_cut_preamble_is_forgotten_when_its_client_leaves() -> None:
    async with relay() as server:
        one = await dial(server.port, DATA_PREAMBLE + bytes(TOKEN_BYTES - 1))
        await until(lambda: server.connections == 1)
        one.close()
        await until(lambda: server.connections == 0)


async def test_a_silent_half_preamble_is_closed_at_the_deadline_of_a_handshake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tallow_net.transport.listener.HANDSHAKE_S", 0.2)
    async with relay() as server:
        with await dial(server.port, DATA_PREAMBLE) as one:
            assert await is_closed(one)
        await until(lambda: server.connections == 0)


async def test_tls_and_data_clients_use_one_port_at_once() -> None:
    async with relay() as server, met(server.port) as (a, b):

        async def greet() -> bool:
            async with client(server.port) as one:
                return await one.join(os.urandom(32), Side.A) is not None

        async def carry(index: int) -> bool:
            async with joined(server.port, a, b, index) as (one, other):
                await say(one, bytes(100_000))
                return await hear(other, 100_000) == bytes(100_000)

        done = await asyncio.gather(*(greet() for _ in range(8)), *(carry(index) for index in range(4)))
        assert done == [True] * 12


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


# -- ends ------------------------------------------------------------------------------------------------------


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

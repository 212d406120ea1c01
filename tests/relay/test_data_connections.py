"""Plain data connections through a whole relay over real sockets, with both engines: bytes, tokens, the port."""

import asyncio
import os
from contextlib import suppress

import pytest
import uvloop
from tallow_net.limits import TOKEN_BYTES, TOKENS_PER_READY
from tallow_net.relay.data import DATA_PREAMBLE
from tallow_net.signaling import Side
from tallow_relay.carriers import Engine

from tests.relay.data_kit import (
    MIB,
    both_engines,
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
from tests.relay.relay_kit import BOTH, client, receive_exactly, relay, until

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

"""What a client hears from a relay before it is joined, over real sockets and both transports."""

import asyncio
import os

import pytest
from tallow_net.limits import SIGNALING_FRAME_BYTES
from tallow_net.signaling import (
    Allocate,
    Allocated,
    Call,
    Join,
    KeepAlive,
    Leave,
    LeaveReason,
    Left,
    Ready,
    Restarting,
    Side,
    SignalingError,
    Waiting,
)
from tallow_net.transport.interface import TransportChoice
from tallow_relay.connection import FRAMES_BURST
from tallow_relay.rooms import room_id_of

from tests.relay.relay_kit import BOTH, LEGS, TCP, Client, client, paired, relay, until

ROOM = b"\x07" * 32
LEASE = b"l" * 16


@pytest.mark.parametrize("choice", BOTH)
async def test_welcome_carries_the_limits_the_notice_and_the_client_s_own_address(
    choice: TransportChoice,
) -> None:
    settings = {"notice": "down on Sunday", "max_wait_s": 777, "rooms_per_connection": 3}
    async with relay(**settings) as server, client(server.port, choice) as one:
        await one.join(ROOM, Side.A)
        assert one.welcome is not None
        assert one.welcome.versions == (1,)
        assert str(one.welcome.notice) == "down on Sunday"
        assert (one.welcome.limits.max_wait_s, one.welcome.limits.rooms) == (777, 3)
        assert one.welcome.limits.in_flight_bytes == 16 * 1024 * 1024
        assert str(one.welcome.address).startswith("127.0.0.1:")


@pytest.mark.parametrize("choice", BOTH)
async def test_a_nameplate_is_handed_out_and_its_room_waits(choice: TransportChoice) -> None:
    async with relay() as server, client(server.port, choice) as one:
        await one.say(Allocate(1, LEASE))
        answer = await one.hear()
        assert isinstance(answer, Allocated)
        assert await one.join(room_id_of(answer.nameplate), Side.A, lease=LEASE) == Waiting()
        await one.say(KeepAlive())
        assert await one.hear() == KeepAlive()


@pytest.mark.parametrize("choices", LEGS)
async def test_both_sides_are_told_ready_with_no_tokens(
    choices: tuple[TransportChoice, TransportChoice],
) -> None:
    async with relay() as server, paired(server.port, choices):
        assert server.pairs == 1


async def test_a_receiver_without_a_sender_is_told_at_once() -> None:
    async with relay() as server, client(server.port) as one:
        answer = await one.refusal(Join(1, (ROOM,), Side.B, LEASE))
        assert (answer.name, answer.retry_after_s) == ("no_such_room", None)


async def test_a_patient_receiver_waits() -> None:
    async with relay() as server, client(server.port) as one:
        assert await one.join(ROOM, Side.B, wait=True) == Waiting()


@pytest.mark.parametrize(("side", "name"), [(Side.A, "two_senders"), (Side.B, "two_receivers")])
async def test_a_second_one_on_a_side_is_refused_by_name(side: Side, name: str) -> None:
    async with relay() as server, client(server.port) as one, client(server.port) as two:
        await one.join(ROOM, side, wait=side is Side.B)
        answer = await two.refusal(Join(1, (ROOM,), side, LEASE, side is Side.B))
        assert answer.name == name


@pytest.mark.parametrize("side", list(Side))
async def test_a_third_one_in_a_room_at_work_is_refused(side: Side) -> None:
    async with (
        relay() as server,
        client(server.port) as a,
        client(server.port) as b,
        client(server.port) as c,
    ):
        await a.join(ROOM, Side.A)
        await b.join(ROOM, Side.B)
        assert (await c.refusal(Join(1, (ROOM,), side, LEASE))).name == "in_use"


async def test_the_older_connection_of_a_lease_is_replaced() -> None:
    async with relay() as server, client(server.port) as old, client(server.port) as new:
        await old.join(ROOM, Side.A, lease=LEASE)
        assert await new.join(ROOM, Side.A, lease=LEASE) == Waiting()
        answer = await old.hear()
        assert isinstance(answer, SignalingError)
        assert answer.name == "replaced"


async def test_a_room_is_held_for_a_sender_whose_connection_broke() -> None:
    async with relay() as server, client(server.port) as b, client(server.port) as again:
        async with client(server.port) as a:
            await a.join(ROOM, Side.A, lease=LEASE)
            a.transport.abort()
        await until(lambda: server.waiting == 0)
        assert await b.join(ROOM, Side.B) == Waiting()
        assert isinstance(await again.join(ROOM, Side.A, lease=LEASE), Ready)
        assert isinstance(await b.hear(), Ready)


@pytest.mark.parametrize(
    ("reason", "name"), [(LeaveReason.SPENT, "room_spent"), (LeaveReason.BURNED, "room_burned")]
)
async def test_a_fresh_connection_may_leave_and_late_ones_are_told(reason: LeaveReason, name: str) -> None:
    async with (
        relay() as server,
        client(server.port) as a,
        client(server.port) as other,
        client(server.port) as late,
    ):
        await a.join(ROOM, Side.A, lease=LEASE)
        await other.say(Leave(ROOM, LEASE, reason))
        assert await other.hear() == Left()
        told = await a.hear()
        assert isinstance(told, SignalingError)
        assert told.name == name
        assert (await late.refusal(Join(1, (ROOM,), Side.B, LEASE))).name == name


async def test_who_leaves_its_own_room_hears_left_and_may_join_again() -> None:
    async with relay() as server, client(server.port) as one:
        await one.join(ROOM, Side.A, lease=LEASE)
        await one.say(Leave(ROOM, LEASE, LeaveReason.LEFT))
        assert await one.hear() == Left()
        assert await one.join(ROOM, Side.A, lease=b"n" * 16) == Waiting()


async def test_a_leave_with_a_wrong_lease_changes_nothing_and_does_not_say_so() -> None:
    async with relay() as server, client(server.port) as a, client(server.port) as stranger:
        await a.join(ROOM, Side.A, lease=LEASE)
        await stranger.say(Leave(ROOM, b"w" * 16, LeaveReason.BURNED))
        assert await stranger.hear() == Left()
        await a.say(KeepAlive())
        assert await a.hear() == KeepAlive()


async def test_a_listener_in_many_rooms_is_called_and_its_token_joins() -> None:
    rooms = (ROOM, b"\x08" * 32)
    async with relay() as server, client(server.port) as listener, client(server.port) as caller:
        await listener.say(Join(1, rooms, Side.B, LEASE, wait=True))
        assert await listener.hear() == Waiting()
        assert await caller.join(ROOM, Side.A) == Waiting()
        call = await listener.hear()
        assert isinstance(call, Call)
        assert call.room_id == ROOM
        async with client(server.port) as opened:
            assert isinstance(await opened.join(ROOM, Side.B, lease=call.token), Ready)
            assert isinstance(await caller.hear(), Ready)


@pytest.mark.parametrize("version", [2, 65535])
async def test_another_version_is_refused_by_name(version: int) -> None:
    async with relay() as server, client(server.port) as one, client(server.port) as two:
        assert (await one.refusal(Join(version, (ROOM,), Side.A, LEASE))).name == "version"
        assert (await two.refusal(Allocate(version, LEASE))).name == "version"


@pytest.mark.parametrize(
    "message",
    [Ready(), Ready(()), Waiting(), Left(), Allocated("4821"), Restarting(1, 1), Join(1, (ROOM,), Side.A)],
    ids=lambda message: type(message).__name__,
)
async def test_a_message_out_of_place_is_refused(message) -> None:
    async with relay() as server, client(server.port) as one:
        assert (await one.refusal(message)).name == "bad_request"


@pytest.mark.parametrize("choice", BOTH)
async def test_a_frame_above_4_kib_is_refused_by_its_length_and_one_of_4_kib_is_read(
    choice: TransportChoice,
) -> None:
    async with relay() as server, client(server.port, choice) as long, client(server.port, choice) as full:
        await long.frames.write_raw((SIGNALING_FRAME_BYTES + 1).to_bytes(4, "big"))
        answer = await long.hear()
        assert isinstance(answer, SignalingError)
        assert answer.name == "bad_request"
        await full.frames.write_raw(
            SIGNALING_FRAME_BYTES.to_bytes(4, "big"), b"\x00" * (SIGNALING_FRAME_BYTES - 1)
        )
        await full.frames.write_raw(b"\x00")
        assert isinstance(await full.hear(), SignalingError)


async def test_frames_are_limited_on_one_connection() -> None:
    async with relay() as server, client(server.port) as one:
        await one.join(ROOM, Side.A)
        for _ in range(int(FRAMES_BURST) - 1):
            await one.say(KeepAlive())
            assert await one.hear() == KeepAlive()
        answer = await flood(one)
        assert answer.name == "rate_limited"


async def flood(one: Client) -> SignalingError:
    async with asyncio.timeout(10):
        while True:
            await one.say(KeepAlive())
            answer = await one.hear()
            if isinstance(answer, SignalingError):
                return answer


@pytest.mark.parametrize("choice", BOTH)
async def test_a_client_that_says_nothing_is_ended_after_its_time_and_not_before(
    choice: TransportChoice,
) -> None:
    async with relay(first_frame_s=1) as server, client(server.port, choice) as silent:
        clock = asyncio.get_running_loop().time
        began = clock()
        assert await silent.hear_end()
        assert clock() - began > 0.8


async def test_a_client_that_spoke_in_time_waits_on() -> None:
    async with relay(first_frame_s=1) as server, client(server.port) as one, client(server.port) as silent:
        await one.join(ROOM, Side.A)
        assert await silent.hear_end()
        await one.say(KeepAlive())
        assert await one.hear() == KeepAlive()


async def test_half_a_frame_is_not_a_first_frame() -> None:
    async with relay(first_frame_s=1) as server, client(server.port) as one:
        await one.frames.write_raw(b"\x00\x00\x00\x10\x00")
        assert await one.hear_end()


@pytest.mark.parametrize("late", list(Side))
async def test_a_side_that_does_not_answer_ready_ends_the_meeting_for_both(late: Side) -> None:
    async with relay(ready_answer_s=0.3) as server, paired(server.port, answer=False) as legs:
        await legs[1 - late].say(Ready())
        assert await legs[0].is_over()
        assert await legs[1].is_over()
        await until(lambda: server.pairs == 0)


async def test_a_side_that_goes_before_its_ready_ends_the_meeting_for_the_other_at_once() -> None:
    async with relay() as server, paired(server.port, answer=False) as (a, b):
        a.transport.abort()
        await b.say(Ready())
        assert await b.is_over()


async def test_a_keep_alive_that_crosses_ready_is_taken_and_not_echoed() -> None:
    async with relay() as server, paired(server.port, answer=False) as (a, b):
        await a.say(KeepAlive(), KeepAlive(), Ready())
        await b.say(Ready())
        await b.transport.send(b"from the peer")
        data = bytearray(13)
        async with asyncio.timeout(10):
            count = await a.transport.receive_into(memoryview(data))
        assert data[:count] == b"from the peer"[:count]


async def test_a_wrong_message_behind_ready_ends_the_meeting_without_a_word() -> None:
    async with relay() as server, paired(server.port, answer=False) as (a, b):
        await a.say(Allocate(1, LEASE))
        assert await a.hear_end()
        assert await b.hear_end()


async def test_a_leave_that_crosses_ready_ends_the_meeting() -> None:
    async with (
        relay() as server,
        client(server.port) as a,
        client(server.port) as b,
        client(server.port) as late,
    ):
        await a.join(ROOM, Side.A, lease=LEASE)
        await b.join(ROOM, Side.B)
        await a.say(Leave(ROOM, LEASE, LeaveReason.BURNED))
        assert await b.is_over()
        assert (await late.refusal(Join(1, (ROOM,), Side.B, LEASE))).name == "room_burned"


async def test_the_rate_of_joins_is_limited_per_address_with_a_time_to_retry() -> None:
    async with relay(joins_per_minute=1, joins_burst=64) as server, client(server.port) as one:
        many = tuple(os.urandom(32) for _ in range(63))
        await one.say(Join(1, many, Side.A, LEASE))
        assert await one.hear() == Waiting()
        async with client(server.port) as two, client(server.port) as three:
            assert await two.join(ROOM, Side.A) == Waiting()
            answer = await three.refusal(Join(1, (b"\x09" * 32,), Side.A, LEASE))
            assert answer.name == "rate_limited"
            assert 1 <= (answer.retry_after_s or 0) <= 61


@pytest.mark.parametrize(
    ("cap", "name"), [("connections", "relay_full"), ("connections_per_address", "rate_limited")]
)
async def test_beyond_a_cap_of_connections_the_newcomer_is_told_and_who_waits_stays(
    cap: str, name: str
) -> None:
    async with relay(**{cap: 2}) as server, client(server.port) as a:
        assert await a.join(ROOM, Side.A, lease=LEASE) == Waiting()
        async with client(server.port) as second:
            assert await second.join(b"\x0a" * 32, Side.A) == Waiting()
            async with client(server.port) as third:
                answer = await third.hear()
                assert isinstance(answer, SignalingError)
                assert (answer.name, (answer.retry_after_s or 0) > 0) == (name, True)
        await a.say(KeepAlive())
        assert await a.hear() == KeepAlive()
        await until(lambda: server.connections <= 1)
        async with client(server.port) as b:
            assert isinstance(await b.join(ROOM, Side.B), Ready)


async def test_silent_handshakes_are_capped_and_the_next_one_is_dropped() -> None:
    async with relay(handshakes=2) as server:
        silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        await until(lambda: server.connections >= 2)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        for _, stream in [*silent, (reader, writer)]:
            stream.close()
            await stream.wait_closed()
        await until(lambda: server.connections == 0)
        async with client(server.port) as one:
            assert await one.join(ROOM, Side.A) == Waiting()


async def test_a_draining_relay_sends_who_waits_away_and_lets_pairs_end() -> None:
    async with relay() as server, client(server.port) as waits, paired(server.port) as (a, b):
        await waits.join(ROOM, Side.A)
        drain = asyncio.create_task(server.drain(60))
        told = await waits.hear()
        assert isinstance(told, Restarting)
        assert (0 < told.reconnect_in_ms < 10_000, told.try_for_ms > 60_000) == (True, True)
        await a.transport.send(b"still here")
        received = bytearray(10)
        async with asyncio.timeout(10):
            assert await b.transport.receive_into(memoryview(received)) > 0
            await a.transport.close()
            await b.transport.close()
            await drain


async def test_a_draining_relay_ends_pairs_when_its_grace_is_over() -> None:
    async with relay() as server, paired(server.port) as (a, b):
        async with asyncio.timeout(15):
            await server.drain(0.2)
        assert (await a.is_over(), await b.is_over()) == (True, True)


async def test_a_stopped_relay_takes_no_newcomer() -> None:
    async with relay() as server:
        port = server.port
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_waiting_room_ends_after_max_wait_with_a_clear_error() -> None:
    async with relay(max_wait_s=1) as server, client(server.port, TCP) as one:
        await one.join(ROOM, Side.A)
        answer = await one.hear()
        assert isinstance(answer, SignalingError)
        assert answer.name == "room_expired"


async def test_a_relay_that_stops_right_after_a_connection_came_leaves_nothing_open() -> None:
    for choice in BOTH:
        async with relay() as server:
            one = client(server.port, choice)
            await one.__aenter__()
        assert server.connections == 0
        await one.__aexit__(None, None, None)

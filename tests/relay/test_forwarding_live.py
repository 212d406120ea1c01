"""Pairs through a whole relay over real sockets: every mix of QUIC and TLS."""

import asyncio
import os

import pytest
from tallow_net.signaling import Join, Ready, Side, Waiting, encode
from tallow_net.transport.interface import TransportChoice
from tallow_relay.forward import ForwardTimes

from tests.relay.relay_kit import (
    LEGS,
    TCP,
    client,
    paired,
    receive_all,
    receive_exactly,
    relay,
    until_still,
)

MIB = 1 << 20
Choices = tuple[TransportChoice, TransportChoice]


def bulk(choices: Choices) -> int:
    """QUIC in Python moves some 20 MB/s: less of it."""
    return 8 * MIB if choices == (TCP, TCP) else 2 * MIB


@pytest.mark.parametrize("choices", LEGS)
async def test_mebibytes_arrive_identical_both_ways_at_once(choices: Choices) -> None:
    there, back = os.urandom(bulk(choices)), os.urandom(bulk(choices))
    async with relay() as server, paired(server.port, choices) as (a, b):
        _, _, got_there, got_back = await asyncio.gather(
            a.transport.send(there),
            b.transport.send(back),
            receive_exactly(b.transport, len(there)),
            receive_exactly(a.transport, len(back)),
        )
        assert (got_there == there, got_back == back) == (True, True)


@pytest.mark.parametrize("choices", LEGS)
async def test_a_finish_goes_through_and_an_answer_comes_back(choices: Choices) -> None:
    data = os.urandom(MIB)
    async with relay() as server, paired(server.port, choices) as (a, b):
        got = asyncio.create_task(receive_all(b.transport))
        await a.transport.send(data)
        await a.transport.finish()
        assert await got == data
        await b.transport.send(b"done")
        await b.transport.finish()
        assert await receive_all(a.transport) == b"done"


@pytest.mark.parametrize("choices", LEGS)
async def test_a_reset_ends_the_other_side(choices: Choices) -> None:
    async with relay() as server, paired(server.port, choices) as (a, b):
        await a.transport.send(b"before")
        assert await receive_exactly(b.transport, 6) == b"before"
        a.transport.abort()
        assert await b.is_over()


@pytest.mark.parametrize("choices", LEGS)
async def test_words_said_before_a_close_arrive(choices: Choices) -> None:
    async with relay() as server, paired(server.port, choices) as (a, b):
        await a.transport.send(b"\x00\x00\x00\x03\x13\x00\x01")
        closing = asyncio.create_task(a.transport.close())
        assert await receive_all(b.transport) == b"\x00\x00\x00\x03\x13\x00\x01"
        await b.transport.close()
        await closing


async def test_what_rides_in_one_segment_with_ready_is_forwarded() -> None:
    async with relay() as server, paired(server.port, answer=False) as (a, b):
        ready = encode(Ready())
        await a.frames.write_raw(len(ready).to_bytes(4, "big"), ready, b"hello behind ready")
        await b.say(Ready())
        assert await receive_exactly(b.transport, 18) == b"hello behind ready"


@pytest.mark.parametrize("choices", LEGS)
async def test_a_stopped_receiver_stops_the_sender_and_all_arrives_later(choices: Choices) -> None:
    piece = os.urandom(64 * 1024)
    total = 1024 * len(piece)  # 64 MiB, far above all buffers: never all of it is sent while nobody reads
    sent = 0
    async with relay() as server, paired(server.port, choices) as (a, b):

        async def send() -> None:
            nonlocal sent
            while sent < total:
                await a.transport.send(piece)
                sent += len(piece)

        sender = asyncio.create_task(send())
        await until_still(lambda: sent)
        # QUIC windows of 8 and 16 MiB, two times 4 MiB unacknowledged, and a piece of 256 KiB in the relay's hand.
        assert sent <= 32 * MIB + 256 * 1024 + len(piece)
        stopped_at = sent
        for _ in range(stopped_at // len(piece)):
            assert await receive_exactly(b.transport, len(piece)) == piece
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)


async def test_a_pair_that_moves_nothing_is_closed() -> None:
    async with relay(times=ForwardTimes(idle_s=0.3)) as server, paired(server.port) as (a, b):
        assert (await a.is_over(), await b.is_over()) == (True, True)


async def test_a_sender_that_comes_back_with_its_lease_meets_the_next_receiver() -> None:
    room, lease = os.urandom(32), b"l" * 16
    async with relay() as server, client(server.port) as old, client(server.port) as first:
        await old.join(room, Side.A, lease=lease)
        await first.join(room, Side.B)
        await old.hear()
        await old.say(Ready())
        await first.say(Ready())
        async with client(server.port) as new, client(server.port) as second:
            assert await new.join(room, Side.A, lease=lease) == Waiting()
            assert await first.is_over()
            assert isinstance(await second.join(room, Side.B), Ready)
            assert isinstance(await new.hear(), Ready)


async def test_the_next_receiver_waits_from_the_moment_the_sender_finished() -> None:
    room, lease = os.urandom(32), b"l" * 16
    async with relay() as server, client(server.port) as a, client(server.port) as wrong:
        await a.join(room, Side.A, lease=lease)
        await wrong.join(room, Side.B)
        await a.hear()
        await a.say(Ready())
        await wrong.say(Ready())
        await a.transport.send(b"abort")
        await a.transport.finish()
        assert await receive_all(wrong.transport) == b"abort"
        async with client(server.port) as right, client(server.port) as again:
            assert await right.join(room, Side.B) == Waiting()
            assert isinstance(await again.join(room, Side.A, lease=lease), Ready)


async def test_the_sum_of_all_pairs_stays_under_the_total_rate() -> None:
    rate = MIB
    async with relay(total_bytes_per_s=rate) as server:
        assert await moved_by_two_pairs(server.port, seconds=2.0) <= rate * (1 + 2.0) * 1.2 + 4 * 256 * 1024


async def test_the_pairs_of_one_address_share_its_rate() -> None:
    rate = MIB
    async with relay(address_bytes_per_s=rate) as server:
        assert await moved_by_two_pairs(server.port, seconds=2.0) <= rate * (1 + 2.0) * 1.2 + 4 * 256 * 1024


async def test_each_pair_has_the_rate_of_a_room_to_itself() -> None:
    rate = MIB
    async with relay(room_bytes_per_s=rate) as server:
        moved = await moved_by_two_pairs(server.port, seconds=2.0)
        assert moved <= 2 * (rate * (1 + 2.0) * 1.2 + 4 * 256 * 1024)
        assert moved > rate * (1 + 2.0)


async def moved_by_two_pairs(port: int, *, seconds: float) -> int:
    """Return the bytes that two greedy pairs get through in this time."""
    moved = 0

    async def receive(transport) -> None:
        nonlocal moved
        view = memoryview(bytearray(256 * 1024))
        while count := await transport.receive_into(view):
            moved += count

    async def send(transport) -> None:
        while True:
            await transport.send(bytes(64 * 1024))

    async with paired(port) as (a, b), paired(port) as (c, d):
        work = [
            asyncio.create_task(task)
            for task in (send(a.transport), receive(b.transport), send(c.transport), receive(d.transport))
        ]
        await asyncio.wait(work, timeout=seconds)
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        for one in (a, b, c, d):
            one.transport.abort()
    return moved


async def test_an_ipv6_client_is_served_and_seen_with_its_address() -> None:
    async with relay(host="::1") as server, client(server.port, TCP, host="::1") as one:
        await one.say(Join(1, (b"\x01" * 32,), Side.A, b"l" * 16))
        assert await one.hear() == Waiting()
        assert one.welcome is not None
        assert str(one.welcome.address).startswith("[::1]:")

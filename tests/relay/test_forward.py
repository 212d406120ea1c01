"""DataForwarder between memory transports: what arrives, what waits, and how a pair ends."""

import asyncio
import itertools
import os
from typing import Self

import pytest
from tallow_net.errors import ConnectionLostError
from tallow_net.signaling import Side
from tallow_net.transport.memory import MemoryTransport, memory_pair
from tallow_relay.forward import (
    LARGE_BUFFER_BYTES,
    SMALL_BUFFER_BYTES,
    SMALL_READS,
    DataForwarder,
    ForwardTimes,
    Leg,
    Outcome,
)

from tests.relay.relay_kit import receive_all, receive_exactly, until

FAST = ForwardTimes(half_close_s=0.2, flush_s=0.5, idle_s=100.0)
CAPACITY = 64 * 1024


class Pair:
    """Two clients, and a forwarder between them that runs."""

    def __init__(self, *, times: ForwardTimes = FAST, leftover: bytes = b"", charge=None) -> None:
        self.a, relay_a = memory_pair(capacity_bytes=CAPACITY)
        self.b, relay_b = memory_pair(capacity_bytes=CAPACITY)
        self.ending = 0
        self.forwarder = DataForwarder(
            Leg(relay_a, leftover), Leg(relay_b, b""), charge=charge, on_ending=self.on_ending, times=times
        )
        self.legs = (relay_a, relay_b)

    def on_ending(self) -> None:
        self.ending += 1

    async def __aenter__(self) -> Self:
        self.run = asyncio.create_task(self.forwarder.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.run.cancel()
        await asyncio.gather(self.run, return_exceptions=True)
        for transport in (self.a, self.b, *self.legs):
            transport.abort()

    async def outcome(self) -> Outcome:
        async with asyncio.timeout(10):
            return await self.run


async def lost(transport: MemoryTransport) -> bool:
    try:
        async with asyncio.timeout(10):
            return await transport.receive_into(memoryview(bytearray(1))) == 0
    except ConnectionLostError:
        return True


async def test_bytes_arrive_in_order_both_ways_and_are_counted() -> None:
    there, back = os.urandom(700_000), os.urandom(300_000)
    async with Pair() as pair:
        sends = asyncio.gather(pair.a.send(there), pair.b.send(back))
        got = await asyncio.gather(receive_exactly(pair.b, len(there)), receive_exactly(pair.a, len(back)))
        await sends
        assert got == [there, back]
        assert pair.forwarder.bytes_moved == len(there) + len(back)


async def test_what_came_behind_ready_goes_first() -> None:
    async with Pair(leftover=b"hello ") as pair:
        await pair.a.send(b"again")
        assert await receive_exactly(pair.b, 11) == b"hello again"


async def test_both_sides_finished_is_the_end() -> None:
    async with Pair() as pair:
        await pair.a.send(b"x")
        await pair.a.finish()
        await pair.b.finish()
        assert await receive_all(pair.b) == b"x"
        assert await receive_all(pair.a) == b""
        assert await pair.outcome() is Outcome.FINISHED
        assert pair.ending == 1


async def test_a_finish_is_passed_on_after_everything_and_the_other_way_goes_on() -> None:
    data = os.urandom(500_000)
    async with Pair(times=ForwardTimes(half_close_s=5, flush_s=1, idle_s=100)) as pair:
        send = asyncio.create_task(pair.a.send(data))
        got = asyncio.create_task(receive_all(pair.b))
        await send
        await pair.a.finish()
        assert await got == data
        await pair.b.send(b"answer")
        assert await receive_exactly(pair.a, 6) == b"answer"


async def test_the_other_way_ends_when_its_time_after_a_finish_is_over() -> None:
    async with Pair() as pair:
        await pair.a.finish()
        assert await receive_all(pair.b) == b""
        assert await pair.outcome() is Outcome.HALF_CLOSED
        assert await lost(pair.a)


async def test_a_broken_leg_ends_the_other_and_loses_none_of_what_had_arrived() -> None:
    data = os.urandom(200_000)
    async with Pair() as pair:
        got = asyncio.create_task(receive_all(pair.b))
        await pair.a.send(data)
        await pair.a.flush()
        pair.a.abort()
        assert await got == data
        assert await pair.outcome() is Outcome.LOST
        assert pair.ending == 1


async def test_a_destination_that_breaks_ends_the_source() -> None:
    async with Pair() as pair:
        pair.b.abort()
        assert await lost(pair.a)
        assert await pair.outcome() is Outcome.LOST


async def test_a_destination_that_breaks_still_delivers_what_it_had_sent() -> None:
    async with Pair() as pair:
        await pair.b.send(b"last words")
        await pair.b.flush()
        pair.b.abort()
        assert await receive_all(pair.a) == b"last words"


async def test_a_healthy_leg_that_does_not_read_is_flushed_no_longer_than_its_time() -> None:
    async with Pair() as pair:
        await pair.a.send(bytes(CAPACITY))
        await pair.a.flush()
        pair.a.abort()
        clock = asyncio.get_running_loop().time
        began = clock()
        assert await pair.outcome() is Outcome.LOST
        assert 0.4 < clock() - began < 3


async def test_a_pair_that_moves_nothing_ends_and_one_that_moves_does_not() -> None:
    async with Pair(times=ForwardTimes(idle_s=0.3)) as pair:
        clock = asyncio.get_running_loop().time
        began = clock()
        while clock() - began < 0.6:
            await pair.a.send(b".")
            await receive_exactly(pair.b, 1)
        assert not pair.run.done()
        assert await pair.outcome() is Outcome.IDLE


async def test_a_pair_that_the_rate_holds_up_is_not_idle() -> None:
    pauses = itertools.chain([0.5], itertools.repeat(0.0))
    async with Pair(times=ForwardTimes(idle_s=0.2), charge=lambda _: next(pauses)) as pair:
        await pair.a.send(b"1")
        await pair.a.send(b"2")
        assert await receive_exactly(pair.b, 2) == b"12"


async def test_a_receiver_that_stops_stops_the_sender_within_bounds() -> None:
    sent = 0
    async with Pair() as pair:

        async def send_for_ever() -> None:
            nonlocal sent
            while True:
                await pair.a.send(bytes(16 * 1024))
                sent += 16 * 1024

        sender = asyncio.create_task(send_for_ever())
        before = -1
        async with asyncio.timeout(10):
            while sent != before:
                before = sent
                await asyncio.sleep(0.05)
        assert sent <= 2 * CAPACITY + LARGE_BUFFER_BYTES + 16 * 1024
        more = 4 * sent
        assert await receive_exactly(pair.b, more) == bytes(more)
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)


@pytest.mark.parametrize("side", list(Side))
async def test_a_superseded_side_is_drained_and_the_other_closed(side: Side) -> None:
    async with Pair() as pair:
        old, other = (pair.a, pair.b) if side is Side.A else (pair.b, pair.a)
        await old.send(b"abort")
        pair.forwarder.supersede(side)
        assert await receive_all(other) == b"abort"
        assert await pair.outcome() is Outcome.SUPERSEDED


async def test_an_order_that_came_before_the_start_is_obeyed() -> None:
    pair = Pair()
    pair.forwarder.stop()
    async with pair:
        assert await pair.outcome() is Outcome.SHUTDOWN


async def test_a_stop_ends_both_sides() -> None:
    async with Pair() as pair:
        pair.forwarder.stop()
        assert await pair.outcome() is Outcome.SHUTDOWN
        assert await lost(pair.a)
        assert await lost(pair.b)


async def test_the_large_buffer_is_used_for_bulk_and_given_back_for_small_talk() -> None:
    sizes: list[int] = []

    class Recording(MemoryTransport):
        async def receive_into(self, buffer: memoryview) -> int:
            sizes.append(len(buffer))
            return await super().receive_into(buffer)

    async with Pair() as pair:
        pair.legs[0].__class__ = Recording
        await asyncio.gather(pair.a.send(bytes(200_000)), receive_exactly(pair.b, 200_000))
        await until(lambda: sizes[-1] == LARGE_BUFFER_BYTES)
        for _ in range(SMALL_READS + 1):
            await pair.a.send(b"x")
            await receive_exactly(pair.b, 1)
        await until(lambda: sizes[-1] == SMALL_BUFFER_BYTES)


async def test_cancellation_closes_both_legs() -> None:
    async with Pair() as pair:
        await pair.a.send(b"x")
        await receive_exactly(pair.b, 1)
        pair.run.cancel()
        assert await lost(pair.a)
        assert await lost(pair.b)

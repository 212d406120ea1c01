"""Datagrams that are lost, doubled and out of order: the stream stays whole, and nothing hangs."""

import asyncio
import random

import pytest
from tallow_net.errors import ConnectionLostError
from tallow_net.transport.datagrams import DatagramLoop

from tests.net.transport.pairs import QUIC_PAIRS

DEADLINE_S = 60

every_engine = pytest.mark.parametrize("make_pair", QUIC_PAIRS, ids=lambda make: make.__name__)


@pytest.fixture(autouse=True)
def _each_datagram_alone(monkeypatch):
    monkeypatch.setattr("tallow_net.transport.datagrams._can_segment", lambda _sock: False)


@pytest.mark.parametrize("seed", range(3))
@every_engine
async def test_a_stream_is_whole_after_loss_doubling_and_reordering(monkeypatch, make_pair, seed):
    rng = random.Random(seed)
    send = DatagramLoop._try_send
    held = []

    def unreliable(loop, data, address) -> bool:
        fate = rng.random()
        if fate < 0.05:
            return True
        if fate < 0.10:
            held.append((loop, data, address))
            return True
        if fate < 0.12:
            send(loop, data, address)
        accepted = send(loop, data, address)
        while held:
            late, *datagram = held.pop()
            if not late.closed:
                send(late, *datagram)
        return accepted

    async with asyncio.timeout(DEADLINE_S):
        monkeypatch.setattr(DatagramLoop, "_try_send", unreliable)
        client, server = await make_pair()
        data = rng.randbytes(700_000)

        async def write() -> None:
            await client.send(data)
            await client.close()

        async def read() -> bytes:
            received = bytearray()
            buffer = memoryview(bytearray(65536))
            while count := await server.receive_into(buffer):
                received += buffer[:count]
            return bytes(received)

        _, received = await asyncio.gather(write(), read())
        assert received == data
        server.abort()


@every_engine
async def test_a_kernel_that_takes_nothing_for_a_while_loses_nothing(monkeypatch, make_pair):
    send = DatagramLoop._try_send
    turn = 0

    def full_now_and_then(loop, data, address) -> bool:
        nonlocal turn
        turn += 1
        return send(loop, data, address) if turn % 5 else False

    async with asyncio.timeout(DEADLINE_S):
        client, server = await make_pair()
        monkeypatch.setattr(DatagramLoop, "_try_send", full_now_and_then)
        await asyncio.gather(client.send(bytes(500_000)), server.send(bytes(1000)))
        buffer = memoryview(bytearray(500_000))
        count = 0
        while count < 500_000:
            count += await server.receive_into(buffer)
        await asyncio.gather(client.close(), server.close())


@every_engine
async def test_a_peer_whose_port_is_closed_is_noticed_before_any_timeout(make_pair):
    async with asyncio.timeout(DEADLINE_S):
        client, server = await make_pair()
        server._datagrams.close()  # as when its process is killed: no CONNECTION_CLOSE

        async def write() -> None:
            while True:
                await client.send(bytes(100_000))

        with pytest.raises(ConnectionLostError):
            await write()
        client.abort()
        server.abort()

"""The two ends of a direct meeting: who dials leaves nothing open, who listens knows whose a connection is."""

from __future__ import annotations

import asyncio
import secrets

import pytest
from tallow_net import FrameStream, PeerUnreachableError, TransportChoice
from tallow_net.limits import PLAIN_FRAME_BYTES
from tallow_net.transport.interface import TransportKind
from tallow_net.transport.listener import listen
from tallow_net.transport.memory import memory_pair
from tallow_net.transport.tcp import TcpTransport
from tallow_protocol.aio.routes import DirectReceiverRoute, ListeningRoute
from tallow_protocol.code import Code
from tallow_protocol.core.attach import ATTACH_TYPE
from tallow_protocol.core.budget import GuessBudget
from tallow_protocol.errors import UnreachableError


@pytest.fixture
def route():
    code = Code.generate("4821", 3, secrets.randbelow)
    return DirectReceiverRoute("127.0.0.1", 1, TransportChoice.TCP, code, GuessBudget())


@pytest.fixture
def dialled(monkeypatch):
    """What dialling gives, one after another; then nobody listens."""
    transports = []

    async def connect_direct(*_, **__):
        if not transports:
            raise PeerUnreachableError("refused")
        return transports.pop(0)

    monkeypatch.setattr("tallow_net.transport.negotiate.connect_direct", connect_direct)
    return transports


async def test_a_connection_that_is_reset_before_our_join_is_closed_and_dialled_again(route, dialled):
    ours, theirs = memory_pair()
    ended = []
    ours.on_end(lambda: ended.append(True))
    theirs.abort()
    dialled.append(ours)

    async with asyncio.timeout(10):
        with pytest.raises(UnreachableError):
            await route.next()

    assert ended == [True]


async def test_a_cancelled_attempt_closes_its_connection(route, dialled):
    ours, theirs = memory_pair()
    ended = asyncio.Event()
    ours.on_end(ended.set)
    dialled.append(ours)

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        attempt = group.create_task(route.next())
        await theirs.receive_into(memoryview(bytearray(4096)))  # our Join: the attempt waits for Hello
        attempt.cancel()

    assert ended.is_set()
    await theirs.close()


async def test_a_receiver_that_comes_before_the_sender_waits_for_one_keeps_its_place():
    code = Code.generate("4821", 3, secrets.randbelow)
    taken = asyncio.Event()

    async def attached(frames, body):
        assert body[:1] == bytes((ATTACH_TYPE,))
        frames.transport.abort()
        taken.set()

    listener = await listen("127.0.0.1", 0, tcp=TransportKind.TCP, quic=False, certificate=None)
    async with asyncio.timeout(20), listener:
        sender = ListeningRoute(listener, code, GuessBudget(), lambda _: None)
        receiver = DirectReceiverRoute("127.0.0.1", listener.port, TransportChoice.TCP, code, GuessBudget())
        theirs = await receiver.next()  # the sender is busy with something else, such as its identity
        ours = await sender.next()
        sender.attaching = attached
        late = await TcpTransport.connect(("127.0.0.1", listener.port))
        await FrameStream(late, limit=PLAIN_FRAME_BYTES).write(bytes((ATTACH_TYPE,)) + bytes(80))
        await taken.wait()
        for transport in (late, theirs.frames.transport, ours.frames.transport):
            transport.abort()
        await sender.close()


async def test_a_session_that_never_began_gives_its_place_to_the_next_receiver():
    code = Code.generate("4821", 3, secrets.randbelow)
    listener = await listen("127.0.0.1", 0, tcp=TransportKind.TCP, quic=False, certificate=None)
    async with asyncio.timeout(20), listener:
        sender = ListeningRoute(listener, code, GuessBudget(), lambda _: None)
        for _ in range(2):
            receiver = DirectReceiverRoute(
                "127.0.0.1", listener.port, TransportChoice.TCP, code, GuessBudget()
            )
            waiting = asyncio.create_task(sender.next())
            await asyncio.sleep(0)  # the sender waits
            theirs = await receiver.next()
            ours = await waiting
            assert ours.keys.transcript_hash == theirs.keys.transcript_hash
            for met in (theirs, ours):
                met.frames.transport.abort()
        await sender.close()

"""B dials a sender that ends the connection, or says nothing: nothing is left open."""

from __future__ import annotations

import asyncio
import secrets

import pytest
from tallow_net import PeerUnreachableError, TransportChoice
from tallow_net.transport.memory import memory_pair
from tallow_protocol.aio.routes import DirectReceiverRoute
from tallow_protocol.code import Code
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

"""Plain data connections of the test's own: sockets that show a token and then say what the test says."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from tallow_net.relay.data import DATA_PREAMBLE
from tallow_net.transport.interface import TransportChoice
from tallow_relay.carriers import CopyEngine
from tallow_relay.server import RelayServer
from tallow_relay.splicing import SpliceEngine

from tests.relay.relay_kit import TCP, Client, paired, relay, until_still

DEADLINE_S = 20.0
MIB = 1 << 20
both_engines = pytest.mark.parametrize("engine", [SpliceEngine, CopyEngine])


async def dial(port: int, *first: bytes, host: str = "127.0.0.1") -> socket.socket:
    """Return a non-blocking socket that is connected and has said `first`."""
    sock = socket.socket()
    sock.setblocking(False)
    try:
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.get_running_loop().sock_connect(sock, (host, port))
            await say(sock, b"".join(first))
    except BaseException:
        sock.close()
        raise
    return sock


async def show(port: int, token: bytes, *behind: bytes) -> socket.socket:
    """Return a data connection that has shown its token."""
    return await dial(port, DATA_PREAMBLE, token, *behind)


@asynccontextmanager
async def met(
    port: int, choices: tuple[TransportChoice, TransportChoice] = (TCP, TCP)
) -> AsyncIterator[tuple[Client, Client]]:
    """A pair whose encrypted connections are cut at the end: to close each in order takes two seconds."""
    async with paired(port, choices) as (a, b):
        try:
            yield a, b
        finally:
            a.transport.abort()
            b.transport.abort()


@asynccontextmanager
async def joined(
    port: int, a: Client, b: Client, index: int = 0
) -> AsyncIterator[tuple[socket.socket, socket.socket]]:
    """The data connection `index` of a pair: A's end and B's end."""
    one = await show(port, a.tokens[index])
    with one:
        other = await show(port, b.tokens[index])
        with other:
            yield one, other


@dataclass(frozen=True)
class Room:
    """A relay, the two clients of a room, and A's and B's end of their first data connection."""

    server: RelayServer
    a: Client
    b: Client
    one: socket.socket
    other: socket.socket


@asynccontextmanager
async def room_with_data(**relay_settings: Any) -> AsyncIterator[Room]:
    """One room with one data connection in a relay of its own; see `relay` for the settings."""
    async with (
        relay(**relay_settings) as server,
        met(server.port) as (a, b),
        joined(server.port, a, b) as (one, other),
    ):
        yield Room(server, a, b, one, other)


async def say(sock: socket.socket, data: bytes) -> None:
    async with asyncio.timeout(60):
        await asyncio.get_running_loop().sock_sendall(sock, data)


async def hear(sock: socket.socket, size: int) -> bytes:
    """Return exactly `size` bytes."""
    data = bytearray()
    async with asyncio.timeout(60):
        while len(data) < size:
            piece = await asyncio.get_running_loop().sock_recv(sock, size - len(data))
            assert piece, f"the stream ended after {len(data)} of {size} bytes"
            data += piece
    return bytes(data)


async def hear_all(sock: socket.socket) -> bytes:
    """Return everything up to the end."""
    data = bytearray()
    async with asyncio.timeout(60):
        while piece := await asyncio.get_running_loop().sock_recv(sock, 1 << 18):
            data += piece
    return bytes(data)


async def is_closed(sock: socket.socket) -> bool:
    """Wait until the relay ends the connection, in whatever way, without a byte."""
    async with asyncio.timeout(DEADLINE_S):
        try:
            return await asyncio.get_running_loop().sock_recv(sock, 1) == b""
        except ConnectionError:
            return True


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

"""Plain data connections through a relay, against a listener of the test's own."""

from __future__ import annotations

import asyncio
import socket

import pytest
from tallow_net import ConnectionLostError, MisuseError, RelayUnreachableError
from tallow_net.relay.data import DATA_PREAMBLE, TOKEN_BYTES, open_data_connection, open_data_socket

TOKEN = bytes(range(TOKEN_BYTES))


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(10)
        yield sock


def accepted(listener):
    connection, _ = listener.accept()
    connection.settimeout(10)
    return connection


async def test_a_data_connection_says_its_token_and_nothing_else(listener):
    async with asyncio.timeout(10):
        sock = await open_data_socket(*listener.getsockname(), TOKEN, 5)
    with sock, accepted(listener) as relay:
        assert sock.getblocking() is False
        sock.shutdown(socket.SHUT_WR)
        said = b""
        while piece := relay.recv(100):
            said += piece
        assert said == b"TLW1" + TOKEN == DATA_PREAMBLE + TOKEN


async def test_a_transport_whose_socket_was_taken_is_closed_and_the_socket_lives(listener):
    async with asyncio.timeout(10):
        transport = await open_data_connection(*listener.getsockname(), TOKEN, 5)
        ended = []
        transport.on_end(lambda: ended.append(True))
        sock = transport.take_socket()
        assert ended == [True]
        with pytest.raises(ConnectionLostError):
            await transport.send(b"x")
        with pytest.raises(ConnectionLostError):
            transport.take_socket()
        await transport.close()
        transport.abort()
    with sock, accepted(listener) as relay:
        relay.recv(len(DATA_PREAMBLE + TOKEN), socket.MSG_WAITALL)
        sock.send(b"still here")
        assert relay.recv(100) == b"still here"


async def test_a_port_where_nobody_listens_is_an_unreachable_relay(listener):
    place = listener.getsockname()
    listener.close()
    with pytest.raises(RelayUnreachableError):
        await open_data_connection(*place, TOKEN, 5)


@pytest.mark.parametrize("length", [TOKEN_BYTES - 1, TOKEN_BYTES + 1])
async def test_a_token_of_another_length_is_misuse(length):
    with pytest.raises(MisuseError):
        await open_data_connection("127.0.0.1", 1, bytes(length), 5)

"""How long TCP's segments may be: those that every path carries, where somebody would wait for a larger one for ever."""

import asyncio
import contextlib
import socket
import sys

import pytest
from tallow_net.errors import NetError
from tallow_net.limits import SMALL_SEGMENT_BYTES
from tallow_net.relay.data import TOKEN_BYTES, open_data_connection
from tallow_net.transport.interface import TransportChoice
from tallow_net.transport.negotiate import connect_direct, connect_encrypted

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells the size that was agreed on"
)

TIMES = {"timeout_s": 30}


async def far_segment_bytes(connect):
    """Return how much the other end of a connection that `connect(host, port)` makes sends at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        connecting = asyncio.create_task(connect(*server.getsockname()))
        async with asyncio.timeout(30):
            accepted, _ = await asyncio.get_running_loop().sock_accept(server)
        with accepted:
            found = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
        with contextlib.suppress(NetError):  # TLS, which nobody answered
            async with asyncio.timeout(30):
                (await connecting).abort()
        return found


def direct(**options):
    return lambda host, port: connect_direct(host, port, choice=TransportChoice.TCP, **TIMES, **options)


def encrypted(**options):
    return lambda host, port: connect_encrypted(
        host, port, choice=TransportChoice.TCP, check=lambda _: None, **TIMES, **options
    )


def data(**options):
    return lambda host, port: open_data_connection(host, port, bytes(TOKEN_BYTES), 30, **options)


@pytest.mark.parametrize(
    "connect",
    [direct(small_segments=True), data(small_segments=True), encrypted()],
    ids=["direct", "data through a relay", "relay"],
)
async def test_the_other_end_keeps_to_small_segments_too(connect):
    assert SMALL_SEGMENT_BYTES - 40 <= await far_segment_bytes(connect) <= SMALL_SEGMENT_BYTES


@pytest.mark.parametrize(
    "connect",
    [direct(), data(), encrypted(carries_bulk=True)],
    ids=["direct", "data through a relay", "relay that carries file data"],
)
async def test_file_data_goes_in_what_the_network_takes(connect):
    assert await far_segment_bytes(connect) > SMALL_SEGMENT_BYTES

"""Datagrams grow to what the path carries, and shrink where large ones vanish."""

import asyncio
import errno
import os
import socket
from collections import Counter
from contextlib import asynccontextmanager

import pytest
from tallow_net.transport.datagrams import DatagramLoop, never_fragment
from tallow_net.transport.path_mtu import (
    BLACK_HOLE_LOSSES,
    DATAGRAM_BYTES,
    LARGE_DATAGRAM_BYTES,
    PROBE_AFTER_BYTES,
    PROBE_AGAIN_S,
    PROBES,
    PathMtu,
)
from tallow_net.transport.quic import QuicTransport
from tallow_net.transport.quic_aioquic import STREAM, Engine
from tallow_net.transport.quic_engine import QuicEngineChoice, use_quic_engine
from tallow_net.transport.quic_listener import QuicEndpoint

from tests.net.transport.pairs import certificate
from tests.net.transport.test_quic_flow_control import WINDOW, Wire
from tests.netns.kit import Conditions, network, skip_without_namespaces

A, B = "10.79.0.1", "10.79.0.2"
MIB = 1024 * 1024


def grown() -> PathMtu:
    mtu = PathMtu()
    mtu.probe_sent(1.0)
    mtu.probe_answered(acknowledged=True)
    return mtu


def test_the_size_is_what_every_path_carries_until_a_probe_was_acknowledged():
    mtu = PathMtu()
    assert mtu.probe_size(0.0, PROBE_AFTER_BYTES - 1) is None
    assert mtu.probe_size(0.0, PROBE_AFTER_BYTES) == LARGE_DATAGRAM_BYTES
    mtu.probe_sent(0.0)
    assert mtu.probe_size(1.0, PROBE_AFTER_BYTES) is None
    assert mtu.size == DATAGRAM_BYTES
    mtu.probe_answered(acknowledged=True)
    assert mtu.size == LARGE_DATAGRAM_BYTES
    assert mtu.probe_size(1.0, PROBE_AFTER_BYTES) is None


def test_a_path_that_loses_every_probe_is_asked_again_after_ten_minutes():
    mtu = PathMtu()
    for now in range(PROBES):
        assert mtu.probe_size(now, PROBE_AFTER_BYTES) is not None
        mtu.probe_sent(now)
        mtu.probe_answered(acknowledged=False)
    assert mtu.size == DATAGRAM_BYTES
    last = PROBES - 1
    assert mtu.probe_size(last + PROBE_AGAIN_S - 1, PROBE_AFTER_BYTES) is None
    assert mtu.probe_size(last + PROBE_AGAIN_S, PROBE_AFTER_BYTES) is not None


def test_large_packets_that_vanish_in_a_row_make_it_small():
    mtu = grown()
    for number in range(BLACK_HOLE_LOSSES - 1):
        mtu.lost(number, LARGE_DATAGRAM_BYTES, 5.0)
    assert mtu.size == LARGE_DATAGRAM_BYTES
    mtu.lost(9, LARGE_DATAGRAM_BYTES, 5.0)
    assert mtu.size == DATAGRAM_BYTES
    assert mtu.probe_size(6.0, PROBE_AFTER_BYTES) is None
    assert mtu.probe_size(5.0 + PROBE_AGAIN_S, PROBE_AFTER_BYTES) is not None


def test_losses_before_a_large_packet_that_arrived_are_no_black_hole():
    mtu = grown()
    mtu.acknowledged(100, LARGE_DATAGRAM_BYTES)
    for number in range(100):
        mtu.lost(number, LARGE_DATAGRAM_BYTES, 5.0)
    assert mtu.size == LARGE_DATAGRAM_BYTES


def test_small_packets_say_nothing_about_large_ones():
    mtu = grown()
    for number in range(0, 4 * BLACK_HOLE_LOSSES, 2):
        mtu.lost(number, DATAGRAM_BYTES, 5.0)
    assert mtu.size == LARGE_DATAGRAM_BYTES
    for number in range(0, 2 * BLACK_HOLE_LOSSES, 2):
        mtu.lost(number, LARGE_DATAGRAM_BYTES, 5.0)
        mtu.acknowledged(number + 1, DATAGRAM_BYTES)
    assert mtu.size == DATAGRAM_BYTES


class NarrowWire(Wire):
    """Loses what is longer than `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.sizes: Counter[Engine] = Counter()
        super().__init__(probes=True)

    def carries(self, source, datagram: bytes) -> bool:
        self.sizes[source] = max(self.sizes[source], len(datagram))
        return len(datagram) <= self.limit

    def push(self, source, count: int) -> None:
        source.send_stream_data(STREAM, bytes(count))
        self.run(lambda engine, read: engine.taken(read))


@pytest.mark.parametrize("side", ["client", "server"])
def test_each_side_grows_after_its_own_probe(side):
    wire = NarrowWire(limit=1500)
    source, target = (wire.client, wire.server) if side == "client" else (wire.server, wire.client)
    wire.push(source, 10 * WINDOW)
    assert wire.received[target] == 10 * WINDOW
    assert source.mtu.size == LARGE_DATAGRAM_BYTES == wire.sizes[source]
    assert target.mtu.size == DATAGRAM_BYTES
    assert wire.sizes[target] <= DATAGRAM_BYTES


def test_a_lost_probe_does_not_narrow_the_congestion_window():
    wire = NarrowWire(limit=1400)
    wire.push(wire.client, 10 * WINDOW)
    assert wire.received[wire.server] == 10 * WINDOW
    assert wire.client.mtu.size == DATAGRAM_BYTES
    assert wire.client._loss._cc._congestion_recovery_start_time == 0.0


def test_a_short_connection_sends_no_probe():
    wire = NarrowWire(limit=1500)
    wire.push(wire.client, PROBE_AFTER_BYTES - 1)
    assert wire.sizes[wire.client] <= DATAGRAM_BYTES


def test_a_path_that_narrows_without_a_word_is_noticed_in_mid_stream():
    wire = NarrowWire(limit=1500)
    wire.push(wire.client, 4 * WINDOW)
    assert wire.client.mtu.size == LARGE_DATAGRAM_BYTES
    wire.limit = 1252
    start = wire.now
    wire.push(wire.client, 10 * WINDOW)
    assert wire.client.mtu.size == DATAGRAM_BYTES
    assert wire.received[wire.server] == 14 * WINDOW
    assert wire.now - start < 10


def test_a_path_that_loses_at_random_stays_large():
    wire = NarrowWire(limit=1500)
    wire.push(wire.client, 4 * WINDOW)
    count = 0

    def carries(_source, _datagram: bytes) -> bool:
        nonlocal count
        count += 1
        return count % 7 != 0

    wire.carries = carries
    wire.push(wire.client, 10 * WINDOW)
    assert wire.received[wire.server] == 14 * WINDOW
    assert wire.client.mtu.size == LARGE_DATAGRAM_BYTES


def test_a_socket_that_may_fragment_is_not_probed_over(monkeypatch):
    monkeypatch.setattr("tallow_net.transport.datagrams.NEVER_FRAGMENT", {})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert not never_fragment(sock)


# --- over networks of their own ------------------------------------------------------------------------------


def client_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((A, 0))
    return sock


def server_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((B, 0))
    return sock


@pytest.fixture(autouse=True)
def _aioquic():
    with use_quic_engine(QuicEngineChoice.AIOQUIC):
        yield


@asynccontextmanager
async def quic_over(conditions: Conditions, *, mtu: int = 1500):
    skip_without_namespaces()
    async with asyncio.timeout(60), network() as net:
        a, b = net.namespace("a"), net.namespace("b")
        link = await net.emulate((a, f"{A}/24"), (b, f"{B}/24"), conditions, mtu=mtu)
        accepted: asyncio.Future[QuicTransport] = asyncio.get_running_loop().create_future()
        sock = b.inside(server_socket)
        endpoint = QuicEndpoint(
            sock,
            certificate(),
            admit=lambda _host: True,
            offer=lambda transport, _host: accepted.set_result(transport),
            gone=lambda _host: None,
            handshakes=8,
            handshake_s=10.0,
            window=8 * MIB,
        )
        near = a.inside(client_socket)
        near.setblocking(False)
        near.connect(sock.getsockname())
        client = await QuicTransport.over(near, server_name=B)
        server = await accepted
        try:
            yield link, client, server
        finally:
            client.abort()
            server.abort()
            endpoint.stop_accepting()


async def moved(client: QuicTransport, server: QuicTransport, count: int) -> int:
    buffer = memoryview(bytearray(MIB))

    async def read() -> int:
        received = 0
        while received < count:
            received += await server.receive_into(buffer)
        return received

    _, received = await asyncio.gather(client.send(bytes(count)), read())
    return received


@pytest.mark.netns
async def test_a_path_of_1500_bytes_is_used_whole():
    async with quic_over(Conditions(delay_s=0.001)) as (_link, client, server):
        assert await moved(client, server, 2 * MIB) == 2 * MIB
        assert client.engine.mtu.size == LARGE_DATAGRAM_BYTES
        assert await moved(server, client, 2 * MIB) == 2 * MIB
        assert server.engine.mtu.size == LARGE_DATAGRAM_BYTES


@pytest.mark.netns
@pytest.mark.parametrize(
    ("conditions", "mtu"),
    [(Conditions(delay_s=0.001), 1280), (Conditions(delay_s=0.001, mtu=1280), 1500)],
    ids=["known to the kernel", "silent"],
)
async def test_a_path_of_1280_bytes_is_used_with_small_datagrams(conditions, mtu):
    async with quic_over(conditions, mtu=mtu) as (_link, client, server):
        assert await moved(client, server, 2 * MIB) == 2 * MIB
        assert client.engine.mtu.size == DATAGRAM_BYTES


@pytest.mark.netns
async def test_a_path_that_narrows_in_mid_transfer_is_survived():
    async with quic_over(Conditions(delay_s=0.001)) as (link, client, server):
        await moved(client, server, MIB)
        assert client.engine.mtu.size == LARGE_DATAGRAM_BYTES
        await link.tell("mtu 1280")
        assert await moved(client, server, 2 * MIB) == 2 * MIB
        assert client.engine.mtu.size == DATAGRAM_BYTES


@pytest.mark.netns
async def test_the_kernel_refuses_what_it_would_have_to_fragment():
    async with quic_over(Conditions(), mtu=1280) as (_link, client, _server):
        loop: DatagramLoop = client._datagrams
        assert loop.unfragmented
        with pytest.raises(OSError, match=os.strerror(errno.EMSGSIZE)):
            loop._socket.send(bytes(1300))

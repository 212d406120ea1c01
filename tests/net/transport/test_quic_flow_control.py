"""Windows follow what was read. These tests fail should aioquic change what our engine overrides."""

import asyncio
import time
from collections.abc import Callable

import pytest
from aioquic.quic import events
from aioquic.quic.packet import QuicErrorCode
from tallow_net.errors import ConnectionLostError
from tallow_net.transport.interface import TransportKind
from tallow_net.transport.listener import listen
from tallow_net.transport.quic import QuicTransport
from tallow_net.transport.quic_aioquic import STREAM, Engine, client_configuration, server_configuration
from tallow_net.transport.quic_engine import QuicEngineChoice, use_quic_engine

from tests.net.transport.pairs import ENGINES, certificate

WINDOW = 64 * 1024
CLIENT, SERVER = ("192.0.2.1", 1), ("192.0.2.2", 2)


class Wire:
    """Two engines and no network: what one sends, the other has."""

    def __init__(self, *, probes: bool = False) -> None:
        self.now = time.monotonic()
        self.client = Engine(client_configuration("192.0.2.2"), window=WINDOW, probes=probes)
        self.client.connect(SERVER, now=self.now)
        self.server = Engine(
            server_configuration(certificate()),
            window=WINDOW,
            probes=probes,
            original_destination_connection_id=self.client.original_destination_connection_id,
        )
        self.received = {self.client: 0, self.server: 0}
        self.terminated: dict[Engine, events.ConnectionTerminated] = {}
        self.run()
        self.client.open_stream()
        self.run()

    def run(self, on_data: Callable[[Engine, int], None] | None = None) -> None:
        """Pass datagrams until both are quiet for a second."""
        quiet = 0
        while quiet < 100:
            moved = self._move(self.client, self.server, CLIENT, on_data)
            moved += self._move(self.server, self.client, SERVER, on_data)
            quiet = 0 if moved else quiet + 1
            self.now += 0.01
            for engine in (self.client, self.server):
                due = engine.get_timer()
                if due is not None and due <= self.now:
                    engine.handle_timer(self.now)

    def carries(self, source: Engine, datagram: bytes) -> bool:
        """Return whether a datagram arrives."""
        return True

    def _move(self, source: Engine, target: Engine, address: tuple[str, int], on_data) -> int:
        count = 0
        for datagram, _ in source.datagrams_to_send(self.now):
            if self.carries(source, datagram):
                target.receive_datagram(datagram, address, self.now)
            count += 1
        while (event := target.next_event()) is not None:
            if isinstance(event, events.StreamDataReceived):
                self.received[target] += len(event.data)
                if on_data is not None:
                    on_data(target, len(event.data))
            elif isinstance(event, events.ConnectionTerminated):
                self.terminated[target] = event
        return count


def test_a_window_does_not_widen_while_nobody_reads():
    wire = Wire()
    wire.client.send_stream_data(STREAM, bytes(20 * WINDOW))
    wire.server.send_stream_data(STREAM, bytes(20 * WINDOW))
    wire.run()
    assert wire.received == {wire.client: WINDOW, wire.server: WINDOW}
    assert wire.client.unacknowledged == wire.server.unacknowledged == 19 * WINDOW
    assert not wire.terminated


def test_a_window_follows_what_was_read():
    wire = Wire()
    wire.client.send_stream_data(STREAM, bytes(20 * WINDOW))
    wire.run(lambda engine, count: engine.taken(count))
    assert wire.received[wire.server] == 20 * WINDOW
    assert wire.client.unacknowledged == 0


def test_a_window_widens_by_what_was_read_and_no_more():
    wire = Wire()
    wire.client.send_stream_data(STREAM, bytes(20 * WINDOW))
    wire.run()
    assert wire.server.taken(WINDOW // 2)
    wire.run()
    assert wire.received[wire.server] == WINDOW + WINDOW // 2


def test_a_few_bytes_read_are_not_told_at_once():
    wire = Wire()
    assert not wire.server.taken(1)
    assert not wire.server.taken(WINDOW // 8 - 2)
    assert wire.server.taken(1)


def test_a_peer_that_exceeds_the_window_is_closed():
    wire = Wire()
    stream = wire.client.stream
    assert stream is not None
    wire.client._remote_max_data = 1 << 40
    stream.max_stream_data_remote = 1 << 40
    wire.client.send_stream_data(STREAM, bytes(2 * WINDOW))
    wire.run()
    assert wire.received[wire.server] <= WINDOW
    assert wire.terminated[wire.client].error_code == QuicErrorCode.FLOW_CONTROL_ERROR


@pytest.mark.parametrize("stream_id", [4, 2, 400])
def test_a_second_stream_closes_the_connection(stream_id):
    wire = Wire()
    wire.client._remote_max_streams_bidi = wire.client._remote_max_streams_uni = 1000
    wire.client._remote_max_stream_data_uni = wire.client._remote_max_stream_data_bidi_remote = 1000
    wire.client.send_stream_data(stream_id, b"x")
    wire.run()
    assert wire.terminated[wire.client].error_code == QuicErrorCode.STREAM_LIMIT_ERROR


def test_the_server_may_open_no_stream():
    wire = Wire()
    wire.server._remote_max_streams_bidi = 1000
    wire.server._remote_max_stream_data_bidi_remote = 1000
    wire.server.send_stream_data(1, b"x")
    wire.run()
    assert wire.terminated[wire.server].error_code == QuicErrorCode.STREAM_LIMIT_ERROR


def test_the_server_knows_the_stream_before_a_byte_was_sent():
    wire = Wire()
    assert wire.server.stream is not None
    assert wire.received[wire.server] == 0


async def small_pair(
    *, window: int, limit: int, server: QuicEngineChoice = QuicEngineChoice.AIOQUIC
) -> tuple[QuicTransport, QuicTransport]:
    with use_quic_engine(server):
        listener = await listen("127.0.0.1", 0, tcp=None, quic=True, certificate=certificate())
    async with listener, asyncio.TaskGroup() as tasks:
        with use_quic_engine(QuicEngineChoice.AIOQUIC):
            connecting = tasks.create_task(
                QuicTransport.connect(("127.0.0.1", listener.port), window=window, unacknowledged_limit=limit)
            )
        accepting = tasks.create_task(listener.accept())
    accepted = accepting.result()
    assert accepted.kind is TransportKind.QUIC
    return connecting.result(), accepted


every_server = pytest.mark.parametrize("server_engine", ENGINES, ids=lambda engine: engine.value)


@every_server
async def test_send_waits_at_its_limit_and_the_peer_at_the_window(server_engine):
    async with asyncio.timeout(60):
        client, server = await small_pair(window=WINDOW, limit=WINDOW, server=server_engine)
        accepted = {client: 0, server: 0}
        progress = asyncio.Event()

        async def write(transport: QuicTransport) -> None:
            while True:
                await transport.send(bytes(1000))
                accepted[transport] += 1000
                progress.set()

        writers = [asyncio.create_task(write(end)) for end in (client, server)]
        while True:
            progress.clear()
            try:
                async with asyncio.timeout(0.5):
                    await progress.wait()
            except TimeoutError:
                break
        assert client._unread == WINDOW  # the client's window, filled by the server
        assert client.engine.unacknowledged >= WINDOW // 2 or accepted[client] > WINDOW
        assert client.engine.unacknowledged <= WINDOW
        for writer in writers:
            writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)
        client.abort()
        server.abort()


@every_server
async def test_close_waits_no_longer_than_its_bound(monkeypatch, server_engine):
    monkeypatch.setattr("tallow_net.transport.quic.CLOSE_QUIC_S", 0.2)
    async with asyncio.timeout(30):
        client, server = await small_pair(window=WINDOW, limit=WINDOW, server=server_engine)
        writer = asyncio.create_task(server.send(bytes(2 * WINDOW)))
        await asyncio.wait([writer])
        loop = asyncio.get_running_loop()
        start = loop.time()
        await server.close()
        assert 0.15 < loop.time() - start < 5
        buffer = memoryview(bytearray(2 * WINDOW))
        assert await client.receive_into(buffer) == WINDOW  # what had arrived is readable after the loss
        with pytest.raises(ConnectionLostError):
            await client.receive_into(buffer)
        client.abort()

"""The two QUIC engines behave the same towards our shell, each other and a peer that means harm."""

import asyncio
import errno
import itertools
import os
import socket
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_net.errors import ConnectionLostError, MisuseError
from tallow_net.transport.datagrams import SEGMENTED_BYTES, SEGMENTS, _one_connection, runs
from tallow_net.transport.listener import listen
from tallow_net.transport.quic import QuicTransport
from tallow_net.transport.quic_engine import (
    ENGINE_VARIABLE,
    STREAM,
    QuicEngineChoice,
    engine_library,
    use_quic_engine,
)

from tests.net.transport.pairs import ENGINES, HAVE_QH3, certificate, quic_pair

AIOQUIC, QH3 = QuicEngineChoice.AIOQUIC, QuicEngineChoice.QH3
CLIENT, SERVER = ("192.0.2.1", 1), ("192.0.2.2", 2)
WINDOW = 512 * 1024
EVENT = 64 * 1024  # what qh3 gives out at once
MIB = 1024 * 1024

needs_qh3 = pytest.mark.skipif(not HAVE_QH3, reason="qh3 (the extra tallow-net[qh3]) is not installed")
both_ways = pytest.mark.parametrize(
    ("client", "server"),
    list(itertools.product(ENGINES, ENGINES)),
    ids=lambda engine: engine.value,
)


# --- which one ------------------------------------------------------------------------------------------------


@needs_qh3
def test_qh3_is_used_where_it_is_installed(monkeypatch):
    monkeypatch.delenv(ENGINE_VARIABLE, raising=False)
    assert engine_library().name == "qh3"


@needs_qh3
@pytest.mark.parametrize("engine", ENGINES)
def test_the_environment_chooses_for_a_process(monkeypatch, engine):
    monkeypatch.setenv(ENGINE_VARIABLE, engine.value)
    assert engine_library().name == engine.value


def test_an_unknown_engine_is_misuse(monkeypatch):
    monkeypatch.setenv(ENGINE_VARIABLE, "quiche")
    with pytest.raises(MisuseError, match="aioquic or qh3"):
        engine_library()


@needs_qh3
def test_a_scope_chooses_before_the_environment(monkeypatch):
    monkeypatch.setenv(ENGINE_VARIABLE, "qh3")
    with use_quic_engine(AIOQUIC):
        assert engine_library().name == "aioquic"
    assert engine_library().name == "qh3"


@needs_qh3
def test_nothing_of_one_engine_is_imported_for_the_other():
    program = (
        "import sys\n"
        "from tallow_net.transport.quic_engine import engine_library\n"
        "from tallow_net.transport.quic_listener import QuicEndpoint\n"
        "engine_library()\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'aioquic', 'qh3'}))\n"
    )
    for engine in ENGINES:
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env={**os.environ, ENGINE_VARIABLE: engine.value},
        )
        assert done.stdout.strip() == f"['{engine.value}']"


def test_aioquic_is_used_where_qh3_is_absent(monkeypatch):
    from tallow_net.transport import quic_engine

    monkeypatch.delenv(ENGINE_VARIABLE, raising=False)
    monkeypatch.setattr(quic_engine.importlib.util, "find_spec", lambda _name: None)
    quic_engine._library.cache_clear()
    try:
        assert engine_library().name == "aioquic"
    finally:
        quic_engine._library.cache_clear()


# --- both ways ------------------------------------------------------------------------------------------------


@both_ways
async def test_each_side_sees_the_servers_certificate_and_no_other(client, server):
    near, far = await quic_pair(client, server)
    assert near.peer_chain_der == (certificate().certificate_der,)
    assert near.peer_spki == certificate().spki_sha256
    assert far.peer_certificate_der is None
    near.abort()
    far.abort()


@both_ways
async def test_a_peer_that_leaves_is_named(client, server):
    async with asyncio.timeout(20):
        near, far = await quic_pair(client, server)
        far.abort()
        with pytest.raises(ConnectionLostError) as caught:
            await near.receive_into(memoryview(bytearray(1)))
        assert caught.value.by == "peer"


@both_ways
async def test_a_reader_that_stops_stops_the_writer_within_the_window(client, server):
    async with asyncio.timeout(60):
        near, far = await quic_pair(client, server)
        total = 24 * MIB
        written = 0
        progress = asyncio.Event()

        async def write() -> None:
            nonlocal written
            piece = bytes(range(256)) * 256
            while written < total:
                await near.send(piece)
                written += len(piece)
                progress.set()
            await near.finish()

        writer = asyncio.create_task(write())
        while True:
            progress.clear()
            try:
                async with asyncio.timeout(0.5):
                    await progress.wait()
            except TimeoutError:
                break
        # The window is 16 MiB, and the writer's own limit 4 MiB.
        assert far._unread <= (16 * MIB if server is AIOQUIC else 2 * MIB + EVENT)
        assert 8 * MIB < written <= 20 * MIB + EVENT
        buffer = memoryview(bytearray(MIB))
        received = 0
        while count := await far.receive_into(buffer):
            assert buffer[:count] == (bytes(range(256)) * (count // 256 + 2))[received % 256 :][:count]
            received += count
        await writer
        assert received == total
        near.abort()
        far.abort()


# --- what only qh3 does -----------------------------------------------------------------------------------------


class Qh3Wire:
    """Two engines of qh3 and no network."""

    def __init__(self, window: int = WINDOW) -> None:
        from tallow_net.transport.quic_qh3 import Qh3Engine, client_configuration, server_configuration

        self.now = time.monotonic()
        self.client = Qh3Engine(client_configuration("192.0.2.2"), window=window)
        self.client.connect(SERVER, now=self.now)
        self.server = Qh3Engine(
            server_configuration(certificate()),
            window=window,
            original_destination_connection_id=self.client.original_destination_connection_id,
        )
        self.users = {self.client: User(), self.server: User()}
        self.run()

    def run(self, rounds: int = 60) -> None:
        for _ in range(rounds):
            for source, target, address in (
                (self.client, self.server, CLIENT),
                (self.server, self.client, SERVER),
            ):
                for datagram, _ in source.datagrams_to_send(self.now):
                    target.receive(datagram, len(datagram), address, self.now)
                target.deliver(self.users[target])
            self.now += 0.01
            for engine in (self.client, self.server):
                due = engine.get_timer()
                if due is not None and due <= self.now:
                    engine.handle_timer(self.now)


class User:
    def __init__(self) -> None:
        self.received = 0
        self.ended = self.broken = False
        self.code: int | None = None

    def take_in(self, data: bytes, *, ends: bool) -> None:
        self.received += len(data)
        self.ended = self.ended or ends

    def handshake_completed(self, alpn: str | None) -> None:
        assert alpn == "tallow/1"

    def broken_off(self) -> None:
        self.broken = True

    def route(self, connection_id: bytes, *, on: bool) -> None:
        pass

    def terminated(self, code: int, reason: str) -> None:
        self.code = code


@needs_qh3
def test_what_nobody_reads_stays_in_the_core_and_within_the_window():
    wire = Qh3Wire()
    wire.client.write(bytes(20 * WINDOW))
    wire.run()
    given = wire.users[wire.server].received
    assert given <= WINDOW // 8 + EVENT
    assert wire.client.unacknowledged >= 19 * WINDOW - given  # the peer has no more than the window
    read = 0
    while read < 20 * WINDOW:
        count = wire.users[wire.server].received - read
        assert count <= WINDOW // 8 + EVENT
        read += count
        wire.server.taken(count)
        wire.run(3)
    wire.run()
    assert wire.client.unacknowledged == 0


@needs_qh3
def test_the_end_of_a_stream_is_acknowledged_only_once_it_left():
    wire = Qh3Wire()
    wire.client.write(b"x")
    wire.run()
    assert wire.client.unacknowledged == 0
    wire.client.end()
    assert not wire.client.end_acknowledged
    wire.run()
    assert wire.client.end_acknowledged
    assert wire.users[wire.server].ended


@needs_qh3
def test_a_second_stream_closes_the_connection_of_qh3_too():
    wire = Qh3Wire()
    wire.client.write(b"x")
    wire.client.send_stream_data(STREAM + 4, b"y")
    wire.run()
    assert wire.users[wire.client].code == 4  # STREAM_LIMIT_ERROR


@needs_qh3
def test_a_datagram_frame_is_a_violation():
    wire = Qh3Wire()
    wire.client._core.apply_peer_transport_parameters(
        WINDOW, WINDOW, WINDOW, WINDOW, 1, 1, 3, 0.025, 60.0, 1200
    )  # as if the server had allowed them
    wire.client.send_datagram_frame(b"not asked for")
    wire.run()
    assert wire.users[wire.client].code is not None


@needs_qh3
def test_a_peer_that_floods_who_does_not_read_is_refused(monkeypatch):
    monkeypatch.setattr("tallow_net.transport.quic_qh3.WAITING_EVENTS", 10)
    wire = Qh3Wire()
    wire.server._hold = 0  # as if nothing had been read for long

    def many() -> None:
        for number in range(40):
            wire.server.send_ping(number)  # each answer is an event that waits
            wire.run(1)

    with pytest.raises(RuntimeError, match="too many messages"):
        many()


@needs_qh3
def test_time_that_goes_back_a_little_is_no_error():
    wire = Qh3Wire()
    wire.client.write(bytes(3000))
    datagrams = [datagram for datagram, _ in wire.client.datagrams_to_send(wire.now + 0.001)]
    for datagram in datagrams:
        wire.server.receive(datagram, len(datagram), CLIENT, wire.now - 0.001)
    wire.run()
    assert wire.users[wire.server].received == 3000


@needs_qh3
async def test_a_server_is_heard_once_a_client_of_qh3_has_spoken():
    async with asyncio.timeout(20):
        with use_quic_engine(QH3):
            listener = await listen("127.0.0.1", 0, tcp=None, quic=True, certificate=certificate())
            async with listener, asyncio.TaskGroup() as tasks:
                connecting = tasks.create_task(QuicTransport.connect(("127.0.0.1", listener.port)))
                accepting = tasks.create_task(listener.accept())
        near, far = connecting.result(), accepting.result()
        await far.send(b"early")
        await near.send(b"hello")
        buffer = memoryview(bytearray(5))
        assert await near.receive_into(buffer) == 5
        assert bytes(buffer) == b"early"
        near.abort()
        far.abort()


# --- many datagrams in one call of the system -------------------------------------------------------------------


def test_runs_have_one_size_and_address_and_end_with_a_shorter_one():
    long, short = bytes(1200), bytes(100)
    there, elsewhere = ("192.0.2.1", 1), ("192.0.2.2", 1)
    datagrams = [
        (long, there),
        (long, there),
        (short, there),
        (long, there),
        (long, elsewhere),
        (short, elsewhere),
    ]
    assert list(runs(datagrams)) == [
        ([long, long, short], there),
        ([long], there),
        ([long, short], elsewhere),
    ]
    assert list(runs([(short, there), (long, there)])) == [([short], there), ([long], there)]
    assert list(runs([])) == []


def test_a_run_is_no_longer_than_the_kernel_takes():
    there = ("192.0.2.1", 1)
    assert [len(run) for run, _ in runs([(bytes(100), there)] * 130)] == [SEGMENTS, SEGMENTS, 2]
    lengths = [sum(map(len, run)) for run, _ in runs([(bytes(1452), there)] * 100)]
    assert max(lengths) <= SEGMENTED_BYTES < max(lengths) + 1452


ADDRESSES = [("192.0.2.1", 1), ("192.0.2.1", 2)]
LENGTHS = st.sampled_from([0, 1, 100, 1200, 1452, 40_000, 66_000])


@given(st.lists(st.tuples(LENGTHS, st.sampled_from(ADDRESSES)), max_size=150))
def test_runs_keep_every_datagram_in_order_and_are_what_the_kernel_takes(lengths):
    datagrams = [(bytes(length), address) for length, address in lengths]
    found = list(runs(datagrams))
    assert [(data, to) for run, to in found for data in run] == datagrams
    for run, _ in found:
        *most, last = map(len, run)
        assert set(most) <= {len(run[0])}
        assert last <= len(run[0])
        assert len(run) == 1 or (len(run) <= SEGMENTS and sum(map(len, run)) <= SEGMENTED_BYTES)


def short_header(connection_id: bytes, size: int) -> bytes:
    return b"\x40" + connection_id + bytes(size - 1 - len(connection_id))


@pytest.mark.parametrize(
    ("run", "one"),
    [
        ([short_header(b"12345678", 100)], True),
        ([short_header(b"12345678", 100)] * 3 + [short_header(b"12345678", 40)], True),
        ([short_header(b"12345678", 100), short_header(b"12345679", 100)], False),
        ([short_header(b"12345678", 100), b"\xc0" + b"12345678" + bytes(91)], False),
        ([short_header(b"12345678", 100), b"\x40123"], False),
    ],
)
def test_a_run_is_for_one_connection_where_every_header_is_short_and_names_it(run, one):
    assert _one_connection(b"".join(run), len(run[0])) is one


class CannotSegment(socket.socket):
    calls = 0

    def sendmsg(self, *arguments):
        self.calls += 1
        raise OSError(errno.EIO, "this device cannot segment")


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_device_that_cannot_segment_gets_each_datagram_alone(engine):
    async with asyncio.timeout(20):
        with use_quic_engine(engine):
            listener = await listen("127.0.0.1", 0, tcp=None, quic=True, certificate=certificate())
            sock = CannotSegment(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.connect(("127.0.0.1", listener.port))
            async with listener, asyncio.TaskGroup() as tasks:
                connecting = tasks.create_task(QuicTransport.over(sock, server_name="127.0.0.1"))
                accepting = tasks.create_task(listener.accept())
        near, far = connecting.result(), accepting.result()
        await near.send(bytes(300_000))
        received, buffer = 0, memoryview(bytearray(300_000))
        while received < 300_000:
            received += await far.receive_into(buffer)
        assert sock.calls == 1
        near.abort()
        far.abort()


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_kernel_without_segmentation_carries_the_same_bytes(monkeypatch, engine):
    monkeypatch.setattr("tallow_net.transport.datagrams._can_segment", lambda _sock: False)
    monkeypatch.setattr("tallow_net.transport.datagrams._gather", lambda _sock: False)
    async with asyncio.timeout(20):
        near, far = await quic_pair(engine, engine)
        data = os.urandom(1_000_000)
        sending = asyncio.create_task(near.send(data))
        received, buffer = bytearray(), memoryview(bytearray(300_000))
        while len(received) < len(data):
            received += buffer[: await far.receive_into(buffer)]
        await sending
        assert received == data
        near.abort()
        far.abort()

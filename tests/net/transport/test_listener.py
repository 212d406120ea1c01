"""Listeners: one number, handshakes that block nobody, garbage, and the gate."""

import asyncio
import contextlib
import errno
import random
import socket

import pytest
from tallow_net.errors import ConnectionLostError, MisuseError
from tallow_net.transport.interface import Transport, TransportKind
from tallow_net.transport.listener import Listener, listen
from tallow_net.transport.quic import QuicTransport
from tallow_net.transport.quic_aioquic import Engine, client_configuration

from tests.net.transport.pairs import CONNECT, certificate

KINDS = (TransportKind.TCP, TransportKind.TLS, TransportKind.QUIC)
DEADLINE_S = 60


class RecordingGate:
    def __init__(self, *, open_to_all: bool = True) -> None:
        self.open_to_all = open_to_all
        self.calls: list[tuple[str, str]] = []
        self.changed = asyncio.Event()

    def admit(self, address: str) -> bool:
        self._note("admit", address)
        return self.open_to_all

    def established(self, address: str) -> None:
        self._note("established", address)

    def gone(self, address: str) -> None:
        self._note("gone", address)

    def _note(self, what: str, address: str) -> None:
        self.calls.append((what, address))
        self.changed.set()

    async def until(self, what: str, count: int = 1) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while sum(call == what for call, _ in self.calls) < count:
                self.changed.clear()
                await self.changed.wait()


async def open_listener(kind: TransportKind, gate: RecordingGate | None = None) -> Listener:
    quic = kind is TransportKind.QUIC
    return await listen(
        "127.0.0.1", 0, tcp=None if quic else kind, quic=quic, certificate=certificate(), gate=gate
    )


async def connect(kind: TransportKind, port: int) -> Transport:
    return await CONNECT[kind].connect(("127.0.0.1", port))


async def carries_bytes(kind: TransportKind, listener: Listener) -> bool:
    """Connect and pass a byte each way."""
    async with asyncio.timeout(DEADLINE_S):
        client, server = await asyncio.gather(connect(kind, listener.port), listener.accept())
        buffer = memoryview(bytearray(1))
        await client.send(b"?")
        await server.receive_into(buffer)
        await server.send(b"!")
        await client.receive_into(buffer)
        client.abort()
        server.abort()
        return bytes(buffer) == b"!"


async def test_port_zero_gives_one_number_to_tcp_and_udp():
    async with await listen(
        "127.0.0.1", 0, tcp=TransportKind.TLS, quic=True, certificate=certificate()
    ) as listener:
        assert listener.addresses == (("127.0.0.1", listener.port),)
        assert await carries_bytes(TransportKind.TLS, listener)
        assert await carries_bytes(TransportKind.QUIC, listener)


async def test_an_empty_host_means_both_families():
    async with await listen("", 0, tcp=TransportKind.TCP, quic=True, certificate=certificate()) as listener:
        assert {port for _, port in listener.addresses} == {listener.port}
        assert "0.0.0.0" in [host for host, _ in listener.addresses]
        assert await carries_bytes(TransportKind.TCP, listener)
        assert await carries_bytes(TransportKind.QUIC, listener)


async def test_a_number_that_is_taken_is_an_error():
    async with await open_listener(TransportKind.TCP) as listener:
        with pytest.raises(OSError) as caught:
            await listen("127.0.0.1", listener.port, tcp=TransportKind.TCP, quic=False, certificate=None)
        assert caught.value.errno == errno.EADDRINUSE


async def left_for_tcp_after_a_failure():
    """Whether the TCP half of a number is free after listening on both halves failed because of the other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(OSError):
            await listen("127.0.0.1", port, tcp=TransportKind.TCP, quic=True, certificate=certificate())
        with socket.socket() as free:
            try:
                free.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


async def test_a_number_that_is_taken_for_udp_alone_is_not_half_used():
    # The kernel may give one such number to a connection of another test; what a listener left would be met each time.
    assert any([await left_for_tcp_after_a_failure() for _ in range(3)])


@pytest.mark.parametrize(
    ("tcp", "quic"),
    [(None, False), (TransportKind.TLS, False), (TransportKind.TLS, True), (TransportKind.QUIC, False)],
)
async def test_a_listener_that_cannot_be_is_misuse(tcp, quic):
    with pytest.raises(MisuseError):
        await listen("127.0.0.1", 0, tcp=tcp, quic=quic, certificate=None)


async def test_a_quic_client_that_came_before_the_certificate_is_served():
    async with await listen("127.0.0.1", 0, tcp=None, quic=True, certificate=None) as listener:
        early = asyncio.create_task(
            QuicTransport.connect(("127.0.0.1", listener.port), socket.AF_INET, server_name="peer")
        )
        await asyncio.sleep(0)
        listener.serve_quic(certificate())
        async with asyncio.timeout(DEADLINE_S), await listener.accept() as theirs, await early:
            assert theirs.kind is TransportKind.QUIC


async def test_sockets_that_were_never_served_are_closed_with_the_listener():
    listener = await listen("127.0.0.1", 0, tcp=TransportKind.TCP, quic=True, certificate=None)
    await listener.close()
    listener.serve_quic(certificate())
    async with await listen(
        "127.0.0.1", listener.port, tcp=TransportKind.TCP, quic=True, certificate=None
    ) as again:
        assert again.port == listener.port


async def test_accept_ends_when_the_listener_closes():
    listener = await open_listener(TransportKind.TCP)
    waiting = [asyncio.create_task(listener.accept()) for _ in range(3)]
    await asyncio.sleep(0)
    await listener.close()
    await listener.close()
    async with asyncio.timeout(DEADLINE_S):
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, ConnectionLostError) for outcome in outcomes)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_accepted_transport_outlives_its_listener(kind):
    async with asyncio.timeout(DEADLINE_S):
        listener = await open_listener(kind)
        client, server = await asyncio.gather(connect(kind, listener.port), listener.accept())
        await listener.close()
        await client.send(b"x")
        assert await server.receive_into(memoryview(bytearray(1))) == 1
        await asyncio.gather(client.close(), server.close())


@pytest.mark.parametrize("kind", KINDS)
async def test_a_transport_that_nobody_accepted_ends_with_the_listener(kind):
    gate = RecordingGate()
    async with asyncio.timeout(DEADLINE_S):
        listener = await open_listener(kind, gate)
        client = await connect(kind, listener.port)
        await gate.until("established")
        await listener.close()
        with pytest.raises(ConnectionLostError):
            await client.receive_into(memoryview(bytearray(1)))
        client.abort()
        await gate.until("gone")


@pytest.mark.parametrize("kind", KINDS)
async def test_the_gate_sees_a_connection_come_and_go_once(kind):
    gate = RecordingGate()
    async with asyncio.timeout(DEADLINE_S), await open_listener(kind, gate) as listener:
        client, server = await asyncio.gather(connect(kind, listener.port), listener.accept())
        assert [call for call, _ in gate.calls] == ["admit", "established"]
        await asyncio.gather(client.close(), server.close())
        server.abort()
        await server.close()
    assert gate.calls == [(call, "127.0.0.1") for call in ("admit", "established", "gone")]


@pytest.mark.parametrize("kind", KINDS)
async def test_the_gate_sees_a_lost_connection_go(kind):
    gate = RecordingGate()
    async with asyncio.timeout(DEADLINE_S), await open_listener(kind, gate) as listener:
        client, server = await asyncio.gather(connect(kind, listener.port), listener.accept())
        client.abort()
        with contextlib.suppress(ConnectionLostError):
            await server.receive_into(memoryview(bytearray(1)))
        await server.close()
        await gate.until("gone")
    assert [call for call, _ in gate.calls] == ["admit", "established", "gone"]


@pytest.mark.parametrize("kind", [TransportKind.TCP, TransportKind.TLS])
async def test_whom_the_gate_refuses_is_closed_without_a_handshake(kind):
    gate = RecordingGate(open_to_all=False)
    async with asyncio.timeout(DEADLINE_S), await open_listener(kind, gate) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    assert gate.calls == [("admit", "127.0.0.1")]


async def test_whom_the_gate_refuses_gets_no_datagram():
    gate = RecordingGate(open_to_all=False)
    async with await open_listener(TransportKind.QUIC, gate) as listener:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await connect(TransportKind.QUIC, listener.port)
    assert {call for call, _ in gate.calls} == {"admit"}


async def test_silent_clients_block_nobody():
    gate = RecordingGate()
    async with await listen(
        "127.0.0.1", 0, tcp=TransportKind.TLS, quic=True, certificate=certificate(), gate=gate
    ) as listener:
        silent = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(300)]
        try:
            await gate.until("admit", 300)
            assert await carries_bytes(TransportKind.TLS, listener)
            assert await carries_bytes(TransportKind.QUIC, listener)
        finally:
            for sock in silent:
                sock.close()
        await gate.until("gone", 302)


async def test_a_silent_client_is_given_up(monkeypatch):
    monkeypatch.setattr("tallow_net.transport.listener.HANDSHAKE_S", 0.1)
    gate = RecordingGate()
    async with asyncio.timeout(DEADLINE_S), await open_listener(TransportKind.TLS, gate) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        await gate.until("gone")
    assert [call for call, _ in gate.calls] == ["admit", "gone"]


async def test_one_handshake_above_the_limit_is_refused(monkeypatch):
    monkeypatch.setattr("tallow_net.transport.listener.HANDSHAKES", 2)
    gate = RecordingGate()
    async with asyncio.timeout(DEADLINE_S), await open_listener(TransportKind.TLS, gate) as listener:
        held = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(2)]
        await gate.until("admit", 2)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        assert [call for call, _ in gate.calls] == ["admit", "admit"]
        held.pop().close()
        await gate.until("gone")
        assert await carries_bytes(TransportKind.TLS, listener)
        held.pop().close()


def initial(port: int) -> tuple[Engine, bytes]:
    """Return a client's engine and its first datagram."""
    engine = Engine(client_configuration("127.0.0.1"))
    engine.connect(("127.0.0.1", port), now=0.0)
    return engine, engine.datagrams_to_send(0.0)[0][0]


async def test_half_open_quic_handshakes_are_bounded_and_given_up(monkeypatch):
    monkeypatch.setattr("tallow_net.transport.listener.HANDSHAKES", 3)
    monkeypatch.setattr("tallow_net.transport.listener.HANDSHAKE_S", 0.3)
    gate = RecordingGate()
    async with await open_listener(TransportKind.QUIC, gate) as listener:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(20):
                sock.sendto(initial(listener.port)[1], ("127.0.0.1", listener.port))
            await gate.until("admit", 3)
            await gate.until("gone", 3)
        assert [call for call, _ in gate.calls] == ["admit"] * 3 + ["gone"] * 3
        assert await carries_bytes(TransportKind.QUIC, listener)


async def test_an_initial_that_does_not_open_holds_nothing():
    gate = RecordingGate()
    async with await open_listener(TransportKind.QUIC, gate) as listener:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            broken = bytearray(initial(listener.port)[1])
            broken[100] ^= 1  # in the packet; what aioquic pads the datagram with behind it proves nothing
            sock.sendto(broken, ("127.0.0.1", listener.port))
            await gate.until("gone")
        endpoint = listener._endpoints[0]
        assert not endpoint._opening
        assert not endpoint._routes


async def test_an_unknown_version_is_answered_with_ours():
    async with await open_listener(TransportKind.QUIC) as listener:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            strange = bytearray(initial(listener.port)[1])
            strange[1:5] = b"\x1a\x2a\x3a\x4a"
            await loop.sock_connect(sock, ("127.0.0.1", listener.port))
            await loop.sock_sendall(sock, strange)
            async with asyncio.timeout(DEADLINE_S):
                answer = await loop.sock_recv(sock, 2000)
            assert answer[1:5] == bytes(4)
            assert b"\x00\x00\x00\x01" in answer[5:]
            assert len(answer) < len(strange)


@pytest.mark.parametrize("seed", range(4))
async def test_garbage_datagrams_harm_nobody(seed):
    rng = random.Random(seed)
    async with await open_listener(TransportKind.QUIC) as listener:
        target = ("127.0.0.1", listener.port)
        async with asyncio.timeout(DEADLINE_S):
            client, server = await asyncio.gather(
                connect(TransportKind.QUIC, listener.port), listener.accept()
            )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(100):
                sock.sendto(rng.randbytes(rng.randrange(0, 3000)), target)
                mutated = bytearray(initial(listener.port)[1])
                for _ in range(rng.randrange(1, 5)):
                    mutated[rng.randrange(min(len(mutated), 60))] = rng.randrange(256)
                sock.sendto(mutated[: rng.choice((1200, 1199, 20, 1))], target)
                # Aimed at an open connection: its ids, then noise.
                for cid in list(listener._endpoints[0]._routes)[:2]:
                    sock.sendto(bytes([rng.randrange(256)]) + cid + rng.randbytes(40), target)
                await asyncio.sleep(0)
        assert await carries_bytes(TransportKind.QUIC, listener)
        async with asyncio.timeout(DEADLINE_S):
            await client.send(b"x" * 100_000)
            assert await server.receive_into(memoryview(bytearray(1))) == 1
        client.abort()
        server.abort()


@pytest.mark.parametrize("seed", range(4))
async def test_garbage_on_tcp_harms_nobody(seed):
    rng = random.Random(seed)
    gate = RecordingGate()
    async with await open_listener(TransportKind.TLS, gate) as listener:
        for turn in range(20):
            with socket.create_connection(("127.0.0.1", listener.port)) as sock:
                head = (
                    b"",
                    b"\x16\x03\x01\x02\x00\x01",
                    b"GET / HTTP/1.1\r\n\r\n",
                    b"\x15\x03\x03\x00\x02\x02\x28",
                )
                sock.sendall(head[turn % 4] + rng.randbytes(rng.randrange(0, 2000)))
        await gate.until("gone", 20)
        assert await carries_bytes(TransportKind.TLS, listener)

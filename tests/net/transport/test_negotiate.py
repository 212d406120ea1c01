"""Which transport and address wins, who loses, and what is said when nobody answers."""

import asyncio
import gc
import socket
import ssl
from contextlib import asynccontextmanager

import pytest
from tallow_net.errors import (
    CertificateRefusedError,
    ConnectionLostError,
    NotTallowError,
    PeerUnreachableError,
    RelayUnreachableError,
)
from tallow_net.transport.interface import TransportChoice, TransportKind
from tallow_net.transport.listener import listen
from tallow_net.transport.memory import memory_pair
from tallow_net.transport.negotiate import connect_direct, connect_encrypted, resolve
from tallow_net.transport.race import race
from tallow_net.transport.tcp import _load

from tests.net.transport.pairs import certificate

DEADLINE_S = 30


def no_check(_transport) -> None:
    pass


def free_port() -> int:
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        udp.bind(("127.0.0.1", tcp.getsockname()[1]))
        return tcp.getsockname()[1]


async def relay(port: int = 0, *, tcp: bool = True, quic: bool = True):
    return await listen(
        "127.0.0.1",
        port,
        tcp=TransportKind.TLS if tcp else None,
        quic=quic,
        certificate=certificate(),
    )


async def encrypted(port: int, choice: TransportChoice = TransportChoice.AUTO, **options):
    options = {"timeout_s": DEADLINE_S, "check": no_check} | options
    return await connect_encrypted("127.0.0.1", port, choice=choice, **options)


@pytest.mark.parametrize(
    ("choice", "kind"),
    [
        (TransportChoice.AUTO, TransportKind.QUIC),
        (TransportChoice.QUIC, TransportKind.QUIC),
        (TransportChoice.TCP, TransportKind.TLS),
    ],
)
async def test_a_relay_is_reached_over_what_was_chosen(choice, kind):
    async with await relay() as listener:
        transport = await encrypted(listener.port, choice)
        assert transport.kind is kind
        assert transport.peer_spki == certificate().spki_sha256
        assert transport.peer_chain_der == (certificate().certificate_der,)
        transport.abort()


@pytest.mark.parametrize(
    ("choice", "kind"),
    [
        (TransportChoice.AUTO, TransportKind.TCP),
        (TransportChoice.QUIC, TransportKind.QUIC),
        (TransportChoice.TCP, TransportKind.TCP),
    ],
)
async def test_a_peer_is_reached_over_what_was_chosen(choice, kind):
    async with await listen(
        "127.0.0.1", 0, tcp=TransportKind.TCP, quic=True, certificate=certificate()
    ) as listener:
        transport = await connect_direct("127.0.0.1", listener.port, choice=choice, timeout_s=DEADLINE_S)
        assert transport.kind is kind
        transport.abort()


async def test_where_udp_is_refused_tls_is_tried_at_once():
    async with await relay(quic=False) as listener:
        transport = await encrypted(listener.port, first_wait_s=1000)
        assert transport.kind is TransportKind.TLS
        transport.abort()


async def test_where_udp_is_silent_tls_wins_after_the_wait():
    port = free_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", port))
        async with await relay(port, quic=False):
            transport = await encrypted(port)
            assert transport.kind is TransportKind.TLS
            transport.abort()


async def test_a_relay_is_reached_over_tls_where_bulk_will_go_over_it():
    async with await relay() as listener:
        transport = await encrypted(listener.port, carries_bulk=True, first_wait_s=1000)
        assert transport.kind is TransportKind.TLS
        transport.abort()


async def test_bulk_goes_over_quic_at_once_where_a_relay_refuses_tcp():
    async with await relay(tcp=False) as listener:
        transport = await encrypted(listener.port, carries_bulk=True, first_wait_s=1000)
        assert transport.kind is TransportKind.QUIC
        transport.abort()


async def test_where_tcp_is_refused_a_peer_is_reached_over_quic_at_once():
    async with await relay(tcp=False) as listener:
        transport = await connect_direct(
            "127.0.0.1", listener.port, choice=TransportChoice.AUTO, timeout_s=DEADLINE_S, first_wait_s=1000
        )
        assert transport.kind is TransportKind.QUIC
        transport.abort()


async def test_a_name_with_both_families_is_reached_where_one_listens():
    async with await relay() as listener:
        transport = await connect_encrypted(
            "localhost", listener.port, choice=TransportChoice.TCP, timeout_s=DEADLINE_S, check=no_check
        )
        assert transport.remote == f"127.0.0.1:{listener.port}"
        transport.abort()


@pytest.mark.parametrize("choice", TransportChoice)
async def test_a_relay_that_is_not_there_is_unreachable(choice):
    with pytest.raises(RelayUnreachableError):
        await encrypted(free_port(), choice)


@pytest.mark.parametrize("choice", TransportChoice)
async def test_a_peer_that_is_not_there_is_unreachable(choice):
    with pytest.raises(PeerUnreachableError):
        await connect_direct("127.0.0.1", free_port(), choice=choice, timeout_s=DEADLINE_S)


@pytest.mark.parametrize(
    ("choice", "sentence", "hint"),
    [
        (TransportChoice.AUTO, "over TCP or QUIC: Connection refused", "A firewall may block the port."),
        (TransportChoice.TCP, "over TCP: Connection refused", "A firewall may block the port."),
        (TransportChoice.QUIC, "over QUIC", "A firewall may block UDP; --transport tcp avoids it."),
    ],
)
async def test_an_unreachable_relay_names_what_was_tried_and_advises_nothing_of_it(choice, sentence, hint):
    port = free_port()
    with pytest.raises(RelayUnreachableError) as raised:
        await encrypted(port, choice)
    assert str(raised.value) == f"127.0.0.1:{port} cannot be reached {sentence}."
    assert raised.value.hints == (*RelayUnreachableError.hints, hint)


@pytest.mark.parametrize(
    ("choice", "hint"),
    [
        (TransportChoice.AUTO, "A firewall may block the port."),
        (TransportChoice.TCP, "If one side was given --transport, the other needs the same."),
        (TransportChoice.QUIC, "If one side was given --transport, the other needs the same."),
    ],
)
async def test_an_unreachable_peer_may_use_another_transport_only_where_one_was_left_out(choice, hint):
    with pytest.raises(PeerUnreachableError) as raised:
        await connect_direct("127.0.0.1", free_port(), choice=choice, timeout_s=DEADLINE_S)
    assert raised.value.hints == (*PeerUnreachableError.hints, hint)


async def test_the_caller_says_what_unreachable_is():
    with pytest.raises(PeerUnreachableError):
        await encrypted(free_port(), unreachable=PeerUnreachableError)


async def test_silence_is_unreachable_after_the_timeout():
    port = free_port()
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", port))
        tcp.listen()
        udp.bind(("127.0.0.1", port))
        with pytest.raises(RelayUnreachableError, match="did not answer"):
            await encrypted(port, timeout_s=0.6)


async def test_a_name_that_does_not_resolve_is_unreachable():
    with pytest.raises(RelayUnreachableError, match="cannot be resolved"):
        await connect_encrypted(
            "no-such-host.invalid", 443, choice=TransportChoice.AUTO, timeout_s=DEADLINE_S, check=no_check
        )


@pytest.mark.parametrize("host", ["", "a" * 300, "a..b", "\udcff"])
async def test_a_name_that_is_malformed_is_unreachable_or_local(host):
    with pytest.raises(RelayUnreachableError):
        await connect_encrypted(
            host, free_port(), choice=TransportChoice.AUTO, timeout_s=DEADLINE_S, check=no_check
        )


@asynccontextmanager
async def tcp_server(handle, context: ssl.SSLContext | None = None):
    handlers = set()

    async def serve(reader, writer) -> None:
        handlers.add(asyncio.current_task())
        try:
            await handle(reader, writer)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*handlers, return_exceptions=True)


async def ssh(reader, writer) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2p1\r\n")
    await reader.read(10)


async def http(reader, writer) -> None:
    await reader.read(10)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


async def nothing(reader, writer) -> None:
    await reader.read(10)


@pytest.mark.parametrize("choice", [TransportChoice.AUTO, TransportChoice.TCP])
@pytest.mark.parametrize("handle", [ssh, http])
async def test_a_port_that_speaks_something_else_is_not_tallow(handle, choice):
    async with tcp_server(handle) as port:
        with pytest.raises(NotTallowError):
            await encrypted(port, choice)


@pytest.mark.parametrize("protocols", [None, ["http/1.1", "h2"]])
async def test_a_tls_server_of_another_protocol_is_not_tallow(protocols):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, certificate())
    if protocols:
        context.set_alpn_protocols(protocols)
    async with tcp_server(nothing, context) as port:
        with pytest.raises(NotTallowError):
            await encrypted(port, TransportChoice.TCP)


async def hang_up(reader, writer) -> None:
    await reader.readexactly(1)


async def test_a_server_that_hangs_up_at_the_first_byte_is_unreachable():
    async with tcp_server(hang_up) as port:
        with pytest.raises(RelayUnreachableError, match="during the handshake"):
            await encrypted(port, TransportChoice.TCP)


async def test_a_quic_server_of_another_protocol_is_not_tallow(monkeypatch):
    monkeypatch.setattr("tallow_net.transport.quic_forks.ALPN", "h3")
    async with await relay(tcp=False) as listener:
        monkeypatch.undo()
        with pytest.raises(NotTallowError):
            await encrypted(listener.port, TransportChoice.QUIC)


@pytest.mark.parametrize("choice", TransportChoice)
async def test_what_check_raises_ends_it_before_a_byte_was_sent(choice):
    seen = []

    def check(transport) -> None:
        seen.append(transport.peer_spki)
        raise CertificateRefusedError("not this one")

    async with asyncio.timeout(DEADLINE_S), await relay() as listener:
        with pytest.raises(CertificateRefusedError):
            await encrypted(listener.port, choice, check=check)
        assert seen == [certificate().spki_sha256]
        server = await listener.accept()
        with pytest.raises(ConnectionLostError):
            await server.receive_into(memoryview(bytearray(1)))
        server.abort()


async def test_a_cancelled_connect_leaves_nothing_open():
    port = free_port()
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", port))
        tcp.listen()
        udp.bind(("127.0.0.1", port))
        task = asyncio.create_task(encrypted(port, first_wait_s=0))
        loop = asyncio.get_running_loop()
        tcp.setblocking(False)
        connection, _ = await loop.sock_accept(tcp)
        task.cancel()
        await asyncio.wait([task])
        connection.close()
    del task
    gc.collect()  # a socket that is still open would warn, and a warning is an error
    assert len(asyncio.all_tasks()) == 1


async def test_addresses_of_both_families_take_turns(monkeypatch):
    found = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", (f"2001:db8::{n}", 1, 0, 0)) for n in (1, 2, 3)] + [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{n}", 1)) for n in (1, 2)
    ]

    async def getaddrinfo(*_args, **_options):
        return found

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    hosts = [address[0] for _, address in await resolve("relay.example", 1, RelayUnreachableError)]
    assert hosts == ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "2001:db8::3"]


async def test_the_loser_that_opened_too_is_closed():
    (first, first_peer), (second, second_peer) = memory_pair(), memory_pair()
    both = asyncio.Event()

    async def open_first():
        await both.wait()
        return first

    async def open_second():
        both.set()
        return second

    async with asyncio.timeout(DEADLINE_S):
        winner = await race([open_first, open_second], stagger_s=0)
        loser_peer = first_peer if winner is second else second_peer
        with pytest.raises(ConnectionLostError):
            await loser_peer.receive_into(memoryview(bytearray(1)))


async def test_a_failed_attempt_starts_the_next_at_once():
    end, _ = memory_pair()

    async def fail():
        raise PeerUnreachableError("no")

    async def succeed():
        return end

    async with asyncio.timeout(DEADLINE_S):
        assert await race([fail, fail, succeed], stagger_s=1000) is end


async def test_an_answer_from_something_else_says_more_than_silence():
    async def silence():
        raise PeerUnreachableError("no")

    async def something_else():
        raise NotTallowError("ssh")

    for order in ([silence, something_else], [something_else, silence]):
        with pytest.raises(NotTallowError):
            await race(order, stagger_s=0)


async def test_the_systems_reason_says_more_than_silence():
    async def silence():
        raise PeerUnreachableError("no answer")

    async def refused():
        raise PeerUnreachableError("refused") from ConnectionRefusedError()

    for order in ([silence, refused], [refused, silence]):
        with pytest.raises(PeerUnreachableError, match="refused"):
            await race(order, stagger_s=0)


async def test_a_fault_closes_what_opened_at_the_same_moment():
    end, peer = memory_pair()
    go = asyncio.Event()

    async def succeed():
        await go.wait()
        return end

    async def break_down():
        await go.wait()
        raise ValueError("a fault")

    async def start():
        go.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(ValueError, match="a fault"):
            await race([succeed, break_down, start], stagger_s=0)
        with pytest.raises(ConnectionLostError):
            await peer.receive_into(memoryview(bytearray(1)))


async def test_a_race_that_is_cancelled_at_its_end_closes_the_winner():
    end, peer = memory_pair()
    stubborn = asyncio.Event()

    async def succeed():
        return end

    async def linger():
        try:
            await asyncio.Event().wait()
        finally:
            stubborn.set()
            await asyncio.sleep(3600)

    async with asyncio.timeout(DEADLINE_S):
        task = asyncio.create_task(race([linger, succeed], stagger_s=0))
        await stubborn.wait()
        task.cancel()
        await asyncio.wait([task])
        with pytest.raises(ConnectionLostError):
            await peer.receive_into(memoryview(bytearray(1)))

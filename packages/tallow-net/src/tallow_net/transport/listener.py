"""Listeners: TCP (plain or TLS) and QUIC on one port number."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import TYPE_CHECKING, Protocol

from tallow_net.errors import ConnectionLostError, MisuseError, NetError
from tallow_net.limits import PAIR_IN_FLIGHT_BYTES
from tallow_net.transport.door import PlainDoor, knocks, read_body
from tallow_net.transport.interface import TransportKind, remote_name
from tallow_net.transport.tcp import TcpTlsTransport, TcpTransport, server_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Coroutine
    from typing import Self

    from tallow_net.transport.certificates import Certificate
    from tallow_net.transport.interface import Transport
    from tallow_net.transport.quic_listener import QuicEndpoint

# A TLS or QUIC handshake has this long; a relay a continent away needs 0.3 s.
HANDSHAKE_S = 10.0

# Handshakes under way at once, TLS and QUIC each. A TLS handshake holds about 60 KB: 30 MB in all. One more
# is refused, so that silent clients, of which each lives HANDSHAKE_S, cost no more.
HANDSHAKES = 512

# Open transports that wait for accept(). More means that nobody accepts: newcomers are refused.
WAITING = 256

# What the kernel holds for us between two turns of the loop.
BACKLOG = 512

# Port numbers that are free for TCP and taken for UDP, in a row, before we give up.
PORT_TRIES = 32

# Out of file descriptors or memory: nothing to do but to wait until some are given back.
EXHAUSTED_WAIT_S = 0.1


class ConnectionGate(Protocol):
    """Who may connect. `address` is the peer's IP address.

    For each connection: `admit` before anything is spent on it; if it said yes, `established` once the
    handshake is complete, if that comes to pass; and `gone` exactly once, at the end.
    """

    def admit(self, address: str) -> bool:
        """Return whether a handshake may begin."""

    def established(self, address: str) -> None:
        """Take note that a handshake is complete."""

    def gone(self, address: str) -> None:
        """Take note that an admitted connection has ended."""


class OpenGate:
    """Lets everybody in."""

    def admit(self, address: str) -> bool:
        """Say yes."""
        return True

    def established(self, address: str) -> None:
        """Take no note."""

    def gone(self, address: str) -> None:
        """Take no note."""


class Listener:
    """Accepts transports whose handshake is complete. `async with` closes it.

    Transports that were accepted live on after `close`, QUIC ones too (they keep the UDP socket until the
    last has ended).
    """

    def __init__(self, gate: ConnectionGate, door: PlainDoor | None = None) -> None:
        self._gate = gate
        self._door = door
        self._ready: asyncio.Queue[Transport | None] = asyncio.Queue()
        self._sockets: list[socket.socket] = []
        self._unserved: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._handshakes = 0
        self._unstarted: dict[socket.socket, str] = {}
        self._endpoints: list[QuicEndpoint] = []
        self._closed = False
        self.addresses: tuple[tuple[str, int], ...] = ()

    @property
    def port(self) -> int:
        """The one port number of all sockets."""
        return self.addresses[0][1]

    async def accept(self) -> Transport:
        """Return the next open transport. ConnectionLostError by us once the listener is closed."""
        transport = None if self._closed else await self._ready.get()
        if transport is None:
            self._ready.put_nowait(None)  # for another task that waits here
            raise ConnectionLostError("The listener is closed.", by="us")
        return transport

    def serve_quic(self, certificate: Certificate, window: int = PAIR_IN_FLIGHT_BYTES) -> None:
        """Begin to answer on the UDP sockets that `listen` bound without a certificate, and what waits there."""
        if self._closed:
            return
        while self._unserved:
            self._start_quic(self._unserved.pop(), certificate, window)

    async def close(self) -> None:
        """Stop listening; end handshakes under way and transports that nobody accepted. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        # A task that was cancelled before its first step has closed nothing.
        for connection, host in self._unstarted.items():
            connection.close()
            self._gate.gone(host)
        for sock in (*self._sockets, *self._unserved):
            sock.close()
        while not self._ready.empty():
            if (transport := self._ready.get_nowait()) is not None:
                transport.abort()
        for endpoint in self._endpoints:
            endpoint.stop_accepting()
        self._ready.put_nowait(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _start_tcp(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        self._sockets.append(sock)
        self._start(self._accept_tcp(sock, context))

    def _start_quic(self, sock: socket.socket, certificate: Certificate, window: int) -> None:
        from tallow_net.transport.quic_listener import QuicEndpoint

        self._endpoints.append(
            QuicEndpoint(
                sock,
                certificate,
                admit=lambda host: self._ready.qsize() < WAITING and self._gate.admit(host),
                offer=self._offer,
                gone=self._gate.gone,
                handshakes=HANDSHAKES,
                handshake_s=HANDSHAKE_S,
                window=window,
            )
        )

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept_tcp(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        while True:
            try:
                connection, address = await _accepted(sock)
            except ConnectionAbortedError:
                continue  # the peer left before it was accepted
            except OSError:
                await asyncio.sleep(EXHAUSTED_WAIT_S)
                continue
            host = address[0]
            if not self._room() or not self._gate.admit(host):
                connection.close()
                continue
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is None:
                self._offer(TcpTransport(connection, remote_name(address)), host)
            else:
                self._handshakes += 1
                self._unstarted[connection] = host
                self._start(self._accept_tls(connection, address, context))

    async def _accept_tls(
        self, connection: socket.socket, address: tuple[str, int], context: ssl.SSLContext
    ) -> None:
        del self._unstarted[connection]
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                if self._door is not None and await self._entered(self._door, connection, address[0]):
                    return
                transport = await TcpTlsTransport.accept(connection, remote_name(address), context)
        except (NetError, TimeoutError):
            self._gate.gone(address[0])  # garbage, silence or a peer that left: nobody to tell
        except BaseException:
            self._gate.gone(address[0])
            raise
        else:
            self._offer(transport, address[0])
        finally:
            self._handshakes -= 1

    async def _entered(self, door: PlainDoor, connection: socket.socket, host: str) -> bool:
        """Give a connection that knocks at the door away, or close it; False where it does not knock."""
        try:
            if not await knocks(door, connection):
                return False
            body = await read_body(door, connection)
        except BaseException:
            connection.close()
            raise
        if body is None:
            connection.close()
            self._gate.gone(host)
        else:
            self._gate.established(host)
            door.enter(connection, host, body, lambda: self._gate.gone(host))
        return True

    def _room(self) -> bool:
        return self._handshakes < HANDSHAKES and self._ready.qsize() < WAITING

    def _offer(self, transport: Transport, host: str) -> None:
        transport.on_end(lambda: self._gate.gone(host))
        self._gate.established(host)
        if self._closed or self._ready.qsize() >= WAITING:
            transport.abort()
        else:
            self._ready.put_nowait(transport)


async def _accepted(sock: socket.socket) -> tuple[socket.socket, tuple[str, int]]:
    """Return the next connection of a listening socket.

    `loop.sock_accept` loses a connection that comes in the turn in which its waiter is cancelled; here nothing is
    accepted unless somebody takes it.
    """
    loop = asyncio.get_running_loop()
    while True:
        try:
            connection, address = sock.accept()
        except (BlockingIOError, InterruptedError):
            ready = asyncio.Event()
            loop.add_reader(sock, ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_reader(sock)
        else:
            connection.setblocking(False)
            return connection, address


async def listen(
    host: str,
    port: int,
    *,
    tcp: TransportKind | None,
    quic: bool,
    certificate: Certificate | None,
    gate: ConnectionGate | None = None,
    quic_window: int = PAIR_IN_FLIGHT_BYTES,
    door: PlainDoor | None = None,
) -> Listener:
    """Listen at `host` ("" and "::": every address of both families) and return the open listener.

    `tcp` is TransportKind.TCP (plain), TransportKind.TLS or None; with `quic` UDP has the same port number.
    Port 0 lets the kernel choose one number for all. `quic_window` is what a QUIC client may have under way before
    we read it (bytes), the memory that one that is not read costs. `door` takes connections to a TLS port that are no
    TLS. TLS needs `certificate`; QUIC without one is bound and waits for `Listener.serve_quic`, what arrives there in the
    kernel's buffer. Raises OSError where the address cannot be had.
    """
    if tcp not in (None, TransportKind.TCP, TransportKind.TLS) or (tcp is None and not quic):
        raise MisuseError("A listener needs TCP, TLS or QUIC.")
    if certificate is None and tcp is TransportKind.TLS:
        raise MisuseError("TLS needs a certificate.")
    kinds = ([socket.SOCK_STREAM] if tcp is not None else []) + ([socket.SOCK_DGRAM] if quic else [])
    places = await _places(host)
    bound = _bind_all(places, port, kinds)
    listener = Listener(gate if gate is not None else OpenGate(), door)
    listener.addresses = tuple(
        dict.fromkeys((name[0], name[1]) for name in (sock.getsockname() for sock in bound))
    )
    try:
        context = server_context(certificate) if certificate and tcp is TransportKind.TLS else None
        for sock in bound:
            if sock.type == socket.SOCK_STREAM:
                sock.listen(BACKLOG)
                listener._start_tcp(sock, context)  # noqa: SLF001  (one module, one thing)
            elif certificate is None:
                listener._unserved.append(sock)  # noqa: SLF001  (as above)
            else:
                listener._start_quic(sock, certificate, quic_window)  # noqa: SLF001  (as above)
    except BaseException:
        await listener.close()
        for sock in bound:
            sock.close()
        raise
    return listener


async def _places(host: str) -> list[tuple[socket.AddressFamily, str]]:
    """Return the families and literal addresses to bind; the first must be had, the others where they can."""
    if host in ("", "::", "*"):
        return [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]  # noqa: S104  (asked for by name)
    found = await asyncio.get_running_loop().getaddrinfo(
        host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _bind_all(
    places: list[tuple[socket.AddressFamily, str]], port: int, kinds: list[socket.SocketKind]
) -> list[socket.socket]:
    """Bind every kind at every place to one number. A family that this machine lacks is left out."""
    for _ in range(PORT_TRIES):
        bound: list[socket.socket] = []
        try:
            for family, address in places:
                _bind_place(bound, family, address, port, kinds, optional=len(places) > 1)
        except BaseException as error:
            for sock in bound:
                sock.close()
            # Free for one protocol or family, taken in another: only a number of our own can be retried.
            clash = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            if not clash or port or not bound:
                raise
        else:
            if bound:
                return bound
            raise OSError(errno.EADDRNOTAVAIL, "this machine has none of the addresses to listen at")
    raise OSError(errno.EADDRINUSE, "no port number is free for TCP and UDP at once")


def _bind_place(
    bound: list[socket.socket],
    family: socket.AddressFamily,
    address: str,
    port: int,
    kinds: list[socket.SocketKind],
    *,
    optional: bool,
) -> None:
    """Add a socket of every kind to `bound`, on the number of those that it holds already."""
    for kind in kinds:
        number = bound[0].getsockname()[1] if bound else port
        try:
            bound.append(_bind(family, kind, address, number))
        except OSError as error:
            if not optional or error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise


def _bind(family: socket.AddressFamily, kind: socket.SocketKind, address: str, port: int) -> socket.socket:
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
    except BaseException:
        sock.close()
        raise
    return sock

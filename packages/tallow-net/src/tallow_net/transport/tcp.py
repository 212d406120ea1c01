"""Plain TCP, and TLS 1.3 over TCP with a half-close."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import secrets
import socket
import ssl
import tempfile
import threading
from typing import TYPE_CHECKING

from tallow_net.errors import ConnectionLostError, NotTallowError, PeerUnreachableError
from tallow_net.limits import CLOSE_TCP_S, SMALL_SEGMENT_BYTES
from tallow_net.transport.guarded import GuardedTransport
from tallow_net.transport.interface import TransportKind, remote_name
from tallow_net.transport.sockets import CLOSED_HERE, AsyncSocket, drain

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from tallow_net.errors import ConnectError
    from tallow_net.transport.certificates import Certificate
    from tallow_net.transport.measure import Measured

ALPN = "tallow/1"

# TLS is sealed and opened in pieces of this size: about 0.15 ms of work between two turns of the loop, and
# large enough that calls cost nothing beside the cipher.
TLS_PIECE_BYTES = 256 * 1024


async def connected_socket(
    address: tuple[str, int],
    family: socket.AddressFamily,
    unreachable: type[ConnectError],
    *,
    small_segments: bool = False,
) -> socket.socket:
    """Return a TCP socket that is connected to `address` (a literal IP address).

    With `small_segments` both ends send no segment that some path would swallow for its size: ours is told to the
    other end (RFC 9293, section 3.7.1), which keeps to it.
    """
    loop = asyncio.get_running_loop()
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if small_segments:
            _keep_segments_small(sock)
        await loop.sock_connect(sock, address)
    except OSError as error:
        sock.close()
        # By its number: asyncio puts words of its own into strerror.
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise unreachable(f"{remote_name(address)} cannot be reached over TCP: {reason}.") from error
    except BaseException:
        sock.close()
        raise
    return sock


def _keep_segments_small(sock: socket.socket) -> None:
    option = getattr(socket, "TCP_MAXSEG", None)
    if option is not None:
        with contextlib.suppress(OSError):  # a system that lets nobody choose: the size is its own
            sock.setsockopt(socket.IPPROTO_TCP, option, SMALL_SEGMENT_BYTES)


def local_host(sock: socket.socket) -> str | None:
    """Return the address of our end of an Internet socket; None of any other kind, or of one that has ended."""
    try:
        name = sock.getsockname()
    except OSError:
        return None
    return str(name[0]) if isinstance(name, tuple) else None


class TcpTransport(GuardedTransport):
    """A plain TCP connection. Nothing is buffered above the kernel, in either direction."""

    kind = TransportKind.TCP

    def __init__(self, sock: socket.socket, remote: str) -> None:
        self.remote = remote
        self.local = local_host(sock)
        self._socket = AsyncSocket(sock)

    @classmethod
    async def connect(
        cls,
        address: tuple[str, int],
        family: socket.AddressFamily = socket.AF_INET,
        *,
        unreachable: type[ConnectError] = PeerUnreachableError,
        small_segments: bool = False,
    ) -> Self:
        """Connect to a literal IP address; raises `unreachable`. `small_segments` as for `connected_socket`."""
        sock = await connected_socket(address, family, unreachable, small_segments=small_segments)
        return cls(sock, remote_name(address))

    async def flush(self) -> None:
        """Return at once: all that was accepted is in the kernel."""

    async def _close_in_order(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._socket.interrupt()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TCP_S):
                if not self._broken:
                    await self._finish_once()
                self._socket.shutdown_write()
                await drain(self._socket.receive_into)
        self._socket.close()
        self._report_end()

    def abort(self) -> None:
        """See Transport."""
        self._closing = True
        if not self._socket.closed:
            self._socket.reset()
            self._report_end()

    def measured(self) -> Measured | None:
        """Return what the kernel measured on this connection, None where it does not tell."""
        return self._socket.measured()

    def take_socket(self) -> socket.socket:
        """Give the connected, non-blocking socket away, for a thread to own; the caller closes it.

        The transport is closed from here on. Call it while nothing is sent or received. Raises ConnectionLostError where
        the connection was closed already.
        """
        if self._closing:
            raise ConnectionLostError(CLOSED_HERE, by="us")
        self._closing = True
        sock = self._socket.take()
        self._report_end()
        return sock

    async def _send(self, views: list[memoryview]) -> None:
        await self._socket.send(views)

    async def _receive(self, buffer: memoryview) -> int:
        return await self._socket.receive_into(buffer)

    async def _end_stream(self) -> None:
        self._socket.shutdown_write()


class _Scratch(threading.local):
    """Where ciphertext passes through: filled and emptied without a wait, so one a thread is enough."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(TLS_PIECE_BYTES))


_scratch = _Scratch()


class TcpTlsTransport(TcpTransport):
    """TLS 1.3 over TCP. The engine works on memory, so a close_notify ends one direction only.

    (asyncio's own TLS closes both.) An end without close_notify is a lost connection: nobody on the way can
    cut a stream short unseen (RFC 8446, section 6.1).
    """

    kind = TransportKind.TLS

    def __init__(
        self, sock: socket.socket, remote: str, context: ssl.SSLContext, *, server_name: str | None
    ) -> None:
        super().__init__(sock, remote)
        self._socket = AsyncSocket(sock, turn_bytes=TLS_PIECE_BYTES)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_name is None, server_hostname=server_name
        )
        self._opened = b""
        self._peer_finished = False
        self._failure: ConnectionLostError | None = None

    @classmethod
    async def connect(
        cls,
        address: tuple[str, int],
        family: socket.AddressFamily = socket.AF_INET,
        *,
        server_name: str | None = None,
        unreachable: type[ConnectError] = PeerUnreachableError,
        small_segments: bool = False,
    ) -> Self:
        """Connect to a literal IP address and complete the handshake.

        The certificate is not judged here: it stands in `peer_certificate_der`. Raises `unreachable`, or
        NotTallowError where something else answers. `small_segments` as for `connected_socket`.
        """
        sock = await connected_socket(address, family, unreachable, small_segments=small_segments)
        transport = cls(sock, remote_name(address), client_context(), server_name=server_name or address[0])
        try:
            await transport.handshake()
        except ConnectionLostError as error:
            transport.abort()
            raise unreachable(f"{transport.remote} ended the connection during the handshake.") from error
        except BaseException:
            transport.abort()
            raise
        return transport

    @classmethod
    async def accept(cls, sock: socket.socket, remote: str, context: ssl.SSLContext) -> Self:
        """Complete the handshake as the server. Raises as `handshake` does; the socket is then closed."""
        transport = cls(sock, remote, context, server_name=None)
        try:
            await transport.handshake()
        except BaseException:
            transport.abort()
            raise
        return transport

    async def handshake(self) -> None:
        """Complete the handshake; the caller sets the deadline. NotTallowError, ConnectionLostError."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._push()
                if not await self._pull():
                    raise ConnectionLostError("The peer left during the TLS handshake.", by="peer") from None
            except ssl.SSLError as error:
                self._socket.try_send(self._outgoing.read())
                raise NotTallowError(
                    f"{self.remote} does not speak Tallow's TLS ({error.reason or 'no reason given'})."
                ) from error
        await self._push()
        if self._tls.selected_alpn_protocol() != ALPN:
            raise NotTallowError(f"{self.remote} speaks TLS, but not Tallow.")
        self.peer_certificate_der = self._tls.getpeercert(binary_form=True)
        if self.peer_certificate_der is not None:
            self.peer_chain_der = peer_chain(self._tls) or (self.peer_certificate_der,)

    async def _send(self, views: list[memoryview]) -> None:
        sealed = 0
        for view in views:
            start = 0
            while start < len(view):
                piece = view[start : start + TLS_PIECE_BYTES - sealed]
                try:
                    count = self._tls.write(piece)
                except ssl.SSLError as error:
                    raise _damaged(error) from error
                start += count
                sealed += count
                if sealed >= TLS_PIECE_BYTES:
                    await self._push()
                    sealed = 0
        await self._push()

    async def _receive(self, buffer: memoryview) -> int:
        while True:
            count = self._open_into(buffer)
            if count or self._peer_finished:
                return count
            if self._failure is not None:
                raise self._failure
            if not await self._pull():
                self._failure = ConnectionLostError(
                    "The connection ended without the end of its TLS stream.", by="network"
                )

    def _open_into(self, buffer: memoryview) -> int:
        """Open what has arrived, at most TLS_PIECE_BYTES of it."""
        if self._opened:
            count = min(len(buffer), len(self._opened))
            buffer[:count] = self._opened[:count]
            self._opened = self._opened[count:]
            return count
        filled = 0
        room = min(len(buffer), TLS_PIECE_BYTES)
        while filled < room and not self._peer_finished and self._failure is None:
            try:
                count = self._read_tls(buffer[filled:room])
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                self._peer_finished = True
                break
            except ssl.SSLError as error:
                # Not raised yet: what was opened before it is good.
                self._failure = _damaged(error)
                break
            if count == 0:
                self._peer_finished = True
            filled += count
        return filled

    def _read_tls(self, buffer: memoryview) -> int:
        # typeshed's second overload asks for a bytearray and forgets what it returns then: a count.
        read: Callable[[int, memoryview], int] = self._tls.read  # type: ignore[assignment]  # as said above
        return read(len(buffer), buffer)

    async def _end_stream(self) -> None:
        # unwrap() writes our close_notify, then looks for the peer's, and takes data that it finds instead
        # for an error. So it must find nothing: what was opened in part is kept aside, what has arrived is
        # taken out for the moment.
        if (pending := self._tls.pending()) and not self._peer_finished:
            self._opened += self._tls.read(pending)
        arrived = self._incoming.read()
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            raise _damaged(error) from error
        finally:
            self._incoming.write(arrived)
        await self._push()

    async def _push(self) -> None:
        if self._outgoing.pending:
            await self._socket.send([memoryview(self._outgoing.read())])

    async def _pull(self) -> int:
        count = await self._socket.receive_into(_scratch.view)
        self._incoming.write(_scratch.view[:count])
        return count


def _damaged(error: ssl.SSLError) -> ConnectionLostError:
    return ConnectionLostError(f"The TLS stream failed ({error.reason or 'no reason given'}).", by="network")


def _context(purpose: int) -> ssl.SSLContext:
    context = ssl.SSLContext(purpose)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([ALPN])
    return context


def client_context() -> ssl.SSLContext:
    """Return the context of a client: TLS 1.3 alone, the certificate left to the caller's own check."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def peer_chain(tls: ssl.SSLObject) -> tuple[bytes, ...]:
    """Return the certificates (DER) that the peer sent, unverified; empty where Python cannot tell."""
    public = getattr(tls, "get_unverified_chain", None)  # Python 3.13
    if public is not None:
        return tuple(public() or ())
    private = getattr(getattr(tls, "_sslobj", None), "get_unverified_chain", None)
    if private is None:
        return ()
    return tuple(certificate.public_bytes(ENCODING_DER) for certificate in private() or ())


# _ssl.ENCODING_DER, which the public module does not name.
ENCODING_DER = 2


def server_context(certificate: Certificate) -> ssl.SSLContext:
    """Return the context of a server: TLS 1.3 alone, no session tickets."""
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    _load(context, certificate)
    return context


def _load(context: ssl.SSLContext, certificate: Certificate) -> None:
    """Give the certificate to OpenSSL, which takes it from a file alone.

    The file lies in the system's temporary place for a moment, for our eyes only, its key under a password
    that nobody else has.
    """
    from cryptography.hazmat.primitives import serialization

    password = secrets.token_hex(32)
    key = serialization.load_pem_private_key(certificate.private_key_pem.reveal(), password=None)
    sealed = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password.encode()),
    )
    descriptor, name = tempfile.mkstemp()
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(sealed + ssl.DER_cert_to_PEM_cert(certificate.certificate_der).encode())
        context.load_cert_chain(name, password=password)
    finally:
        pathlib.Path(name).unlink()

"""What every transport gives: one open, ordered, two-way stream of bytes."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from enum import Enum
from typing import TYPE_CHECKING

from tallow_net.errors import ConnectionLostError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

Buffer = bytes | bytearray | memoryview


class TransportKind(Enum):
    """How the bytes of an open transport travel."""

    QUIC = "quic"
    TLS = "tls"
    TCP = "tcp"
    MEMORY = "memory"


class TransportChoice(Enum):
    """What the user allows; the values are the words of `--transport`."""

    AUTO = "auto"
    QUIC = "quic"
    TCP = "tcp"


class Transport(ABC):
    """An open, ordered byte stream in both directions.

    One task may send while another receives; two sends, or two receives, at the same time are a mistake
    of the caller (MisuseError). Every failure of the stream is a ConnectionLostError that names who ended
    it. `async with` closes at the end of the scope, and aborts when the scope is left by an exception.
    """

    kind: TransportKind
    remote: str
    """The peer as "host:port" ("[host]:port" for IPv6); for people and logs of the caller's choice."""
    local: str | None = None
    """Our own address (no port) where the transport is bound to one; None where it is not, or that is not known."""
    peer_certificate_der: bytes | None = None
    """The peer's own certificate (DER) where the transport is encrypted and the peer showed one."""
    peer_chain_der: tuple[bytes, ...] = ()
    """The certificates that the peer sent, its own first; unverified."""

    _ended: Callable[[], None] | None = None
    _close_done: asyncio.Event | None = None

    @property
    def peer_spki(self) -> bytes | None:
        """SHA-256 (32 bytes) of the SubjectPublicKeyInfo of the peer's certificate, or None without a readable one."""
        if self.peer_certificate_der is None:
            return None
        from tallow_net.transport.certificates import spki_sha256

        try:
            return spki_sha256(self.peer_certificate_der)
        except ValueError:
            return None

    @abstractmethod
    async def send(self, *buffers: Buffer) -> None:
        """Accept all bytes of `buffers` in order; wait while too much is under way.

        After the return the caller may reuse the buffers. Sends may not overlap. After a cancellation an
        unknown part has left: the transport refuses further sends, receiving goes on. Raises
        ConnectionLostError.
        """

    @abstractmethod
    async def receive_into(self, buffer: memoryview) -> int:
        """Fill the start of `buffer` (1 byte or more, writable); return the count, 0 once the peer finished.

        Waits for at least one byte. Receives may not overlap. A cancellation loses no byte. Raises
        ConnectionLostError, after everything that had arrived has been read.
        """

    @abstractmethod
    async def finish(self) -> None:
        """End this direction (TCP FIN, TLS close_notify, QUIC stream FIN); receiving goes on. Idempotent."""

    @abstractmethod
    async def flush(self) -> None:
        """Wait until no accepted byte is left in our own buffers (QUIC: until the peer acknowledged all).

        Unbounded: the caller sets the deadline. Cancellation leaves everything as it was. Raises
        ConnectionLostError.
        """

    async def close(self) -> None:
        """Finish, let what was accepted arrive, and release everything.

        Bounded: QUIC waits at most 5 s for acknowledgements, TCP and TLS drain at most 2 s. Idempotent, may
        be called from several tasks; a receive or send that is under way ends with ConnectionLostError.
        A lost connection is no error here. A cancellation aborts.
        """
        if self._close_done is not None:
            await self._close_done.wait()
            return
        self._close_done = asyncio.Event()
        try:
            await self._close_in_order()
        except ConnectionLostError:
            pass  # nothing can be delivered any more, which is what the caller is about to accept
        finally:
            self.abort()
            self._close_done.set()

    @abstractmethod
    async def _close_in_order(self) -> None:
        """Do what close() promises; abort() follows and releases the rest."""

    @abstractmethod
    def abort(self) -> None:
        """End at once, dropping what is under way; the peer sees a lost connection. Idempotent."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.abort()
        await self.close()

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, when the transport has released its socket. For listeners."""
        self._ended = callback

    def _report_end(self) -> None:
        callback, self._ended = self._ended, None
        if callback is not None:
            callback()


def remote_name(address: tuple[str, int] | tuple[str, int, int, int]) -> str:
    """Return "host:port", an IPv6 host in brackets."""
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

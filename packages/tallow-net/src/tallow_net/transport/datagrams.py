"""The loop between a UDP socket and the QUIC connections on it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("tallow_net.quic")

# Kernel buffers of the UDP socket: a burst of a whole window must not be dropped while Python works. The
# kernel may give less (net.core.rmem_max).
SOCKET_BUFFER_BYTES = 4 * 1024 * 1024

# Datagrams in one turn of the loop: about 3 ms of work.
TURN_DATAGRAMS = 64

# Longer than any datagram we accept: a longer one is cut off here, and then does not decrypt.
LONGEST_DATAGRAM = 2048

# Options that make the kernel send datagrams whole or not at all, whatever it believes of the path's MTU: level,
# option, value. Linux: IP_MTU_DISCOVER and IPV6_MTU_DISCOVER to IP_PMTUDISC_PROBE; macOS: IP_DONTFRAG and
# IPV6_DONTFRAG; Windows: IP_DONTFRAGMENT and IPV6_DONTFRAG.
NEVER_FRAGMENT: dict[str, dict[socket.AddressFamily, tuple[int, int, int]]] = {
    "linux": {socket.AF_INET: (socket.IPPROTO_IP, 10, 3), socket.AF_INET6: (socket.IPPROTO_IPV6, 23, 3)},
    "darwin": {socket.AF_INET: (socket.IPPROTO_IP, 28, 1), socket.AF_INET6: (socket.IPPROTO_IPV6, 62, 1)},
    "win32": {socket.AF_INET: (socket.IPPROTO_IP, 14, 1), socket.AF_INET6: (socket.IPPROTO_IPV6, 14, 1)},
}

Address = Any  # what the socket module gives: a pair for IPv4, four values for IPv6


def never_fragment(sock: socket.socket) -> bool:
    """Keep a UDP socket from fragmenting; False where the system cannot be told so."""
    try:
        sock.setsockopt(*NEVER_FRAGMENT[sys.platform][sock.family])
    except (KeyError, OSError):
        return False
    return True


class DatagramUser(Protocol):
    """A connection that sends through the loop."""

    def receive(self, data: bytes, segment_bytes: int, address: Address, now: float) -> None:
        """Take datagrams that came together, as QuicEngine.receive does; `advance` follows once all that is readable was given out."""

    def advance(self, now: float) -> None:
        """Handle events, send what is due and set the timer."""


class DatagramLoop:
    """Reads every datagram that is readable, gives them out, then lets each connection answer once.

    `route` returns the connection that a datagram is for, or None to drop it; `refused` is told that the
    system reported an error for what was sent (a connected socket whose peer's port is closed).
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        connected_to: Address | None,
        route: Callable[[bytes, Address], DatagramUser | None],
        refused: Callable[[OSError], None],
    ) -> None:
        sock.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            with contextlib.suppress(OSError):  # a smaller buffer is slower, not wrong
                sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
        self.unfragmented = never_fragment(sock)
        """Whether the kernel sends every datagram whole or not at all; only then may they grow."""
        self._socket = sock
        self._peer = connected_to
        self._route = route
        self._refused = refused
        self._loop = asyncio.get_running_loop()
        self._unsent: deque[tuple[bytes, Address]] = deque()
        self._waiting: dict[DatagramUser, None] = {}
        self._loop.add_reader(sock.fileno(), self._on_readable)

    @property
    def closed(self) -> bool:
        """Whether the socket has been closed."""
        return self._socket.fileno() == -1

    @property
    def full(self) -> bool:
        """Whether the kernel takes nothing more at present."""
        return bool(self._unsent)

    def call_when_writable(self, user: DatagramUser) -> None:
        """Call user.advance once the kernel takes datagrams again."""
        self._waiting[user] = None

    def forget(self, user: DatagramUser) -> None:
        """Drop a connection that has ended."""
        self._waiting.pop(user, None)

    def send(self, data: bytes, address: Address) -> None:
        """Send one datagram, or keep it until the kernel takes it. What the system refuses is lost."""
        if self._unsent:
            self._unsent.append((data, address))
        elif not self.closed and not self._try_send(data, address):
            self._unsent.append((data, address))
            self._loop.add_writer(self._socket.fileno(), self._on_writable)

    def close(self) -> None:
        """Close the socket; what waits is offered once more: the word that a connection is over may be in it."""
        if not self.closed:
            for data, address in self._unsent:
                self._try_send(data, address)
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._unsent.clear()
            self._waiting.clear()
            self._socket.close()

    def _try_send(self, data: bytes, address: Address) -> bool:
        try:
            if self._peer is None:
                self._socket.sendto(data, address)
            else:
                self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            # A datagram may always be lost, and QUIC repeats it. What is wrong for good shows as silence,
            # except where the system says so at once.
            if isinstance(error, ConnectionRefusedError):
                self._refused(error)
        return True

    def _on_readable(self) -> None:
        now = time.monotonic()
        touched: dict[DatagramUser, None] = {}
        for _ in range(TURN_DATAGRAMS):
            if self.closed:
                return
            try:
                data, address = self._socket.recvfrom(LONGEST_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._refused(error)
                continue
            if self._peer is not None:
                address = self._peer
            user = self._route(data, address)
            if user is not None:
                user.receive(data, len(data), address, now)
                touched[user] = None
        for user in touched:
            user.advance(now)

    def _on_writable(self) -> None:
        while self._unsent:
            if not self._try_send(*self._unsent[0]):
                return
            if self._unsent:  # the last call may have closed us
                self._unsent.popleft()
        if self.closed:
            return
        self._loop.remove_writer(self._socket.fileno())
        waiting, self._waiting = self._waiting, {}
        now = time.monotonic()
        for user in waiting:
            user.advance(now)

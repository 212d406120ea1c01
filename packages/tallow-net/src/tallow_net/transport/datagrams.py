"""The loop between a UDP socket and the QUIC connections on it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import struct
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = logging.getLogger("tallow_net.quic")

# Kernel buffers of the UDP socket: a burst of a whole window must not be dropped while Python works. The
# kernel may give less (net.core.rmem_max).
SOCKET_BUFFER_BYTES = 4 * 1024 * 1024

# Datagrams, or runs of them, in one turn of the loop, and bytes: about 3 ms of work with either engine.
TURN_DATAGRAMS = 64
TURN_BYTES = 1024 * 1024

# The first byte of a long header is at least this (RFC 9000, section 17.2).
LONG_HEADER = 0x80

# Our connection ids; what a short header is read with.
ID_BYTES = 8

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

# Linux gives and takes many datagrams of one size at once: UDP_SEGMENT and UDP_GRO at SOL_UDP (udp(7)).
SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104

# The kernel takes no more segments, and no more bytes, in one call.
SEGMENTS = 64
SEGMENTED_BYTES = 65_000

ANCILLARY_BYTES = 64  # room for the one control message (24 bytes) and more

# The longest run of datagrams that the kernel gives at once.
GATHERED_BYTES = 65_536

# What the kernel answers where this path or device cannot segment; then each datagram is sent for itself.
CANNOT_SEGMENT = frozenset({errno.EIO, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOPROTOOPT})

Address = Any  # what the socket module gives: a pair for IPv4, four values for IPv6


def never_fragment(sock: socket.socket) -> bool:
    """Keep a UDP socket from fragmenting; False where the system cannot be told so."""
    try:
        sock.setsockopt(*NEVER_FRAGMENT[sys.platform][sock.family])
    except (KeyError, OSError):
        return False
    return True


def _can_segment(sock: socket.socket) -> bool:
    """Return whether the kernel knows UDP_SEGMENT; a device may refuse it still."""
    try:
        return sys.platform == "linux" and sock.getsockopt(SOL_UDP, UDP_SEGMENT) == 0
    except OSError:
        return False


def _gather(sock: socket.socket) -> bool:
    """Let the kernel give runs of datagrams; False where it cannot."""
    if sys.platform != "linux":
        return False
    try:
        sock.setsockopt(SOL_UDP, UDP_GRO, 1)
    except OSError:
        return False
    return True


def _one_connection(data: bytes, segment_bytes: int) -> bool:
    """Return whether all of a run has short headers with one connection id (8 bytes, as all of ours have).

    Looked at byte by byte across the run, which the interpreter does in one step each.
    """
    count = -(-len(data) // segment_bytes)
    return max(data[::segment_bytes]) < LONG_HEADER and all(
        data[place::segment_bytes].count(data[place]) == count for place in range(1, 1 + ID_BYTES)
    )


def runs(datagrams: list[tuple[bytes, Address]]) -> Iterator[tuple[list[bytes], Address]]:
    """Give datagrams in order as runs that one call of the system may carry.

    A run goes to one address and is of one size, but for its last, which may be shorter.
    """
    start = 0
    while start < len(datagrams):
        first, to = datagrams[start]
        size = len(first)
        group = datagrams[start : start + max(1, min(SEGMENTS, SEGMENTED_BYTES // max(size, 1)))]
        run = [data for data, address in group if address == to]
        if len(run) < len(group) or len(run[-1]) > size or not {size}.issuperset(map(len, run[:-1])):
            run = _longest_run(group)
        yield run, to
        start += len(run)


def _longest_run(group: list[tuple[bytes, Address]]) -> list[bytes]:
    """Return the datagrams up to the first that one call cannot carry with those before it."""
    first, to = group[0]
    run = [first]
    for data, address in group[1:]:
        if address != to or len(data) > len(first) or len(run[-1]) < len(first):
            break
        run.append(data)
    return run


class DatagramUser(Protocol):
    """A connection that sends through the loop."""

    def receive(self, data: bytes, segment_bytes: int, address: Address, now: float) -> None:
        """Take datagrams that came together, as QuicEngine.receive does; `advance` follows once all that is readable was given out."""

    def advance(self, now: float) -> None:
        """Handle events, send what is due and set the timer."""


class DatagramLoop:
    """Reads every datagram that is readable, gives them out, then lets each connection answer once.

    `route` returns the connection that a datagram is for, or None to drop it; `refused` is told that the
    system reported an error for what was sent (a connected socket whose peer's port is closed). The
    kernel is given, and gives, runs of datagrams of one size where it can.
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
        self._segments = _can_segment(sock)
        self._gathered = bytearray(GATHERED_BYTES) if _gather(sock) else None
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

    def send_all(self, datagrams: list[tuple[bytes, Address]]) -> None:
        """Send datagrams in order, as `send` does, in as few calls of the system as it allows."""
        if not self._segments:
            for data, address in datagrams:
                self.send(data, address)
            return
        for run, address in runs(datagrams):
            if len(run) == 1 or self._unsent or self.closed or not self._try_send_run(run, address):
                for data in run:
                    self.send(data, address)

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

    def _try_send_run(self, run: list[bytes], address: Address) -> bool:
        """Send datagrams of one size, the last of which may be shorter; False where each has to go alone."""
        size = [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", len(run[0])))]
        try:
            if self._peer is None:
                self._socket.sendmsg(run, size, 0, address)
            else:
                self._socket.sendmsg(run, size)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno in CANNOT_SEGMENT:
                self._segments = False
                return False
            if isinstance(error, ConnectionRefusedError):
                self._refused(error)
        return True

    def _read(self) -> tuple[bytes, int, Address]:
        """Return datagrams of one size, that size, and where they came from."""
        if self._gathered is None:
            data, address = self._socket.recvfrom(LONGEST_DATAGRAM)
            return data, max(len(data), 1), address
        count, ancillary, _flags, address = self._socket.recvmsg_into([self._gathered], ANCILLARY_BYTES)
        size = count
        for level, kind, value in ancillary:
            if (level, kind) == (SOL_UDP, UDP_GRO):
                size = struct.unpack_from("@i", value)[0]
        return bytes(memoryview(self._gathered)[:count]), max(size, 1), address

    def _on_readable(self) -> None:
        now = time.monotonic()
        touched: dict[DatagramUser, None] = {}
        total = 0
        for _ in range(TURN_DATAGRAMS):
            if self.closed:
                return
            try:
                data, segment_bytes, address = self._read()
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._refused(error)
                continue
            self._give_out(data, segment_bytes, self._peer or address, now, touched)
            total += len(data)
            if total >= TURN_BYTES:
                break
        for user in touched:
            user.advance(now)

    def _give_out(
        self, data: bytes, segment_bytes: int, address: Address, now: float, touched: dict[DatagramUser, None]
    ) -> None:
        for part in self._parts(data, segment_bytes):
            user = self._route(part, address) if part else None
            if user is not None:
                user.receive(part, segment_bytes, address, now)
                touched[user] = None

    def _parts(self, data: bytes, segment_bytes: int) -> tuple[bytes, ...] | list[bytes]:
        """Return `data` whole where all of it is for one connection, else each datagram."""
        if len(data) <= segment_bytes or self._peer is not None or _one_connection(data, segment_bytes):
            return (data,)
        return [data[start : start + segment_bytes] for start in range(0, len(data), segment_bytes)]

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

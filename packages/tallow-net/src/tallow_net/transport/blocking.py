"""BlockingStream: a plain TCP socket of which one thread owns one direction, and the event loop the other.

Bulk moves fastest through blocking calls in a thread of its own. The other direction carries a small frame now and
then: the loop uses the same descriptor with MSG_DONTWAIT, and waits for it through an epoll descriptor of its own,
since an event loop would make the socket itself non-blocking.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import sys
from typing import TYPE_CHECKING

from tallow_net.errors import ConnectionLostError, EndOfStreamError
from tallow_net.transport.measure import measured

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallow_net.transport.measure import Measured

__all__ = ["BLOCKING_STREAMS", "BlockingStream"]

BLOCKING_STREAMS = sys.platform == "linux"
"""Whether this system has what a BlockingStream needs: epoll, MSG_DONTWAIT, MSG_WAITALL, time-outs of a socket."""

TURN_S = 1
"""A blocking call comes back after this long without a byte, so that a thread sees that it shall end."""

_NOT_SENT_LOW = int(getattr(socket, "TCP_NOTSENT_LOWAT", 25))
"""Linux's number; Python 3.11 has no name for it."""

_WHOLE = int(getattr(socket, "MSG_WAITALL", 0))
_AT_ONCE = int(getattr(socket, "MSG_DONTWAIT", 0))
_TIMEVAL = struct.Struct("@ll")


class BlockingStream:
    """Owns a connected TCP socket. `receive` and `send` block: each belongs to one thread. The rest never waits."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # settimeout() would make the descriptor non-blocking, and MSG_WAITALL void.
        turn = _TIMEVAL.pack(TURN_S, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, turn)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, turn)
        self._sock = sock
        self._poll = select.poll()
        self._poll.register(sock.fileno(), select.POLLIN)
        self._epoll = select.epoll()
        self._epoll.register(sock.fileno(), 0)
        self._stopped = False

    # -- the thread's side ---------------------------------------------------------------------------------

    def receive(self, buffer: memoryview, heard: Callable[[], None]) -> bool:
        """Fill `buffer`; False where the peer finished before its first byte. `heard` is called as bytes come.

        Raises EndOfStreamError where the peer finished inside, ConnectionLostError.
        """
        filled = 0
        size = len(buffer)
        while filled < size:
            try:
                count = self._sock.recv_into(buffer[filled:], 0, _WHOLE)
            except BlockingIOError:
                if self._stopped:
                    raise self._lost() from None
                continue
            except OSError as error:
                raise self._lost(error) from None
            if count == 0:
                if self._stopped:
                    raise self._lost()
                if filled:
                    raise EndOfStreamError("The peer ended the connection inside a frame.", by="peer")
                return False
            filled += count
            heard()
        return True

    def arrives(self, within_s: float) -> bool:
        """Return whether `receive` would find a byte, or the end, within that time."""
        return bool(self._poll.poll(within_s * 1000))

    def send(self, data: memoryview) -> None:
        """Send all of `data`. Raises ConnectionLostError."""
        sent = 0
        while sent < len(data):
            try:
                sent += self._sock.send(data[sent:])
            except BlockingIOError:
                if self._stopped:
                    raise self._lost() from None
            except OSError as error:
                raise self._lost(error) from None

    # -- the loop's side -----------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Return the descriptor that is readable when what `watch` asked for has come."""
        return self._epoll.fileno()

    def watch(self, *, readable: bool = False, writable: bool = False) -> None:
        """Choose what `fileno` waits for."""
        events = (select.EPOLLIN if readable else 0) | (select.EPOLLOUT if writable else 0)
        self._epoll.modify(self._sock.fileno(), events)

    def try_receive(self, buffer: memoryview) -> int | None:
        """Receive what is there: its count, 0 once the peer finished, None for nothing yet. ConnectionLostError."""
        try:
            return self._sock.recv_into(buffer, 0, _AT_ONCE)
        except BlockingIOError:
            return None
        except OSError as error:
            raise self._lost(error) from None

    def try_send(self, data: memoryview) -> int:
        """Send what the kernel takes at once; return how much that was. Raises ConnectionLostError."""
        try:
            return self._sock.send(data, _AT_ONCE)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._lost(error) from None

    def measured(self) -> Measured | None:
        """Return what the kernel measured on this connection, None where it does not tell."""
        return measured(self._sock)

    def bound_unsent(self, size_bytes: int) -> None:
        """Let `send` wait while this much was accepted and has not left yet, where the system can tell."""
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.IPPROTO_TCP, _NOT_SENT_LOW, size_bytes)

    def finish(self) -> None:
        """End our direction behind everything that was sent."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def stop(self) -> None:
        """End both directions; a thread inside `receive` or `send` comes back at once."""
        self._stopped = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Release the socket, once no thread is inside a call any more. Idempotent."""
        self._epoll.close()
        self._sock.close()

    def _lost(self, error: OSError | None = None) -> ConnectionLostError:
        if self._stopped:
            return ConnectionLostError("This side closed the connection.", by="us")
        peer = isinstance(error, ConnectionResetError | BrokenPipeError)
        reason = "" if error is None or not error.strerror else f" ({error.strerror})"
        return ConnectionLostError(f"The data connection was lost{reason}.", by="peer" if peer else "network")

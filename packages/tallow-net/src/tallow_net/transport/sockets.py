"""A stream socket whose readiness is awaited, with nothing buffered above the kernel."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from typing import TYPE_CHECKING

from tallow_net.errors import ConnectionLostError
from tallow_net.transport.measure import measured

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tallow_net.transport.interface import Buffer
    from tallow_net.transport.measure import Measured

# A stream that is always ready must not keep the loop for itself: after this much without a wait, let the
# others run. 1 MiB takes about 0.3 ms.
TURN_BYTES = 1024 * 1024

# The kernel takes this many pieces at once (IOV_MAX is 1,024 on Linux).
PIECES_AT_ONCE = 64

CLOSED_HERE = "This side has closed the connection."


def lost(error: OSError) -> ConnectionLostError:
    """Return the ConnectionLostError that says what the kernel said."""
    if isinstance(error, ConnectionResetError | BrokenPipeError | ConnectionAbortedError):
        return ConnectionLostError("The peer closed the connection.", by="peer")
    reason = errno.errorcode.get(error.errno or 0, type(error).__name__)
    return ConnectionLostError(f"The connection was lost ({reason}).", by="network")


class AsyncSocket:
    """A connected, non-blocking stream socket. One reader and one writer at a time.

    Reads and writes go straight to the kernel; only when it is full or empty is readiness awaited, through
    add_reader and add_writer. So a reader that stops stops the kernel, and with it the peer.
    """

    def __init__(self, sock: socket.socket, *, turn_bytes: int = TURN_BYTES) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._readable: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._turn = 0
        self._turn_bytes = turn_bytes

    @property
    def closed(self) -> bool:
        """Whether the socket has been given back to the system."""
        return self._sock.fileno() == -1

    def measured(self) -> Measured | None:
        """Return what the kernel measured on this connection, None where it does not tell."""
        return measured(self._sock)

    async def receive_into(self, buffer: memoryview) -> int:
        """Return the count read into the start of `buffer`; 0 at the peer's FIN. Cancelled, it took nothing."""
        await self._let_others_run()
        while True:
            if self.closed:
                raise ConnectionLostError(CLOSED_HERE, by="us")
            try:
                count = self._sock.recv_into(buffer)
            except (BlockingIOError, InterruptedError):
                await self.wait_readable()
            except OSError as error:
                raise lost(error) from error
            else:
                self._turn += count
                return count

    async def send(self, buffers: list[memoryview]) -> None:
        """Give all bytes of `buffers` (byte views) to the kernel."""
        views = [view for view in buffers if len(view)]
        while views:
            if self.closed:
                raise ConnectionLostError(CLOSED_HERE, by="us")
            try:
                count = self._send_now(views)
            except (BlockingIOError, InterruptedError):
                await self.wait_writable()
                continue
            except OSError as error:
                raise lost(error) from error
            self._turn += count
            while views and count >= len(views[0]):
                count -= len(views.pop(0))
            if count:
                views[0] = views[0][count:]
            await self._let_others_run()

    def _send_now(self, views: list[memoryview]) -> int:
        if len(views) == 1 or not hasattr(self._sock, "sendmsg"):
            return self._sock.send(views[0])
        return self._sock.sendmsg(views[:PIECES_AT_ONCE])

    async def _let_others_run(self) -> None:
        if self._turn >= self._turn_bytes:
            self._turn = 0
            await asyncio.sleep(0)

    async def wait_readable(self) -> None:
        """Wait until a read would not block."""
        self._turn = 0
        self._readable = future = self._loop.create_future()
        self._loop.add_reader(self._sock.fileno(), _wake, future)
        try:
            await future
        finally:
            if self._readable is future:
                self._readable = None
                self._loop.remove_reader(self._sock.fileno())

    async def wait_writable(self) -> None:
        """Wait until a write would not block."""
        self._turn = 0
        self._writable = future = self._loop.create_future()
        self._loop.add_writer(self._sock.fileno(), _wake, future)
        try:
            await future
        finally:
            if self._writable is future:
                self._writable = None
                self._loop.remove_writer(self._sock.fileno())

    def interrupt(self) -> None:
        """End a read or write that waits with ConnectionLostError by us."""
        for future, remove in (
            (self._readable, self._loop.remove_reader),
            (self._writable, self._loop.remove_writer),
        ):
            if future is not None:
                remove(self._sock.fileno())
                if not future.done():
                    future.set_exception(ConnectionLostError(CLOSED_HERE, by="us"))
        self._readable = self._writable = None

    def shutdown_write(self) -> None:
        """Send FIN behind everything that the kernel holds."""
        with contextlib.suppress(OSError):  # already reset: the next read says so
            self._sock.shutdown(socket.SHUT_WR)

    def try_send(self, data: Buffer) -> None:
        """Give the kernel what it takes at once; for a last word that nobody waits for."""
        with contextlib.suppress(OSError):
            self._sock.send(data)

    def close(self) -> None:
        """Close in order: the kernel goes on sending what it holds."""
        if not self.closed:
            self.interrupt()
            self._sock.close()

    def take(self) -> socket.socket:
        """Give the socket away, still non-blocking; this end counts as closed."""
        self.interrupt()
        family, kind = self._sock.family, self._sock.type
        taken = socket.socket(family, kind, fileno=self._sock.detach())
        taken.setblocking(False)  # the descriptor is; the new object must know
        return taken

    def reset(self) -> None:
        """Close with RST, dropping what the kernel holds."""
        if not self.closed:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def drain(receive: Callable[[memoryview], Awaitable[int]]) -> None:
    """Read and drop until the end or a loss; the caller sets the deadline.

    Closing with unread bytes sends RST, and that can destroy what we sent last.
    """
    scratch = memoryview(bytearray(64 * 1024))
    with contextlib.suppress(ConnectionLostError):
        while await receive(scratch):
            pass

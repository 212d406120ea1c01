"""SpliceEngine: bytes move from socket to socket in the kernel, through pipes of 1 MiB. Linux alone.

Pipes come from a pool, since an unprivileged user may have only 64 of this size: a direction holds one only while bytes
are in it. Where the kernel grants none a direction copies: through a pipe of the default 64 KiB the same bytes cost 0.6
to 0.8 CPU-seconds a GiB, and 0.45 copied.
"""

import contextlib
import fcntl
import os
import socket
import sys
from collections import deque

from tallow_relay.carriers import Carrier, CopyCarrier, CopyEngine

if sys.platform != "linux":  # nothing imports this there; it tells the type checkers
    raise ImportError("os.splice is Linux's alone")

PIPE_BYTES = 1024 * 1024
# Every pipe may hold 1 MiB of kernel memory; with both ends open this is 64 descriptors.
PIPES = 32
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


def can_splice() -> bool:
    """Return whether this kernel, or what stands for one, splices from a socket through a pipe to a socket."""
    with contextlib.ExitStack() as stack:
        try:
            one, source = (stack.enter_context(sock) for sock in socket.socketpair())
            target, other = (stack.enter_context(sock) for sock in socket.socketpair())
            reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            stack.callback(os.close, reader)
            stack.callback(os.close, writer)
            one.send(b"?")
            os.splice(source.fileno(), writer, 1, flags=_FLAGS)
            os.splice(reader, target.fileno(), 1, flags=_FLAGS)
            return other.recv(1, socket.MSG_DONTWAIT) == b"?"
        except OSError:
            return False


class _Pipe:
    """Both ends of a pipe of 1 MiB."""

    __slots__ = ("reader", "writer")

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


class PipePool:
    """Up to `limit` pipes, made when they are needed and kept.

    Where all are held by receivers that stopped, the one that is stuck the longest is emptied into our memory, which
    bounds what a stopped receiver costs to 1 MiB and keeps the others at full speed.
    """

    def __init__(self, limit: int = PIPES) -> None:
        self._limit = limit
        self._free: list[_Pipe] = []
        self._made = 0
        self.stuck: dict[SpliceCarrier, None] = {}

    @property
    def in_use(self) -> int:
        """How many pipes hold bytes now."""
        return self._made - len(self._free)

    def take(self) -> _Pipe | None:
        """Return an empty pipe, or None where the kernel grants none of this size."""
        if not self._free and self._made < self._limit:
            try:
                self._free.append(_Pipe())
                self._made += 1
            except OSError:
                # What an unprivileged user may have is used up: to ask again costs at every turn.
                self._limit = self._made
        if not self._free and self.stuck:
            next(iter(self.stuck)).evacuate()
        return self._free.pop() if self._free else None

    def give_back(self, pipe: _Pipe, *, empty: bool) -> None:
        """Take a pipe back; one with bytes in it is closed."""
        if empty:
            self._free.append(pipe)
        else:
            pipe.close()
            self._made -= 1

    def close(self) -> None:
        """Close the pipes that are free."""
        while self._free:
            self._free.pop().close()
            self._made -= 1


class SpliceEngine:
    """Carries in the kernel, with a pool of pipes and, where it grants none, the copying."""

    def __init__(self, pool: PipePool | None = None) -> None:
        self.pool = pool or PipePool()
        self._copy = CopyEngine()

    def carrier(self) -> Carrier:
        """Return a carrier that splices."""
        return SpliceCarrier(self.pool, CopyCarrier(self._copy.view))

    def close(self) -> None:
        """See Engine."""
        self.pool.close()


class SpliceCarrier:
    """Splices through a pipe that it holds from a pull until all of it went out."""

    def __init__(self, pool: PipePool, copy: CopyCarrier) -> None:
        self._pool = pool
        self._copy = copy
        self._pipe: _Pipe | None = None
        self._in_pipe = 0
        self._rest = memoryview(b"")

    @property
    def pending(self) -> int:
        """See Carrier."""
        return self._in_pipe + len(self._rest) + self._copy.pending

    def pull(self, source: socket.socket, most: int) -> int:
        """See Carrier."""
        pipe = self._pool.take()
        if pipe is None:
            return self._copy.pull(source, most)
        count = 0
        try:
            count = os.splice(source.fileno(), pipe.writer, most, flags=_FLAGS)
        finally:
            if count:
                self._pipe, self._in_pipe = pipe, count
            else:
                self._pool.give_back(pipe, empty=True)
        return count

    def push(self, target: socket.socket) -> None:
        """See Carrier."""
        if self._pipe is not None:
            self._push_pipe(self._pipe, target)
        elif self._rest:
            while self._rest:
                self._rest = self._rest[target.send(self._rest) :]
        else:
            self._copy.push(target)

    def _push_pipe(self, pipe: _Pipe, target: socket.socket) -> None:
        try:
            while self._in_pipe:
                self._in_pipe -= os.splice(pipe.reader, target.fileno(), self._in_pipe, flags=_FLAGS)
        except BlockingIOError:
            self._pool.stuck.setdefault(self)
            raise
        self._let_go()

    def evacuate(self) -> None:
        """Move what is in the pipe into our memory and give the pipe back."""
        if self._pipe is not None:
            pieces = deque[bytes]()
            while self._in_pipe:
                pieces.append(os.read(self._pipe.reader, self._in_pipe))
                self._in_pipe -= len(pieces[-1])
            self._rest = memoryview(b"".join(pieces))
            self._let_go()

    def release(self) -> None:
        """See Carrier."""
        self._copy.release()
        self._rest = memoryview(b"")
        self._let_go()

    def _let_go(self) -> None:
        self._pool.stuck.pop(self, None)
        if self._pipe is not None:
            self._pool.give_back(self._pipe, empty=self._in_pipe == 0)
            self._pipe, self._in_pipe = None, 0

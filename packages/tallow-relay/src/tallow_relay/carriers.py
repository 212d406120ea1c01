"""Carriers: how the bytes of one direction of a data connection get from one socket to the other.

CopyEngine, here, works everywhere: recv_into and send, through one buffer that all directions share. On Linux the kernel
does it, see splicing.py.
"""

import socket
import sys
from typing import Protocol

# The one buffer of a CopyEngine: the size from which larger calls gain nothing.
COPY_BYTES = 512 * 1024
# What a direction reads at once while its receiver takes less than it is given. What does not go out is kept, so a
# slow receiver costs about this much of our memory, and not the whole buffer.
CAUTIOUS_BYTES = 64 * 1024


class Carrier(Protocol):
    """One direction. `pull` is called only while `pending` is 0, and `push` right behind every pull."""

    @property
    def pending(self) -> int:
        """Bytes that were taken from the source and not yet given to the target."""

    def pull(self, source: socket.socket, most: int) -> int:
        """Take up to `most` bytes and return the count, 0 at the source's end; OSError, BlockingIOError included."""

    def push(self, target: socket.socket) -> None:
        """Give what is pending to the target; OSError, BlockingIOError included, where not all of it went."""

    def release(self) -> None:
        """Drop what is pending and give everything back. Idempotent."""


class Engine(Protocol):
    """Makes carriers."""

    def carrier(self) -> Carrier:
        """Return the carrier of one direction."""

    def close(self) -> None:
        """Give back what is shared; no carrier is used any more."""


class CopyEngine:
    """Carries through one shared buffer."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(COPY_BYTES))

    def carrier(self) -> Carrier:
        """Return a carrier that copies."""
        return CopyCarrier(self.view)

    def close(self) -> None:
        """Nothing is held."""


class CopyCarrier:
    """Reads into the shared buffer and sends from it; keeps only what the target did not take."""

    def __init__(self, shared: memoryview) -> None:
        self._shared = shared
        self._rest = memoryview(b"")
        self._appetite = CAUTIOUS_BYTES

    @property
    def pending(self) -> int:
        """See Carrier."""
        return len(self._rest)

    def pull(self, source: socket.socket, most: int) -> int:
        """See Carrier."""
        count = source.recv_into(self._shared, min(most, self._appetite))
        self._rest = self._shared[:count]
        return count

    def push(self, target: socket.socket) -> None:
        """See Carrier."""
        rest = self._rest
        sent = 0
        try:
            while sent < len(rest):
                sent += target.send(rest[sent:])
        finally:
            if sent == len(rest):
                self._rest = memoryview(b"")
                self._appetite = min(2 * self._appetite, COPY_BYTES)
            elif rest.obj is self._shared.obj:
                # The shared buffer is another direction's next.
                self._rest = memoryview(bytes(rest[sent:]))
                self._appetite = CAUTIOUS_BYTES
            else:
                self._rest = rest[sent:]

    def release(self) -> None:
        """See Carrier."""
        self._rest = memoryview(b"")


def best_engine() -> Engine:
    """Return the engine of this system."""
    if sys.platform == "linux":
        from tallow_relay.splicing import SpliceEngine, can_splice

        if can_splice():
            return SpliceEngine()
    return CopyEngine()

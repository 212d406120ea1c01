"""GuardedTransport: the rules that the interface promises, once for every transport of ours.

Overlapping calls are a mistake of the caller; a side that has ended, or whose send was cut off, sends no more; a side
that was closed receives no more. What is left to a transport is how bytes move.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from tallow_net.errors import ConnectionLostError, MisuseError
from tallow_net.transport.interface import Transport
from tallow_net.transport.sockets import CLOSED_HERE

if TYPE_CHECKING:
    from tallow_net.transport.interface import Buffer

__all__ = ["GuardedTransport"]


class GuardedTransport(Transport):
    """A transport that sends, receives and ends through `_send`, `_receive` and `_end_stream`."""

    _sending = False
    _receiving = False
    _finished = False
    _broken = False
    """A send ended half-way: what left is unknown."""
    _closing = False

    async def send(self, *buffers: Buffer) -> None:
        """See Transport."""
        if self._sending:
            raise MisuseError("send() is already under way")
        if self._closing or self._finished or self._broken:
            raise ConnectionLostError("This side has ended the stream.", by="us")
        self._sending = True
        try:
            await self._send([memoryview(data).cast("B") for data in buffers])
        except BaseException:
            self._broken = True
            raise
        finally:
            self._sending = False

    async def receive_into(self, buffer: memoryview) -> int:
        """See Transport."""
        if self._receiving:
            raise MisuseError("receive_into() is already under way")
        if self._closing:
            raise ConnectionLostError(CLOSED_HERE, by="us")
        self._receiving = True
        try:
            return await self._receive(buffer)
        finally:
            self._receiving = False

    async def finish(self) -> None:
        """See Transport."""
        if self._sending:
            raise MisuseError("send() is still under way")
        if not self._closing:
            await self._finish_once()

    async def _finish_once(self) -> None:
        if not self._finished:
            self._finished = True
            await self._end_stream()

    @abstractmethod
    async def _send(self, views: list[memoryview]) -> None:
        """Accept all bytes of `views` (byte views), in order."""

    @abstractmethod
    async def _receive(self, buffer: memoryview) -> int:
        """Fill the start of `buffer`; 0 once the peer finished."""

    @abstractmethod
    async def _end_stream(self) -> None:
        """End this direction, behind everything that was accepted. Called once."""

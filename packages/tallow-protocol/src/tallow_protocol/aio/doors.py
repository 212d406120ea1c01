"""DirectDoor: where a session is reached directly, beside a relay. Who comes says Attach, or is closed unanswered."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from tallow_net import FrameStream, NetError
from tallow_net.paths.candidates import CandidateKind
from tallow_net.transport.interface import TransportKind

from tallow_protocol.core.keeping import ATTACH_WAIT_S, HALF_OPEN_LINKS
from tallow_protocol.limits import ATTACH_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tallow_net import Transport
    from tallow_net.transport.certificates import Certificate
    from tallow_net.transport.listener import Listener

__all__ = ["DirectDoor"]


class DirectDoor:
    """Listens with TCP, QUIC or both. `attach` takes every connection that said a first frame, and owns it then."""

    def __init__(self, host: str, attach: Callable[[FrameStream, bytes], Awaitable[None]]) -> None:
        self._host = host
        self._attach = attach
        self._listeners: dict[CandidateKind, Listener] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent = 0

    @property
    def ports(self) -> dict[CandidateKind, int]:
        """Return what listens and the number of its port."""
        return {kind: listener.port for kind, listener in self._listeners.items()}

    async def open(self, *, tcp: bool, quic: bool) -> None:
        """Listen with what is asked for and does not listen yet; what cannot be had is left out."""
        from tallow_net.transport.listener import listen

        if tcp and CandidateKind.TCP not in self._listeners:
            with contextlib.suppress(OSError):
                made = await listen(self._host, 0, tcp=TransportKind.TCP, quic=False, certificate=None)
                self._add(CandidateKind.TCP, made)
        if quic and CandidateKind.QUIC not in self._listeners:
            certificate = await asyncio.to_thread(_quic_certificate)
            with contextlib.suppress(OSError):
                made = await listen(self._host, 0, tcp=None, quic=True, certificate=certificate)
                self._add(CandidateKind.QUIC, made)

    def _add(self, kind: CandidateKind, listener: Listener) -> None:
        self._listeners[kind] = listener
        self._spawn(self._accept(listener))

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: Listener) -> None:
        with contextlib.suppress(NetError):  # the listener was closed
            while True:
                transport = await listener.accept()
                if self._silent >= HALF_OPEN_LINKS:
                    transport.abort()
                else:
                    self._silent += 1
                    self._spawn(self._hear(transport))

    async def _hear(self, transport: Transport) -> None:
        """Read the first frame; silence, an end and anything longer than an Attach are closed without an answer."""
        frames = FrameStream(transport, limit=ATTACH_BYTES)
        try:
            async with asyncio.timeout(ATTACH_WAIT_S):
                body = await frames.read()
        except (NetError, TimeoutError):
            transport.abort()
            return
        except BaseException:
            transport.abort()
            raise
        finally:
            self._silent -= 1
        if body is None:
            transport.abort()
        else:
            await self._attach(frames, body)

    async def close(self) -> None:
        """Stop listening and drop who has not attached."""
        for listener in self._listeners.values():
            await listener.close()
        self._listeners.clear()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _quic_certificate() -> Certificate:
    """Import the engine and make a certificate, which takes a tenth of a second, away from the loop."""
    import tallow_net.transport.quic_listener  # noqa: F401 - loaded in a thread, used by whoever listens
    from tallow_net.transport.certificates import generate_certificate

    return generate_certificate()

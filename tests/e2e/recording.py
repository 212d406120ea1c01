"""A relay that records every byte that it reads and writes, behind its TLS."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from tallow_net.framing import HEADER_BYTES
from tallow_net.transport.interface import Buffer, Transport
from tallow_relay import server as relay_server
from tallow_relay.config import RelayConfig
from tallow_relay.server import RelayServer

from tests.relay.relay_kit import certificate


@dataclass
class Leg:
    """What passed on one connection: heard from the client, said to it."""

    remote: str
    heard: bytearray = field(default_factory=bytearray)
    said: bytearray = field(default_factory=bytearray)

    @property
    def frames_heard(self) -> list[bytes]:
        """The frame bodies that the client sent; AssertionError where its bytes are not whole frames."""
        return split_frames(bytes(self.heard))

    @property
    def frames_said(self) -> list[bytes]:
        """The frame bodies that the client was sent."""
        return split_frames(bytes(self.said))


def split_frames(stream: bytes) -> list[bytes]:
    """Return the bodies of `u32 length || body` frames that fill the stream exactly."""
    bodies, at = [], 0
    while at < len(stream):
        assert at + HEADER_BYTES <= len(stream), "a frame's header is cut"
        length = int.from_bytes(stream[at : at + HEADER_BYTES], "big")
        at += HEADER_BYTES
        assert at + length <= len(stream), "a frame's body is cut"
        bodies.append(stream[at : at + length])
        at += length
    return bodies


class RecordedTransport(Transport):
    """Passes everything on and keeps a copy."""

    def __init__(self, inner: Transport, leg: Leg) -> None:
        self._inner = inner
        self._leg = leg
        self.kind = inner.kind
        self.remote = inner.remote

    async def send(self, *buffers: Buffer) -> None:
        for buffer in buffers:
            self._leg.said += buffer
        await self._inner.send(*buffers)

    async def receive_into(self, buffer: memoryview) -> int:
        count = await self._inner.receive_into(buffer)
        self._leg.heard += buffer[:count]
        return count

    async def finish(self) -> None:
        await self._inner.finish()

    async def flush(self) -> None:
        await self._inner.flush()

    async def close(self) -> None:
        await self._inner.close()

    async def _close_in_order(self) -> None:
        await self._inner.close()

    def abort(self) -> None:
        self._inner.abort()

    def on_end(self, callback: Callable[[], None]) -> None:
        self._inner.on_end(callback)


class _RecordedListener:
    def __init__(self, inner, legs: list[Leg]) -> None:
        self._inner = inner
        self._legs = legs

    @property
    def port(self) -> int:
        return self._inner.port

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        return self._inner.addresses

    async def accept(self) -> Transport:
        inner = await self._inner.accept()
        leg = Leg(inner.remote)
        self._legs.append(leg)
        return RecordedTransport(inner, leg)

    async def close(self) -> None:
        await self._inner.close()


@asynccontextmanager
async def recording_relay(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[RelayServer, list[Leg]]]:
    """A real relay whose listener hands out recorded transports; the legs, in order of arrival."""
    legs: list[Leg] = []
    listen = relay_server.listen

    async def recorded_listen(*arguments: object, **settings: object) -> _RecordedListener:
        return _RecordedListener(await listen(*arguments, **settings), legs)

    monkeypatch.setattr(relay_server, "listen", recorded_listen)
    async with RelayServer(RelayConfig(), certificate()) as server:
        yield server, legs

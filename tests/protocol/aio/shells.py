"""Two shells on one loop, as a sender and a receiver of the real files of a test, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import socket
import time
from typing import TYPE_CHECKING

from tallow_crypto import IdentityKeyPair
from tallow_net import Side
from tallow_net.limits import SEALED_FRAME_BYTES
from tallow_net.transport.frames import FrameStream
from tallow_net.transport.tcp import TcpTransport
from tallow_protocol.aio.shell import SessionShell
from tallow_protocol.aio.sources import Sources
from tallow_protocol.core.receiver import ReceiverRole
from tallow_protocol.core.sender import SenderRole
from tallow_protocol.core.sending import SendPipeline
from tallow_protocol.core.session import Session
from tallow_protocol.core.window import Window
from tallow_protocol.disk.calls import SYSTEM, SystemCalls
from tallow_protocol.disk.output import OutputFolder
from tallow_protocol.disk.scan import scan
from tallow_protocol.events import Event, OfferReceived, PathKind, TransferProgress
from tallow_protocol.testing import handshake

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tallow_protocol.core.links import Link

WAIT_S = 60.0


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected TCP sockets on the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dialled = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    return dialled, accepted


class Shells:
    """Sessions of both sides that have agreed on keys, run until the end by `run`."""

    def __init__(
        self,
        source: Path,
        into: Path,
        *,
        window_bytes: int = 4 * 1024 * 1024,
        rejoin_s: float = 0.0,
        calls: SystemCalls = SYSTEM,
    ) -> None:
        self.events: dict[Side, list[Event]] = {Side.A: [], Side.B: []}
        self.on_progress: Callable[[TransferProgress], None] | None = None
        established, received = handshake(random.Random(1))
        identities = IdentityKeyPair.generate(), IdentityKeyPair.generate()
        now = time.monotonic()
        found = scan([source])
        entries = [scanned.entry for scanned in found.entries]
        pipeline = SendPipeline(entries, Sources(found), window=Window(limit_bytes=window_bytes))
        self.receiver = ReceiverRole(OutputFolder(into, calls=calls), identities[1].public_key.fingerprint)
        self.sessions = {
            Side.A: Session(
                side=Side.A,
                keys=established.keys,
                identity=identities[0],
                role=SenderRole(entries, pipeline, identities[0]),
                verify=False,
                now=now,
                sas_nonce=established.r_a,
                rejoin_s=rejoin_s,
            ),
            Side.B: Session(
                side=Side.B,
                keys=received.keys,
                identity=identities[1],
                role=self.receiver,
                verify=False,
                now=now,
                sas_commitment=received.sas_commit,
                rejoin_s=rejoin_s,
            ),
        }
        self.shells = {
            side: SessionShell(session, lambda event, side=side: self._take(side, event))
            for side, session in self.sessions.items()
        }
        self.first = socket_pair()
        for side, sock in zip((Side.A, Side.B), self.first, strict=True):
            sock.setblocking(False)
            link = self.sessions[side].first_link(now, PathKind.RELAY_TCP)
            frames = FrameStream(TcpTransport(sock, "the other side"), limit=SEALED_FRAME_BYTES)
            self.shells[side].add(link, frames)

    def _take(self, side: Side, event: Event) -> None:
        self.events[side].append(event)
        if isinstance(event, OfferReceived):
            self.receiver.accept(self.sessions[Side.B], time.monotonic())
            self.shells[Side.B].poke()
        elif side is Side.B and isinstance(event, TransferProgress) and self.on_progress is not None:
            self.on_progress(event)

    def attach(
        self, opener: Side, sockets: tuple[socket.socket, socket.socket] | None = None
    ) -> dict[Side, Link]:
        """Attach a dedicated connection: Attach and Ack by hand, the rest by the shells. `sockets` are A's and B's."""
        acceptor = Side.B if opener is Side.A else Side.A
        ends = dict(zip((Side.A, Side.B), sockets or socket_pair(), strict=True))
        now = time.monotonic()
        attempt = self.sessions[opener].open_link(
            self.sessions[opener].next_number(), secrets.token_bytes(32)
        )
        path = PathKind.DIRECT_TCP
        accepted, ack = self.sessions[acceptor].accept_link(
            attempt.attach, secrets.token_bytes(32), now, path=path, dedicated=True
        )
        opened = self.sessions[opener].opened_link(attempt, ack, now, path=path, dedicated=True)
        links = {opener: opened, acceptor: accepted}
        for side, link in links.items():
            self.shells[side].add_socket(link, ends[side])
        return links

    async def run(self) -> None:
        """Run both to their ends, and raise what either raised."""
        async with asyncio.timeout(WAIT_S):
            outcomes = await asyncio.gather(
                *(shell.run() for shell in self.shells.values()), return_exceptions=True
            )
        for outcome in outcomes:
            if outcome is not None:
                raise outcome


class Middle:
    """Forwards one TCP connection both ways, until told to do worse."""

    def __init__(self) -> None:
        self.stalled = False
        self.flip_at: int | None = None
        self.moved = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._inner: list[socket.socket] = []

    def sockets(self) -> tuple[socket.socket, socket.socket]:
        """Return the ends of A and B."""
        a, inner_a = socket_pair()
        b, inner_b = socket_pair()
        self._inner = [inner_a, inner_b]
        for sock in self._inner:
            sock.setblocking(False)
        self._tasks = [
            asyncio.create_task(self._forward(inner_a, inner_b, counts=True)),
            asyncio.create_task(self._forward(inner_b, inner_a, counts=False)),
        ]
        return a, b

    async def _forward(self, source: socket.socket, target: socket.socket, *, counts: bool) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := bytearray(await loop.sock_recv(source, 65536)):
                if self.stalled:
                    await asyncio.Event().wait()
                if counts:
                    if self.flip_at is not None and self.moved <= self.flip_at < self.moved + len(data):
                        data[self.flip_at - self.moved] ^= 1
                    self.moved += len(data)
                await loop.sock_sendall(target, data)
            target.shutdown(socket.SHUT_WR)

    async def close(self) -> None:
        """End it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for sock in self._inner:
            sock.close()

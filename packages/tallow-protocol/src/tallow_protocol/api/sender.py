"""Sender: offers, and sends to whoever proves that they know the code."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from typing import TYPE_CHECKING, Any

from tallow_net import PeerText
from tallow_net.transport.interface import TransportChoice

from tallow_protocol.api.options import TransferOptions
from tallow_protocol.api.transfer import Transfer, ended
from tallow_protocol.code import Code, random_nameplate
from tallow_protocol.core.state import TransferState
from tallow_protocol.errors import CodeExpiredError, InternalError, MisuseError, PeerLeftError, ProtocolError
from tallow_protocol.events import CodeReady, PeerIdentified, Rejoined, Rejoining, Warned

if TYPE_CHECKING:
    import os
    from collections.abc import Coroutine, Sequence

    from tallow_net.transport.certificates import Certificate
    from tallow_net.transport.listener import Listener

    from tallow_protocol.aio.inputs import StreamInput, StreamReader
    from tallow_protocol.aio.lan import Announcer
    from tallow_protocol.aio.routes import Met, SenderRoute
    from tallow_protocol.core.deferred import DeferredSender
    from tallow_protocol.core.filling import SourcePort
    from tallow_protocol.core.pacing import Pacer
    from tallow_protocol.core.session import Session
    from tallow_protocol.disk.ignore import ScanOptions
    from tallow_protocol.disk.scan import Scan
    from tallow_protocol.events import Event

__all__ = ["Sender"]

SHOW_S = 0.02
"""How long everything else stands back for whoever shows the code."""

LOST_EARLY = "the receiver was lost before anything was sent; the code still works, and this side waits again"


class Sender(Transfer):
    """Sends files and folders to whoever proves that they know the code.

    `paths` become top-level entries of the offer. In their place, `text` (at most 64 KiB in UTF-8) is shown to the
    receiver, or `stream` is read to its end and sent as one file. `code` is a code of the caller's own; without one it is made:
    `words` words, under a nameplate from the relay, or a random one without a relay.
    """

    _sends = True

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        *,
        code: Code | str | None = None,
        words: int = 3,
        text: str | None = None,
        stream: StreamInput | None = None,
        options: TransferOptions | None = None,
    ) -> None:
        super().__init__(options or TransferOptions())
        self._paths = list(paths)
        self._text = text
        self._stream = stream
        self._reader: StreamReader | None = None
        self._text_bytes = b""
        self._expires_at: float | None = None
        self._pacer: Pacer | None = None
        self._code = code
        self._words = words
        self._scanning: asyncio.Task[Scan] | None = None
        self._deferred: DeferredSender | None = None
        self._announcer: Announcer | None = None
        self._window_limit_bytes = 0

    async def _prepare(self) -> None:
        from tallow_protocol.disk.scan import check

        if bool(self._paths) + (self._text is not None) + (self._stream is not None) != 1:
            raise MisuseError("what is sent is files, or one text, or one stream")
        if isinstance(self._code, str):
            self._code = Code.parse(self._code)
        if self._paths:
            check(self._paths, self._scan_options())
        else:
            self._take_input()

    def _take_input(self) -> None:
        """Check the text, or begin to read the stream."""
        from tallow_protocol.aio.inputs import StreamReader, text_scan

        if self._text is not None:
            self._text_bytes = text_scan(self._text)[1]
        if self._stream is not None:
            loop = asyncio.get_running_loop()

            def moved() -> None:
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(self._stream_moved)

            self._reader = StreamReader(self._stream)
            self._reader.buffer.moved = moved
            self._reader.start()

    def _stream_moved(self) -> None:
        """Look for more to send, or end because the stream cannot be read any further."""
        if self._reader is not None and self._session is not None:
            error = self._reader.buffer.error
            if error is not None:
                self._session.fail(error, time.monotonic())
            self._poke()

    def _scan_options(self) -> ScanOptions:
        from tallow_protocol.disk.ignore import ScanOptions

        return ScanOptions(self._options.exclude, self._options.gitignore)

    def _scan(self) -> Scan:
        from tallow_protocol.aio.inputs import text_scan
        from tallow_protocol.disk.scan import scan

        if self._reader is not None:
            return self._reader.scan()
        return scan(self._paths, self._scan_options()) if self._text is None else text_scan(self._text)[0]

    def _coded(self, nameplate: str) -> Code:
        return Code.generate(nameplate, self._words, secrets.randbelow)

    def _emit(self, event: Event) -> None:
        if isinstance(event, PeerIdentified | Rejoined) and self._announcer is not None:
            self._announcer.stop()
        elif isinstance(event, Rejoining) and self._announcer is not None:
            # Our address may be another now, and with each of these: the receiver looks for us under the code's name.
            self._announcer = self._announcer.again()
        super()._emit(event)

    async def _run(self) -> None:
        self._machine.to(TransferState.CONNECTING)
        try:
            if self._options.relays:
                await self._through_relay()
            else:
                await self._listening()
        finally:
            if self._scanning is not None:
                self._scanning.cancel()
                await asyncio.gather(self._scanning, return_exceptions=True)
            if self._reader is not None:
                self._reader.buffer.stop()

    async def _through_relay(self) -> None:
        from tallow_protocol.aio.routes import LEASE_BYTES, RelaySenderRoute, relay_client, relay_events

        options = self._options
        lease = secrets.token_bytes(LEASE_BYTES)
        told = False

        def waiting() -> None:
            nonlocal told
            if not told and isinstance(self._code, Code):
                told = True
                self._emit(CodeReady(self._code, None))

        events = relay_events(self._emit, waiting)
        async with relay_client(
            options.relays,
            options.transport,
            options.ports.relays,
            events,
            carries_bulk=not options.plain_data,
        ) as relay:
            if not isinstance(self._code, Code):
                self._code = self._coded(await relay.allocate(lease))
            route = RelaySenderRoute(relay, self._code, lease, self._budget, self._emit)
            await self._serve(route)

    async def _listening(self) -> None:
        from tallow_net.interfaces import host_port, reachable_hosts
        from tallow_net.transport.interface import TransportKind
        from tallow_net.transport.listener import listen

        options = self._options
        code = self._code = (
            self._code if isinstance(self._code, Code) else self._coded(random_nameplate(secrets.randbelow))
        )
        quic = options.transport is not TransportChoice.TCP
        listener = await listen(
            options.listen_host,
            0,
            tcp=None if options.transport is TransportChoice.QUIC else TransportKind.TCP,
            quic=quic,
            certificate=None,
        )
        behind: list[asyncio.Task[None]] = []
        async with listener:
            peers = tuple(host_port(host, listener.port) for host in reachable_hosts(options.listen_host))
            self._emit(CodeReady(code, peers[0], peers))
            await asyncio.sleep(SHOW_S)
            await asyncio.to_thread(_load_session)
            from tallow_protocol.aio.lan import Announcer
            from tallow_protocol.aio.routes import ListeningRoute

            route = ListeningRoute(listener, code, self._budget, self._emit)
            try:
                if options.lan:
                    self._announcer = Announcer(code, listener, self._emit)
                if quic:
                    behind.append(asyncio.create_task(_serve_quic(listener, self._announcer)))
                await self._serve(route)
            finally:
                await ended(behind)
                if self._announcer is not None:
                    await asyncio.shield(self._announcer.close())

    async def _serve(self, route: SenderRoute) -> None:
        if self._options.expire_s is not None:
            self._expires_at = asyncio.get_running_loop().time() + self._options.expire_s
        self._scanning = asyncio.create_task(asyncio.to_thread(self._scan))
        self._scanning.add_done_callback(self._scanned)
        try:
            await self._be_somebody()
            while True:
                met = await self._unless_nothing_to_send(self._before_expiry(route.next()))
                session = self._new_session(met)
                try:
                    await self._run_session(met, session, route)
                except PeerLeftError:
                    if session.begun:
                        raise
                    self._machine.to(TransferState.CONNECTING)
                    self._emit(Warned(PeerText(LOST_EARLY)))
                else:
                    return
        finally:
            await asyncio.shield(route.close())

    async def _before_expiry(self, meeting: Coroutine[Any, Any, Met]) -> Met:
        """Wait for a receiver; raise CodeExpiredError where none came in time."""
        try:
            async with asyncio.timeout_at(self._expires_at) as limit:
                return await meeting
        except TimeoutError:
            if not limit.expired():
                raise
            raise CodeExpiredError(
                "nobody used the code in its time, and it has expired",
                hints=("send again for a new code, or give it longer with --expire",),
            ) from None

    async def _unless_nothing_to_send(self, meeting: Coroutine[Any, Any, Met]) -> Met:
        """Wait for a receiver; raise what the scan raises, should that come first."""
        waiting = asyncio.ensure_future(meeting)
        try:
            if self._scanning is not None and not self._scanning.done():
                await asyncio.wait({waiting, self._scanning}, return_when=asyncio.FIRST_COMPLETED)
            if self._scanning is not None and self._scanning.done() and not waiting.done():
                self._scanning.result()
            return await waiting
        finally:
            if not waiting.done():
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)

    def _scanned(self, scanning: asyncio.Task[Scan]) -> None:
        """Take the list of what is sent: a session that waits for it goes on, or ends where it cannot be had."""
        if scanning.cancelled():
            return
        if scanning.exception() is None:
            for warning in scanning.result().warnings:
                self._emit(Warned(PeerText(warning)))
        if self._session is not None:
            self._offer(self._session)

    def _offer(self, session: Session) -> None:
        """Give a session its offer, once there is one."""
        from tallow_protocol.aio.inputs import StreamSources, TextSources
        from tallow_protocol.aio.sources import ScanDigests, Sources
        from tallow_protocol.core.sender import SenderRole
        from tallow_protocol.core.sending import SendPipeline
        from tallow_protocol.core.window import Window

        scanning, deferred = self._scanning, self._deferred
        if scanning is None or deferred is None or not scanning.done() or scanning.cancelled():
            return
        now = time.monotonic()
        error = scanning.exception()
        if error is not None:
            session.fail(error if isinstance(error, ProtocolError) else InternalError(str(error)), now)
        else:
            scan = scanning.result()
            entries = scan.entries.offered
            window = Window(limit_bytes=self._window_limit_bytes)
            reader, pacer = self._reader, self._pacer
            sources: SourcePort = Sources(scan)
            if reader is not None:
                sources = StreamSources(reader.buffer)
                if reader.buffer.error is not None:
                    session.fail(reader.buffer.error, now)
            elif self._text is not None:
                sources = TextSources(self._text_bytes)
            pipeline = SendPipeline(
                entries,
                sources,
                window=window,
                record_bytes=None if pacer is None else pacer.record_bytes,
                streams=None if reader is None else {0: reader.buffer},
                compress=self._options.compress,
                clock=time.monotonic,
                digests=ScanDigests(scan, self._options.ports.digests),
            )
            deferred.offer(SenderRole(entries, pipeline, self._identity), session, now)
        self._poke()

    def _new_session(self, met: Met) -> Session:
        from tallow_protocol.core.deferred import DeferredSender
        from tallow_protocol.core.pacing import Pacer

        limit = self._options.limit_bytes_per_s
        self._pacer = None if limit is None else Pacer(limit)
        self._window_limit_bytes = met.in_flight_bytes
        self._deferred = DeferredSender()
        session = self._make_session(met, self._deferred, self._pacer)
        self._offer(session)
        return session


def _load_session() -> None:
    """Import what a session needs, in a thread, so that the event loop goes on."""
    import zstandard  # noqa: F401 - loaded, not used here

    import tallow_protocol.aio.lan
    import tallow_protocol.aio.paths
    import tallow_protocol.aio.routes
    import tallow_protocol.aio.shell
    import tallow_protocol.aio.sources
    import tallow_protocol.core.deferred
    import tallow_protocol.core.pacing
    import tallow_protocol.core.sender
    import tallow_protocol.core.session  # noqa: F401 - loaded, not used here


async def _serve_quic(listener: Listener, announcer: Announcer | None) -> None:
    """Answer over QUIC on the port that is bound already, once others can find it."""
    from tallow_net.transport.certificates import generate_certificate

    def prepared() -> Certificate:
        import tallow_net.transport.quic_listener  # noqa: F401 - 50 ms that the event loop shall not stand still for

        return generate_certificate()

    if announcer is not None:
        await announcer.settled.wait()
    listener.serve_quic(await asyncio.to_thread(prepared))

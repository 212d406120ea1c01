"""The API: `Sender` and `Receiver`, each an async context manager and an async iterator of events.

    async with Sender([path], options=options) as sender:
        async for event in sender:
            ...

Entering checks the arguments and starts; iterating gives events until the last, `TransferDone`, or raises one
error of this package; leaving ends everything (tasks, threads, sockets, staged files) within ten seconds. Nothing
happens at import or in a constructor. All calls belong to one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tallow_crypto import CryptoError, ProviderMissingError
from tallow_net import NetError, PeerText
from tallow_net.transport.interface import TransportChoice

from tallow_protocol.aio.failures import translated
from tallow_protocol.code import Code, random_nameplate
from tallow_protocol.core.budget import GuessBudget
from tallow_protocol.core.state import TransferState, TransferStateMachine
from tallow_protocol.errors import (
    CancelledByUserError,
    CodeExpiredError,
    InternalError,
    MisuseError,
    PeerLeftError,
    ProtocolError,
    UnreachableError,
    UnsupportedSystemError,
)
from tallow_protocol.events import (
    CodeReady,
    Connected,
    OnConflict,
    PathLimit,
    PeerIdentified,
    Rejoined,
    Rejoining,
    TextReceived,
    TransferDone,
    TransferProgress,
    TransferStarted,
    Warned,
)
from tallow_protocol.ports import Ports, TransferRecord

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Container, Coroutine, Sequence
    from types import TracebackType
    from typing import Self

    from tallow_crypto import Fingerprint, IdentityKeyPair
    from tallow_net import RelayAddress
    from tallow_net.transport.certificates import Certificate
    from tallow_net.transport.listener import Listener

    from tallow_protocol.aio.inputs import StreamInput, StreamReader
    from tallow_protocol.aio.lan import Announcer
    from tallow_protocol.aio.outputs import Outputs
    from tallow_protocol.aio.routes import Met, ReceiverRoute, SenderRoute
    from tallow_protocol.aio.shell import SessionShell
    from tallow_protocol.core.deferred import DeferredSender
    from tallow_protocol.core.filling import SourcePort
    from tallow_protocol.core.pacing import Pacer
    from tallow_protocol.core.receiver import ReceiverRole
    from tallow_protocol.core.session import Session
    from tallow_protocol.disk.ignore import ScanOptions
    from tallow_protocol.disk.output import OutputFolder
    from tallow_protocol.disk.scan import Scan
    from tallow_protocol.events import Event

__all__ = ["Receiver", "Sender", "TransferOptions"]

# What a session needs costs 100 ms of imports: it is loaded inside functions, after the code has been shown.

SHOW_S = 0.02
"""How long everything else stands back for whoever shows the code."""


@dataclass(frozen=True, slots=True)
class TransferOptions:
    """How to meet and who to be. The defaults keep nothing and trust nobody in advance."""

    relays: tuple[RelayAddress, ...] = ()
    """Relays to meet at, in order of preference. None: the sender listens itself, the receiver finds or dials it."""

    lan: bool = True
    """Without a relay, whether a sender announces itself on its networks, and a receiver without an address looks for
    it there: mDNS, which needs the extra `tallow-net[lan]`."""

    transport: TransportChoice = TransportChoice.AUTO
    """QUIC, TCP, or whichever works first."""

    paths: PathLimit = PathLimit.ANY
    """Relayed paths alone, direct ones alone for file data, or the best that is found."""

    plain_data: bool = True
    """Whether file data may leave the encrypted connection to a relay for plain TCP ones, sealed as it is anyway.

    Where it may not, a relay is tried over TLS before QUIC, which moves less.
    """

    compress: bool = True
    """Whether data that shrinks is compressed where that makes the transfer faster."""

    verify: bool = False
    """Show eight digits and wait for `confirm()`: proof against somebody between who knows the code."""

    identity: IdentityKeyPair | Callable[[], IdentityKeyPair] | None = None
    """Our long-lived identity, or what gives it: called once, in a thread, while a sender waits already. What it raises
    ends the transfer. None: a new one for this transfer, so that nothing links it to another."""

    ports: Ports = field(default_factory=Ports)
    """The application's trust, history, partial transfers and known relays."""

    limit_bytes_per_s: float | None = None
    """A sender sends at most so many bytes of file data a second, over all connections together."""

    expire_s: float | None = None
    """How long a sender's code may wait for somebody who knows it; None is as long as the relay lets it."""

    force_space: bool = False
    """Whether a receiver begins where the disk seems too small."""

    exclude: tuple[str, ...] = ()
    """Patterns, as in a `.gitignore`, of what a sender leaves out of folders. `.tallowignore` files in them count too."""

    gitignore: bool = False
    """Whether `.gitignore` files count as well."""

    rejoin_s: float = 600.0
    """How long a transfer whose last connection was lost tries to come back before it fails; 0 is not at all."""

    listen_host: str = ""
    """Where a sender without a relay listens; empty for every address, IPv4 and IPv6."""


class _Transfer(ABC):
    """What both sides share: the running task, the event queue, the end."""

    _sends: bool
    _identity: IdentityKeyPair

    def __init__(self, options: TransferOptions) -> None:
        self._options = options
        self._events: deque[Event] = deque()
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._machine = TransferStateMachine()
        self._session: Session | None = None
        self._shell: SessionShell | None = None
        self._budget = GuessBudget()
        self._peer: Fingerprint | None = None
        self._last: TransferProgress | None = None
        self._cancelled = False
        self._lan_name: str | None = None
        self.summary: TransferDone | None = None

    @property
    def state(self) -> TransferState:
        """Where the transfer stands."""
        return self._machine.state

    async def __aenter__(self) -> Self:
        if self._task is not None or self._preparing is not None:
            raise MisuseError("a transfer is used once")
        if self._cancelled:
            raise CancelledByUserError
        self._preparing = asyncio.create_task(self._prepare(), name="tallow-prepare")
        try:
            await self._preparing
        except asyncio.CancelledError:
            if not (self._cancelled and self._preparing.cancelled()):
                raise
        if self._cancelled:
            raise CancelledByUserError
        self._task = asyncio.create_task(self._outer(), name="tallow-transfer")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = self._task
        if task is None:
            return
        if not task.done():
            self.cancel()
        with contextlib.suppress(ProtocolError, asyncio.CancelledError):
            await task

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._task is None:
            raise MisuseError("enter the transfer with `async with` first")
        while not self._events:
            if self._task.done():
                await self._task
                raise StopAsyncIteration
            self._more.clear()
            await self._more.wait()
        return self._events.popleft()

    def confirm(self, yes: bool) -> None:  # noqa: FBT001 - reads as confirm(True) after a question
        """Answer `VerificationNeeded`: whether the other person's digits are the same."""
        session = self._running()
        session.confirm(yes=yes, now=time.monotonic())
        self._poke()

    def cancel(self) -> None:
        """End the transfer; the other side is told. Iteration then raises CancelledByUserError."""
        self._cancelled = True
        if self._session is not None and self._shell is not None:
            self._session.cancel(time.monotonic())
            self._poke()
        elif self._task is not None:
            self._task.cancel()
        elif self._preparing is not None:
            self._preparing.cancel()

    def _running(self) -> Session:
        if self._session is None:
            raise MisuseError("there is no session yet")
        return self._session

    def _poke(self) -> None:
        if self._shell is not None:
            self._shell.poke()

    def _emit(self, event: Event) -> None:
        if isinstance(event, TransferProgress):
            self._last = event
            if self._events and isinstance(self._events[-1], TransferProgress):
                self._events[-1] = event
                return
        elif isinstance(event, PeerIdentified):
            self._peer = event.fingerprint
            event = replace(event, known=self._options.ports.trust.name_of(event.fingerprint))
        elif isinstance(event, TransferDone):
            self.summary = event
        self._events.append(event)
        self._more.set()

    async def _outer(self) -> None:
        outcome = "done"
        try:
            from tallow_crypto import HybridKem

            HybridKem()  # a machine without ML-KEM ends here, before a code is told
            await self._run()
        except asyncio.CancelledError:
            outcome = CancelledByUserError.code
            if not self._cancelled:
                raise
            raise CancelledByUserError from None
        except ProtocolError as error:
            outcome = error.code
            raise
        except NetError as error:
            outcome = error.code
            raise translated(error) from None
        except ProviderMissingError:
            outcome = UnsupportedSystemError.code
            raise UnsupportedSystemError from None
        except CryptoError as error:
            outcome = InternalError.code
            raise InternalError(str(error)) from None
        except BaseException:
            outcome = InternalError.code  # of the application's own making: what gives its identity, say
            raise
        finally:
            if outcome != "done" and not self._machine.state.terminal:
                self._machine.to(TransferState.FAILED)
            files, count = (0, 0) if self._last is None else (self._last.files_done, self._last.bytes)
            if self.summary is not None:
                files, count = self.summary.files, self.summary.bytes
            self._options.ports.history.record(TransferRecord(self._sends, self._peer, files, count, outcome))
            self._more.set()

    async def _be_somebody(self) -> None:
        """Take the identity of this transfer."""
        from tallow_crypto import IdentityKeyPair

        given = self._options.identity
        if given is None or callable(given):
            given = await asyncio.to_thread(given or IdentityKeyPair.generate)
        self._identity = given

    async def _run_session(self, met: Met, session: Session, route: SenderRoute | None) -> None:
        """Run one session to its end; `route` hears once, when the peer has shown its identity, that it began."""
        from tallow_protocol.aio.paths import Allowed, PathKeeper
        from tallow_protocol.aio.rejoin import Rejoin
        from tallow_protocol.aio.routes import ListeningRoute
        from tallow_protocol.aio.shell import SessionShell

        task: asyncio.Future[None] | None = None

        def take(event: Event) -> None:
            nonlocal task
            if isinstance(event, PeerIdentified) and route is not None and task is None:
                task = asyncio.ensure_future(route.began())
            self._emit(event)

        self._session = session
        self._emit(Connected(met.path))
        shell = SessionShell(session, take)
        self._shell = shell
        shell.add(session.first_link(time.monotonic(), met.path), met.frames)
        options = self._options
        allowed = Allowed(options.transport, options.paths, options.plain_data, options.listen_host)
        again = Rejoin(
            options.relays,
            options.transport,
            options.ports.relays,
            self._lan_name,
            carries_bulk=not options.plain_data,
        )
        keeper = PathKeeper(shell, session, met, allowed, rejoin=again)
        keeper.start()
        if isinstance(route, ListeningRoute):
            route.attaching = keeper.attach
        try:
            await shell.run()
        finally:
            self._shell = None
            await keeper.close()
            if task is not None:
                with contextlib.suppress(NetError):
                    await task

    @abstractmethod
    async def _prepare(self) -> None:
        """Check what can be checked before anything starts."""

    @abstractmethod
    async def _run(self) -> None:
        """Do the transfer."""


class Sender(_Transfer):
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
        elif isinstance(event, Rejoining) and self._announcer is not None and self._announcer.stopped:
            # Our address may be another now: the receiver looks for us under the name that it found us by.
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
                await _ended(behind)
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
        from tallow_net import Side

        from tallow_protocol.core.deferred import DeferredSender
        from tallow_protocol.core.pacing import Pacer
        from tallow_protocol.core.session import Session

        limit = self._options.limit_bytes_per_s
        self._pacer = None if limit is None else Pacer(limit)
        self._window_limit_bytes = met.in_flight_bytes
        self._deferred = DeferredSender()
        session = Session(
            side=Side.A,
            keys=met.keys,
            identity=self._identity,
            role=self._deferred,
            verify=self._options.verify,
            now=time.monotonic(),
            machine=self._machine,
            sas_nonce=met.sas_nonce,
            paths=self._options.paths,
            pacer=self._pacer,
            rejoin_s=self._options.rejoin_s,
        )
        self._offer(session)
        return session


class Receiver(_Transfer):
    """Receives one offer into the folder `into`, once the application said `accept()`.

    `peer` is HOST:PORT of a sender that listens itself; without it the relays of the options are asked, and without
    those this machine's networks. With `output`, a descriptor, the one file of the offer that is accepted is written
    there in place of the folder. With `show_text` a text becomes the event TextReceived, and nothing is written.
    """

    _sends = False

    def __init__(
        self,
        code: Code | str,
        into: str | os.PathLike[str],
        *,
        peer: str | None = None,
        on_conflict: OnConflict = OnConflict.ASK,
        output: int | None = None,
        show_text: bool = False,
        options: TransferOptions | None = None,
    ) -> None:
        super().__init__(options or TransferOptions())
        self._on_conflict = on_conflict
        self._output = output
        self._show_text = show_text
        self._folder: OutputFolder | None = None
        self._outputs: Outputs | None = None
        self._code = code
        self._into = into
        self._peer_text = peer
        self._address: tuple[str, int] | None = None
        self._role: ReceiverRole | None = None
        self._noting: asyncio.Task[None] | None = None

    async def _prepare(self) -> None:
        if isinstance(self._code, str):
            self._code = Code.parse(self._code)
        if self._peer_text is not None:
            from tallow_protocol.aio.addresses import parse_peer

            self._address = parse_peer(self._peer_text)
        elif not self._options.relays and not self._options.lan:
            raise UnreachableError(
                "there is no way to the sender: neither a relay nor the sender's address is known",
                hints=("give the relay that the sender uses, or the HOST:PORT that the sender shows",),
            )

    def _emit(self, event: Event) -> None:
        text = None if self._outputs is None else self._outputs.text
        if isinstance(event, TransferDone) and text is not None:
            super()._emit(TextReceived(PeerText.from_bytes(text)))
        super()._emit(event)
        if self._output is not None or text is not None:
            return
        if isinstance(event, TransferStarted) and self._peer is not None and event.bytes:
            remember = self._options.ports.partials.remember
            self._noting = asyncio.create_task(asyncio.to_thread(remember, self._peer, self._place()))

    def _place(self) -> str:
        """Return the output directory as it is found again."""
        from pathlib import Path

        return str(Path(self._into).absolute())

    def _forget_if_nothing_is_left(self, peer: Fingerprint) -> None:
        from tallow_protocol.disk.leftovers import is_unfinished

        place = self._place()
        with contextlib.suppress(ProtocolError):
            if not is_unfinished(place, peer):
                self._options.ports.partials.forget(peer, place)

    async def conflicts(self) -> tuple[PeerText, ...]:
        """Return the top-level names of the offer that stand in the folder, between `OfferReceived` and the answer.

        What an unfinished transfer of the same sender made there is none: it goes on.

        Raises NotWritableError where that cannot be seen.
        """
        folder, outputs, peer = self._folder, self._outputs, self._peer
        if folder is None or outputs is None or peer is None or not outputs.writes_files:
            return ()
        return tuple(PeerText(name) for name in await asyncio.to_thread(folder.conflicts, peer))

    async def unfinished_bytes(self) -> int:
        """Return how much of the offer an unfinished transfer of the same sender left, between `OfferReceived` and the answer.

        Raises NotWritableError where that cannot be seen.
        """
        folder, outputs, peer = self._folder, self._outputs, self._peer
        if folder is None or outputs is None or peer is None or not outputs.writes_files:
            return 0
        return await asyncio.to_thread(folder.unfinished_bytes, peer)

    def accept(self, *, chosen: Container[int] | None = None, on_conflict: OnConflict | None = None) -> None:
        """Say yes to `OfferReceived`: write it, or those of its entries whose numbers are `chosen`.

        `on_conflict` is the user's answer about what stands there already, in place of the receiver's own.
        """
        session = self._running()
        if self._folder is not None and on_conflict is not None:
            self._folder.on_conflict = on_conflict
        if self._role is not None:
            self._role.accept(session, time.monotonic(), chosen=chosen)
        self._poke()

    def refuse(self, *, unattended: bool = False, looked: bool = False) -> None:
        """Say no to `OfferReceived`.

        The sender is told so: `unattended` that nobody was there to decide, `looked` that a look was all that was
        wanted.
        """
        session = self._running()
        if self._role is not None:
            self._role.refuse(session, time.monotonic(), unattended=unattended, looked=looked)
        self._poke()

    async def _run(self) -> None:
        from tallow_protocol.aio.routes import (
            DirectReceiverRoute,
            RelayReceiverRoute,
            relay_client,
            relay_events,
        )

        self._machine.to(TransferState.CONNECTING)
        options = self._options
        if not isinstance(self._code, Code):
            raise MisuseError("enter the transfer with `async with` first")
        if self._address is not None:
            host, port = self._address
            await self._take(DirectReceiverRoute(host, port, options.transport, self._code, self._budget))
            return
        if not options.relays:
            from tallow_protocol.aio.lan import LanReceiverRoute
            from tallow_protocol.code import lan_name_of

            self._lan_name = lan_name_of(self._code.nameplate)
            await self._take(LanReceiverRoute(self._code, options.transport, self._budget, self._emit))
            return
        events = relay_events(self._emit, lambda: None)
        async with relay_client(
            options.relays,
            options.transport,
            options.ports.relays,
            events,
            carries_bulk=not options.plain_data,
        ) as relay:
            await self._take(RelayReceiverRoute(relay, self._code, self._budget))

    async def _somebody_meets(self, route: ReceiverRoute) -> Met:
        """Meet the sender, and take an identity meanwhile."""
        somebody = asyncio.create_task(self._be_somebody())
        try:
            met = await route.next()
            try:
                await somebody
            except BaseException:
                met.frames.transport.abort()
                raise
            return met
        finally:
            await _ended((somebody,))

    async def _take(self, route: ReceiverRoute) -> None:
        from tallow_net import Side

        from tallow_protocol.aio.outputs import DescriptorWriter, Outputs
        from tallow_protocol.core.receiver import ReceiverRole
        from tallow_protocol.core.session import Session
        from tallow_protocol.disk.output import OutputFolder

        try:
            met = await self._somebody_meets(route)
            self._folder = OutputFolder(
                self._into, on_conflict=self._on_conflict, force_space=self._options.force_space
            )
            writer = None if self._output is None else DescriptorWriter(self._output)
            self._outputs = Outputs(self._folder, writer=writer, show_text=self._show_text)
            self._role = ReceiverRole(self._outputs, self._identity.public_key.fingerprint)
            session = Session(
                side=Side.B,
                keys=met.keys,
                identity=self._identity,
                role=self._role,
                verify=self._options.verify,
                now=time.monotonic(),
                machine=self._machine,
                sas_commitment=met.sas_commitment,
                paths=self._options.paths,
                rejoin_s=self._options.rejoin_s,
            )
            await self._run_session(met, session, None)
        finally:
            await asyncio.shield(route.close())
            if self._noting is not None and self._peer is not None:
                await asyncio.gather(self._noting, return_exceptions=True)
                await asyncio.to_thread(self._forget_if_nothing_is_left, self._peer)


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


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

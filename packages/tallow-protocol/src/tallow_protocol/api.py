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
from typing import TYPE_CHECKING

from tallow_crypto import CryptoError, HybridKem, IdentityKeyPair, ProviderMissingError
from tallow_net import NetError, PeerText, Side
from tallow_net.transport.interface import TransportChoice

from tallow_protocol.aio.failures import translated
from tallow_protocol.aio.paths import Allowed, PathKeeper
from tallow_protocol.aio.routes import (
    LEASE_BYTES,
    DirectReceiverRoute,
    ListeningRoute,
    RelayReceiverRoute,
    RelaySenderRoute,
    relay_client,
    relay_events,
)
from tallow_protocol.aio.shell import SessionShell
from tallow_protocol.code import Code, random_nameplate
from tallow_protocol.core.budget import GuessBudget
from tallow_protocol.core.receiver import ReceiverRole
from tallow_protocol.core.sender import SenderRole
from tallow_protocol.core.sending import SendPipeline
from tallow_protocol.core.session import Session
from tallow_protocol.core.state import TransferState, TransferStateMachine
from tallow_protocol.core.window import Window
from tallow_protocol.errors import (
    CancelledByUserError,
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
    PathLimit,
    PeerIdentified,
    TransferDone,
    TransferProgress,
    Warned,
)
from tallow_protocol.ports import Ports, TransferRecord

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from tallow_crypto import Fingerprint
    from tallow_net import RelayAddress

    from tallow_protocol.aio.routes import Met, ReceiverRoute, SenderRoute
    from tallow_protocol.disk.scan import Scan
    from tallow_protocol.events import Event

__all__ = ["Receiver", "Sender", "TransferOptions"]


@dataclass(frozen=True, slots=True)
class TransferOptions:
    """How to meet and who to be. The defaults keep nothing and trust nobody in advance."""

    relays: tuple[RelayAddress, ...] = ()
    """Relays to meet at, in order of preference. None: the sender listens itself, the receiver dials it."""

    transport: TransportChoice = TransportChoice.AUTO
    """QUIC, TCP, or whichever works first."""

    paths: PathLimit = PathLimit.ANY
    """Relayed paths alone, direct ones alone for file data, or the best that is found."""

    plain_data: bool = True
    """Whether file data may leave the encrypted connection to a relay for plain TCP ones, sealed as it is anyway."""

    compress: bool = True
    """Whether data that shrinks is compressed where that makes the transfer faster."""

    verify: bool = False
    """Show eight digits and wait for `confirm()`: proof against somebody between who knows the code."""

    identity: IdentityKeyPair | None = None
    """Our long-lived identity. None: a new one for this transfer, so that nothing links it to another."""

    ports: Ports = field(default_factory=Ports)
    """The application's trust, history, partial transfers and known relays."""

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
            self._be_somebody()
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
        finally:
            if outcome != "done" and not self._machine.state.terminal:
                self._machine.to(TransferState.FAILED)
            files, count = (0, 0) if self._last is None else (self._last.files_done, self._last.bytes)
            if self.summary is not None:
                files, count = self.summary.files, self.summary.bytes
            self._options.ports.history.record(TransferRecord(self._sends, self._peer, files, count, outcome))
            self._more.set()

    def _be_somebody(self) -> None:
        """Take the identity of this transfer; a machine without ML-KEM or ML-DSA ends here, before a code is told."""
        HybridKem()
        self._identity = self._options.identity or IdentityKeyPair.generate()

    async def _run_session(self, met: Met, session: Session, route: SenderRoute | None) -> None:
        """Run one session to its end; `route` hears once, when the peer has shown its identity, that it began."""
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
        keeper = PathKeeper(shell, session, met, allowed)
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

    `paths` become top-level entries of the offer. `code` is a code of the caller's own; without one it is made:
    `words` words, under a nameplate from the relay, or a random one without a relay.
    """

    _sends = True

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        *,
        code: Code | str | None = None,
        words: int = 3,
        options: TransferOptions | None = None,
    ) -> None:
        super().__init__(options or TransferOptions())
        self._paths = list(paths)
        self._code = code
        self._words = words
        self._scan: Scan | None = None

    async def _prepare(self) -> None:
        from tallow_protocol.disk.scan import scan

        if not self._paths:
            raise MisuseError("there is nothing to send")
        if isinstance(self._code, str):
            self._code = Code.parse(self._code)
        self._scan = await asyncio.to_thread(scan, self._paths)
        for warning in self._scan.warnings:
            self._emit(Warned(PeerText(warning)))

    def _coded(self, nameplate: str) -> Code:
        return Code.generate(nameplate, self._words, secrets.randbelow)

    async def _run(self) -> None:
        self._machine.to(TransferState.CONNECTING)
        if self._options.relays:
            await self._through_relay()
        else:
            await self._listening()

    async def _through_relay(self) -> None:
        options = self._options
        lease = secrets.token_bytes(LEASE_BYTES)
        told = False

        def waiting() -> None:
            nonlocal told
            if not told and isinstance(self._code, Code):
                told = True
                self._emit(CodeReady(self._code, None))

        events = relay_events(self._emit, waiting)
        async with relay_client(options.relays, options.transport, options.ports.relays, events) as relay:
            if not isinstance(self._code, Code):
                self._code = self._coded(await relay.allocate(lease))
            route = RelaySenderRoute(relay, self._code, lease, self._budget, self._emit)
            await self._serve(route)

    async def _listening(self) -> None:
        from tallow_net.transport.certificates import generate_certificate
        from tallow_net.transport.interface import TransportKind
        from tallow_net.transport.listener import listen

        from tallow_protocol.aio.addresses import reachable_address

        options = self._options
        if not isinstance(self._code, Code):
            self._code = self._coded(random_nameplate(secrets.randbelow))
        quic = options.transport is not TransportChoice.TCP
        listener = await listen(
            options.listen_host,
            0,
            tcp=None if options.transport is TransportChoice.QUIC else TransportKind.TCP,
            quic=quic,
            certificate=generate_certificate() if quic else None,
        )
        route = ListeningRoute(listener, self._code, self._budget, self._emit)
        self._emit(CodeReady(self._code, reachable_address(options.listen_host, listener.port)))
        await self._serve(route)

    async def _serve(self, route: SenderRoute) -> None:
        try:
            while True:
                met = await route.next()
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

    def _new_session(self, met: Met) -> Session:
        from tallow_protocol.aio.sources import Sources

        if self._scan is None:
            raise MisuseError("enter the transfer with `async with` first")
        entries = [scanned.entry for scanned in self._scan.entries]
        window = Window(limit_bytes=met.in_flight_bytes)
        pipeline = SendPipeline(entries, Sources(self._scan), window=window)
        return Session(
            side=Side.A,
            keys=met.keys,
            identity=self._identity,
            role=SenderRole(entries, pipeline, self._identity),
            verify=self._options.verify,
            now=time.monotonic(),
            machine=self._machine,
            sas_nonce=met.sas_nonce,
            paths=self._options.paths,
        )


class Receiver(_Transfer):
    """Receives one offer into the folder `into`, once the application said `accept()`.

    `peer` is HOST:PORT of a sender that listens itself; without it the relays of the options are asked.
    """

    _sends = False

    def __init__(
        self,
        code: Code | str,
        into: str | os.PathLike[str],
        *,
        peer: str | None = None,
        options: TransferOptions | None = None,
    ) -> None:
        super().__init__(options or TransferOptions())
        self._code = code
        self._into = into
        self._peer_text = peer
        self._address: tuple[str, int] | None = None
        self._role: ReceiverRole | None = None

    async def _prepare(self) -> None:
        if isinstance(self._code, str):
            self._code = Code.parse(self._code)
        if self._peer_text is not None:
            from tallow_protocol.aio.addresses import parse_peer

            self._address = parse_peer(self._peer_text)
        elif not self._options.relays:
            raise UnreachableError(
                "there is no way to the sender: neither a relay nor the sender's address is known",
                hints=("give the relay that the sender uses, or the HOST:PORT that the sender shows",),
            )

    def accept(self) -> None:
        """Say yes to `OfferReceived`: write it."""
        session = self._running()
        if self._role is not None:
            self._role.accept(session, time.monotonic())
        self._poke()

    def refuse(self, *, unattended: bool = False) -> None:
        """Say no to `OfferReceived`; `unattended` tells the sender that nobody was there to decide."""
        session = self._running()
        if self._role is not None:
            self._role.refuse(session, time.monotonic(), unattended=unattended)
        self._poke()

    async def _run(self) -> None:
        self._machine.to(TransferState.CONNECTING)
        options = self._options
        if not isinstance(self._code, Code):
            raise MisuseError("enter the transfer with `async with` first")
        if self._address is not None:
            host, port = self._address
            await self._take(DirectReceiverRoute(host, port, options.transport, self._code, self._budget))
            return
        events = relay_events(self._emit, lambda: None)
        async with relay_client(options.relays, options.transport, options.ports.relays, events) as relay:
            await self._take(RelayReceiverRoute(relay, self._code, self._budget))

    async def _take(self, route: ReceiverRoute) -> None:
        from tallow_protocol.disk.output import OutputFolder

        try:
            met = await route.next()
            self._role = ReceiverRole(OutputFolder(self._into), self._identity.public_key.fingerprint)
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
            )
            await self._run_session(met, session, None)
        finally:
            await asyncio.shield(route.close())

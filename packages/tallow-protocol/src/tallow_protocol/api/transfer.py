"""What both sides of a transfer share: the running task, the event queue, the end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from tallow_crypto import CryptoError, ProviderMissingError
from tallow_net import NetError

from tallow_protocol.aio.failures import translated
from tallow_protocol.core.budget import GuessBudget
from tallow_protocol.core.state import TransferState, TransferStateMachine
from tallow_protocol.errors import (
    CancelledByUserError,
    InternalError,
    MisuseError,
    ProtocolError,
    UnsupportedSystemError,
)
from tallow_protocol.events import Connected, PeerIdentified, TransferDone, TransferProgress
from tallow_protocol.ports import TransferRecord

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from tallow_crypto import Fingerprint, IdentityKeyPair

    from tallow_protocol.aio.routes import Met, SenderRoute
    from tallow_protocol.aio.shell import SessionShell
    from tallow_protocol.api.options import TransferOptions
    from tallow_protocol.core.pacing import Pacer
    from tallow_protocol.core.role import Role
    from tallow_protocol.core.session import Session
    from tallow_protocol.events import Event

__all__ = ["Transfer", "ended"]

# What a session needs costs 100 ms of imports: it is loaded inside functions, after the code has been shown.


class Transfer(ABC):
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

    def _make_session(self, met: Met, role: Role, pacer: Pacer | None = None) -> Session:
        """Return this side's session with whom it met."""
        from tallow_net import Side

        from tallow_protocol.core.session import Session

        return Session(
            side=Side.A if self._sends else Side.B,
            keys=met.keys,
            identity=self._identity,
            role=role,
            verify=self._options.verify,
            now=time.monotonic(),
            machine=self._machine,
            sas_nonce=met.sas_nonce,
            sas_commitment=met.sas_commitment,
            paths=self._options.paths,
            pacer=pacer,
            rejoin_s=self._options.rejoin_s,
        )

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


async def ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait for their ends."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

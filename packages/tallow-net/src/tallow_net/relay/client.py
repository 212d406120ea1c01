"""RelayClient: reach a relay, stand in a room there, and come out with a connection to the other side.

The shell of the relay's client: it owns connections and waits. What to say is session.py's, when to try again
reconnect.py's, which key to take pins.py's. Time is the running loop's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tallow_net.errors import (
    CertificateChangedError,
    CertificateRefusedError,
    ConnectError,
    ConnectionLostError,
    InvalidAddressError,
    MalformedMessageError,
    MisuseError,
    NetError,
    RelayUnreachableError,
    UnexpectedFrameError,
)
from tallow_net.limits import ANSWER_S, CONNECT_S, IDLE_REUSE_S, LEAVE_S, SIGNALING_FRAME_BYTES
from tallow_net.relay.address import RelayAddress
from tallow_net.relay.events import RelayConnected, RelayNotice, RelayReconnecting, RelayWaiting
from tallow_net.relay.pins import ForgetfulRelays, KnownRelays, asks_authority, check_relay
from tallow_net.relay.reconnect import Presence, Reconnect
from tallow_net.relay.session import (
    LeftRoom,
    NameplateReserved,
    Paired,
    Redirected,
    Refused,
    RelayRestarts,
    RelaySilent,
    SessionEvent,
    SignalingClient,
    Standing,
    Welcomed,
)
from tallow_net.signaling import ErrorCode, error_name
from tallow_net.transport.frames import FrameStream
from tallow_net.transport.interface import TransportChoice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from tallow_net.relay.events import RelayEvent
    from tallow_net.signaling import LeaveReason, Redirect, Side, Welcome
    from tallow_net.transport.interface import Transport, TransportKind
    from tallow_net.untrusted import PeerText

__all__ = ["Connect", "Leg", "RelayClient"]

_log = logging.getLogger("tallow_net.relay")
_NO_SUCH_ROOM = error_name(ErrorCode.NO_SUCH_ROOM)


class Connect(Protocol):
    """How a relay is reached; `transport.negotiate.connect_encrypted` is the one that is used."""

    async def __call__(
        self,
        host: str,
        port: int,
        *,
        choice: TransportChoice,
        timeout_s: float,
        check: Callable[[Transport], None],
        carries_bulk: bool,
    ) -> Transport:
        """Return an open transport that `check` accepted; raises ConnectError or what `check` raised."""


@dataclass(frozen=True, slots=True)
class Leg:
    """This side's half of a pair: what is written to `frames` reaches the other side, through the relay.

    `frames` takes bodies of at most 4 KiB until its limit is raised; `in_flight_limit` is what the pair may have
    under way in each direction (bytes); `tokens` are 0 or 4 tokens of 32 bytes for plain data connections. Whoever
    holds the Leg closes its transport.
    """

    frames: FrameStream
    transport: Transport
    kind: TransportKind
    in_flight_limit: int
    tokens: tuple[bytes, ...] = ()


class _Connection:
    """An open connection to a relay and its session."""

    def __init__(self, transport: Transport, on_welcome: Callable[[Welcome], None]) -> None:
        self.transport = transport
        self.frames = FrameStream(transport, limit=SIGNALING_FRAME_BYTES)
        self.session = SignalingClient()
        self.idle_since = 0.0
        self._on_welcome = on_welcome

    async def next_event(self) -> SessionEvent:
        """Return what the relay tells next, its Welcome apart; keep-alives and deadlines are kept meanwhile."""
        while True:
            await self._send()
            event = await self._one_event()
            if isinstance(event, Welcomed):
                self._on_welcome(event.welcome)
            elif isinstance(event, RelaySilent):
                raise ConnectionLostError(
                    f"The relay did not answer for {event.silence_s:g} s.", by="network"
                )
            elif event is not None:
                await self._send()
                return event

    async def _one_event(self) -> SessionEvent | None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(self.session.next_deadline()):
                body = await self.frames.read()
        except TimeoutError:
            return self.session.handle_timeout(loop.time())
        if body is None:
            raise ConnectionLostError("The relay ended the connection.", by="peer")
        return self.session.receive(body, loop.time())

    async def _send(self) -> None:
        for body in self.session.frames_to_send():
            try:
                async with asyncio.timeout(ANSWER_S):
                    await self.frames.write(body)
            except TimeoutError:
                raise ConnectionLostError("The relay takes no more bytes.", by="network") from None


class RelayClient:
    """A client of one relay, or of the first of several that can be reached.

    `addresses` are tried in order, the one that worked last first; a relay's key is checked against `known` before
    a byte is sent. `max_connect_s` bounds the first contact, all addresses together. `on_event` is called on the
    loop and must return soon. `carries_bulk`: file data will go over these connections, so TLS is tried before QUIC. `random` (0 up to 1) spreads reconnections; `connect` replaces the network in a test.

    Calls may overlap; each uses a connection of its own. A cancelled call ends its connection. Leaving the scope
    ends every connection that was not handed out as a Leg.
    """

    def __init__(
        self,
        addresses: Sequence[RelayAddress],
        *,
        transport: TransportChoice = TransportChoice.AUTO,
        known: KnownRelays | None = None,
        on_event: Callable[[RelayEvent], None] | None = None,
        max_connect_s: float = CONNECT_S,
        carries_bulk: bool = False,
        random: Callable[[], float] | None = None,
        connect: Connect | None = None,
    ) -> None:
        if not addresses:
            raise MisuseError("A RelayClient needs the address of a relay.")
        self._addresses = list(addresses)
        self._choice = transport
        self._known = ForgetfulRelays() if known is None else known
        self._on_event = on_event
        self._max_connect_s = max_connect_s
        self._carries_bulk = carries_bulk
        self._random = secrets.SystemRandom().random if random is None else random
        self._connect = connect
        self._idle: _Connection | None = None
        self._open: set[_Connection] = set()
        self._notice: PeerText | None = None
        self._welcome: Welcome | None = None

    @property
    def welcome(self) -> Welcome | None:
        """The last Welcome: versions, limits, and this client's address as the relay sees it."""
        return self._welcome

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._idle = None
        for connection in tuple(self._open):
            self._end(connection)

    async def allocate(self, lease: bytes) -> str:
        """Return a free nameplate, reserved for `lease` (16 bytes); its connection is kept for the next `meet`.

        Raises RelayRefusedError, RelayUnreachableError and the other ConnectErrors, ConnectionLostError.
        """
        connection, event = await self._ask(lambda s, now: s.allocate(lease, now), self._until())
        if not isinstance(event, NameplateReserved):
            self._end(connection)
            raise _no_answer(event)
        connection.idle_since = asyncio.get_running_loop().time()
        replaced, self._idle = self._idle, connection
        if replaced is not None:
            self._end(replaced)
        return event.nameplate

    async def meet(self, room_id: bytes, side: Side, lease: bytes, *, wait: bool) -> Leg:
        """Stand in `room_id` (32 bytes) under `lease` (16 bytes) until the other side is there; return the Leg.

        Waits without a bound of its own: for a lost or restarting relay it comes back by itself, and says so by
        events. `wait` is for side B: stay in a room without a sender. Raises RelayRefusedError, PeerViolationError,
        CertificateChangedError, RelayUnreachableError and the other ConnectErrors; ConnectionLostError where the
        relay kept ending its connections.
        """
        loop = asyncio.get_running_loop()
        reconnect = Reconnect(self._random, loop.time(), connect_for_s=self._max_connect_s)
        untried = len(self._addresses) - 1

        def join(session: SignalingClient, now: float) -> None:
            session.join([room_id], side, lease, now, wait=wait)

        while True:
            try:
                connection, event = await self._ask(join, self._until(), reuse=True)
            except ConnectionLostError as error:
                wait_s = reconnect.after_loss(error, loop.time())
            except ConnectError as error:
                if isinstance(error, CertificateChangedError | CertificateRefusedError):
                    raise
                wait_s = reconnect.after_failed_connect(error, loop.time())
            else:
                outcome = await self._stand(connection, event, reconnect)
                if isinstance(outcome, Leg):
                    return outcome
                if self._sender_may_be_elsewhere(outcome, reconnect) and untried > 0:
                    untried -= 1
                    self._addresses.append(self._addresses.pop(0))
                    continue
                wait_s = self._wait_after(outcome, reconnect)
            self._tell(RelayReconnecting(wait_s))
            await asyncio.sleep(wait_s)

    async def leave(self, room_id: bytes, lease: bytes, reason: LeaveReason) -> None:
        """Tell the relay that the room is left for good; 2 s at most, and no error: it is a courtesy.

        A relay that is not told ends the room 60 s after the last sign of life.
        """
        try:
            async with asyncio.timeout(LEAVE_S):
                connection, event = await self._ask(
                    lambda s, now: s.leave(room_id, lease, reason, now), self._until(), reuse=True
                )
                self._end(connection)
        except (NetError, TimeoutError) as error:
            _log.debug("the relay was not told of the end of a room: %s", type(error).__name__)
        else:
            if not isinstance(event, LeftRoom):
                _log.debug("the relay did not confirm the end of a room: %s", type(event).__name__)

    # --- one question ----------------------------------------------------------------------------------------------

    def _until(self) -> float:
        return asyncio.get_running_loop().time() + self._max_connect_s

    async def _ask(
        self, question: Callable[[SignalingClient, float], None], until: float, *, reuse: bool = False
    ) -> tuple[_Connection, SessionEvent]:
        """Ask on an open or a fresh connection, at most one Redirect away; return connection and answer."""
        connection, event = await self._ask_first(question, until, reuse=reuse)
        if not isinstance(event, Redirected):
            return connection, event
        self._end(connection)
        connection = await self._follow(event.redirect, until)
        event = await self._answer(connection, question)
        if isinstance(event, Redirected):
            self._end(connection)
            raise UnexpectedFrameError(
                "The relay sent this client on to another one, and that one sent it on again."
            )
        return connection, event

    async def _ask_first(
        self, question: Callable[[SignalingClient, float], None], until: float, *, reuse: bool
    ) -> tuple[_Connection, SessionEvent]:
        connection = self._take_idle() if reuse else None
        if connection is not None:
            try:
                return connection, await self._answer(connection, question)
            except ConnectionLostError:
                _log.debug("the connection that was kept has ended meanwhile")
        connection = await self._reach(until)
        return connection, await self._answer(connection, question)

    async def _answer(
        self, connection: _Connection, question: Callable[[SignalingClient, float], None]
    ) -> SessionEvent:
        with self._ended_on_error(connection):
            question(connection.session, asyncio.get_running_loop().time())
            return await connection.next_event()

    async def _stand(
        self, connection: _Connection, event: SessionEvent, reconnect: Reconnect
    ) -> Leg | Refused | RelayRestarts | ConnectionLostError:
        """Wait in the room from the answer to Join on."""
        if isinstance(event, Standing):
            reconnect.stands()
            self._tell(RelayWaiting())
            try:
                with self._ended_on_error(connection):
                    event = await connection.next_event()
            except ConnectionLostError as error:
                return error
        if isinstance(event, Paired):
            self._open.discard(connection)
            return Leg(
                connection.frames,
                connection.transport,
                connection.transport.kind,
                connection.session.in_flight_bytes,
                event.tokens,
            )
        self._end(connection)
        if isinstance(event, Refused | RelayRestarts):
            return event
        raise _no_answer(event)

    def _sender_may_be_elsewhere(self, outcome: object, reconnect: Reconnect) -> bool:
        """Say whether a receiver that just came should ask the next relay: its sender may have found this one down."""
        refused = isinstance(outcome, Refused) and outcome.error.code == _NO_SUCH_ROOM
        return refused and reconnect.presence is Presence.NEW

    def _wait_after(
        self, outcome: Refused | RelayRestarts | ConnectionLostError, reconnect: Reconnect
    ) -> float:
        now = asyncio.get_running_loop().time()
        if isinstance(outcome, Refused):
            return reconnect.after_refusal(outcome.error, now)
        if isinstance(outcome, RelayRestarts):
            return reconnect.after_restart(outcome, now)
        return reconnect.after_loss(outcome, now)

    # --- connections -----------------------------------------------------------------------------------------------

    def _take_idle(self) -> _Connection | None:
        connection, self._idle = self._idle, None
        if connection is None:
            return None
        if asyncio.get_running_loop().time() - connection.idle_since < IDLE_REUSE_S:
            return connection
        self._end(connection)
        return None

    async def _reach(self, until: float) -> _Connection:
        """Return a connection to the first relay that can be reached, the one that worked last first."""
        loop = asyncio.get_running_loop()
        failures: list[ConnectError] = []
        for left, address in zip(range(len(self._addresses), 0, -1), tuple(self._addresses), strict=True):
            # An address that swallows packets leaves the others their share of the time.
            timeout_s = max((until - loop.time()) / left, 0.0)
            try:
                connection = await self._open_one(address, timeout_s)
            except (CertificateChangedError, CertificateRefusedError):
                raise  # another relay is no answer to a relay that may be an impostor
            except ConnectError as error:
                failures.append(error)
            else:
                self._addresses.remove(address)
                self._addresses.insert(0, address)
                return connection
        raise _unreachable(failures)

    async def _follow(self, redirect: Redirect, until: float) -> _Connection:
        try:
            address = RelayAddress(redirect.host, redirect.port, redirect.pin)
        except InvalidAddressError:
            raise MalformedMessageError("The relay sent this client on to an address that is none.") from None
        return await self._open_one(address, until - asyncio.get_running_loop().time(), pin_from_user=False)

    async def _open_one(
        self, address: RelayAddress, timeout_s: float, *, pin_from_user: bool = True
    ) -> _Connection:
        connect = self._connect
        if connect is None:
            from tallow_net.transport.negotiate import connect_encrypted

            connect = connect_encrypted

        def check(transport: Transport) -> None:
            self._check(transport, address, pin_from_user=pin_from_user)

        transport = await connect(
            address.host,
            address.port,
            choice=self._choice,
            timeout_s=timeout_s,
            check=check,
            carries_bulk=self._carries_bulk,
        )
        connection = _Connection(transport, self._welcomed)
        self._open.add(connection)
        self._tell(RelayConnected(transport.kind))
        return connection

    def _check(self, transport: Transport, address: RelayAddress, *, pin_from_user: bool) -> None:
        """Check the key before a byte is sent, and remember what pins.py says."""
        known = self._known.lookup(address.host, address.port)
        authority_ok = False
        if asks_authority(address, known, pin_from_user=pin_from_user):
            from tallow_net.transport.certificates import authority_check

            authority_ok = authority_check(transport.peer_chain_der, address.host)
        presented = transport.peer_spki or b""
        pin = check_relay(address, known, presented, authority_ok, pin_from_user=pin_from_user)
        if pin != known:
            self._known.remember(address.host, address.port, pin)

    @contextlib.contextmanager
    def _ended_on_error(self, connection: _Connection) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._end(connection)
            raise

    def _end(self, connection: _Connection) -> None:
        """End a connection on which nothing is owed any more."""
        self._open.discard(connection)
        connection.transport.abort()

    # --- events ----------------------------------------------------------------------------------------------------

    def _welcomed(self, welcome: Welcome) -> None:
        self._welcome = welcome
        if welcome.notice and welcome.notice != self._notice:
            self._notice = welcome.notice
            self._tell(RelayNotice(welcome.notice))

    def _tell(self, event: RelayEvent) -> None:
        if self._on_event is not None:
            self._on_event(event)


def _no_answer(event: SessionEvent) -> NetError:
    """Return the error of a question that was not answered."""
    if isinstance(event, Refused):
        return event.error
    if isinstance(event, RelayRestarts):
        return RelayUnreachableError(
            "The relay is restarting.", hints=(f"Try again in {math.ceil(event.reconnect_in_s) or 1} s.",)
        )
    return UnexpectedFrameError(f"The relay's answer has no place here: {type(event).__name__}.")


def _unreachable(failures: list[ConnectError]) -> ConnectError:
    """Return one error for all addresses that were tried."""
    if len(failures) == 1:
        return failures[0]
    return RelayUnreachableError("None of the relays could be reached. " + " ".join(map(str, failures)))

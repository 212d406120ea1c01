"""Routes: how a sender is found and how a receiver finds it, until both have proved the code.

A route gives one established handshake after another; whoever runs the session says when it began, so that
the room or the listener is closed for others. The guess budget of a code is one, whatever the route.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from tallow_net import (
    LeaveReason,
    NetError,
    PeerViolationError,
    RelayNotice,
    RelayReconnecting,
    RelayWaiting,
    Side,
    signaling,
)
from tallow_net.limits import PAIR_IN_FLIGHT_BYTES, PLAIN_FRAME_BYTES
from tallow_net.signaling import Join
from tallow_net.transport.frames import FrameStream
from tallow_net.transport.interface import TransportChoice, TransportKind

from tallow_protocol.aio.attempt import agree_as_receiver, agree_as_sender, retire
from tallow_protocol.aio.failures import as_protocol_errors, translated
from tallow_protocol.core.attach import ATTACH_TYPE
from tallow_protocol.core.codes import AbortCode
from tallow_protocol.core.jobs import no_silent_faults
from tallow_protocol.errors import (
    CodeBurnedError,
    InternalError,
    MisuseError,
    PeerLeftError,
    ProtocolError,
    UnreachableError,
    UnsupportedSystemError,
    VersionError,
    ViolationError,
    WrongCodeError,
)
from tallow_protocol.events import PathKind, RelayBack, RelayTrouble, ServerNotice, WrongCode
from tallow_protocol.limits import HALF_OPEN_DIRECT, REPLY_WAIT_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tallow_net import KnownRelays, RelayAddress, RelayEvent, Transport
    from tallow_net.relay.client import RelayClient
    from tallow_net.transport.listener import Listener

    from tallow_protocol.code import Code
    from tallow_protocol.core.budget import GuessBudget
    from tallow_protocol.core.keyschedule import SessionKeys
    from tallow_protocol.events import Event

__all__ = [
    "LEASE_BYTES",
    "DirectReceiverRoute",
    "ListeningRoute",
    "Met",
    "ReceiverRoute",
    "RelayReceiverRoute",
    "RelaySenderRoute",
    "SenderRoute",
    "relay_client",
    "relay_events",
]

WIRE_VERSION = 1
CONNECT_S = 20.0
LEASE_BYTES = 16

_RELAY_PATHS = {TransportKind.QUIC: PathKind.RELAY_QUIC, TransportKind.TLS: PathKind.RELAY_TCP}
_DIRECT_PATHS = {
    TransportKind.QUIC: PathKind.DIRECT_QUIC,
    TransportKind.TCP: PathKind.DIRECT_TCP,
    TransportKind.MEMORY: PathKind.MEMORY,
}


@dataclass(frozen=True, slots=True)
class Met:
    """Both sides proved the code over `frames`; what follows there is sealed."""

    frames: FrameStream
    path: PathKind
    keys: SessionKeys
    in_flight_bytes: int
    sas_nonce: bytes | None = None
    sas_commitment: bytes | None = None
    tokens: tuple[bytes, ...] = ()
    """What opens plain data connections through the relay, 32 bytes each; none on a direct path."""
    observed: str | None = None
    """Our address, as the relay sees it."""


class SenderRoute(Protocol):
    """How A waits."""

    async def next(self) -> Met:
        """Wait for a receiver that knows the code. Raises CodeBurnedError after the third wrong one."""

    async def began(self) -> None:
        """Close the room or the listener: the session has begun."""

    async def close(self) -> None:
        """Stop waiting."""


class ReceiverRoute(Protocol):
    """How B comes."""

    async def next(self) -> Met:
        """Reach the sender and prove the code."""

    async def close(self) -> None:
        """Release what the route holds."""


_OURS = InternalError, MisuseError, UnsupportedSystemError
"""What no other receiver could make better: it ends the waiting, not one attempt."""


def _counted(error: WrongCodeError, on_event: Callable[[Event], None]) -> AbortCode:
    """Show a wrong guess at once, whatever the stranger does about being told; return what to tell it."""
    on_event(WrongCode(error.left))
    return AbortCode.WRONG_CODE if error.left else AbortCode.BURNED


def _observed(relay: RelayClient) -> str | None:
    address = None if relay.welcome is None else relay.welcome.address
    return None if address is None else address.raw


class RelaySenderRoute:
    """A stands in its room at a relay."""

    def __init__(
        self,
        relay: RelayClient,
        code: Code,
        lease: bytes,
        budget: GuessBudget,
        on_event: Callable[[Event], None],
    ) -> None:
        self._relay = relay
        self._code = code
        self._lease = lease
        self._budget = budget
        self._on_event = on_event
        self._farewell: asyncio.Task[None] | None = None

    async def next(self) -> Met:
        """Wait in the room; a stranger who fails costs a guess, everybody else nothing."""
        while True:
            leg = await self._relay.meet(self._code.room_id, Side.A, self._lease, wait=True)
            reason: AbortCode | None = None
            try:
                established = await agree_as_sender(leg.frames, self._code, self._budget)
            except WrongCodeError as error:
                await retire(leg.frames, _counted(error, self._on_event))
                if error.left == 0:
                    await self._relay.leave(self._code.room_id, self._lease, LeaveReason.BURNED)
                    raise CodeBurnedError from None
                continue
            except _OURS:
                leg.transport.abort()
                raise
            except (ProtocolError, NetError) as error:
                if isinstance(error, ViolationError):
                    reason = AbortCode.of(error)
                await retire(leg.frames, reason)
                continue
            return Met(
                leg.frames,
                _RELAY_PATHS[leg.kind],
                established.keys,
                leg.in_flight_limit,
                sas_nonce=established.r_a,
                tokens=leg.tokens,
                observed=_observed(self._relay),
            )

    async def began(self) -> None:
        """Tell the relay, in the background, that the code is spent."""
        if self._farewell is None:
            leave = self._relay.leave(self._code.room_id, self._lease, LeaveReason.SPENT)
            self._farewell = asyncio.create_task(leave)

    async def close(self) -> None:
        """Finish telling the relay; leave the room where nothing began."""
        if self._farewell is None:
            await self._relay.leave(self._code.room_id, self._lease, LeaveReason.LEFT)
        else:
            await self._farewell


class ListeningRoute:
    """A listens itself, on TCP, QUIC or both, one number for both.

    It goes on listening while a session runs: `attaching` takes a connection that begins with an Attach, its first
    frame read, and owns it then.
    """

    def __init__(
        self, listener: Listener, code: Code, budget: GuessBudget, on_event: Callable[[Event], None]
    ) -> None:
        self._listener = listener
        self._code = code
        self._budget = budget
        self._on_event = on_event
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._met: asyncio.Queue[Met | ProtocolError] = asyncio.Queue()
        self._unanswered = 0
        self._taken = False
        self._handed_out = False
        self.attaching: Callable[[FrameStream, bytes], Awaitable[None]] | None = None
        self._accepting = asyncio.create_task(self._accept())

    async def _accept(self) -> None:
        with contextlib.suppress(NetError):  # the listener was closed
            while True:
                transport = await self._listener.accept()
                task = asyncio.create_task(self._serve(transport))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _serve(self, transport: Transport) -> None:
        frames = FrameStream(transport, limit=PLAIN_FRAME_BYTES)
        if self._unanswered >= HALF_OPEN_DIRECT or (self._taken and self.attaching is None):
            await self._end(frames, AbortCode.IN_USE)
            return
        self._unanswered += 1
        if self._taken:
            await self._late(frames)
            return
        try:
            with no_silent_faults(NetError):
                await self._attempt(frames)
        except WrongCodeError as error:
            reason = _counted(error, self._on_event)
            if reason is AbortCode.BURNED:
                self._met.put_nowait(CodeBurnedError())
            await self._end(frames, reason)
        except _OURS as error:
            self._met.put_nowait(error)
            transport.abort()
        except (ProtocolError, NetError) as error:
            await self._end(frames, AbortCode.of(error) if isinstance(error, ProtocolError) else None)
        finally:
            self._unanswered -= 1

    async def _late(self, frames: FrameStream) -> None:
        """Hand a connection of the running session over; tell others that it is in use."""
        try:
            body = await self._first_frame(frames)
        except BaseException:
            frames.transport.abort()
            raise
        finally:
            self._unanswered -= 1
        if body is None:
            frames.transport.abort()
        elif body[:1] == bytes((ATTACH_TYPE,)) and self.attaching is not None:
            await self.attaching(frames, body)
        else:
            await self._end(frames, AbortCode.IN_USE)

    async def _first_frame(self, frames: FrameStream) -> bytes | None:
        try:
            async with asyncio.timeout(REPLY_WAIT_S):
                return await frames.read()
        except (NetError, TimeoutError):
            return None

    async def _attempt(self, frames: FrameStream) -> None:
        """Prove the code; the first that does takes the place, before Confirm leaves."""
        mine = False

        def claim() -> bool:
            nonlocal mine
            mine, self._taken = not self._taken, True
            return mine

        try:
            if not await self._joined(frames):
                frames.transport.abort()
                return
            established = await agree_as_sender(frames, self._code, self._budget, claim)
        except asyncio.CancelledError:
            if mine or not self._taken:
                frames.transport.abort()
                raise
            await self._end(frames, AbortCode.IN_USE)
        except (ProtocolError, NetError):
            if mine:
                self._taken = False
            raise
        else:
            path = _DIRECT_PATHS[frames.transport.kind]
            met = Met(frames, path, established.keys, PAIR_IN_FLIGHT_BYTES, sas_nonce=established.r_a)
            self._met.put_nowait(met)

    async def _end(self, frames: FrameStream, code: AbortCode | None) -> None:
        """Say why a connection ends; `close` waits for this, since a reset would destroy what was said."""
        task = asyncio.current_task()
        if task is not None:
            # A request to end is met by this. While it stands, Python before 3.11.4 lets no timeout end as one.
            task.uncancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
        await retire(frames, code)

    async def _joined(self, frames: FrameStream) -> bool:
        """Return whether the connection asks for our room; anything else is closed without an answer."""
        body = await self._first_frame(frames)
        try:
            join = signaling.decode(body) if body else None
        except NetError:
            return False
        return isinstance(join, Join) and join.side is Side.B and join.room_ids == (self._code.room_id,)

    async def next(self) -> Met:
        """Wait for a receiver; an attempt that ended before its session began frees the place.

        A receiver may have come before this was called: it has the place, and whoever comes later is of its session.
        """
        if self._handed_out:
            self._handed_out = self._taken = False
        met = await self._met.get()
        if isinstance(met, ProtocolError):
            raise met
        self._handed_out = True
        return met

    async def began(self) -> None:
        """Listen for the session's own connections alone; who is still talking is told."""
        if self.attaching is None:
            await self.close()
        else:
            await self._drop_strangers()

    async def close(self) -> None:
        """Stop listening and drop strangers."""
        self._accepting.cancel()
        await self._listener.close()
        await self._drop_strangers()
        await asyncio.gather(self._accepting, return_exceptions=True)

    async def _drop_strangers(self) -> None:
        for task in self._tasks - self._ending:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Attempts:
    """B's rule: an Abort ends it, a bare end after our Reply is tried again up to the third Reply."""

    def __init__(self, code: Code, budget: GuessBudget) -> None:
        self._code = code
        self._budget = budget
        self._silent = 0

    async def over(
        self, frames: FrameStream, path: PathKind, in_flight_bytes: int, *, join: bytes | None = None
    ) -> Met | None:
        """Return the established handshake, or None where another attempt is allowed; `join` is said first."""
        left = self._budget.left
        try:
            if join is not None:
                await frames.write(join)
            established = await agree_as_receiver(frames, self._code, self._budget)
        except PeerViolationError as error:
            await retire(frames, AbortCode.VIOLATION)
            if self._budget.left == left and path in _DIRECT_PATHS.values():
                raise UnreachableError(
                    "something answers at the sender's address, but it is not Tallow",
                    code="not_tallow",
                    hints=("copy the address and its port again from the sender's screen",),
                ) from None
            raise translated(error) from None
        except (PeerLeftError, NetError):
            await frames.transport.close()
            if self._budget.burned:
                raise CodeBurnedError(
                    "three connections ended after this side answered; somebody between may be guessing at the code"
                ) from None
            self._silent += self._budget.left == left
            if self._silent > 2:
                raise PeerLeftError("the sender's side ended the connection three times") from None
            return None
        except ProtocolError as error:
            told = isinstance(error, ViolationError | VersionError)
            await retire(frames, AbortCode.of(error) if told else None)
            raise
        except asyncio.CancelledError:
            frames.transport.abort()
            raise
        return Met(frames, path, established.keys, in_flight_bytes, sas_commitment=established.sas_commit)


class RelayReceiverRoute:
    """B asks a relay for the sender."""

    def __init__(self, relay: RelayClient, code: Code, budget: GuessBudget) -> None:
        self._relay = relay
        self._code = code
        self._attempts = _Attempts(code, budget)
        self._lease = secrets.token_bytes(LEASE_BYTES)

    async def next(self) -> Met:
        """Meet A in its room; raises NoSuchCodeError where nobody sends under this code."""
        while True:
            with as_protocol_errors():
                leg = await self._relay.meet(self._code.room_id, Side.B, self._lease, wait=False)
            met = await self._attempts.over(leg.frames, _RELAY_PATHS[leg.kind], leg.in_flight_limit)
            if met is not None:
                return replace(met, tokens=leg.tokens, observed=_observed(self._relay))

    async def close(self) -> None:
        """Nothing is held."""


class DirectReceiverRoute:
    """B dials the sender; `connected` is called whenever somebody answers there."""

    def __init__(
        self,
        host: str,
        port: int,
        choice: TransportChoice,
        code: Code,
        budget: GuessBudget,
        *,
        connect_s: float = CONNECT_S,
        connected: Callable[[], None] = lambda: None,
    ) -> None:
        self._place = host, port
        self._choice = choice
        self._connect_s = connect_s
        self._connected = connected
        self._code = code
        self._attempts = _Attempts(code, budget)

    async def next(self) -> Met:
        """Dial, ask for the room, prove the code."""
        from tallow_net.transport.negotiate import connect_direct

        join = signaling.encode(Join(WIRE_VERSION, (self._code.room_id,), Side.B))
        while True:
            with as_protocol_errors():
                transport = await connect_direct(
                    *self._place, choice=self._choice, timeout_s=self._connect_s, small_segments=True
                )
            self._connected()
            frames = FrameStream(transport, limit=PLAIN_FRAME_BYTES)
            met = await self._attempts.over(
                frames, _DIRECT_PATHS[transport.kind], PAIR_IN_FLIGHT_BYTES, join=join
            )
            if met is not None:
                return met

    async def close(self) -> None:
        """Nothing is held."""


def relay_events(
    on_event: Callable[[Event], None], waiting: Callable[[], None]
) -> Callable[[RelayEvent], None]:
    """Return what turns a relay client's events into ours; `waiting` is called once the room is ours."""
    away = False

    def take(event: RelayEvent) -> None:
        nonlocal away
        match event:
            case RelayWaiting():
                waiting()
                if away:
                    away = False
                    on_event(RelayBack())
            case RelayReconnecting():
                away = True
                on_event(RelayTrouble(event.in_s))
            case RelayNotice():
                on_event(ServerNotice(event.text))
            case _:
                pass

    return take


def relay_client(
    addresses: Sequence[RelayAddress],
    choice: TransportChoice,
    known: KnownRelays,
    on_event: Callable[[RelayEvent], None],
    *,
    carries_bulk: bool,
) -> RelayClient:
    """Return a client of the given relays; `carries_bulk`: file data stays inside the connections to them."""
    from tallow_net.relay.client import RelayClient  # 10 ms, for nothing where there is no relay

    return RelayClient(
        addresses,
        transport=choice,
        known=known,
        on_event=on_event,
        max_connect_s=CONNECT_S,
        carries_bulk=carries_bulk,
    )

"""SignalingClient: one connection to a relay, from its first frame until Ready.

Frame bodies and the time go in; events and frame bodies come out. The table below has every message that has a
place; every other pair of state and message is the relay's violation and closes the session.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeAlias

from tallow_net.errors import MisuseError, PeerViolationError, RelayRefusedError, UnexpectedFrameError
from tallow_net.framing import Buffer
from tallow_net.limits import ANSWER_S, IN_FLIGHT_BYTES, KEEP_ALIVE_S, SILENCE_S
from tallow_net.relay.refusals import refusal
from tallow_net.signaling import (
    SIGNALING_VERSION,
    Allocate,
    Allocated,
    Call,
    ErrorCode,
    Join,
    KeepAlive,
    Leave,
    LeaveReason,
    Left,
    Ready,
    Redirect,
    Restarting,
    Side,
    SignalingError,
    SignalingMessage,
    Waiting,
    Welcome,
    decode,
    encode,
)

__all__ = [
    "TABLE",
    "Called",
    "LeftRoom",
    "NameplateReserved",
    "Paired",
    "Redirected",
    "Refused",
    "RelayRestarts",
    "RelaySilent",
    "SessionEvent",
    "SessionState",
    "SignalingClient",
    "Standing",
    "Welcomed",
]


class SessionState(Enum):
    """What the client waits for."""

    IDLE = "idle"
    """Nothing was asked, or the last question was answered."""
    ALLOCATING = "allocating"
    JOINING = "joining"
    WAITING = "waiting"
    """In one room, for its other side."""
    JOINING_MANY = "joining many"
    LISTENING = "listening"
    """In several rooms, for a Call."""
    LEAVING = "leaving"
    READY = "ready"
    """The connection belongs to the pair: what follows on it is not signaling."""
    CLOSED = "closed"


# --- events --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Welcomed:
    """The relay introduced itself."""

    welcome: Welcome


@dataclass(frozen=True, slots=True)
class NameplateReserved:
    """Allocate was answered."""

    nameplate: str


@dataclass(frozen=True, slots=True)
class Standing:
    """Join was answered: the room, or the rooms, are ours to wait in."""


@dataclass(frozen=True, slots=True)
class Paired:
    """Both sides stand in the room; the answer is among the frames to send. 0 or 4 tokens of 32 bytes."""

    tokens: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Called:
    """Somebody came to one of several rooms; `token` (16 bytes) is the lease of a Join on another connection."""

    room_id: bytes
    token: bytes


@dataclass(frozen=True, slots=True)
class LeftRoom:
    """Leave was answered."""


@dataclass(frozen=True, slots=True)
class Redirected:
    """Ask again at another relay; this session is closed."""

    redirect: Redirect


@dataclass(frozen=True, slots=True)
class RelayRestarts:
    """The relay goes away: come back after `reconnect_in_s`, try for `try_for_s`. This session is closed."""

    reconnect_in_s: float
    try_for_s: float


@dataclass(frozen=True, slots=True)
class Refused:
    """The relay answered with an Error; this session is closed."""

    error: RelayRefusedError


@dataclass(frozen=True, slots=True)
class RelaySilent:
    """The relay said nothing for `silence_s`; this session is closed."""

    silence_s: float


SessionEvent: TypeAlias = (
    Welcomed
    | NameplateReserved
    | Standing
    | Paired
    | Called
    | LeftRoom
    | Redirected
    | RelayRestarts
    | Refused
    | RelaySilent
)

# --- the table -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """The state after a message, and the event that it gives (None: nothing to tell)."""

    state: SessionState
    event: Callable[[Any], SessionEvent | None]


def _nothing(_: object) -> None:
    return None


def _restarts(message: Restarting) -> RelayRestarts:
    return RelayRestarts(message.reconnect_in_ms / 1000, message.try_for_ms / 1000)


_S = SessionState
_OPEN: Final = (_S.IDLE, _S.ALLOCATING, _S.JOINING, _S.WAITING, _S.JOINING_MANY, _S.LISTENING, _S.LEAVING)

TABLE: Final[Mapping[tuple[SessionState, type[SignalingMessage]], Step]] = {
    # in every open state; a second Welcome is refused beside the table
    **{(state, Welcome): Step(state, Welcomed) for state in _OPEN},
    **{(state, Restarting): Step(_S.CLOSED, _restarts) for state in _OPEN},
    **{(state, SignalingError): Step(_S.CLOSED, lambda m: Refused(refusal(m))) for state in _OPEN},
    # a nameplate
    (_S.ALLOCATING, Allocated): Step(_S.IDLE, lambda m: NameplateReserved(m.nameplate)),
    (_S.ALLOCATING, Redirect): Step(_S.CLOSED, Redirected),
    # one room
    (_S.JOINING, Waiting): Step(_S.WAITING, lambda _: Standing()),
    (_S.JOINING, Ready): Step(_S.READY, lambda m: Paired(m.tokens or ())),
    (_S.JOINING, Redirect): Step(_S.CLOSED, Redirected),
    (_S.WAITING, KeepAlive): Step(_S.WAITING, _nothing),
    (_S.WAITING, Ready): Step(_S.READY, lambda m: Paired(m.tokens or ())),
    # several rooms
    (_S.JOINING_MANY, Waiting): Step(_S.LISTENING, lambda _: Standing()),
    (_S.JOINING_MANY, Redirect): Step(_S.CLOSED, Redirected),
    (_S.LISTENING, KeepAlive): Step(_S.LISTENING, _nothing),
    (_S.LISTENING, Call): Step(_S.LISTENING, lambda m: Called(m.room_id, m.token)),
    # leaving; what the relay sent before it saw the Leave is passed over
    (_S.LEAVING, Left): Step(_S.IDLE, lambda _: LeftRoom()),
    (_S.LEAVING, Redirect): Step(_S.CLOSED, Redirected),
    (_S.LEAVING, KeepAlive): Step(_S.LEAVING, _nothing),
    (_S.LEAVING, Ready): Step(_S.LEAVING, _nothing),
    (_S.LEAVING, Call): Step(_S.LEAVING, _nothing),
}

_ASKING: Final = frozenset({_S.ALLOCATING, _S.JOINING, _S.JOINING_MANY, _S.LEAVING})
_STANDING: Final = frozenset({_S.WAITING, _S.LISTENING})


class SignalingClient:
    """The client's half of the conversation with a relay.

    `now` is monotonic time in seconds. After every call, `frames_to_send` has the bodies that are to go out, and
    `next_deadline` says when `handle_timeout` is due. A relay's violation raises PeerViolationError, our own misuse
    MisuseError; after a violation, and after the events that say so, the session is closed.
    """

    def __init__(self) -> None:
        self._state = SessionState.IDLE
        self._welcome: Welcome | None = None
        self._outbox: list[bytes] = []
        self._answer_by: float | None = None
        self._heard_at = 0.0
        self._keep_alive_at = 0.0

    @property
    def state(self) -> SessionState:
        """What the session waits for."""
        return self._state

    @property
    def welcome(self) -> Welcome | None:
        """The relay's Welcome, if it came."""
        return self._welcome

    @property
    def in_flight_bytes(self) -> int:
        """What a pair may have under way in each direction: Welcome's limit, or 16 MiB until one came."""
        return IN_FLIGHT_BYTES if self._welcome is None else self._welcome.limits.in_flight_bytes

    def allocate(self, lease: bytes, now: float) -> None:
        """Ask for a nameplate, reserved for `lease` (16 bytes)."""
        self._ask(Allocate(SIGNALING_VERSION, lease), SessionState.ALLOCATING, now)

    def join(self, room_ids: Sequence[bytes], side: Side, lease: bytes, now: float, *, wait: bool) -> None:
        """Ask to stand in one room, or in 2 to 64 (32 bytes each), under `lease` (16 bytes)."""
        state = SessionState.JOINING if len(room_ids) == 1 else SessionState.JOINING_MANY
        self._ask(Join(SIGNALING_VERSION, tuple(room_ids), side, lease, wait), state, now)

    def leave(self, room_id: bytes, lease: bytes, reason: LeaveReason, now: float) -> None:
        """Leave a room for good, from it or without standing in it."""
        self._ask(Leave(room_id, lease, reason), SessionState.LEAVING, now, _STANDING)

    def receive(self, body: Buffer, now: float) -> SessionEvent | None:
        """Take in one frame body; return what it tells, or None. Raises PeerViolationError."""
        if self._state in {SessionState.READY, SessionState.CLOSED}:
            raise MisuseError(f"The session is {self._state.value}: it takes no more frames.")
        try:
            return self._receive(decode(body), now)
        except PeerViolationError:
            self._enter(SessionState.CLOSED, now)
            raise

    def frames_to_send(self) -> list[bytes]:
        """Return the frame bodies that are to go out, in order, and forget them."""
        bodies, self._outbox = self._outbox, []
        return bodies

    def next_deadline(self) -> float | None:
        """Return the time at which `handle_timeout` is due, or None."""
        if self._state in _STANDING:
            return min(self._keep_alive_at, self._heard_at + SILENCE_S)
        return self._answer_by

    def handle_timeout(self, now: float) -> SessionEvent | None:
        """Do what is due: send a KeepAlive, or give up on a silent relay (RelaySilent). Too early is harmless."""
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return None
        if self._state in _STANDING and now < self._heard_at + SILENCE_S:
            self._outbox.append(encode(KeepAlive()))
            self._keep_alive_at = now + KEEP_ALIVE_S
            return None
        silence_s = SILENCE_S if self._state in _STANDING else ANSWER_S
        self._enter(SessionState.CLOSED, now)
        return RelaySilent(silence_s)

    def _ask(
        self,
        message: SignalingMessage,
        state: SessionState,
        now: float,
        also_from: frozenset[SessionState] = frozenset(),
    ) -> None:
        if self._state is not SessionState.IDLE and self._state not in also_from:
            raise MisuseError(f"The session is {self._state.value}: it cannot be {state.value} from there.")
        self._outbox.append(encode(message))
        self._enter(state, now)

    def _receive(self, message: SignalingMessage, now: float) -> SessionEvent | None:
        step = TABLE.get((self._state, type(message)))
        if step is None or (isinstance(message, Welcome) and self._welcome is not None):
            name = type(message).__name__
            raise UnexpectedFrameError(f"The relay sent {name} to a client that is {self._state.value}.")
        self._heard_at = now
        if step.state is not self._state:
            self._enter(step.state, now)
        if step.state is SessionState.READY:
            self._outbox.append(encode(Ready()))
        if isinstance(message, Welcome):
            self._welcome = message
            if SIGNALING_VERSION not in message.versions:
                self._enter(SessionState.CLOSED, now)
                return Refused(refusal(SignalingError(ErrorCode.VERSION)))
        return step.event(message)

    def _enter(self, state: SessionState, now: float) -> None:
        self._state = state
        self._answer_by = now + ANSWER_S if state in _ASKING else None
        if state in _STANDING:
            self._heard_at = now
            self._keep_alive_at = now + KEEP_ALIVE_S
        if state is SessionState.CLOSED:
            self._outbox.clear()

"""SignalingMessage: what a client and a relay say to each other before Ready.

One frame of at most 4 KiB holds one message: `u16 type || canonical CBOR map`. Types stay under 256, so the first
byte is 0x00, which begins no plain frame of the handshake. Map keys are 1, 2, ... in the order of the fields here;
an unknown type, an unknown key, a missing one or a value outside its limit is refused.

    type                 1                2                    3             4          5
     1  Welcome     R    versions [u16]   limits {1,2,3}       notice text   address text
     2  Join        C    version u16      room id(s)           side 0/1      lease 16   wait bool
     3  Waiting     R
     4  Allocate    C    version u16      lease 16
     5  Allocated   R    nameplate text
     6  Leave       C    room id 32       lease 16             reason 0/1/2
     7  Left        R
     8  KeepAlive   both
     9  Ready       both tokens [32] x 0 or 4 (relay), no key (client)
    10  Call        R    room id 32       token 16
    11  Redirect    R    host text        port u16             pin 32 (or no key)
    12  Restarting  R    reconnect in ms  try for ms
    13  Error       R    code u16         retry after s (or no key)

C: from the client, R: from the relay. `room id(s)` is one byte string of 32 bytes, or an array of 2 to 64. A direct
connection begins with a Join that has keys 1 to 3 only: lease and wait are absent together.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, Generic, TypeAlias, TypeVar

from tallow_net.canonical import Encodable, Value, decode_map, encode_map
from tallow_net.errors import MalformedMessageError, MisuseError
from tallow_net.framing import Buffer
from tallow_net.limits import (
    HOST_BYTES,
    IN_FLIGHT_BYTES,
    IN_FLIGHT_MAX_BYTES,
    IN_FLIGHT_MIN_BYTES,
    LEASE_BYTES,
    MAX_WAIT_MAX_S,
    MAX_WAIT_S,
    NAMEPLATE_DIGITS,
    NOTICE_BYTES,
    OBSERVED_ADDRESS_BYTES,
    RESTART_MS,
    RETRY_AFTER_S,
    ROOM_ID_BYTES,
    ROOMS_PER_JOIN,
    SIGNALING_FRAME_BYTES,
    TOKEN_BYTES,
    TOKENS_PER_READY,
    VERSIONS_PER_WELCOME,
)
from tallow_net.untrusted import PeerText

__all__ = [
    "SIGNALING_VERSION",
    "Allocate",
    "Allocated",
    "Call",
    "ErrorCode",
    "Join",
    "KeepAlive",
    "Leave",
    "LeaveReason",
    "Left",
    "Ready",
    "Redirect",
    "Restarting",
    "Side",
    "SignalingError",
    "SignalingMessage",
    "Waiting",
    "Welcome",
    "WelcomeLimits",
    "decode",
    "encode",
    "error_name",
    "is_signaling",
]

SIGNALING_VERSION: Final = 1
"""The protocol version of this package."""

_TYPE_BYTES: Final = 2
_U16: Final = 0xFFFF
_PIN_BYTES: Final = 32


class Side(IntEnum):
    """Which end of a transfer: A sends, B receives."""

    A = 0
    B = 1


class LeaveReason(IntEnum):
    """Why a client leaves a room for good."""

    LEFT = 0
    """The user gave up; the room is free again."""
    SPENT = 1
    """The code did its work."""
    BURNED = 2
    """Three wrong guesses."""


class ErrorCode(IntEnum):
    """The codes of Error. A name, in lower case, is the `code` of RelayRefusedError; both are stable."""

    BAD_REQUEST = 1
    VERSION = 2
    NO_SUCH_ROOM = 3
    TWO_SENDERS = 4
    TWO_RECEIVERS = 5
    IN_USE = 6
    ROOM_SPENT = 7
    ROOM_BURNED = 8
    ROOM_EXPIRED = 9
    RELAY_FULL = 10
    RATE_LIMITED = 11
    QUOTA_REACHED = 12
    ACCESS_DENIED = 13
    RELAY_CLOSING = 14
    REPLACED = 15
    INTERNAL = 16


def error_name(code: int) -> str:
    """Return the stable name of an Error's code; "relay_error_N" for one that this version does not know."""
    try:
        return ErrorCode(code).name.lower()
    except ValueError:
        return f"relay_error_{code}"


@dataclass(frozen=True, slots=True)
class WelcomeLimits:
    """What the relay allows: {1: bytes in flight, 2: max wait in s, 3: rooms a connection may wait in}.

    `in_flight_bytes` (64 KiB to 1 GiB) is what a pair may have under way in each direction, `max_wait_s` (up to a
    year) how long a room waits at most, `rooms` (1 to 65535) how many rooms one connection may wait in.
    """

    in_flight_bytes: int = IN_FLIGHT_BYTES
    max_wait_s: int = MAX_WAIT_S
    rooms: int = ROOMS_PER_JOIN


@dataclass(frozen=True, slots=True)
class Welcome:
    """The relay's first words; nobody waits for them.

    `versions` are the 1 to 16 protocol versions it speaks, `notice` its operator's words (up to 1,024 bytes of
    UTF-8, may be empty), `address` the client's own HOST:PORT as the relay sees it (up to 64 bytes).
    """

    versions: tuple[int, ...] = (SIGNALING_VERSION,)
    limits: WelcomeLimits = field(default_factory=WelcomeLimits)
    notice: PeerText = field(default_factory=lambda: PeerText(""))
    address: PeerText = field(default_factory=lambda: PeerText(""))


@dataclass(frozen=True, slots=True)
class Join:
    """Stand in a room, or in several (2 to 64) and be called.

    `room_ids` are 32 bytes each, all different; `lease` is 16 random bytes that the client keeps: the same lease
    replaces its own older connection. `wait` is for side B: stay in a room without A. On a direct connection
    `lease` is None (and `wait` false).
    """

    version: int
    room_ids: tuple[bytes, ...]
    side: Side
    lease: bytes | None = None
    wait: bool = False

    @property
    def room_id(self) -> bytes:
        """The room of a Join for one; MisuseError for several."""
        if len(self.room_ids) != 1:
            raise MisuseError(f"This Join is for {len(self.room_ids)} rooms.")
        return self.room_ids[0]


@dataclass(frozen=True, slots=True)
class Waiting:
    """The room waits for its other side."""


@dataclass(frozen=True, slots=True)
class Allocate:
    """Ask for a free nameplate, reserved for `lease` (16 bytes)."""

    version: int
    lease: bytes


@dataclass(frozen=True, slots=True)
class Allocated:
    """`nameplate` is reserved: 1 to 12 decimal digits without a leading zero."""

    nameplate: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Leave `room_id` for good; also on a fresh connection without a Join."""

    room_id: bytes
    lease: bytes
    reason: LeaveReason


@dataclass(frozen=True, slots=True)
class Left:
    """The answer to Leave."""


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """A sign of life from who waits; the relay echoes it."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Both sides stand in the room.

    From the relay `tokens` has 0 or 4 tokens of 32 bytes; the client's answer has None, and is the last frame that
    the relay parses on this connection.
    """

    tokens: tuple[bytes, ...] | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """Somebody came to `room_id`, one of the several that this connection waits in.

    `token` (16 bytes, once) stands in the lease's place of a Join on another connection.
    """

    room_id: bytes
    token: bytes


@dataclass(frozen=True, slots=True)
class Redirect:
    """The room is at another relay: `host` (1 to 253 bytes), `port`, and the SHA-256 of its key (32 bytes) or None."""

    host: str
    port: int
    pin: bytes | None = None


@dataclass(frozen=True, slots=True)
class Restarting:
    """The relay ends its connections: come back after `reconnect_in_ms`, and try for `try_for_ms` (each up to 1 h)."""

    reconnect_in_ms: int
    try_for_ms: int


@dataclass(frozen=True, slots=True)
class SignalingError:
    """The Error message: `code` is a u16 (see ErrorCode; others are kept), `retry_after_s` up to a week or None."""

    code: int
    retry_after_s: int | None = None

    @property
    def name(self) -> str:
        """The stable name of `code`."""
        return error_name(self.code)


SignalingMessage: TypeAlias = (
    Welcome
    | Join
    | Waiting
    | Allocate
    | Allocated
    | Leave
    | Left
    | KeepAlive
    | Ready
    | Call
    | Redirect
    | Restarting
    | SignalingError
)


def is_signaling(body: Buffer) -> bool:
    """Say whether a frame body is a SignalingMessage by its first byte, 0x00."""
    return len(body) > 0 and body[0] == 0


def encode(message: SignalingMessage) -> bytes:
    """Return the frame body of `message`. Raises MisuseError for a value that `decode` would refuse."""
    layout = _BY_CLASS[type(message)]
    body = layout.number.to_bytes(_TYPE_BYTES, "big") + encode_map(layout.to_map(message))
    try:
        if decode(body) == message:
            return body
    except MalformedMessageError as error:
        raise MisuseError(f"This {type(message).__name__} cannot be sent. {error}") from error
    raise MisuseError(f"This {type(message).__name__} cannot be sent: it would arrive as another.")


def decode(body: Buffer) -> SignalingMessage:
    """Return the message of a frame body. Raises MalformedMessageError, whose sentence holds no peer's text."""
    if len(body) > SIGNALING_FRAME_BYTES:
        raise MalformedMessageError(
            f"A signaling message has at most {SIGNALING_FRAME_BYTES} bytes, not {len(body)}."
        )
    layout = _BY_NUMBER.get(int.from_bytes(body[:_TYPE_BYTES], "big")) if len(body) >= _TYPE_BYTES else None
    if layout is None:
        raise MalformedMessageError("A frame is no signaling message of this version.")
    values = decode_map(body[_TYPE_BYTES:], max_bytes=SIGNALING_FRAME_BYTES)
    fields = _Fields(layout.message_class.__name__, values)
    message: SignalingMessage = layout.from_fields(fields)
    fields.end()
    return message


# --- the fields of a map, each taken once with its type and limits ---------------------------------------------------

_V = TypeVar("_V", int, bytes, str, bool, list[Value], dict[int, Value])


class _Fields:
    """The map of one message; `end` refuses what nobody took."""

    __slots__ = ("_left", "_name")

    def __init__(self, name: str, values: dict[int, Value]) -> None:
        self._name = name
        self._left = values

    def bad(self, what: str) -> MalformedMessageError:
        return MalformedMessageError(f"A message {self._name} is refused: {what}.")

    def end(self) -> None:
        if self._left:
            raise self.bad("it has a key that this version does not know")

    def has(self, key: int) -> bool:
        return key in self._left

    def is_list(self, key: int) -> bool:
        return isinstance(self._left.get(key), list)

    def take(self, key: int, kind: type[_V]) -> _V:
        value = self._left.pop(key, None)
        if type(value) is not kind:  # not isinstance: True is no integer here
            raise self.bad(f"key {key} is missing or of a wrong type")
        return value

    def number(self, key: int, least: int, most: int) -> int:
        value = self.take(key, int)
        if not least <= value <= most:
            raise self.bad(f"key {key} is outside {least} to {most}")
        return value

    def octets(self, key: int, length: int) -> bytes:
        value = self.take(key, bytes)
        if len(value) != length:
            raise self.bad(f"key {key} has not {length} bytes")
        return value

    def text(self, key: int, most_bytes: int, least_bytes: int = 0) -> str:
        value = self.take(key, str)
        if not least_bytes <= len(value.encode()) <= most_bytes:
            raise self.bad(f"key {key} has not {least_bytes} to {most_bytes} bytes")
        return value

    def octets_list(self, key: int, length: int, counts: range | tuple[int, ...]) -> tuple[bytes, ...]:
        values = self.take(key, list)
        if len(values) not in counts:
            raise self.bad(f"key {key} has a wrong count")
        taken = tuple(value for value in values if type(value) is bytes and len(value) == length)
        if len(taken) != len(values) or len(set(taken)) != len(taken):
            raise self.bad(f"key {key} holds a wrong or a repeated value")
        return taken


# --- one pair of functions a message, in the order of the table above ----------------------------------------------


def _welcome_map(m: Welcome) -> dict[int, Encodable]:
    limits = {1: m.limits.in_flight_bytes, 2: m.limits.max_wait_s, 3: m.limits.rooms}
    return {1: m.versions, 2: limits, 3: m.notice.raw, 4: m.address.raw}


def _welcome(f: _Fields) -> Welcome:
    listed = f.take(1, list)
    versions = tuple(v for v in listed if type(v) is int and 1 <= v <= _U16)
    if not 1 <= len(listed) <= VERSIONS_PER_WELCOME or len(versions) != len(listed):
        raise f.bad(f"key 1 is no list of 1 to {VERSIONS_PER_WELCOME} versions")
    inner = _Fields("Welcome", f.take(2, dict))
    limits = WelcomeLimits(
        in_flight_bytes=inner.number(1, IN_FLIGHT_MIN_BYTES, IN_FLIGHT_MAX_BYTES),
        max_wait_s=inner.number(2, 1, MAX_WAIT_MAX_S),
        rooms=inner.number(3, 1, _U16),
    )
    inner.end()
    notice, address = f.text(3, NOTICE_BYTES), f.text(4, OBSERVED_ADDRESS_BYTES)
    return Welcome(versions, limits, PeerText(notice), PeerText(address))


def _join_map(m: Join) -> dict[int, Encodable]:
    rooms: Encodable = m.room_ids[0] if len(m.room_ids) == 1 else m.room_ids
    fields: dict[int, Encodable] = {1: m.version, 2: rooms, 3: int(m.side)}
    return fields if m.lease is None else {**fields, 4: m.lease, 5: m.wait}


def _join(f: _Fields) -> Join:
    version = f.number(1, 1, _U16)
    many = f.octets_list(2, ROOM_ID_BYTES, range(2, ROOMS_PER_JOIN + 1)) if f.is_list(2) else ()
    rooms = many or (f.octets(2, ROOM_ID_BYTES),)
    side = Side(f.number(3, 0, 1))
    if not f.has(4) and not f.has(5):
        return Join(version, rooms, side)
    return Join(version, rooms, side, f.octets(4, LEASE_BYTES), f.take(5, bool))


def _allocate(f: _Fields) -> Allocate:
    return Allocate(f.number(1, 1, _U16), f.octets(2, LEASE_BYTES))


def _allocated(f: _Fields) -> Allocated:
    nameplate = f.text(1, NAMEPLATE_DIGITS, 1)
    if not (nameplate.isascii() and nameplate.isdigit()) or nameplate[0] == "0":
        raise f.bad("key 1 is no decimal number without a leading zero")
    return Allocated(nameplate)


def _leave(f: _Fields) -> Leave:
    return Leave(f.octets(1, ROOM_ID_BYTES), f.octets(2, LEASE_BYTES), LeaveReason(f.number(3, 0, 2)))


def _ready_map(m: Ready) -> dict[int, Encodable]:
    return {} if m.tokens is None else {1: m.tokens}


def _ready(f: _Fields) -> Ready:
    return Ready(f.octets_list(1, TOKEN_BYTES, (0, TOKENS_PER_READY)) if f.has(1) else None)


def _call(f: _Fields) -> Call:
    return Call(f.octets(1, ROOM_ID_BYTES), f.octets(2, LEASE_BYTES))


def _redirect_map(m: Redirect) -> dict[int, Encodable]:
    place: dict[int, Encodable] = {1: m.host, 2: m.port}
    return place if m.pin is None else {**place, 3: m.pin}


def _redirect(f: _Fields) -> Redirect:
    return Redirect(
        f.text(1, HOST_BYTES, 1), f.number(2, 1, _U16), f.octets(3, _PIN_BYTES) if f.has(3) else None
    )


def _restarting(f: _Fields) -> Restarting:
    return Restarting(f.number(1, 0, RESTART_MS), f.number(2, 0, RESTART_MS))


def _error_map(m: SignalingError) -> dict[int, Encodable]:
    return {1: m.code} if m.retry_after_s is None else {1: m.code, 2: m.retry_after_s}


def _error(f: _Fields) -> SignalingError:
    return SignalingError(f.number(1, 0, _U16), f.number(2, 0, RETRY_AFTER_S) if f.has(2) else None)


def _no_fields(_: object) -> dict[int, Encodable]:
    return {}


# --- the table -----------------------------------------------------------------------------------------------------

_M = TypeVar("_M", bound=SignalingMessage)


@dataclass(frozen=True, slots=True)
class _Layout(Generic[_M]):
    number: int
    message_class: type[_M]
    to_map: Callable[[_M], dict[int, Encodable]]
    from_fields: Callable[[_Fields], _M]


_LAYOUTS: Final[tuple[_Layout[Any], ...]] = (
    _Layout(1, Welcome, _welcome_map, _welcome),
    _Layout(2, Join, _join_map, _join),
    _Layout(3, Waiting, _no_fields, lambda _: Waiting()),
    _Layout(4, Allocate, lambda m: {1: m.version, 2: m.lease}, _allocate),
    _Layout(5, Allocated, lambda m: {1: m.nameplate}, _allocated),
    _Layout(6, Leave, lambda m: {1: m.room_id, 2: m.lease, 3: int(m.reason)}, _leave),
    _Layout(7, Left, _no_fields, lambda _: Left()),
    _Layout(8, KeepAlive, _no_fields, lambda _: KeepAlive()),
    _Layout(9, Ready, _ready_map, _ready),
    _Layout(10, Call, lambda m: {1: m.room_id, 2: m.token}, _call),
    _Layout(11, Redirect, _redirect_map, _redirect),
    _Layout(12, Restarting, lambda m: {1: m.reconnect_in_ms, 2: m.try_for_ms}, _restarting),
    _Layout(13, SignalingError, _error_map, _error),
)
_BY_NUMBER: Final = {layout.number: layout for layout in _LAYOUTS}
_BY_CLASS: Final = {layout.message_class: layout for layout in _LAYOUTS}

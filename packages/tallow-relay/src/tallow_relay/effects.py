"""What the rooms ask the shell to do, in order (core, pure)."""

from dataclasses import dataclass

from tallow_net.signaling import Side


@dataclass(frozen=True, slots=True)
class Seated:
    """The connection waits now: send it Waiting."""

    connection: int


@dataclass(frozen=True, slots=True)
class Paired:
    """Both stand in the room: send Ready to both. `room` is the random number for the log."""

    pair: int
    a: int
    b: int
    room: int


@dataclass(frozen=True, slots=True)
class Called:
    """Somebody came to one of the many rooms of this connection: send it Call."""

    connection: int
    room_id: bytes
    token: bytes


@dataclass(frozen=True, slots=True)
class Dismissed:
    """The connection waits nowhere any more: send it Error with this code and close it."""

    connection: int
    code: str


@dataclass(frozen=True, slots=True)
class Superseded:
    """This side of the pair came back on a new connection: its old one is dead, end the pair."""

    pair: int
    side: Side


@dataclass(frozen=True, slots=True)
class RoomCreated:
    """For the log: a room has somebody in it; `room` is a random number."""

    room: int


@dataclass(frozen=True, slots=True)
class RoomClosed:
    """For the log: a room ended without a pair; a pair's end is reported by who forwards it."""

    room: int
    outcome: str


Effect = Seated | Paired | Called | Dismissed | Superseded | RoomCreated | RoomClosed

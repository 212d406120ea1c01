"""What a room does at every event: states, events and the one table (core, pure).

A room is in one state, events move it, and each cell names the next state and what the registry has to do.
A cell that is not in the table cannot happen: the registry never produces that event in that state, and
`move` raises InvalidRoomEventError, which names both.

    FREE         no entry: the relay knows nothing of the room
    HELD         kept for the sender's lease, nobody is connected (reserved, or between two connections)
    A_WAITS      the sender waits
    B_WAITS      a patient receiver waits (Join with wait), no sender is known
    B_AT_HELD    a receiver waits in a room that is kept for the sender's lease
    B_STAYS      the same, and the receiver is patient: it stays when the sender's lease ends
    PAIRED       both were joined; the entry holds the leases and the pair's handle, nothing else
    SPENT        a tombstone: the code was used
    BURNED       a tombstone: the code was burned by wrong guesses
"""

from dataclasses import dataclass
from enum import Enum

from tallow_relay.errors import InvalidRoomEventError


class RoomState(Enum):
    """Where a room stands; FREE is the absence of an entry."""

    FREE = "free"
    HELD = "held"
    A_WAITS = "a_waits"
    B_WAITS = "b_waits"
    B_AT_HELD = "b_at_held"
    B_STAYS = "b_stays"
    PAIRED = "paired"
    SPENT = "spent"
    BURNED = "burned"


class RoomEvent(Enum):
    """What can happen to a room; OWN means that the Join shows the lease which already has that side."""

    ALLOCATE = "allocate"
    JOIN_A = "join_a"
    JOIN_A_OWN = "join_a_own"
    JOIN_B = "join_b"
    JOIN_B_WAIT = "join_b_wait"
    JOIN_B_OWN = "join_b_own"
    JOIN_B_OWN_WAIT = "join_b_own_wait"
    LEAVE_A = "leave_a"
    LEAVE_B = "leave_b"
    SPEND = "spend"
    BURN = "burn"
    LOST = "lost"  # the waiting connection ended without a Leave
    SEAT_EXPIRED = "seat_expired"  # the waiting connection was silent too long, or waited for max_wait
    HOLD_EXPIRED = "hold_expired"  # the time of a lease without connection, or of a tombstone, is over
    PAIR_ENDED = "pair_ended"


class Action(Enum):
    """What the registry does with the connection that caused the event, or with the one that waits."""

    NOTHING = "nothing"
    RESERVE = "reserve"  # the lease gets the room
    SIT = "sit"  # the newcomer waits
    PAIR = "pair"  # the newcomer and the one that waits are joined
    REPLACE = "replace"  # the newcomer takes the seat of its own older connection
    SUPERSEDE = "supersede"  # the newcomer waits; the pair of its own older connection is told to end
    EMPTY = "empty"  # the seat is empty again, nobody is told
    DISMISS = "dismiss"  # who waits is told the reason and its seat is empty
    HOLD = "hold"  # the seat is empty, the sender's lease keeps the room for a while
    ENTOMB = "entomb"  # a tombstone answers from now on
    REFUSE = "refuse"  # the newcomer is told the reason, nothing changes


@dataclass(frozen=True, slots=True)
class Move:
    """One cell: the next state, the action and, for REFUSE and DISMISS, the stable code of the reason."""

    state: RoomState
    action: Action
    code: str = ""


_S, _E, _A = RoomState, RoomEvent, Action


def _refuse(state: RoomState, code: str) -> Move:
    return Move(state, _A.REFUSE, code)


def _tombstone(state: RoomState, code: str) -> dict[RoomEvent, Move]:
    joins = [event for event in RoomEvent if event.value.startswith("join_")]
    silent = (_E.LEAVE_A, _E.LEAVE_B, _E.SPEND, _E.BURN, _E.PAIR_ENDED)
    return (
        dict.fromkeys(joins, _refuse(state, code))
        | dict.fromkeys(silent, Move(state, _A.NOTHING))
        | {_E.HOLD_EXPIRED: Move(_S.FREE, _A.NOTHING)}
    )


def _receiver_at_held(state: RoomState, sender_left: Move, hold_expired: Move) -> dict[RoomEvent, Move]:
    return {
        _E.JOIN_A: _refuse(state, "two_senders"),
        _E.JOIN_A_OWN: Move(_S.PAIRED, _A.PAIR),
        _E.JOIN_B: _refuse(state, "two_receivers"),
        _E.JOIN_B_WAIT: _refuse(state, "two_receivers"),
        _E.JOIN_B_OWN: Move(_S.B_AT_HELD, _A.REPLACE),
        _E.JOIN_B_OWN_WAIT: Move(_S.B_STAYS, _A.REPLACE),
        _E.LEAVE_A: sender_left,
        _E.LEAVE_B: Move(_S.HELD, _A.EMPTY),
        _E.SPEND: Move(_S.SPENT, _A.ENTOMB, "room_spent"),
        _E.BURN: Move(_S.BURNED, _A.ENTOMB, "room_burned"),
        _E.LOST: Move(_S.HELD, _A.EMPTY),
        _E.SEAT_EXPIRED: Move(_S.HELD, _A.DISMISS, "room_expired"),
        _E.HOLD_EXPIRED: hold_expired,
    }


TABLE: dict[RoomState, dict[RoomEvent, Move]] = {
    _S.FREE: {
        _E.ALLOCATE: Move(_S.HELD, _A.RESERVE),
        _E.JOIN_A: Move(_S.A_WAITS, _A.SIT),
        _E.JOIN_B: _refuse(_S.FREE, "no_such_room"),
        _E.JOIN_B_WAIT: Move(_S.B_WAITS, _A.SIT),
    },
    _S.HELD: {
        _E.JOIN_A: _refuse(_S.HELD, "two_senders"),
        _E.JOIN_A_OWN: Move(_S.A_WAITS, _A.SIT),
        _E.JOIN_B: Move(_S.B_AT_HELD, _A.SIT),
        _E.JOIN_B_WAIT: Move(_S.B_STAYS, _A.SIT),
        _E.LEAVE_A: Move(_S.FREE, _A.EMPTY),
        _E.SPEND: Move(_S.SPENT, _A.ENTOMB, "room_spent"),
        _E.BURN: Move(_S.BURNED, _A.ENTOMB, "room_burned"),
        _E.HOLD_EXPIRED: Move(_S.FREE, _A.NOTHING),
    },
    _S.A_WAITS: {
        _E.JOIN_A: _refuse(_S.A_WAITS, "two_senders"),
        _E.JOIN_A_OWN: Move(_S.A_WAITS, _A.REPLACE),
        _E.JOIN_B: Move(_S.PAIRED, _A.PAIR),
        _E.JOIN_B_WAIT: Move(_S.PAIRED, _A.PAIR),
        _E.LEAVE_A: Move(_S.FREE, _A.EMPTY),
        _E.SPEND: Move(_S.SPENT, _A.ENTOMB, "room_spent"),
        _E.BURN: Move(_S.BURNED, _A.ENTOMB, "room_burned"),
        _E.LOST: Move(_S.HELD, _A.HOLD),
        _E.SEAT_EXPIRED: Move(_S.FREE, _A.DISMISS, "room_expired"),
    },
    _S.B_WAITS: {
        _E.JOIN_A: Move(_S.PAIRED, _A.PAIR),
        _E.JOIN_B: _refuse(_S.B_WAITS, "two_receivers"),
        _E.JOIN_B_WAIT: _refuse(_S.B_WAITS, "two_receivers"),
        _E.JOIN_B_OWN: _refuse(_S.B_WAITS, "no_such_room"),
        _E.JOIN_B_OWN_WAIT: Move(_S.B_WAITS, _A.REPLACE),
        _E.LEAVE_B: Move(_S.FREE, _A.EMPTY),
        _E.LOST: Move(_S.FREE, _A.EMPTY),
        _E.SEAT_EXPIRED: Move(_S.FREE, _A.DISMISS, "room_expired"),
    },
    _S.B_AT_HELD: _receiver_at_held(
        _S.B_AT_HELD,
        sender_left=Move(_S.FREE, _A.DISMISS, "no_such_room"),
        hold_expired=Move(_S.FREE, _A.DISMISS, "room_expired"),
    ),
    _S.B_STAYS: _receiver_at_held(
        _S.B_STAYS,
        sender_left=Move(_S.B_WAITS, _A.NOTHING),
        hold_expired=Move(_S.B_WAITS, _A.NOTHING),
    ),
    _S.PAIRED: {
        _E.JOIN_A: _refuse(_S.PAIRED, "in_use"),
        _E.JOIN_A_OWN: Move(_S.A_WAITS, _A.SUPERSEDE),
        _E.JOIN_B: _refuse(_S.PAIRED, "in_use"),
        _E.JOIN_B_WAIT: _refuse(_S.PAIRED, "in_use"),
        _E.JOIN_B_OWN: Move(_S.B_AT_HELD, _A.SUPERSEDE),
        _E.JOIN_B_OWN_WAIT: Move(_S.B_STAYS, _A.SUPERSEDE),
        _E.LEAVE_A: Move(_S.FREE, _A.EMPTY),
        _E.LEAVE_B: Move(_S.PAIRED, _A.NOTHING),
        _E.SPEND: Move(_S.SPENT, _A.ENTOMB, "room_spent"),
        _E.BURN: Move(_S.BURNED, _A.ENTOMB, "room_burned"),
        _E.PAIR_ENDED: Move(_S.HELD, _A.HOLD),
    },
    _S.SPENT: _tombstone(_S.SPENT, "room_spent"),
    _S.BURNED: _tombstone(_S.BURNED, "room_burned"),
}


def move(state: RoomState, event: RoomEvent) -> Move:
    """Return the cell for `event` in `state`; InvalidRoomEventError where the table has none."""
    try:
        return TABLE[state][event]
    except KeyError:
        raise InvalidRoomEventError(state.value, event.value) from None

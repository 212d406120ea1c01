"""RoomRegistry: who waits where, who is joined with whom, and for how long (core, pure).

Calls bring facts and `now` (monotonic seconds) and give effects, which the shell carries out in order. The
registry holds no socket and reads no clock; its randomness is passed in. Connections and pairs are numbers
that the shell knows. What one room does at one event stands in roomtable.py.

Memory: about 0.5 KB for a waiting room with its connection, 0.3 KB for a pair or a tombstone.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tallow_crypto import derive_key, equal
from tallow_net.limits import (
    LEASE_BYTES,
    ROOM_ID_BYTES,
    ROOM_SILENCE_S,
    ROOMS_PER_JOIN,
    TOMBSTONE_PAIRED_S,
    TOMBSTONE_SPENT_S,
)
from tallow_net.signaling import LeaveReason, Side

from tallow_relay.effects import (
    Called,
    Dismissed,
    Effect,
    Paired,
    RoomClosed,
    RoomCreated,
    Seated,
    Superseded,
)
from tallow_relay.errors import InvalidRoomEventError, RoomRefusedError
from tallow_relay.roomtable import TABLE, Action, Move, RoomEvent, RoomState, move

# How long the opener of a called room has to come with its token.
CALL_S = 10.0
# At most one in this many nameplates of a length is in use, so that a random guess rarely meets a room.
NAMEPLATES_PER_ROOM = 1000
SHORTEST_NAMEPLATE_DIGITS = 4
LONGEST_NAMEPLATE_DIGITS = 12
_DRAWS = 32


class Randomness(Protocol):
    """What the registry needs of a random source; the shell passes the system's, tests a seeded one."""

    def randbelow(self, bound: int, /) -> int:
        """Return a number from 0 to bound - 1."""

    def token(self) -> bytes:
        """Return 16 random bytes."""


@dataclass(frozen=True, slots=True)
class RoomLimits:
    """What a registry bears; see docs/relay-operations.md for the cost of each."""

    rooms: int = 100_000
    rooms_per_connection: int = ROOMS_PER_JOIN
    max_wait_s: float = 86_400.0


@dataclass(slots=True)
class _Seat:
    connection: int
    side: Side
    lease: bytes
    wait: bool
    many: bool


@dataclass(slots=True)
class _Room:
    room_id: bytes
    state: RoomState = RoomState.FREE
    number: int | None = None
    a_lease: bytes | None = None
    b_lease: bytes | None = None
    seat: _Seat | None = None
    pair: int | None = None
    until: float = 0.0
    digits: int = 0


@dataclass(slots=True)
class _Waiter:
    side: Side
    lease: bytes
    since: float
    heard_at: float
    rooms: set[bytes] = field(default_factory=set)


@dataclass(slots=True)
class _Turn:
    """One call: its time, and what it makes the shell do."""

    now: float
    effects: list[Effect] = field(default_factory=list)


_LEAVE_EVENTS = {
    LeaveReason.LEFT: RoomEvent.LEAVE_A,
    LeaveReason.SPENT: RoomEvent.SPEND,
    LeaveReason.BURNED: RoomEvent.BURN,
}
_JOIN_EVENTS = {
    (Side.A, False, False): RoomEvent.JOIN_A,
    (Side.A, False, True): RoomEvent.JOIN_A,
    (Side.A, True, False): RoomEvent.JOIN_A_OWN,
    (Side.A, True, True): RoomEvent.JOIN_A_OWN,
    (Side.B, False, False): RoomEvent.JOIN_B,
    (Side.B, False, True): RoomEvent.JOIN_B_WAIT,
    (Side.B, True, False): RoomEvent.JOIN_B_OWN,
    (Side.B, True, True): RoomEvent.JOIN_B_OWN_WAIT,
}

_SENTENCES = {
    "no_such_room": "nobody sends under this code here",
    "two_senders": "another sender has this room",
    "two_receivers": "another receiver waits in this room",
    "in_use": "this room is in use by two others",
    "room_spent": "this code was used already",
    "room_burned": "this code was burned by wrong guesses",
    "room_expired": "the room's time is over",
}


class RoomRegistry:
    """All rooms of one relay."""

    def __init__(self, limits: RoomLimits, randomness: Randomness) -> None:
        self._limits = limits
        self._random = randomness
        self._rooms: dict[bytes, _Room] = {}
        self._waiters: dict[int, _Waiter] = {}
        self._pairs: dict[int, bytes] = {}
        self._next_pair = 1
        self._deadlines: list[tuple[float, int, int | bytes]] = []
        self._tie = 0
        self._nameplates_in_use: dict[int, int] = {}
        self._reserved: dict[bytes, tuple[bytes, str]] = {}

    # -- what clients ask ---------------------------------------------------------------------------------

    def join(
        self,
        connection: int,
        room_ids: Sequence[bytes],
        side: Side,
        lease: bytes,
        *,
        wait: bool,
        now: float,
    ) -> list[Effect]:
        """Let a connection wait in, or be joined in, the rooms; all of them or none.

        `room_ids` are 1 to `rooms_per_connection` different ids of 32 bytes, `lease` has 16 bytes. A second
        Join of a waiting connection, with its side and lease, replaces its rooms. Raises RoomRefusedError with the wire's code;
        nothing has changed then.
        """
        self._check_join(room_ids, lease)
        before = self._waiters.get(connection)
        if before is not None and (before.side is not side or not equal(before.lease, lease)):
            raise RoomRefusedError("bad_request", "a connection waits with one side and one lease")
        moves = self._join_moves(room_ids, side, lease, wait=wait)
        turn = _Turn(now)
        for room_id in sorted(before.rooms - set(room_ids)) if before is not None else ():
            self._lost(turn, room_id)
        waiter = self._waiters.get(connection)
        if waiter is None:
            waiter = self._waiters[connection] = _Waiter(side, lease, since=now, heard_at=now)
            self._push(now + min(ROOM_SILENCE_S, self._limits.max_wait_s), connection)
        waiter.heard_at = now
        seat = _Seat(connection, side, lease, wait, len(room_ids) > 1)
        for room_id, cell in moves:
            self._apply_join(turn, room_id, cell, seat)
        if waiter.rooms:
            turn.effects.append(Seated(connection))
        else:
            self._waiters.pop(connection, None)
        return turn.effects

    def allocate(self, lease: bytes, *, now: float) -> tuple[str, list[Effect]]:
        """Return a free nameplate, reserved for the lease for 60 s; the same one for the same lease.

        Raises RoomRefusedError(relay_full) at the cap of rooms.
        """
        if len(lease) != LEASE_BYTES:
            raise RoomRefusedError("bad_request", "a lease has 16 bytes")
        known = self._reserved.get(lease)
        if known is not None:
            self._rooms[known[0]].until = now + TOMBSTONE_PAIRED_S
            return known[1], []
        if len(self._rooms) + 1 > self._limits.rooms:
            raise RoomRefusedError("relay_full", "the relay holds as many rooms as it may", retry_after_s=60)
        nameplate, room_id, digits = self._draw_nameplate()
        cell = move(RoomState.FREE, RoomEvent.ALLOCATE)
        room = self._rooms[room_id] = _Room(room_id, cell.state, a_lease=lease, digits=digits)
        self._nameplates_in_use[digits] = self._nameplates_in_use.get(digits, 0) + 1
        self._reserved[lease] = (room_id, nameplate)
        self._hold(room, now + TOMBSTONE_PAIRED_S)
        turn = _Turn(now)
        self._number(turn, room)
        return nameplate, turn.effects

    def leave(
        self, connection: int, room_id: bytes, lease: bytes, reason: LeaveReason, *, now: float
    ) -> list[Effect]:
        """Give up one side of a room; an unknown room or lease changes nothing and is no error.

        Only the sender's lease can spend or burn: a receiver that says so has merely left.
        """
        room = self._rooms.get(room_id)
        if room is None:
            return []
        turn = _Turn(now)
        if room.a_lease is not None and equal(room.a_lease, lease):
            self._apply(turn, room, _LEAVE_EVENTS[reason], by=connection)
        elif room.b_lease is not None and equal(room.b_lease, lease):
            self._apply(turn, room, RoomEvent.LEAVE_B, by=connection)
        return turn.effects

    def keep_alive(self, connection: int, *, now: float) -> None:
        """Note that a waiting connection was heard of; others are ignored."""
        waiter = self._waiters.get(connection)
        if waiter is not None:
            waiter.heard_at = now

    # -- what happens to connections ----------------------------------------------------------------------

    def disconnected(self, connection: int, *, now: float) -> list[Effect]:
        """Take a connection out of the rooms it waits in; a sender's lease keeps its room for 60 s."""
        turn = _Turn(now)
        waiter = self._waiters.get(connection)
        for room_id in sorted(waiter.rooms) if waiter is not None else ():
            self._lost(turn, room_id)
        return turn.effects

    def pair_ended(self, pair: int, *, now: float) -> list[Effect]:
        """Note that a pair is over or ending; from here its room is kept for the sender's lease for 60 s.

        Unknown pairs (superseded, left) are ignored.
        """
        room_id = self._pairs.pop(pair, None)
        room = self._rooms.get(room_id) if room_id is not None else None
        turn = _Turn(now)
        if room is not None and room.pair == pair:
            self._apply(turn, room, RoomEvent.PAIR_ENDED)
        return turn.effects

    # -- time ---------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """Return when to call `expire` next; it may be early, never late."""
        return self._deadlines[0][0] if self._deadlines else None

    def expire(self, *, now: float) -> list[Effect]:
        """End what is over at `now`: silent connections, holds, tombstones."""
        turn = _Turn(now)
        while self._deadlines and self._deadlines[0][0] <= now:
            _, _, key = heapq.heappop(self._deadlines)
            if isinstance(key, int):
                self._expire_waiter(turn, key)
            else:
                self._expire_room(turn, key)
        return turn.effects

    # -- figures ------------------------------------------------------------------------------------------

    def state(self, room_id: bytes) -> RoomState:
        """Return the state of a room."""
        room = self._rooms.get(room_id)
        return RoomState.FREE if room is None else room.state

    def rooms_of(self, connection: int) -> int:
        """Return how many rooms a connection waits in."""
        waiter = self._waiters.get(connection)
        return 0 if waiter is None else len(waiter.rooms)

    @property
    def rooms(self) -> int:
        """The number of entries, tombstones included."""
        return len(self._rooms)

    @property
    def waiting(self) -> tuple[int, ...]:
        """The connections that wait now."""
        return tuple(self._waiters)

    # -- inside -------------------------------------------------------------------------------------------

    def _check_join(self, room_ids: Sequence[bytes], lease: bytes) -> None:
        if not 1 <= len(room_ids) <= self._limits.rooms_per_connection:
            limit = self._limits.rooms_per_connection
            raise RoomRefusedError("bad_request", f"a Join names 1 to {limit} rooms, not {len(room_ids)}")
        if len(lease) != LEASE_BYTES:
            raise RoomRefusedError("bad_request", "a Join to a relay shows a lease of 16 bytes")
        if any(len(room_id) != ROOM_ID_BYTES for room_id in room_ids):
            raise RoomRefusedError("bad_request", "a room id has 32 bytes")
        if len(set(room_ids)) != len(room_ids):
            raise RoomRefusedError("bad_request", "a Join names each room once")

    def _join_moves(
        self, room_ids: Sequence[bytes], side: Side, lease: bytes, *, wait: bool
    ) -> list[tuple[bytes, Move]]:
        """Return the cell of each room; RoomRefusedError if one refuses, or if there are too many rooms."""
        many = len(room_ids) > 1
        moves: list[tuple[bytes, Move]] = []
        new = 0
        for room_id in room_ids:
            room = self._rooms.get(room_id)
            new += room is None
            cell = self._join_cell(room or _Room(room_id), side, lease, wait=wait)
            if cell.action is Action.REFUSE:
                raise RoomRefusedError(cell.code, _SENTENCES[cell.code])
            if cell.action is Action.PAIR and many and room is not None and _occupied(room).many:
                raise RoomRefusedError("in_use", "both sides of this room wait in many")
            moves.append((room_id, cell))
        if new and len(self._rooms) + new > self._limits.rooms:
            raise RoomRefusedError("relay_full", "the relay holds as many rooms as it may", retry_after_s=60)
        return moves

    @staticmethod
    def _join_cell(room: _Room, side: Side, lease: bytes, *, wait: bool) -> Move:
        held = room.a_lease if side is Side.A else room.b_lease
        own = held is not None and equal(held, lease)
        return move(room.state, _JOIN_EVENTS[side, own, wait])

    def _apply_join(self, turn: _Turn, room_id: bytes, cell: Move, seat: _Seat) -> None:
        room = self._rooms.setdefault(room_id, _Room(room_id))
        if cell.action is Action.PAIR:
            if seat.many or _occupied(room).many:
                self._call(turn, room, seat)
            else:
                self._pair(turn, room, seat)
                room.state = cell.state
            return
        if cell.action is Action.REPLACE and _occupied(room).connection != seat.connection:
            self._unseat(turn, room, "replaced")
        elif cell.action is Action.SUPERSEDE and room.pair is not None:
            turn.effects.append(Superseded(room.pair, seat.side))
            self._pairs.pop(room.pair, None)
            room.pair = room.number = None
            self._hold(room, turn.now + TOMBSTONE_PAIRED_S)
        self._sit(turn, room, seat)
        room.state = cell.state

    def _sit(self, turn: _Turn, room: _Room, seat: _Seat) -> None:
        room.seat = seat
        if seat.side is Side.A:
            self._reserved.pop(seat.lease, None)
            room.a_lease, room.b_lease = seat.lease, None
        else:
            room.b_lease = seat.lease
        self._waiters[seat.connection].rooms.add(room.room_id)
        self._number(turn, room)

    def _pair(self, turn: _Turn, room: _Room, seat: _Seat) -> None:
        other = _occupied(room)
        # Who is joined waits nowhere else (a connection in several rooms is called instead).
        self._stop_waiting(other.connection, room.room_id)
        sender, receiver = (seat, other) if seat.side is Side.A else (other, seat)
        self._reserved.pop(sender.lease, None)
        room.a_lease, room.b_lease, room.seat = sender.lease, receiver.lease, None
        room.pair, self._next_pair = self._next_pair, self._next_pair + 1
        self._pairs[room.pair] = room.room_id
        number = self._number(turn, room)
        turn.effects.append(Paired(room.pair, sender.connection, receiver.connection, number))

    def _call(self, turn: _Turn, room: _Room, seat: _Seat) -> None:
        """Ask the side that waits in many rooms to open a connection for this one; the other side waits."""
        other = _occupied(room)
        token = self._random.token()
        called = seat if seat.many else other
        if called is other:
            self._stop_waiting(other.connection, room.room_id)
            self._sit(turn, room, seat)
        turn.effects.append(Called(called.connection, room.room_id, token))
        if called.side is Side.A:
            # The token stands in the lease's place, so that only who was called can come.
            self._reserved.pop(room.a_lease or b"", None)
            room.a_lease = token
            room.state = RoomState.B_STAYS if _occupied(room).wait else RoomState.B_AT_HELD
            self._hold(room, turn.now + CALL_S)
        else:
            room.state = RoomState.A_WAITS

    def _apply(self, turn: _Turn, room: _Room, event: RoomEvent, *, by: int | None = None) -> None:
        """Carry out a cell of any event but a Join; `by` is the connection that caused it."""
        cell = move(room.state, event)
        hold_from = turn.now
        if event is RoomEvent.LOST:
            hold_from = self._waiters[_occupied(room).connection].heard_at
        if cell.action in (Action.EMPTY, Action.DISMISS, Action.ENTOMB, Action.HOLD):
            self._unseat(turn, room, cell.code, unless=by)
        if cell.action is Action.HOLD:
            self._hold(room, hold_from + TOMBSTONE_PAIRED_S)
        elif cell.action is Action.ENTOMB:
            self._entomb(turn, room, cell)
        if event is RoomEvent.PAIR_ENDED:
            # The pair's end is logged by who forwarded it; the next one in this room has another number.
            room.pair = room.number = None
        room.state = cell.state
        self._forget_leases(turn, room, event)

    def _forget_leases(self, turn: _Turn, room: _Room, event: RoomEvent) -> None:
        """Drop what the room's new state has no use for."""
        if room.state is RoomState.B_WAITS:
            self._reserved.pop(room.a_lease or b"", None)
            room.a_lease = None
        elif room.state is RoomState.HELD:
            room.b_lease = None
        elif room.state is RoomState.FREE:
            self._forget(turn, room, event)

    def _lost(self, turn: _Turn, room_id: bytes) -> None:
        self._apply(turn, self._rooms[room_id], RoomEvent.LOST)

    def _unseat(self, turn: _Turn, room: _Room, code: str, *, unless: int | None = None) -> None:
        seat, room.seat = room.seat, None
        if seat is None:
            return
        idle = self._stop_waiting(seat.connection, room.room_id)
        if idle and code and seat.connection != unless:
            turn.effects.append(Dismissed(seat.connection, code))

    def _stop_waiting(self, connection: int, room_id: bytes) -> bool:
        """Take one room off a connection; True if it waits in no other."""
        waiter = self._waiters[connection]
        waiter.rooms.discard(room_id)
        if waiter.rooms:
            return False
        del self._waiters[connection]
        return True

    def _entomb(self, turn: _Turn, room: _Room, cell: Move) -> None:
        self._free_nameplate(room)
        self._reserved.pop(room.a_lease or b"", None)
        self._hold(room, turn.now + TOMBSTONE_SPENT_S)
        if room.number is not None and room.pair is None:
            turn.effects.append(RoomClosed(room.number, cell.state.value))
        room.number = None

    def _forget(self, turn: _Turn, room: _Room, event: RoomEvent) -> None:
        del self._rooms[room.room_id]
        self._free_nameplate(room)
        self._reserved.pop(room.a_lease or b"", None)
        if room.pair is not None:
            self._pairs.pop(room.pair, None)
        elif room.number is not None:
            ended = event in (RoomEvent.SEAT_EXPIRED, RoomEvent.HOLD_EXPIRED)
            turn.effects.append(RoomClosed(room.number, "expired" if ended else "left"))

    def _free_nameplate(self, room: _Room) -> None:
        if room.digits:
            self._nameplates_in_use[room.digits] -= 1
            room.digits = 0

    def _expire_waiter(self, turn: _Turn, connection: int) -> None:
        waiter = self._waiters.get(connection)
        if waiter is None:
            return
        due = min(waiter.heard_at + ROOM_SILENCE_S, waiter.since + self._limits.max_wait_s)
        if due > turn.now:
            self._push(due, connection)
            return
        for room_id in sorted(waiter.rooms):
            self._apply(turn, self._rooms[room_id], RoomEvent.SEAT_EXPIRED)

    def _expire_room(self, turn: _Turn, room_id: bytes) -> None:
        room = self._rooms.get(room_id)
        if room is None or RoomEvent.HOLD_EXPIRED not in TABLE[room.state]:
            return
        if room.until > turn.now:
            self._push(room.until, room_id)
        else:
            self._apply(turn, room, RoomEvent.HOLD_EXPIRED)

    def _hold(self, room: _Room, until: float) -> None:
        room.until = until
        self._push(until, room.room_id)

    def _push(self, at: float, key: int | bytes) -> None:
        self._tie += 1
        heapq.heappush(self._deadlines, (at, self._tie, key))

    def _number(self, turn: _Turn, room: _Room) -> int:
        if room.number is None:
            room.number = self._random.randbelow(1 << 48)
            turn.effects.append(RoomCreated(room.number))
        return room.number

    def _draw_nameplate(self) -> tuple[str, bytes, int]:
        for digits in range(SHORTEST_NAMEPLATE_DIGITS, LONGEST_NAMEPLATE_DIGITS + 1):
            lowest = 10 ** (digits - 1)
            if (self._nameplates_in_use.get(digits, 0) + 1) * NAMEPLATES_PER_ROOM > 9 * lowest:
                continue
            for _ in range(_DRAWS):
                nameplate = str(lowest + self._random.randbelow(9 * lowest))
                room_id = room_id_of(nameplate)
                if room_id not in self._rooms:
                    return nameplate, room_id, digits
        raise RoomRefusedError("relay_full", "the relay has no free nameplate", retry_after_s=60)


def _occupied(room: _Room) -> _Seat:
    """Return the seat of a room in whose state somebody waits."""
    if room.seat is None:
        raise InvalidRoomEventError(room.state.value, "somebody waits")
    return room.seat


def room_id_of(nameplate: str) -> bytes:
    """Return the 32-byte room id of a nameplate: BLAKE3 derive-key, context "tallow/1 room", over its ASCII."""
    return derive_key("tallow/1 room", nameplate.encode("ascii"))

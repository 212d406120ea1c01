"""A registry with seeded randomness, and short ways to bring one room into each state."""

import random

from tallow_net.signaling import LeaveReason, Side
from tallow_relay.effects import Effect, Paired
from tallow_relay.rooms import RoomLimits, RoomRegistry
from tallow_relay.roomtable import RoomEvent, RoomState

ROOM = b"\x01" * 32
LEASE_A = b"a" * 16
LEASE_B = b"b" * 16
OTHER = b"o" * 16
CONNECTION_A = 1
CONNECTION_B = 2
NEWCOMER = 3


class SeededRandomness:
    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def randbelow(self, bound: int, /) -> int:
        return self._random.randrange(bound)

    def token(self) -> bytes:
        return self._random.randbytes(16)


def registry(**limits: float) -> RoomRegistry:
    return RoomRegistry(RoomLimits(**limits), SeededRandomness())


def join_a(rooms: RoomRegistry, *, connection: int = CONNECTION_A, lease: bytes = LEASE_A, now: float = 0.0):
    return rooms.join(connection, [ROOM], Side.A, lease, wait=False, now=now)


def join_b(
    rooms: RoomRegistry,
    *,
    connection: int = CONNECTION_B,
    lease: bytes = LEASE_B,
    wait: bool = False,
    now: float = 0.0,
):
    return rooms.join(connection, [ROOM], Side.B, lease, wait=wait, now=now)


def leave(
    rooms: RoomRegistry, lease: bytes, reason: LeaveReason, *, connection: int = NEWCOMER, now: float = 0.0
):
    return rooms.leave(connection, ROOM, lease, reason, now=now)


def pair_of(effects: list[Effect]) -> int:
    return next(effect.pair for effect in effects if isinstance(effect, Paired))


def in_state(state: RoomState) -> tuple[RoomRegistry, int]:
    """Return a registry whose ROOM is in this state at time 0, and the number of its pair (0 without)."""
    rooms = registry()
    if state in (RoomState.A_WAITS, RoomState.PAIRED, RoomState.SPENT, RoomState.BURNED):
        join_a(rooms)
    if state is RoomState.B_WAITS:
        join_b(rooms, wait=True)
    if state in (RoomState.HELD, RoomState.B_AT_HELD, RoomState.B_STAYS):
        join_a(rooms)
        rooms.disconnected(CONNECTION_A, now=0.0)
    if state in (RoomState.B_AT_HELD, RoomState.B_STAYS):
        join_b(rooms, wait=state is RoomState.B_STAYS)
    pair = 0
    if state in (RoomState.PAIRED, RoomState.SPENT, RoomState.BURNED):
        pair = pair_of(join_b(rooms))
    if state is RoomState.SPENT:
        leave(rooms, LEASE_A, LeaveReason.SPENT)
    if state is RoomState.BURNED:
        leave(rooms, LEASE_A, LeaveReason.BURNED)
    assert rooms.state(ROOM) is state
    return rooms, pair


def cause(rooms: RoomRegistry, state: RoomState, event: RoomEvent, pair: int) -> list[Effect]:
    """Make this event happen to ROOM, the way the shell would; RoomRefusedError comes through."""
    sits = CONNECTION_A if state is RoomState.A_WAITS else CONNECTION_B
    joins = {
        RoomEvent.JOIN_A: (Side.A, OTHER, False),
        RoomEvent.JOIN_A_OWN: (Side.A, LEASE_A, False),
        RoomEvent.JOIN_B: (Side.B, OTHER, False),
        RoomEvent.JOIN_B_WAIT: (Side.B, OTHER, True),
        RoomEvent.JOIN_B_OWN: (Side.B, LEASE_B, False),
        RoomEvent.JOIN_B_OWN_WAIT: (Side.B, LEASE_B, True),
    }
    leaves = {
        RoomEvent.LEAVE_A: (LEASE_A, LeaveReason.LEFT),
        RoomEvent.LEAVE_B: (LEASE_B, LeaveReason.LEFT),
        RoomEvent.SPEND: (LEASE_A, LeaveReason.SPENT),
        RoomEvent.BURN: (LEASE_A, LeaveReason.BURNED),
    }
    if event in joins:
        side, lease, wait = joins[event]
        return rooms.join(NEWCOMER, [ROOM], side, lease, wait=wait, now=0.0)
    if event in leaves:
        return leave(rooms, *leaves[event])
    if event is RoomEvent.LOST:
        return rooms.disconnected(sits, now=0.0)
    if event is RoomEvent.PAIR_ENDED:
        return rooms.pair_ended(pair, now=0.0)
    if event is RoomEvent.SEAT_EXPIRED:
        return expire_seat(rooms, state)
    return expire_hold(rooms, state)


def expire_seat(rooms: RoomRegistry, state: RoomState) -> list[Effect]:
    if state in (RoomState.B_AT_HELD, RoomState.B_STAYS):
        rooms._rooms[ROOM].until = 1000.0  # the sender's lease outlives the silent receiver
    return rooms.expire(now=60.0)


def expire_hold(rooms: RoomRegistry, state: RoomState) -> list[Effect]:
    if state in (RoomState.B_AT_HELD, RoomState.B_STAYS):
        rooms.keep_alive(CONNECTION_B, now=59.0)
    return rooms.expire(now=600.0 if state in (RoomState.SPENT, RoomState.BURNED) else 60.0)

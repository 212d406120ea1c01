"""The registry under any order of joins, leaves, losses, ends and time: what must always hold."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tallow_net.signaling import ErrorCode, LeaveReason, Side
from tallow_relay.effects import Called, Dismissed, Paired, RoomClosed, RoomCreated, Seated, Superseded
from tallow_relay.errors import RoomRefusedError
from tallow_relay.rooms import RoomLimits, RoomRegistry
from tallow_relay.roomtable import RoomState

from tests.relay.registry_kit import SeededRandomness

ROOMS = [bytes([number]) * 32 for number in range(4)]
LEASES = [bytes([number]) * 16 for number in range(4)]


class Rooms(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.rooms = RoomRegistry(RoomLimits(rooms=5, rooms_per_connection=3), SeededRandomness())
        self.now = 0.0
        self.connections = 0
        self.waiting: set[int] = set()
        self.gone: set[int] = set()
        self.pairs: dict[int, tuple[int, int]] = {}
        self.open_numbers: set[int] = set()
        self.refused: set[str] = set()

    def take(self, effects: list) -> None:
        for effect in effects:
            match effect:
                case Seated(connection):
                    assert connection not in self.gone
                    self.waiting.add(connection)
                case Paired(pair, a, b, room):
                    assert a != b
                    assert {a, b}.isdisjoint(self.gone)
                    assert room in self.open_numbers
                    self.waiting -= {a, b}
                    self.gone |= {a, b}
                    self.pairs[pair] = (a, b)
                    self.open_numbers.remove(room)
                case Dismissed(connection, code):
                    assert connection in self.waiting
                    assert code
                    self.waiting.remove(connection)
                    self.gone.add(connection)
                case Superseded(pair, _):
                    assert pair in self.pairs
                    del self.pairs[pair]
                case Called(connection, _, token):
                    assert connection not in self.gone
                    assert len(token) == 16
                case RoomCreated(room):
                    assert room not in self.open_numbers
                    self.open_numbers.add(room)
                case RoomClosed(room, _):
                    self.open_numbers.remove(room)
        self.waiting &= set(self.rooms.waiting) | {c for c in self.waiting if self.rooms.rooms_of(c)}

    @rule(
        ids=st.lists(st.sampled_from(ROOMS), min_size=1, max_size=4),
        side=st.sampled_from(list(Side)),
        lease=st.sampled_from(LEASES),
        wait=st.booleans(),
        again=st.booleans(),
    )
    def join(self, ids: list[bytes], side: Side, lease: bytes, *, wait: bool, again: bool) -> None:
        if again and self.waiting:
            connection = min(self.waiting)
        else:
            self.connections += 1
            connection = self.connections
        try:
            self.take(self.rooms.join(connection, ids, side, lease, wait=wait, now=self.now))
        except RoomRefusedError as refused:
            self.refused.add(refused.code)

    @rule(lease=st.sampled_from(LEASES))
    def allocate(self, lease: bytes) -> None:
        try:
            nameplate, effects = self.rooms.allocate(lease, now=self.now)
        except RoomRefusedError as refused:
            self.refused.add(refused.code)
        else:
            assert nameplate.isdigit()
            self.take(effects)

    @rule(
        room=st.sampled_from(ROOMS), lease=st.sampled_from(LEASES), reason=st.sampled_from(list(LeaveReason))
    )
    def leave(self, room: bytes, lease: bytes, reason: LeaveReason) -> None:
        self.take(self.rooms.leave(0, room, lease, reason, now=self.now))

    @rule(data=st.data())
    def lose(self, data) -> None:
        if self.waiting:
            connection = data.draw(st.sampled_from(sorted(self.waiting)))
            self.waiting.discard(connection)
            self.gone.add(connection)
            self.take(self.rooms.disconnected(connection, now=self.now))

    @rule(data=st.data())
    def end_pair(self, data) -> None:
        if self.pairs:
            pair = data.draw(st.sampled_from(sorted(self.pairs)))
            del self.pairs[pair]
            self.take(self.rooms.pair_ended(pair, now=self.now))

    @rule(data=st.data())
    def keep_alive(self, data) -> None:
        if self.waiting:
            self.rooms.keep_alive(data.draw(st.sampled_from(sorted(self.waiting))), now=self.now)

    @rule(step=st.sampled_from([0.5, 9.0, 31.0, 61.0, 601.0]))
    def time_passes(self, step: float) -> None:
        self.now += step
        self.take(self.rooms.expire(now=self.now))
        deadline = self.rooms.next_deadline()
        assert deadline is None or deadline > self.now

    @invariant()
    def every_seat_and_every_waiter_belong_together(self) -> None:
        seats = {
            (room.seat.connection, room_id)
            for room_id, room in self.rooms._rooms.items()
            if room.seat is not None
        }
        waits = {(c, room_id) for c, waiter in self.rooms._waiters.items() for room_id in waiter.rooms}
        assert seats == waits

    @invariant()
    def no_entry_is_free_and_only_waiting_states_have_a_seat(self) -> None:
        waiting_states = {RoomState.A_WAITS, RoomState.B_WAITS, RoomState.B_AT_HELD, RoomState.B_STAYS}
        for room in self.rooms._rooms.values():
            assert room.state is not RoomState.FREE
            assert (room.seat is not None) == (room.state in waiting_states)

    @invariant()
    def a_pair_keeps_nothing_but_leases_and_its_handle(self) -> None:
        for room in self.rooms._rooms.values():
            if room.state is RoomState.PAIRED:
                assert (room.seat, room.a_lease is None, room.b_lease is None) == (None, False, False)
                assert room.pair in self.rooms._pairs

    @invariant()
    def a_refusal_is_one_of_the_wire_s(self) -> None:
        assert self.refused <= {code.name.lower() for code in ErrorCode}

    @invariant()
    def the_cap_of_rooms_holds(self) -> None:
        assert self.rooms.rooms <= 5

    @invariant()
    def nameplates_in_use_are_counted(self) -> None:
        counted = sum(self.rooms._nameplates_in_use.values())
        assert counted == sum(1 for room in self.rooms._rooms.values() if room.digits)

    @invariant()
    def every_hold_has_a_deadline(self) -> None:
        keys = {key for _, _, key in self.rooms._deadlines}
        holds = {RoomState.HELD, RoomState.B_AT_HELD, RoomState.B_STAYS, RoomState.SPENT, RoomState.BURNED}
        assert {room.room_id for room in self.rooms._rooms.values() if room.state in holds} <= keys
        assert set(self.rooms._waiters) <= keys


TestRooms = Rooms.TestCase
TestRooms.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

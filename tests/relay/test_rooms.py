"""The registry by name: what a sender, a receiver and a stranger meet, and when it ends."""

import pytest
from tallow_net.signaling import LeaveReason, Side
from tallow_relay.effects import Called, Dismissed, Paired, RoomClosed, RoomCreated, Seated, Superseded
from tallow_relay.errors import RoomRefusedError
from tallow_relay.rooms import room_id_of
from tallow_relay.roomtable import RoomState

from tests.relay.registry_kit import (
    CONNECTION_A,
    CONNECTION_B,
    LEASE_A,
    LEASE_B,
    NEWCOMER,
    OTHER,
    ROOM,
    SeededRandomness,
    in_state,
    join_a,
    join_b,
    leave,
    pair_of,
    registry,
)

ROOMS = [bytes([number]) * 32 for number in range(1, 66)]


def refusal(call, *arguments, **named) -> RoomRefusedError:
    with pytest.raises(RoomRefusedError) as refused:
        call(*arguments, **named)
    return refused.value


def only(kind: type, effects: list) -> list:
    return [effect for effect in effects if isinstance(effect, kind)]


def test_a_sender_waits_and_a_receiver_is_joined_with_it() -> None:
    rooms = registry()
    waits = join_a(rooms)
    paired = join_b(rooms)
    assert waits[-1] == Seated(CONNECTION_A)
    [created] = only(RoomCreated, waits)
    assert paired == [Paired(1, CONNECTION_A, CONNECTION_B, created.room)]
    assert rooms.waiting == ()


def test_a_patient_receiver_may_come_first() -> None:
    rooms = registry()
    join_b(rooms, wait=True)
    assert only(Paired, join_a(rooms))[0].a == CONNECTION_A


def test_a_refused_join_changes_nothing() -> None:
    rooms = registry()
    join_a(rooms)
    two = [ROOMS[7], ROOM]
    assert refusal(rooms.join, NEWCOMER, two, Side.A, OTHER, wait=False, now=0.0).code == "two_senders"
    assert rooms.state(ROOMS[7]) is RoomState.FREE
    assert rooms.rooms_of(NEWCOMER) == 0


def test_the_same_lease_takes_the_seat_of_its_own_older_connection() -> None:
    rooms = registry()
    join_a(rooms)
    effects = join_a(rooms, connection=NEWCOMER)
    assert effects == [Dismissed(CONNECTION_A, "replaced"), Seated(NEWCOMER)]
    assert only(Paired, join_b(rooms))[0].a == NEWCOMER


def test_the_old_connection_of_a_replaced_seat_may_go_without_harm() -> None:
    rooms = registry()
    join_a(rooms)
    join_a(rooms, connection=NEWCOMER)
    assert rooms.disconnected(CONNECTION_A, now=1.0) == []
    assert rooms.state(ROOM) is RoomState.A_WAITS


def test_a_half_open_old_connection_does_not_keep_its_owner_out() -> None:
    rooms, pair = in_state(RoomState.PAIRED)
    effects = join_a(rooms, connection=NEWCOMER)
    assert Superseded(pair, Side.A) in effects
    assert only(Paired, join_b(rooms, connection=5))[0].a == NEWCOMER


def test_a_receiver_that_comes_back_waits_for_the_sender_whose_lease_holds_the_room() -> None:
    rooms, pair = in_state(RoomState.PAIRED)
    assert Superseded(pair, Side.B) in join_b(rooms, connection=NEWCOMER)
    assert only(Paired, join_a(rooms, connection=5))[0].b == NEWCOMER


def test_after_a_wrong_guess_another_receiver_waits_until_the_sender_is_back() -> None:
    rooms, pair = in_state(RoomState.PAIRED)
    rooms.pair_ended(pair, now=10.0)
    assert join_b(rooms, connection=NEWCOMER, lease=OTHER, now=11.0)[-1] == Seated(NEWCOMER)
    [paired] = only(Paired, join_a(rooms, connection=5, now=12.0))
    assert (paired.a, paired.b) == (5, NEWCOMER)


def test_a_stranger_cannot_take_the_sender_s_place_while_it_is_away() -> None:
    rooms, pair = in_state(RoomState.PAIRED)
    rooms.pair_ended(pair, now=10.0)
    assert refusal(join_a, rooms, lease=OTHER, now=69.9).code == "two_senders"


def test_a_room_is_kept_60_s_after_its_pair_ended_and_no_longer() -> None:
    rooms, pair = in_state(RoomState.PAIRED)
    rooms.pair_ended(pair, now=10.0)
    rooms.expire(now=69.9)
    assert rooms.state(ROOM) is RoomState.HELD
    rooms.expire(now=70.0)
    assert rooms.state(ROOM) is RoomState.FREE
    assert rooms.rooms == 0


def test_a_pair_that_was_superseded_ends_without_touching_its_room() -> None:
    rooms, pair = in_state(RoomState.PAIRED)
    join_a(rooms, connection=NEWCOMER)
    assert rooms.pair_ended(pair, now=1.0) == []
    assert rooms.state(ROOM) is RoomState.A_WAITS


@pytest.mark.parametrize(
    ("reason", "code"), [(LeaveReason.SPENT, "room_spent"), (LeaveReason.BURNED, "room_burned")]
)
def test_a_late_receiver_is_told_for_ten_minutes_what_became_of_the_code(
    reason: LeaveReason, code: str
) -> None:
    rooms, pair = in_state(RoomState.PAIRED)
    leave(rooms, LEASE_A, reason, now=5.0)
    rooms.pair_ended(pair, now=6.0)
    rooms.expire(now=604.9)
    assert refusal(join_b, rooms, connection=NEWCOMER, now=604.9).code == code
    rooms.expire(now=605.0)
    assert refusal(join_b, rooms, connection=NEWCOMER, now=605.0).code == "no_such_room"


def test_a_receiver_s_lease_cannot_burn_the_sender_s_code() -> None:
    rooms, _ = in_state(RoomState.B_AT_HELD)
    leave(rooms, LEASE_B, LeaveReason.BURNED)
    assert rooms.state(ROOM) is RoomState.HELD


def test_an_unknown_lease_or_room_leaves_without_effect() -> None:
    rooms, _ = in_state(RoomState.A_WAITS)
    assert leave(rooms, OTHER, LeaveReason.BURNED) == []
    assert rooms.leave(NEWCOMER, ROOMS[9], LEASE_A, LeaveReason.BURNED, now=0.0) == []
    assert rooms.state(ROOM) is RoomState.A_WAITS


def test_who_waits_is_told_when_the_code_is_burned_from_another_connection() -> None:
    rooms, _ = in_state(RoomState.B_AT_HELD)
    assert Dismissed(CONNECTION_B, "room_burned") in leave(rooms, LEASE_A, LeaveReason.BURNED)


def test_who_leaves_itself_is_not_dismissed() -> None:
    rooms, _ = in_state(RoomState.A_WAITS)
    effects = leave(rooms, LEASE_A, LeaveReason.LEFT, connection=CONNECTION_A)
    assert [type(effect) for effect in effects] == [RoomClosed]
    assert rooms.waiting == ()


def test_a_silent_connection_is_told_room_expired_at_60_s_and_not_before() -> None:
    rooms = registry()
    join_a(rooms, now=100.0)
    assert rooms.expire(now=159.9) == []
    [dismissed] = only(Dismissed, rooms.expire(now=160.0))
    assert dismissed == Dismissed(CONNECTION_A, "room_expired")


def test_keep_alives_keep_a_room_until_max_wait() -> None:
    rooms = registry(max_wait_s=100.0)
    join_a(rooms)
    for now in (50.0, 99.0):
        rooms.keep_alive(CONNECTION_A, now=now)
        assert rooms.expire(now=now) == []
    assert only(Dismissed, rooms.expire(now=100.0)) == [Dismissed(CONNECTION_A, "room_expired")]


def test_a_lost_sender_s_room_is_held_for_60_s_since_it_was_last_heard() -> None:
    rooms = registry()
    join_a(rooms)
    rooms.keep_alive(CONNECTION_A, now=30.0)
    rooms.disconnected(CONNECTION_A, now=40.0)
    rooms.expire(now=89.9)
    assert rooms.state(ROOM) is RoomState.HELD
    rooms.expire(now=90.0)
    assert rooms.state(ROOM) is RoomState.FREE


def test_next_deadline_is_never_late() -> None:
    rooms = registry()
    assert rooms.next_deadline() is None
    join_a(rooms, now=5.0)
    assert rooms.next_deadline() == 65.0
    rooms.keep_alive(CONNECTION_A, now=30.0)
    rooms.expire(now=65.0)
    assert rooms.next_deadline() == 90.0


def test_a_receiver_at_a_held_room_learns_that_the_sender_gave_up() -> None:
    rooms, _ = in_state(RoomState.B_AT_HELD)
    assert Dismissed(CONNECTION_B, "no_such_room") in leave(rooms, LEASE_A, LeaveReason.LEFT)
    assert rooms.rooms == 0


def test_a_nameplate_is_reserved_for_the_lease_that_asked() -> None:
    rooms = registry()
    nameplate, _ = rooms.allocate(LEASE_A, now=0.0)
    room = room_id_of(nameplate)
    assert (len(nameplate), nameplate[0] != "0") == (4, True)
    assert rooms.allocate(LEASE_A, now=1.0) == (nameplate, [])
    assert refusal(rooms.join, 1, [room], Side.A, OTHER, wait=False, now=2.0).code == "two_senders"
    assert rooms.join(1, [room], Side.A, LEASE_A, wait=False, now=2.0)[-1] == Seated(1)


def test_a_reservation_ends_after_60_s() -> None:
    rooms = registry()
    nameplate, _ = rooms.allocate(LEASE_A, now=0.0)
    rooms.expire(now=59.9)
    assert rooms.state(room_id_of(nameplate)) is RoomState.HELD
    [closed] = rooms.expire(now=60.0)
    assert closed.outcome == "expired"
    assert rooms.rooms == 0


def test_a_room_id_is_the_derived_hash_of_the_ascii_nameplate() -> None:
    import blake3

    expected = blake3.blake3(b"4821", derive_key_context="tallow/1 room").digest()
    assert room_id_of("4821") == expected


def test_nameplates_grow_so_that_one_in_a_thousand_is_in_use() -> None:
    rooms = registry()
    lengths = [len(rooms.allocate(bytes([0, number]) * 8, now=0.0)[0]) for number in range(100)]
    assert lengths == [4] * 9 + [5] * 90 + [6]


def test_short_nameplates_are_handed_out_again_once_they_are_free() -> None:
    rooms = registry()
    for number in range(10):
        rooms.allocate(bytes([number]) * 16, now=0.0)
    rooms.expire(now=60.0)
    assert len(rooms.allocate(OTHER, now=60.0)[0]) == 4


def test_a_nameplate_that_is_in_use_is_not_handed_out() -> None:
    rooms = registry()
    taken = str(1000 + SeededRandomness().randbelow(9000))
    rooms.join(9, [room_id_of(taken)], Side.A, OTHER, wait=False, now=0.0)
    rooms._random = SeededRandomness()
    nameplate, _ = rooms.allocate(LEASE_A, now=0.0)
    assert nameplate != taken


def test_the_cap_of_rooms_refuses_the_newcomer_and_keeps_who_waits() -> None:
    rooms = registry(rooms=2)
    join_a(rooms)
    rooms.join(8, [ROOMS[5]], Side.A, OTHER, wait=False, now=0.0)
    refused = refusal(rooms.join, 9, [ROOMS[6]], Side.A, LEASE_B, wait=False, now=0.0)
    assert (refused.code, refused.retry_after_s > 0) == ("relay_full", True)
    assert refusal(rooms.allocate, LEASE_B, now=0.0).code == "relay_full"
    assert only(Paired, join_b(rooms))


def test_a_join_names_64_rooms_and_not_65() -> None:
    rooms = registry()
    assert rooms.join(1, ROOMS[:64], Side.B, LEASE_B, wait=True, now=0.0)[-1] == Seated(1)
    assert rooms.rooms_of(1) == 64
    assert refusal(rooms.join, 2, ROOMS[:65], Side.B, OTHER, wait=True, now=0.0).code == "bad_request"
    assert refusal(rooms.join, 2, [], Side.B, OTHER, wait=True, now=0.0).code == "bad_request"


@pytest.mark.parametrize("lease", [b"x" * 15, b"x" * 17])
def test_a_lease_has_16_bytes(lease: bytes) -> None:
    assert refusal(join_a, registry(), lease=lease).code == "bad_request"
    assert refusal(registry().allocate, lease, now=0.0).code == "bad_request"


@pytest.mark.parametrize("ids", [[b"x" * 31], [b"x" * 33], [ROOM, ROOM]])
def test_room_ids_are_32_bytes_and_different(ids: list[bytes]) -> None:
    assert refusal(registry().join, 1, ids, Side.A, LEASE_A, wait=False, now=0.0).code == "bad_request"


def test_a_listener_in_many_rooms_is_called_and_waits_on_in_the_others() -> None:
    rooms = registry()
    rooms.join(1, ROOMS[:3], Side.B, LEASE_B, wait=True, now=0.0)
    effects = rooms.join(2, [ROOMS[0]], Side.A, LEASE_A, wait=False, now=1.0)
    [called] = only(Called, effects)
    assert (called.connection, called.room_id, effects[-1]) == (1, ROOMS[0], Seated(2))
    assert rooms.rooms_of(1) == 2
    answer = rooms.join(3, [ROOMS[0]], Side.B, called.token, wait=False, now=2.0)
    [paired] = only(Paired, answer)
    assert (paired.a, paired.b) == (2, 3)


def test_only_the_token_answers_the_call_of_a_sender_in_many_rooms() -> None:
    rooms = registry()
    rooms.join(1, ROOMS[:3], Side.A, LEASE_A, wait=False, now=0.0)
    [called] = only(Called, rooms.join(2, [ROOMS[0]], Side.B, LEASE_B, wait=False, now=1.0))
    assert refusal(rooms.join, 3, [ROOMS[0]], Side.A, OTHER, wait=False, now=2.0).code == "two_senders"
    assert only(Paired, rooms.join(3, [ROOMS[0]], Side.A, called.token, wait=False, now=2.0))


def test_a_call_that_nobody_answers_ends_after_10_s() -> None:
    rooms = registry()
    rooms.join(1, ROOMS[:3], Side.A, LEASE_A, wait=False, now=0.0)
    rooms.join(2, [ROOMS[0]], Side.B, LEASE_B, wait=False, now=1.0)
    assert only(Dismissed, rooms.expire(now=10.9)) == []
    assert only(Dismissed, rooms.expire(now=11.0)) == [Dismissed(2, "room_expired")]


def test_a_newcomer_in_many_rooms_is_called_to_those_where_somebody_waits() -> None:
    rooms = registry()
    join_a(rooms)
    effects = rooms.join(7, [ROOM, ROOMS[5]], Side.B, LEASE_B, wait=True, now=0.0)
    assert only(Called, effects)[0].connection == 7
    assert rooms.rooms_of(7) == 1
    assert only(Paired, effects) == []


def test_both_sides_in_many_rooms_are_refused() -> None:
    rooms = registry()
    rooms.join(1, ROOMS[:2], Side.A, LEASE_A, wait=False, now=0.0)
    assert refusal(rooms.join, 2, ROOMS[:2], Side.B, LEASE_B, wait=True, now=0.0).code == "in_use"


def test_a_second_join_of_a_listener_replaces_its_rooms() -> None:
    rooms = registry()
    rooms.join(1, ROOMS[:3], Side.B, LEASE_B, wait=True, now=0.0)
    assert rooms.join(1, ROOMS[2:5], Side.B, LEASE_B, wait=True, now=5.0)[-1] == Seated(1)
    assert rooms.rooms_of(1) == 3
    assert [rooms.state(room) for room in ROOMS[:3]] == [RoomState.FREE, RoomState.FREE, RoomState.B_WAITS]


@pytest.mark.parametrize(("side", "lease"), [(Side.A, LEASE_B), (Side.B, OTHER)])
def test_a_waiting_connection_cannot_join_itself_or_change_its_lease(side: Side, lease: bytes) -> None:
    rooms = registry()
    join_b(rooms, wait=True)
    refused = refusal(rooms.join, CONNECTION_B, [ROOM], side, lease, wait=True, now=1.0)
    assert refused.code == "bad_request"
    assert rooms.state(ROOM) is RoomState.B_WAITS


def test_one_lost_room_of_many_dismisses_nobody_until_the_last() -> None:
    rooms = registry()
    rooms.join(1, ROOMS[:2], Side.B, LEASE_B, wait=True, now=0.0)
    effects = rooms.expire(now=60.0)
    assert only(Dismissed, effects) == [Dismissed(1, "room_expired")]
    assert len(only(RoomClosed, effects)) == 2


def test_every_meeting_of_a_room_has_a_number_of_its_own() -> None:
    rooms = registry()
    [first] = only(RoomCreated, join_a(rooms))
    rooms.pair_ended(pair_of(join_b(rooms)), now=1.0)
    [second] = only(RoomCreated, join_a(rooms, now=2.0))
    assert first.room != second.room

"""Which further connection is opened next, and when: table tests under a clock of the test's own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tallow_net import Side
from tallow_protocol.core.keeping import (
    ATTACH_WAIT_S,
    BULK_BYTES,
    RETRY_MOST_S,
    SECOND_FIRST_S,
    STEADY_S,
    TOKEN_PAUSE_S,
    Dial,
    Keeping,
    Listen,
    Return,
    Sight,
    Situation,
    UseToken,
)
from tallow_protocol.core.rejoining import Way
from tallow_protocol.core.state import TransferState
from tallow_protocol.events import PathLimit

FLOWS = TransferState.TRANSFERRING
BULK = BULK_BYTES + 1
RELAYED = Situation(Side.A, relayed=True, tokens=4)
NOW = 1000.0


def sight(**changes: object) -> Sight:
    return replace(Sight(ready=True, state=FLOWS, offer_bytes=BULK), **changes)


def tokens(steps):
    return [step.index for step in steps if isinstance(step, UseToken)]


def dials(steps):
    return [step for step in steps if isinstance(step, Dial)]


def listens(steps):
    return [step for step in steps if isinstance(step, Listen)]


# -- data connections through the relay --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("situation", "seen", "expected"),
    [
        (RELAYED, sight(), [0]),
        (replace(RELAYED, side=Side.B), sight(), [0]),
        (RELAYED, sight(wanted=3), [0, 1, 2]),
        (RELAYED, sight(wanted=4), [0, 1, 2, 3]),
        (RELAYED, sight(offer_bytes=BULK_BYTES), []),
        (RELAYED, sight(offer_bytes=None), []),
        (RELAYED, sight(ready=False), []),
        (RELAYED, sight(state=TransferState.OFFERING), []),
        (RELAYED, sight(state=TransferState.FINISHING), []),
        (RELAYED, sight(state=TransferState.COMPLETED), []),
        (RELAYED, sight(allowed=PathLimit.DIRECT_ONLY), []),
        (RELAYED, sight(allowed=PathLimit.RELAY_ONLY), [0]),
        (RELAYED, sight(direct=1, dedicated=1), [0]),
        (replace(RELAYED, tokens=0), sight(), []),
        (replace(RELAYED, tcp=False), sight(), []),
        (replace(RELAYED, relayed=False), sight(), []),
    ],
)
def test_tokens_are_used_for_bulk_once_it_flows(situation, seen, expected):
    assert tokens(Keeping(situation).look(seen, NOW)) == expected


def test_a_token_is_used_once_and_further_ones_when_more_are_wanted():
    keeping = Keeping(RELAYED)
    assert tokens(keeping.look(sight(), NOW)) == [0]
    assert tokens(keeping.look(sight(), NOW + 1)) == []
    assert tokens(keeping.look(sight(wanted=3), NOW + 2)) == [1, 2]
    assert tokens(keeping.look(sight(wanted=1), NOW + 3)) == []


def test_after_a_failure_the_next_token_is_tried_once_with_twice_the_time_and_then_none():
    keeping = Keeping(RELAYED)
    (first,) = keeping.look(sight(direct=1), NOW)[-1:]
    assert first == UseToken(0, ATTACH_WAIT_S)
    keeping.ended(first, NOW + 0.1)
    assert tokens(keeping.look(sight(direct=1), NOW + 0.1)) == []
    assert keeping.next_deadline == NOW + TOKEN_PAUSE_S
    (second,) = keeping.look(sight(direct=1), NOW + TOKEN_PAUSE_S)
    assert second == UseToken(1, 2 * ATTACH_WAIT_S)
    keeping.ended(second, NOW + 5)
    assert keeping.look(sight(direct=1), NOW + 500) == []
    assert keeping.next_deadline is None


def test_a_lost_data_connection_counts_as_a_failure():
    keeping = Keeping(RELAYED)
    for at in (NOW, NOW + 60):
        (step,) = [step for step in keeping.look(sight(), at) if isinstance(step, UseToken)]
        keeping.opened(step, at + 1)
        keeping.ended(step, at + 50)
    assert tokens(keeping.look(sight(), NOW + 200)) == []


def test_both_sides_use_the_same_tokens_in_the_same_order():
    sides = [Keeping(replace(RELAYED, side=side)) for side in Side]
    used = []
    for keeping, ends_after in zip(sides, (0.0, ATTACH_WAIT_S), strict=True):
        (first,) = [s for s in keeping.look(sight(), NOW) if isinstance(s, UseToken)]
        keeping.ended(first, NOW + ends_after)
        at = max(NOW + ends_after, NOW + TOKEN_PAUSE_S)
        (second,) = [s for s in keeping.look(sight(), at) if isinstance(s, UseToken)]
        used.append((first.index, second.index, at, at + second.wait_s))
    assert [u[:2] for u in used] == [(0, 1), (0, 1)]
    begins, ends = max(u[2] for u in used), min(u[3] for u in used)
    assert ends - begins >= ATTACH_WAIT_S


# -- listening ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("situation", "seen", "expected"),
    [
        (RELAYED, sight(), [Listen(tcp=True, quic=False)]),
        (RELAYED, sight(state=TransferState.OFFERING), [Listen(tcp=True, quic=False)]),
        (replace(RELAYED, tcp=False), sight(), [Listen(tcp=False, quic=True)]),
        (replace(RELAYED, limit=PathLimit.RELAY_ONLY), sight(), []),
        (RELAYED, sight(allowed=PathLimit.RELAY_ONLY), []),
        (RELAYED, sight(offer_bytes=BULK_BYTES), []),
        (RELAYED, sight(offer_bytes=1, allowed=PathLimit.DIRECT_ONLY), [Listen(tcp=True, quic=False)]),
        (RELAYED, sight(offer_bytes=None, allowed=PathLimit.DIRECT_ONLY), [Listen(tcp=True, quic=False)]),
        (RELAYED, sight(ready=False), []),
        (replace(RELAYED, relayed=False), sight(), []),
    ],
)
def test_we_listen_where_a_direct_path_is_allowed_and_pays(situation, seen, expected):
    assert listens(Keeping(situation).look(seen, NOW)) == expected


def test_quic_listens_later_where_no_direct_connection_came():
    keeping = Keeping(RELAYED)
    keeping.look(sight(), NOW)
    assert keeping.next_deadline == NOW + SECOND_FIRST_S
    assert listens(keeping.look(sight(), NOW + SECOND_FIRST_S - 0.01)) == []
    assert listens(keeping.look(sight(), NOW + SECOND_FIRST_S)) == [Listen(tcp=True, quic=True)]
    assert listens(keeping.look(sight(), NOW + 10)) == []


def test_who_learns_that_the_other_side_allows_the_relay_alone_listens_no_more():
    keeping = Keeping(RELAYED)
    keeping.look(sight(), NOW)
    alone = sight(allowed=PathLimit.RELAY_ONLY)
    assert listens(keeping.look(alone, NOW + 1)) == [Listen(tcp=False, quic=False)]
    assert listens(keeping.look(alone, NOW + 2)) == []


def test_quic_does_not_listen_where_a_direct_connection_stands_or_it_is_not_wanted():
    for situation, seen in ((RELAYED, sight(direct=1)), (replace(RELAYED, quic=False), sight())):
        keeping = Keeping(situation)
        keeping.look(seen, NOW)
        assert listens(keeping.look(seen, NOW + 1)) == []


# -- dialling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("situation", "seen", "count"),
    [
        (RELAYED, sight(places=1), 1),
        (RELAYED, sight(places=0), 0),
        (RELAYED, sight(places=1, direct=1), 0),
        (RELAYED, sight(places=1, wanted=4), 1),
        (RELAYED, sight(places=1, wanted=4, direct=1, dedicated=1), 3),
        (RELAYED, sight(places=1, wanted=4, direct=1, dedicated=0), 0),
        (RELAYED, sight(places=1, allowed=PathLimit.RELAY_ONLY), 0),
        (replace(RELAYED, limit=PathLimit.RELAY_ONLY), sight(places=1), 0),
        (RELAYED, sight(places=1, offer_bytes=BULK_BYTES), 0),
        (RELAYED, sight(places=1, offer_bytes=1, allowed=PathLimit.DIRECT_ONLY), 1),
        (Situation(Side.B, relayed=False), sight(), 1),
        (Situation(Side.B, relayed=False), sight(wanted=3), 3),
        (Situation(Side.B, relayed=False), sight(wanted=3, direct=1, dedicated=1), 2),
        (Situation(Side.B, relayed=False), sight(offer_bytes=BULK_BYTES), 0),
        (Situation(Side.B, relayed=False, tcp=False), sight(), 0),
        (Situation(Side.A, relayed=False), sight(), 0),
    ],
)
def test_direct_connections_are_dialled_where_allowed_and_as_many_as_wanted(situation, seen, count):
    steps = dials(Keeping(situation).look(seen, NOW))
    assert len(steps) == count
    assert len({step.number for step in steps}) == count


def test_b_lets_a_dial_first():
    keeping = Keeping(replace(RELAYED, side=Side.B))
    assert dials(keeping.look(sight(places=2), NOW)) == []
    assert dials(keeping.look(sight(places=2), NOW + SECOND_FIRST_S - 0.01)) == []
    assert len(dials(keeping.look(sight(places=2), NOW + SECOND_FIRST_S))) == 1


def test_b_does_not_dial_where_a_got_through():
    keeping = Keeping(replace(RELAYED, side=Side.B))
    keeping.look(sight(places=2), NOW)
    assert dials(keeping.look(sight(places=2, direct=1), NOW + SECOND_FIRST_S)) == []


def test_b_lets_a_dial_first_when_more_are_wanted_too():
    keeping = Keeping(replace(RELAYED, side=Side.B))
    keeping.look(sight(places=2), NOW)
    keeping.look(sight(places=2, direct=1, dedicated=1), NOW + 0.1)
    more = sight(places=2, direct=1, dedicated=1, wanted=2)
    assert dials(keeping.look(more, NOW + 20)) == []
    assert dials(keeping.look(more, NOW + 20 + SECOND_FIRST_S)) == [Dial(1, further=True)]


def test_failures_are_tried_again_after_2_4_8_seconds_and_at_most_64():
    keeping = Keeping(RELAYED)
    now, waits = NOW, []
    for _ in range(8):
        (step,) = dials(keeping.look(sight(places=1), now))
        keeping.ended(step, now)
        keeping.look(sight(places=1), now)
        deadline = keeping._dials.next_at(0, 1)
        waits.append(deadline - now)
        assert dials(keeping.look(sight(places=1), deadline - 0.01)) == []
        now = deadline
    assert waits == [2, 4, 8, 16, 32, 64, 64, 64]
    assert RETRY_MOST_S == 64


def test_a_lost_connection_is_dialled_again_after_2_seconds_and_longer_where_it_is_lost_again_at_once():
    keeping = Keeping(RELAYED)
    (step,) = dials(keeping.look(sight(places=1), NOW))
    keeping.opened(step, NOW)
    assert dials(keeping.look(sight(places=1, direct=1), NOW + 1)) == []
    keeping.ended(step, NOW + 1)
    assert dials(keeping.look(sight(places=1), NOW + 2.9)) == []
    (step,) = dials(keeping.look(sight(places=1), NOW + 3))
    keeping.opened(step, NOW + 3)
    keeping.ended(step, NOW + 4)
    assert dials(keeping.look(sight(places=1), NOW + 7.9)) == []
    assert len(dials(keeping.look(sight(places=1), NOW + 8))) == 1


def test_the_loss_of_a_connection_that_lived_long_is_a_first_one():
    keeping = Keeping(RELAYED)
    (step,) = dials(keeping.look(sight(places=1), NOW))
    keeping.ended(step, NOW)
    (step,) = dials(keeping.look(sight(places=1), NOW + 2))
    keeping.opened(step, NOW + 2)
    keeping.ended(step, NOW + 2 + STEADY_S)
    assert len(dials(keeping.look(sight(places=1), NOW + 4 + STEADY_S))) == 1


def test_more_places_than_before_are_dialled_at_once():
    keeping = Keeping(RELAYED)
    (step,) = dials(keeping.look(sight(places=1), NOW))
    keeping.ended(step, NOW)
    assert len(dials(keeping.look(sight(places=2), NOW + 0.1))) == 1


def test_nothing_is_due_once_the_session_is_over():
    keeping = Keeping(RELAYED)
    keeping.look(sight(places=1), NOW)
    assert keeping.look(sight(ready=False, places=1), NOW + 1) == []
    assert keeping.next_deadline is None


# -- coming back -------------------------------------------------------------------------------------------------------


def returns(steps):
    return [step.way for step in steps if isinstance(step, Return)]


@pytest.mark.parametrize(
    ("situation", "seen", "expected"),
    [
        (replace(RELAYED, room=True), sight(), [Way.ROOM]),
        (replace(RELAYED, room=True), sight(places=2), [Way.ROOM, Way.DIRECT]),
        (replace(RELAYED, room=True), sight(places=2, allowed=PathLimit.RELAY_ONLY), [Way.ROOM]),
        (replace(RELAYED, room=True, limit=PathLimit.RELAY_ONLY), sight(places=2), [Way.ROOM]),
        (replace(RELAYED, room=True), sight(state=TransferState.OFFERING), [Way.ROOM]),
        (replace(RELAYED, room=True), sight(state=TransferState.COMPLETED), [Way.ROOM]),
        (Situation(Side.B, relayed=False), sight(), [Way.DIRECT]),
        (Situation(Side.A, relayed=False), sight(), []),
    ],
)
def test_without_a_connection_both_come_back_by_every_way_there_is_and_do_nothing_else(
    situation, seen, expected
):
    steps = Keeping(situation).look(replace(seen, gone_since=NOW), NOW)
    assert returns(steps) == expected
    assert len(steps) == len(expected)


def test_a_failed_try_to_come_back_is_made_again_with_a_growing_wait():
    keeping = Keeping(Situation(Side.B, relayed=False))
    gone = sight(gone_since=NOW)
    now, waits = NOW, []
    for _ in range(7):
        (step,) = keeping.look(gone, now)
        assert keeping.next_deadline is None
        assert keeping.retry_at(gone, now) == now
        keeping.ended(step, now)
        assert keeping.look(gone, now) == []
        waits.append(keeping.next_deadline - now)
        now = keeping.next_deadline
    assert waits == [0.5, 1, 2, 4, 8, 10, 10]


def test_another_network_of_this_machine_is_tried_at_once():
    keeping = Keeping(Situation(Side.B, relayed=False))
    gone = sight(gone_since=NOW)
    for _ in range(6):
        (step,) = keeping.look(gone, NOW)
        keeping.ended(step, NOW)
        keeping.network_changed(NOW)
    (step,) = keeping.look(gone, NOW)
    keeping.ended(step, NOW)
    assert keeping.look(gone, NOW) == []
    assert keeping.next_deadline == NOW + 0.5


def test_after_an_absence_a_direct_path_is_looked_for_as_at_first():
    keeping = Keeping(RELAYED)
    now = NOW
    for _ in range(6):
        steps = [step for step in keeping.look(sight(places=1), now) if isinstance(step, Dial)]
        for step in steps:
            keeping.ended(step, now)
        now = max(now, keeping.next_deadline or now)
    assert not [s for s in keeping.look(sight(places=1), now - 1) if isinstance(s, Dial)]
    keeping.look(sight(places=1, gone_since=now), now)
    assert [s for s in keeping.look(sight(places=1), now) if isinstance(s, Dial)]


def test_who_is_back_tells_anew_where_it_listens():
    keeping = Keeping(RELAYED)
    assert listens(keeping.look(sight(), NOW))
    assert not listens(keeping.look(sight(), NOW))
    keeping.look(sight(gone_since=NOW + 1), NOW + 1)
    assert listens(keeping.look(sight(), NOW + 2))


def test_new_tokens_follow_a_meeting_at_the_relay_and_old_ones_are_no_failures():
    keeping = Keeping(RELAYED)
    (old,) = [step for step in keeping.look(sight(), NOW) if isinstance(step, UseToken)]
    keeping.new_tokens(4, 4)
    assert tokens(keeping.look(sight(wanted=2), NOW + 1)) == [4, 5]
    keeping.ended(old, NOW + 2)
    assert tokens(keeping.look(sight(wanted=3), NOW + 3)) == [6]

"""When the two sides of a session try to meet again, in virtual time."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_protocol.core.rejoining import (
    FIRST_S,
    MOST_LIMIT_S,
    MOST_S,
    STEADY_RETURN_S,
    Absence,
    Backoff,
    Returning,
    Way,
)

NOW = 1000.0


def none() -> float:
    return 0.0


def most() -> float:
    return 1.0 - 2.0**-53


def test_waits_double_from_half_a_second_to_ten() -> None:
    ceilings = Backoff(FIRST_S, MOST_S, most)
    assert [round(ceilings.next_s(), 6) for _ in range(8)] == [0.5, 1, 2, 4, 8, 10, 10, 10]
    floors = Backoff(FIRST_S, MOST_S, none)
    assert [floors.next_s() for _ in range(8)] == [0.25, 0.5, 1, 2, 4, 5, 5, 5]
    floors.reset()
    assert floors.next_s() == 0.25


@given(seed=st.integers(), tries=st.integers(1, 3000))
def test_no_wait_leaves_its_bounds_however_long_it_goes_on(seed: int, tries: int) -> None:
    backoff = Backoff(FIRST_S, MOST_S, random.Random(seed).random)
    waits = [backoff.next_s() for _ in range(tries)]
    assert all(FIRST_S / 2 <= wait <= MOST_S for wait in waits)
    assert all(wait >= MOST_S / 2 for wait in waits[5:])


def test_both_ways_are_tried_at_once_and_then_each_at_its_own_times() -> None:
    returning = Returning(none)
    ways = (Way.ROOM, Way.DIRECT)
    assert returning.look(NOW, ways, NOW) == [Way.ROOM, Way.DIRECT]
    assert returning.next_at(ways) is None
    returning.ended(Way.DIRECT, NOW + 0.1)
    assert returning.next_at(ways) == NOW + 0.25
    assert returning.look(NOW, ways, NOW + 0.2) == []
    assert returning.look(NOW, ways, NOW + 0.25) == [Way.DIRECT]
    assert returning.trying(Way.ROOM)
    returning.ended(Way.DIRECT, NOW + 0.3)
    returning.ended(Way.ROOM, NOW + 3)
    assert returning.next_at(ways) == NOW + 0.75
    assert returning.look(NOW, ways, NOW + 3) == [Way.ROOM, Way.DIRECT]


def test_a_try_that_hung_is_followed_at_once_and_counts_as_no_refusal() -> None:
    returning = Returning(most)
    now = NOW
    for _ in range(7):
        assert returning.look(NOW, (Way.DIRECT,), now) == [Way.DIRECT]
        now += MOST_S
        returning.ended(Way.DIRECT, now)
        assert returning.next_at((Way.DIRECT,)) == now
    assert returning.look(NOW, (Way.DIRECT,), now) == [Way.DIRECT]
    returning.ended(Way.DIRECT, now)
    assert returning.next_at((Way.DIRECT,)) == pytest.approx(now + 2 * FIRST_S)


def test_another_network_is_tried_at_once_and_a_try_under_way_is_not_doubled() -> None:
    returning = Returning(most)
    ways = (Way.ROOM, Way.DIRECT)
    returning.look(NOW, ways, NOW)
    for _ in range(6):
        returning.ended(Way.ROOM, NOW)
    assert returning.next_at(ways) == pytest.approx(NOW + MOST_S)
    returning.afresh(NOW + 1)
    assert returning.look(NOW, ways, NOW + 1) == [Way.ROOM]
    returning.ended(Way.ROOM, NOW + 1)
    assert returning.next_at(ways) == pytest.approx(NOW + 1 + FIRST_S)


def test_a_new_absence_is_answered_at_once_and_the_same_one_is_not() -> None:
    returning = Returning(none)
    now = NOW
    for wait_s in (0.25, 0.5, 1, 2):
        assert returning.look(NOW, (Way.ROOM,), now) == [Way.ROOM]
        returning.ended(Way.ROOM, now)  # it came up, and was lost without having carried anything
        assert returning.next_at((Way.ROOM,)) == now + wait_s
        now += wait_s
    assert returning.look(NOW, (Way.ROOM,), now - 0.5) == []
    assert returning.look(now - 0.4, (Way.ROOM,), now - 0.4) == [Way.ROOM]


def test_a_way_that_is_not_offered_is_not_tried() -> None:
    returning = Returning(none)
    assert returning.look(NOW, (), NOW) == []
    assert returning.next_at(()) is None


def test_an_absence_ends_after_its_limit_and_counts_down_to_it() -> None:
    absence = Absence(600.0)
    assert absence.ends_at is None
    absence.begin(NOW)
    assert absence.ends_at == NOW + 600
    assert absence.left_s(NOW + 8) == 592
    assert absence.left_s(NOW + 700) == 0
    assert absence.back(NOW + 10)
    assert not absence.back(NOW + 11)
    assert absence.ends_at is None


def test_only_progress_or_a_minute_begins_a_new_absence() -> None:
    absence = Absence(600.0)
    absence.begin(NOW)
    absence.back(NOW + 10)
    absence.begin(NOW + 20)
    assert absence.since == NOW
    absence.back(NOW + 30)
    absence.progress()
    absence.begin(NOW + 40)
    assert absence.since == NOW + 40
    absence.back(NOW + 50)
    absence.begin(NOW + 50 + STEADY_RETURN_S)
    assert absence.since == NOW + 50 + STEADY_RETURN_S


def test_progress_that_was_under_way_does_not_end_an_absence() -> None:
    absence = Absence(600.0)
    absence.begin(NOW)
    absence.progress()
    assert absence.ends_at == NOW + 600


def test_a_lower_limit_holds_for_one_absence() -> None:
    absence = Absence(600.0)
    absence.begin(NOW, 20.0)
    assert absence.ends_at == NOW + 20
    absence.back(NOW)
    absence.progress()
    absence.begin(NOW, MOST_LIMIT_S)
    assert absence.ends_at == NOW + 600


@pytest.mark.parametrize(("limit_s", "allowed"), [(0.0, False), (0.001, True), (600.0, True)])
def test_a_limit_of_nothing_allows_no_waiting(limit_s: float, allowed: bool) -> None:
    assert Absence(limit_s).allowed is allowed

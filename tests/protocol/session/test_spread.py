"""More than one data connection only where a long or lossy path rewards it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_protocol.core.spread import CONNECTIONS_MAX, PathSample, SpreadChoice, connections_worth


@pytest.mark.parametrize(
    ("round_trip_s", "rate", "lost", "connections"),
    [
        (0.0002, 2e9, None, 1),
        (0.0002, 50e6, 0.02, 1),
        (0.019, 10e6, 0.02, 1),
        (0.020, 10e6, None, 4),
        (0.080, 10e6, None, 4),
        (0.020, 10e6, 0.0, 1),
        (0.080, 10e6, 0.0, 2),
        (0.020, 10e6, 0.0009, 1),
        (0.020, 10e6, 0.001, 3),
        (0.080, 10e6, 0.001, 4),
        (0.020, 10e6, 0.005, 4),
        (0.200, 1e6, 0.05, 4),
        (0.040, 249e6, None, 4),
        (0.040, 250e6, None, 1),
    ],
)
def test_what_a_path_is_worth(round_trip_s: float, rate: float, lost: float | None, connections: int) -> None:
    assert connections_worth(PathSample(round_trip_s, rate, lost)) == connections


LOSSY = PathSample(0.05, 2e6, 0.01)
CLEAN = PathSample(0.05, 20e6, 0.0)


def test_nothing_is_decided_in_the_first_second() -> None:
    choice = SpreadChoice()
    assert choice.look(LOSSY, 10.0) == 1
    assert choice.look(LOSSY, 10.99) == 1
    assert choice.look(LOSSY, 11.0) == CONNECTIONS_MAX


def test_a_long_path_gets_its_second_at_once_and_more_after_five_round_trips() -> None:
    choice, sample = SpreadChoice(), PathSample(0.3, 2e6, 0.01)
    assert choice.look(sample, 0.0) == 2
    assert choice.look(sample, 1.4) == 2
    assert choice.look(sample, 1.5) == CONNECTIONS_MAX


def test_a_round_trip_that_the_kernel_does_not_vouch_for_is_watched_first() -> None:
    choice = SpreadChoice()
    assert choice.look(PathSample(0.3, 2e6), 0.0) == 1


def test_a_network_of_our_own_gets_one_connection_whatever_is_measured() -> None:
    choice = SpreadChoice()
    assert [choice.look(LOSSY, now, lan=True) for now in (0.0, 5.0, 10.0)] == [1, 1, 1]


def test_a_path_that_turns_lossy_gets_more_and_keeps_them() -> None:
    choice = SpreadChoice()
    assert [choice.look(CLEAN, now) for now in (0.0, 1.0, 2.0)] == [1, 1, 1]
    assert choice.look(LOSSY, 3.0) == CONNECTIONS_MAX
    assert choice.look(CLEAN, 10.0) == CONNECTIONS_MAX


def test_two_rises_are_two_seconds_apart() -> None:
    choice, some_loss = SpreadChoice(), PathSample(0.05, 2e6, 0.001)
    choice.look(some_loss, 0.0)
    assert choice.look(some_loss, 1.0) == 3
    assert choice.look(LOSSY, 2.9) == 3
    assert choice.look(LOSSY, 3.0) == CONNECTIONS_MAX


@given(
    st.lists(
        st.builds(PathSample, st.floats(1e-5, 1), st.floats(0, 1e10), st.none() | st.floats(0, 1)),
        max_size=30,
    )
)
def test_the_choice_never_falls_and_stays_within_one_and_four(samples: list[PathSample]) -> None:
    choice = SpreadChoice()
    seen = [choice.look(sample, float(now)) for now, sample in enumerate(samples)]
    assert seen == sorted(seen)
    assert set(seen) <= {1, 2, 3, 4}

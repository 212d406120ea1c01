"""The line of a transfer whose connection was lost, and times as people type them."""

import pytest
from tallow_cli.errors import UsageError
from tallow_cli.output.away import Away
from tallow_cli.times import seconds_of
from tallow_protocol import Rejoining

NOW = 5000.0


def away(retry_in_s, left_s=600.0, reason="network"):
    return Away(Rejoining(retry_in_s, left_s, reason), NOW)


def test_the_line_counts_down_to_the_next_try_and_to_the_end():
    line = away(4.0).line
    assert line(NOW) == "Connection lost (network); trying again in 4 s, for 10:00 more; Ctrl-C ends it."
    assert (
        line(NOW + 0.5) == "Connection lost (network); trying again in 4 s, for 10:00 more; Ctrl-C ends it."
    )
    assert line(NOW + 3.2) == "Connection lost (network); trying again in 1 s, for 9:57 more; Ctrl-C ends it."
    assert line(NOW + 4) == "Connection lost (network); trying again, for 9:56 more; Ctrl-C ends it."
    assert line(NOW + 8) == "Connection lost (network); trying again, for 9:52 more; Ctrl-C ends it."


@pytest.mark.parametrize(
    ("left_s", "shown"),
    [
        (86400, "24:00:00"),
        (61, "1:01"),
        (59, "59 s"),
        (10, "10 s"),
        (9.9, "some seconds"),
        (0, "some seconds"),
    ],
)
def test_the_limit_is_shown_as_a_time_and_its_last_seconds_are_not_counted(left_s, shown):
    assert f", for {shown} more;" in away(0.0, left_s).line(NOW)


def test_who_can_only_wait_says_so():
    line = away(None, reason="peer").line(NOW + 60)
    assert line == (
        "Connection lost (the other side); waiting for the other side to come back, for 9:00 more; Ctrl-C ends it."
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90", 90),
        ("90s", 90),
        ("1.5m", 90),
        ("10m", 600),
        (" 2H ", 7200),
        ("1d", 86400),
        ("0.001s", 0.001),
        ("30d", 30 * 86400),
    ],
)
def test_a_time_is_a_number_with_or_without_its_unit(text, seconds):
    assert seconds_of(text, "--rejoin", most_s=30 * 86400) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s",
        "-1",
        "+1",
        "1w",
        "1 m",
        "1m30s",
        "1e3",
        "nan",
        "inf",
        "1.2345",
        ".5",
        "1.",
        "31d",
        "9" * 10,
        "٣",
    ],
)
def test_anything_else_is_refused_with_the_option_and_the_most(text):
    with pytest.raises(UsageError, match=r"--rejoin is a time such as 90s, 10m or 2h") as refused:
        seconds_of(text, "--rejoin", most_s=30 * 86400)
    assert refused.value.hints == ("0 switches it off; the most is 30 days",)

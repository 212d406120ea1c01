"""Numbers as people read them, and the bar made of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_cli.output import sizes
from tallow_cli.output.progress import ProgressBar


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (12_400_000, "12.4 MB"),
        (99_949_999, "99.9 MB"),
        (99_950_000, "100 MB"),
        (999_499_999, "999 MB"),
        (999_500_000, "1.0 GB"),
        (2**63, "9.2 EB"),
        (2**70, "1181 EB"),
    ],
)
def test_sizes_have_three_figures_at_most(size_bytes, text):
    assert sizes.size(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.95, "10 s"),
        (59.4, "59 s"),
        (59.6, "1:00"),
        (185, "3:05"),
        (7800, "2:10:00"),
    ],
)
def test_durations_grow_from_tenths_to_hours(seconds, text):
    assert sizes.duration(seconds) == text


def test_one_file_is_not_one_files():
    assert (sizes.count(1, "file"), sizes.count(0, "file"), sizes.count(2000, "file")) == (
        "1 file",
        "0 files",
        "2,000 files",
    )


def test_the_bar_names_share_amount_rate_time_left_and_path():
    bar = ProgressBar(200_000_000, "direct-tcp", now=0.0)
    bar.update(100_000_000, now=1.0)
    line = bar.line(1.0, 120)
    assert line == (
        " 50%  [###############---------------]  100 MB of 200 MB  direct-tcp 100 MB/s  1.0 s left"
    )


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (59, " 50%  100 MB of 200 MB  direct-tcp 100 MB/s  1.0 s left"),
        (55, " 50%  100 MB of 200 MB  100 MB/s  1.0 s left"),
        (44, " 50%  100 MB of 200 MB  100 MB/s"),
        (24, " 50%  100 MB of 200 MB"),
        (12, " 50%"),
        (4, ""),
    ],
)
def test_a_narrow_screen_loses_the_bar_then_the_path_then_the_rest_from_the_right(width, line):
    bar = ProgressBar(200_000_000, "direct-tcp", now=0.0)
    bar.update(100_000_000, now=1.0)
    assert bar.line(1.0, width) == line


def test_the_rate_is_that_of_the_last_seconds():
    bar = ProgressBar(10_000, "", now=0.0)
    for second in range(1, 11):
        bar.update(second * 100, now=float(second))
    bar.update(2000, now=11.0)
    assert 250 < bar.rate(11.0) < 300


def test_a_transfer_that_stands_still_says_so():
    bar = ProgressBar(1000, "relay-tcp", now=0.0)
    bar.update(500, now=1.0)
    assert "stalled" not in bar.line(2.9, 120)
    assert "relay-tcp stalled  waiting 2.0 s for the other side" in bar.line(3.0, 120)


def test_before_the_first_byte_there_is_no_rate_and_soon_a_reason():
    bar = ProgressBar(1000, "", now=0.0)
    assert bar.line(1.9, 40) == "  0%  [----------------]  0 B of 1.0 KB"
    assert bar.line(2.0, 60).endswith("0 B of 1.0 KB  waiting 2.0 s for the first data")


def test_nothing_to_transfer_is_all_of_it():
    assert ProgressBar(0, "direct-tcp", now=0.0).line(0.0, 100).startswith("100%")


def test_a_finished_bar_does_not_claim_time_left():
    bar = ProgressBar(10, "", now=0.0)
    bar.update(10, now=1.0)
    assert "left" not in bar.line(9.0, 100)
    assert "stalled" not in bar.line(9.0, 100)


@given(
    width=st.integers(1, 200),
    total=st.integers(0, 2**63),
    share=st.floats(0, 1),
    elapsed=st.floats(0.001, 1e6),
)
def test_the_bar_never_reaches_the_last_column(width, total, share, elapsed):
    bar = ProgressBar(total, "direct-quic", now=0.0)
    bar.update(int(total * share), now=elapsed)
    assert len(bar.line(elapsed, width)) < max(width, 1)

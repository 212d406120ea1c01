"""The bound on the rate of file data: exact over time, smooth in small, and never asked in vain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_protocol.core.pacing import BURST_S, Pacer
from tallow_protocol.errors import MisuseError


def sent_in(pacer, seconds, record_bytes, *, late_s=0.0):
    """Spend a record whenever it is allowed, waking `late_s` after each deadline; return (when, bytes) pairs."""
    now, sent = 0.0, []
    while now <= seconds:
        if pacer.allows(now):
            pacer.spend(record_bytes)
            sent.append((now, record_bytes))
        else:
            deadline = pacer.next_deadline()
            assert deadline is not None
            assert deadline > now
            now = deadline + late_s
    return sent


@given(st.floats(1e4, 1e9), st.floats(0.01, 0.125))
def test_over_a_while_the_rate_is_the_one_that_was_asked_for(rate, record_s):
    total = sum(size for _, size in sent_in(Pacer(rate), 5.0, int(rate * record_s)))
    assert total == pytest.approx(rate * 5, rel=0.05)


def test_waking_up_late_does_not_slow_it_down():
    total = sum(size for _, size in sent_in(Pacer(10e6), 5.0, 1 << 18, late_s=0.02))
    assert total == pytest.approx(50e6, rel=0.05)


def test_no_quarter_of_a_seconds_worth_comes_at_once_after_a_rest():
    pacer = Pacer(10e6)
    assert pacer.allows(0.0)
    assert pacer.allows(100.0)
    burst = 0
    while pacer.allows(100.0):
        pacer.spend(pacer.record_bytes)
        burst += pacer.record_bytes
    assert 10e6 * BURST_S <= burst < 10e6 * 0.25


def test_it_has_no_deadline_while_it_allows():
    pacer = Pacer(1e6)
    assert pacer.allows(0.0)
    assert pacer.next_deadline() is None


def test_what_was_not_needed_is_given_back():
    pacer = Pacer(1e6)
    assert pacer.allows(0.0)
    pacer.spend(500_000)
    pacer.spend(-500_000)
    assert pacer.allows(0.0)


def test_a_rate_is_more_than_nothing():
    with pytest.raises(MisuseError):
        Pacer(0)

"""When a connection that ended had stalled, so that new ones keep to small packets."""

from types import SimpleNamespace

import pytest
from tallow_net.signaling import Side
from tallow_protocol.core.links import LinkTable
from tallow_protocol.core.silence import STALL_S, Silence

YES, LOST = 100.0, 200.0


def ended(*, heard_at, oldest_sent_at=None, flowing=True, hearing=True):
    """Return whether a connection that ended at LOST had stalled."""
    silence = Silence(LinkTable(Side.A), returns=True)
    if flowing:
        silence.flows(YES)
    silence.lost(SimpleNamespace(hearing=hearing, last_received=heard_at), LOST, oldest_sent_at)
    return silence.stalled


@pytest.mark.parametrize(("quiet_s", "stalled"), [(STALL_S - 0.01, False), (STALL_S, True)])
def test_it_stalled_where_nothing_came_for_three_seconds(quiet_s, stalled):
    assert ended(heard_at=LOST - quiet_s) is stalled


@pytest.mark.parametrize(("quiet_s", "stalled"), [(STALL_S - 0.01, False), (STALL_S, True)])
def test_it_stalled_where_pings_came_and_no_acknowledgement_of_what_was_sent(quiet_s, stalled):
    assert ended(heard_at=LOST, oldest_sent_at=LOST - quiet_s) is stalled


def test_a_silence_before_data_flows_is_none():
    assert not ended(heard_at=LOST - 50, flowing=False)
    silence = Silence(LinkTable(Side.A), returns=True)
    silence.flows(LOST - 1)
    silence.lost(SimpleNamespace(hearing=True, last_received=LOST - 50), LOST, None)
    assert not silence.stalled


def test_a_side_that_is_busy_storing_heard_nothing_by_its_own_fault():
    assert not ended(heard_at=LOST - 50, hearing=False)


def test_one_stall_counts_for_the_rest_of_the_session():
    silence = Silence(LinkTable(Side.B), returns=True)
    silence.flows(YES)
    silence.lost(SimpleNamespace(hearing=True, last_received=LOST - 10), LOST, None)
    silence.lost(SimpleNamespace(hearing=True, last_received=LOST), LOST, None)
    assert silence.stalled

"""Control messages: numbered, acknowledged, re-sent on the next connection, dropped when repeated."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_protocol.core.control import ControlChannel
from tallow_protocol.errors import ViolationError
from tallow_protocol.limits import UNACKNOWLEDGED_MESSAGES


def test_messages_get_numbers_from_1_in_the_order_they_were_queued() -> None:
    channel = ControlChannel()
    for data in (b"a", b"b"):
        channel.queue(data)
    assert [channel.take(0), channel.take(0), channel.take(0)] == [(1, 0, b"a"), (2, 0, b"b"), None]


def test_a_message_of_number_0_is_sent_once_and_never_again() -> None:
    channel = ControlChannel()
    channel.queue_passing(b"ping")
    assert channel.take(0) == (0, 0, b"ping")
    channel.lost(0)
    assert channel.take(1) is None


def test_what_a_lost_connection_carried_goes_again_on_the_next() -> None:
    channel = ControlChannel()
    channel.queue(b"a")
    channel.queue(b"b")
    channel.take(0)
    channel.take(1)
    channel.lost(0)
    assert channel.take(1) == (1, 0, b"a")
    assert channel.take(1) is None


def test_an_acknowledged_message_is_not_sent_again() -> None:
    channel = ControlChannel()
    channel.queue(b"a")
    channel.take(0)
    assert channel.received(0, 1, b"") == []
    channel.lost(0)
    assert channel.take(1) is None
    assert channel.settled


def test_messages_that_arrive_out_of_order_are_given_in_order() -> None:
    channel = ControlChannel()
    assert channel.received(2, 0, b"b") == []
    assert channel.received(1, 0, b"a") == [b"a", b"b"]
    assert channel.ack == 2


def test_a_repeated_message_is_dropped_and_acknowledged_again() -> None:
    channel = ControlChannel()
    assert channel.received(1, 0, b"a") == [b"a"]
    assert channel.take(0) == (0, 1, b"")
    assert channel.take(0) is None
    assert channel.received(1, 0, b"a") == []
    assert channel.take(0) == (0, 1, b"")


def test_an_acknowledgement_of_what_was_never_sent_is_a_violation() -> None:
    channel = ControlChannel()
    channel.queue(b"a")
    channel.take(0)
    with pytest.raises(ViolationError):
        channel.received(0, 2, b"")


def test_a_number_256_ahead_is_kept_and_257_ahead_is_a_violation() -> None:
    channel = ControlChannel()
    assert channel.received(UNACKNOWLEDGED_MESSAGES, 0, b"x") == []
    with pytest.raises(ViolationError):
        channel.received(UNACKNOWLEDGED_MESSAGES + 1, 0, b"x")


def test_at_most_256_messages_wait_for_an_acknowledgement() -> None:
    channel = ControlChannel()
    for _ in range(UNACKNOWLEDGED_MESSAGES + 1):
        channel.queue(b"m")
    taken = [channel.take(0) for _ in range(UNACKNOWLEDGED_MESSAGES)]
    assert None not in taken
    assert channel.take(0) is None
    assert not channel.has_work()
    channel.received(0, 1, b"")
    assert channel.take(0) == (UNACKNOWLEDGED_MESSAGES + 1, 0, b"m")


def test_room_counts_queued_and_unacknowledged_messages() -> None:
    channel = ControlChannel()
    channel.queue(b"a")
    channel.take(0)
    channel.queue(b"b")
    assert channel.room == UNACKNOWLEDGED_MESSAGES - 2


@given(st.integers(0, 2**32), st.integers(0, 40))
def test_every_message_arrives_once_and_in_order_whatever_is_lost(seed: int, count: int) -> None:
    source = random.Random(seed)
    sender, receiver = ControlChannel(), ControlChannel()
    wanted = [bytes([n]) for n in range(count)]
    for message in wanted:
        sender.queue(message)
    got: list[bytes] = []
    connection = 0
    for _ in range(3000):
        if len(got) == len(wanted) and sender.settled:
            break
        for origin, target in ((sender, receiver), (receiver, sender)):
            taken = origin.take(connection)
            if taken is not None and source.random() < 0.8:
                got += target.received(*taken)
            elif taken is not None or source.random() < 0.1:
                sender.lost(connection)
                receiver.lost(connection)
                connection += 1
    assert got == wanted
    assert sender.settled

"""Reconnect and Backoff: when to try again, without a clock and without chance."""

import pytest
from tallow_net.errors import ConnectionLostError, RelayUnreachableError
from tallow_net.limits import CONNECT_S, RECONNECT_FOR_S, ROOM_RETURN_S
from tallow_net.relay.reconnect import Backoff, Presence, Reconnect
from tallow_net.relay.refusals import refusal
from tallow_net.relay.session import RelayRestarts
from tallow_net.signaling import ErrorCode, SignalingError

NOW = 500.0
LOST = ConnectionLostError("The relay ended the connection.", by="peer")
UNREACHABLE = RelayUnreachableError("The relay could not be reached.")


def refused(code, retry_after_s=None):
    return refusal(SignalingError(code, retry_after_s))


def reconnect(random=lambda: 0.5):
    return Reconnect(random, NOW)


def standing(random=lambda: 0.5):
    policy = reconnect(random)
    policy.stands()
    return policy


def test_waits_double_from_half_a_second_to_thirty():
    backoff = Backoff(lambda: 1.0)
    assert [backoff.next_s() for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    backoff.reset()
    assert backoff.next_s() == 0.5


def test_chance_spreads_a_wait_from_zero_to_its_ceiling():
    backoff = Backoff(iter([0.0, 0.25, 0.999]).__next__)
    assert [backoff.next_s() for _ in range(3)] == [0.0, 0.25, pytest.approx(1.998)]


def test_a_relay_that_is_not_there_is_an_error_at_once():
    with pytest.raises(RelayUnreachableError):
        reconnect().after_failed_connect(UNREACHABLE, NOW)


def test_a_first_contact_that_is_lost_is_repeated_within_the_time_to_connect():
    policy = reconnect()
    assert policy.after_loss(LOST, NOW) == 0.25
    with pytest.raises(ConnectionLostError):
        policy.after_loss(LOST, NOW + CONNECT_S)


def test_who_stood_comes_back_for_ten_minutes():
    policy = standing()
    assert policy.presence is Presence.STANDING
    assert policy.after_loss(LOST, NOW) == 0.25
    assert policy.presence is Presence.ABSENT
    assert policy.after_failed_connect(UNREACHABLE, NOW + 1) == 0.5
    assert policy.after_failed_connect(UNREACHABLE, NOW + RECONNECT_FOR_S - 30) == 1
    with pytest.raises(RelayUnreachableError):
        policy.after_failed_connect(UNREACHABLE, NOW + RECONNECT_FOR_S)


def test_each_absence_has_its_own_ten_minutes_and_its_own_back_off():
    policy = standing()
    policy.after_loss(LOST, NOW)
    policy.after_failed_connect(UNREACHABLE, NOW + 1)
    policy.stands()
    assert policy.after_loss(LOST, NOW + 10_000) == 0.25


def test_a_relay_that_hangs_up_after_each_join_is_met_with_growing_waits():
    policy = standing(lambda: 1.0)
    assert [policy.after_loss(LOST, NOW) for _ in range(4)] == [0.5, 1, 2, 4]


def test_a_restarting_relay_is_asked_again_when_it_says():
    policy = standing()
    assert policy.after_restart(RelayRestarts(5.0, 60.0), NOW) == 5.25


def test_a_restart_before_the_first_stand_allows_failed_connects_while_it_says():
    policy = reconnect()
    policy.after_restart(RelayRestarts(5.0, 60.0), NOW)
    assert policy.after_failed_connect(UNREACHABLE, NOW + 64) == 0.5
    with pytest.raises(RelayUnreachableError):
        policy.after_failed_connect(UNREACHABLE, NOW + 65)


def test_a_restart_may_take_longer_than_our_own_patience():
    policy = standing()
    policy.after_restart(RelayRestarts(60.0, 1800.0), NOW)
    assert policy.after_failed_connect(UNREACHABLE, NOW + 1800) == 0.5


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_refusal_of_the_first_join_is_an_error_at_once(code):
    error = refused(code)
    with pytest.raises(type(error)) as raised:
        reconnect().after_refusal(error, NOW)
    assert raised.value is error


@pytest.mark.parametrize(
    "code", [c for c in ErrorCode if not refused(c).retryable and c != ErrorCode.NO_SUCH_ROOM]
)
def test_a_refusal_that_cannot_pass_is_an_error_after_standing_too(code):
    error = refused(code)
    with pytest.raises(type(error)):
        standing().after_refusal(error, NOW)


@pytest.mark.parametrize("code", [c for c in ErrorCode if refused(c).retryable])
def test_a_refusal_that_may_pass_is_asked_again_not_before_the_relay_says(code):
    assert standing().after_refusal(refused(code), NOW) == 0.25
    assert standing().after_refusal(refused(code, 40), NOW) == 40


def test_a_time_to_retry_beyond_our_patience_is_an_error():
    with pytest.raises(Exception, match="can be asked again") as raised:
        standing().after_refusal(refused(ErrorCode.QUOTA_REACHED, int(RECONNECT_FOR_S) + 1), NOW)
    assert raised.value.code == "quota_reached"


def test_a_receiver_that_came_back_first_allows_its_sender_half_a_minute():
    policy = standing()
    policy.after_loss(LOST, NOW)
    error = refused(ErrorCode.NO_SUCH_ROOM)
    assert policy.after_refusal(error, NOW + ROOM_RETURN_S - 1) == 0.5
    with pytest.raises(type(error)):
        policy.after_refusal(error, NOW + ROOM_RETURN_S)


def test_a_sender_has_as_long_as_a_restart_takes():
    policy = standing()
    policy.after_restart(RelayRestarts(10.0, 90.0), NOW)
    error = refused(ErrorCode.NO_SUCH_ROOM)
    assert policy.after_refusal(error, NOW + 99) == 0.5
    with pytest.raises(type(error)):
        policy.after_refusal(error, NOW + 100)

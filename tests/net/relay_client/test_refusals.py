import pytest
from tallow_net.relay.refusals import refusal
from tallow_net.signaling import ErrorCode, SignalingError


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_code_has_a_sentence_a_next_step_and_its_stable_name(code):
    error = refusal(SignalingError(code))
    assert error.code == code.name.lower()
    assert str(error).endswith(".")
    assert "reason that this version does not know" not in str(error)
    assert error.hints


def test_an_unknown_code_keeps_its_number():
    error = refusal(SignalingError(777))
    assert error.code == "relay_error_777"
    assert not error.retryable


def test_a_time_to_retry_is_said_and_kept():
    error = refusal(SignalingError(ErrorCode.RELAY_FULL, 30))
    assert error.retry_after_s == 30
    assert "30 s" in str(error)

"""What an Error of the relay means for a person: one sentence a code, and what to do next."""

from dataclasses import dataclass
from typing import Final

from tallow_net.errors import RelayRefusedError
from tallow_net.signaling import ErrorCode, SignalingError

__all__ = ["refusal"]


@dataclass(frozen=True, slots=True)
class _Meaning:
    sentence: str
    hint: str
    retryable: bool = False


_NEW_CODE: Final = "Start the transfer again with a new code."
_UPDATE: Final = "Update Tallow on this machine, or ask the relay's operator to update the relay."
_LATER: Final = "Try again later, or use another relay."

_MEANINGS: Final = {
    ErrorCode.BAD_REQUEST: _Meaning("The relay did not understand this program.", _UPDATE),
    ErrorCode.VERSION: _Meaning(
        "The relay and this program speak no common version of the protocol.", _UPDATE
    ),
    ErrorCode.NO_SUCH_ROOM: _Meaning(
        "No sender waits under this code at the relay.",
        "Check the number at the start of the code, and that the sender still runs and uses the same relay.",
    ),
    ErrorCode.TWO_SENDERS: _Meaning("Another sender already waits under this code.", _NEW_CODE),
    ErrorCode.TWO_RECEIVERS: _Meaning(
        "Another receiver already waits under this code.",
        "If you started it yourself, use that one. If not, ask the sender for a new code.",
    ),
    ErrorCode.IN_USE: _Meaning("A sender and a receiver already use this code.", _NEW_CODE),
    ErrorCode.ROOM_SPENT: _Meaning("This code has been used already.", _NEW_CODE),
    ErrorCode.ROOM_BURNED: _Meaning("This code was burned by wrong tries.", _NEW_CODE),
    ErrorCode.ROOM_EXPIRED: _Meaning("The wait under this code has ended.", _NEW_CODE),
    ErrorCode.RELAY_FULL: _Meaning("The relay is full.", _LATER, retryable=True),
    ErrorCode.RATE_LIMITED: _Meaning(
        "The relay had too many requests from this network.", _LATER, retryable=True
    ),
    ErrorCode.QUOTA_REACHED: _Meaning("The relay has used up its traffic allowance.", _LATER, retryable=True),
    ErrorCode.ACCESS_DENIED: _Meaning(
        "The relay serves only those whom it knows.", "Ask its operator for access."
    ),
    ErrorCode.RELAY_CLOSING: _Meaning("The relay is shutting down.", _LATER, retryable=True),
    ErrorCode.REPLACED: _Meaning(
        "A newer connection of this client took this one's place.",
        "Run one transfer for one code.",
    ),
    ErrorCode.INTERNAL: _Meaning("The relay failed.", _LATER, retryable=True),
}
_UNKNOWN: Final = _Meaning("The relay refused for a reason that this version does not know.", _UPDATE)


def refusal(error: SignalingError) -> RelayRefusedError:
    """Return the exception of an Error message; its `code` is the Error's stable name."""
    meaning = _UNKNOWN
    if error.code in _MEANINGS:
        meaning = _MEANINGS[ErrorCode(error.code)]
    sentence = meaning.sentence
    if error.retry_after_s is not None:
        sentence += f" It can be asked again in {error.retry_after_s} s."
    return RelayRefusedError(
        sentence,
        code=error.name,
        retry_after_s=error.retry_after_s,
        retryable=meaning.retryable,
        hints=(meaning.hint,),
    )

"""The name of an identity: a hash of both of its public keys."""

import hmac

FINGERPRINT_BYTES = 32
_GROUP = 4  # people compare four characters at a time


class Fingerprint:
    """SHA-256("tallow/1 identity" || Ed25519 key || ML-DSA-87 key), whole.

    `bytes()` gives the 32 bytes, `str()` all 64 hex digits in groups of four: an impostor can search for a
    shortened form. Comparison is constant-time.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        """Wrap 32 bytes; ValueError for another length."""
        if len(value) != FINGERPRINT_BYTES:
            raise ValueError(f"a fingerprint has {FINGERPRINT_BYTES} bytes, not {len(value)}")
        self._value = bytes(value)

    def __bytes__(self) -> bytes:
        return self._value

    def __str__(self) -> str:
        digits = self._value.hex()
        return " ".join(digits[start : start + _GROUP] for start in range(0, len(digits), _GROUP))

    def __repr__(self) -> str:
        return f"Fingerprint({self._value.hex()})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Fingerprint):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash(self._value)

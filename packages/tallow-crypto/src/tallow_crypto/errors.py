"""What can go wrong in this package.

    CryptoError
        InvalidKeyError            a key, share or ciphertext is malformed
            InvalidPointError      an X25519 result is all zero, or a share is no share
        AuthenticationError        a sealed record did not open
        InvalidSignatureError      one of the two signatures does not verify
        ProviderMissingError       the OpenSSL in use lacks an algorithm that Tallow needs
        KeyExhaustedError          a connection has counted its last record

Misuse by the caller (a buffer without room for the tag, a length out of range) is a ValueError or a
TypeError, not one of these: no peer can cause it.
"""

from typing import ClassVar


class CryptoError(Exception):
    """The base of every error that this package raises on purpose.

    `code` is stable and meant for programs, the message is one sentence for people, `hints` say what to
    do next, and `retryable` tells whether the same call may succeed on a new attempt.
    """

    code: ClassVar[str] = "crypto"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hints: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.hints = hints


class InvalidKeyError(CryptoError):
    """A key, a share or a ciphertext has a wrong length or a value that its standard forbids."""

    code = "invalid_key"


class InvalidPointError(InvalidKeyError):
    """An X25519 result is all zero (RFC 7748 section 6.1), so CPace and the hybrid KEM must abort."""

    code = "invalid_point"


class AuthenticationError(CryptoError):
    """A sealed record did not open: it was changed, reordered, or sealed under another key."""

    code = "not_authentic"


class InvalidSignatureError(CryptoError):
    """The Ed25519 or the ML-DSA-87 half of a signature does not verify; both must."""

    code = "invalid_signature"


class ProviderMissingError(CryptoError):
    """The OpenSSL that the cryptography package uses lacks an algorithm that Tallow never does without."""

    code = "provider_missing"


class KeyExhaustedError(CryptoError):
    """A connection has counted 2**64 records in one direction; open a new connection."""

    code = "key_exhausted"

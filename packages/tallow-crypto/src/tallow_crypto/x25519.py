"""X25519 (RFC 7748 section 5), with the all-zero result turned into our own error."""

from tallow_crypto.errors import InvalidKeyError, InvalidPointError
from tallow_crypto.secret import Secret

SCALAR_BYTES = 32
POINT_BYTES = 32


def public_point(scalar: Secret) -> bytes:
    """Return the 32-byte u-coordinate of `scalar` (32 bytes) times the base point.

    Raises InvalidKeyError where the scalar's length is wrong.
    """
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    _check_scalar(scalar)
    return X25519PrivateKey.from_private_bytes(scalar.reveal()).public_key().public_bytes_raw()


def multiply(scalar: Secret, point: bytes) -> Secret:
    """Return the 32-byte u-coordinate of `scalar` times `point`, both 32 bytes.

    Bit 255 of the point is ignored, as RFC 7748 section 5 says. Raises InvalidPointError where the
    point's length is wrong or the result is all zero (section 6.1), InvalidKeyError for the scalar's.
    """
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

    _check_scalar(scalar)
    if len(point) != POINT_BYTES:
        raise InvalidPointError(
            f"an X25519 share has {POINT_BYTES} bytes, not {len(point)}; end this attempt"
        )
    private = X25519PrivateKey.from_private_bytes(scalar.reveal())
    public = X25519PublicKey.from_public_bytes(point)
    try:
        return Secret(private.exchange(public))
    except ValueError:
        raise InvalidPointError(
            "an X25519 share has low order, its result is all zero; end this attempt"
        ) from None


def _check_scalar(scalar: Secret) -> None:
    if len(scalar) != SCALAR_BYTES:
        raise InvalidKeyError(f"an X25519 scalar has {SCALAR_BYTES} bytes, not {len(scalar)}")

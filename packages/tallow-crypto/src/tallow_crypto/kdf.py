"""HKDF and HMAC with SHA-512 (RFC 5869, RFC 2104)."""

import hmac

from tallow_crypto.secret import Secret

HASH_BYTES = 64
_MAX_EXPAND_BYTES = 255 * HASH_BYTES  # RFC 5869 section 2.3: the block counter is one byte


def hmac_sha512(key: Secret, data: bytes) -> bytes:
    """Return the 64-byte HMAC-SHA-512 of `data`, uncut; `key` has any length."""
    return hmac.digest(key.reveal(), data, "sha512")


def hkdf_extract(salt: bytes, key_material: Secret) -> Secret:
    """Return the 64-byte pseudorandom key of RFC 5869 section 2.2; an empty salt counts as zeros."""
    return Secret(hmac.digest(salt, key_material.reveal(), "sha512"))


def hkdf_expand(key: Secret, info: bytes, length: int) -> Secret:
    """Return `length` bytes of output (RFC 5869 section 2.3).

    `key` is a pseudorandom key of 64 bytes (another Expand's output will do). Raises ValueError unless
    `length` is 1 to 16320 (255 * 64).
    """
    if not 1 <= length <= _MAX_EXPAND_BYTES:
        raise ValueError(f"HKDF-SHA-512 gives 1 to {_MAX_EXPAND_BYTES} bytes, not {length}")
    prk = key.reveal()
    output = block = b""
    for counter in range(1, -(-length // HASH_BYTES) + 1):
        block = hmac.digest(prk, block + info + bytes((counter,)), "sha512")
        output += block
    return Secret(output[:length])

"""A key from a passphrase: Argon2id (RFC 9106)."""

from tallow_crypto.errors import ProviderMissingError
from tallow_crypto.secret import Secret

KEY_BYTES = 32
_MIN_SALT_BYTES = 16  # RFC 9106 section 3.1 recommends 16


def passphrase_key(
    passphrase: Secret, salt: bytes, *, memory_kib: int = 262144, passes: int = 3, lanes: int = 4
) -> Secret:
    """Return the 32-byte key of a passphrase, version 0x13, no secret and no associated data.

    The defaults (256 MiB, 3 passes, 4 lanes) lie above RFC 9106's second recommendation and take about a
    second; whoever stores the salt stores these numbers beside it. Raises ValueError where the salt is
    shorter than 16 bytes or a cost is out of range, ProviderMissingError where OpenSSL has no Argon2id.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    if len(salt) < _MIN_SALT_BYTES:
        raise ValueError(f"a salt has at least {_MIN_SALT_BYTES} bytes, not {len(salt)}")
    try:
        kdf = Argon2id(salt=salt, length=KEY_BYTES, iterations=passes, lanes=lanes, memory_cost=memory_kib)
    except UnsupportedAlgorithm:
        raise ProviderMissingError(
            "this OpenSSL has no Argon2id, which a passphrase needs",
            hints=("install the cryptography package's own wheel, or build it with OpenSSL 3.2 or later",),
        ) from None
    return Secret(kdf.derive(passphrase.reveal()))

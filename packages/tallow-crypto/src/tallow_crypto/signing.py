"""Identities: Ed25519 (RFC 8032) and ML-DSA-87 (FIPS 204) keys that sign and verify together."""

import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallow_crypto.errors import InvalidKeyError, InvalidSignatureError, ProviderMissingError
from tallow_crypto.fingerprint import Fingerprint
from tallow_crypto.secret import Secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PrivateKey, MLDSA87PublicKey

ED25519_SEED_BYTES = 32
MLDSA_SEED_BYTES = 32
SEED_BYTES = ED25519_SEED_BYTES + MLDSA_SEED_BYTES
ED25519_PUBLIC_KEY_BYTES = 32
ED25519_SIGNATURE_BYTES = 64
MLDSA_PUBLIC_KEY_BYTES = 2592
MLDSA_SIGNATURE_BYTES = 4627

_CONTEXT = b"tallow/1"  # FIPS 204 section 5.2; Ed25519 has none, so every message begins with its own label


@dataclass(frozen=True, slots=True)
class HybridSignature:
    """An Ed25519 signature (64 bytes) and an ML-DSA-87 signature (4627 bytes) over one message.

    Raises InvalidSignatureError where a length is wrong.
    """

    ed25519: bytes
    mldsa: bytes

    def __post_init__(self) -> None:
        if len(self.ed25519) != ED25519_SIGNATURE_BYTES or len(self.mldsa) != MLDSA_SIGNATURE_BYTES:
            raise InvalidSignatureError(
                f"a signature has {ED25519_SIGNATURE_BYTES} and {MLDSA_SIGNATURE_BYTES} bytes, "
                f"not {len(self.ed25519)} and {len(self.mldsa)}"
            )


@dataclass(frozen=True, slots=True)
class IdentityPublicKey:
    """An Ed25519 public key (32 bytes) and an ML-DSA-87 public key (2592 bytes).

    Raises InvalidKeyError where a length is wrong. An Ed25519 key that is no point verifies nothing.
    """

    ed25519: bytes
    mldsa: bytes

    def __post_init__(self) -> None:
        if len(self.ed25519) != ED25519_PUBLIC_KEY_BYTES or len(self.mldsa) != MLDSA_PUBLIC_KEY_BYTES:
            raise InvalidKeyError(
                f"an identity has keys of {ED25519_PUBLIC_KEY_BYTES} and {MLDSA_PUBLIC_KEY_BYTES} bytes, "
                f"not {len(self.ed25519)} and {len(self.mldsa)}"
            )

    @property
    def fingerprint(self) -> Fingerprint:
        """The 32-byte fingerprint over both keys."""
        return Fingerprint(hashlib.sha256(b"tallow/1 identity" + self.ed25519 + self.mldsa).digest())

    def verify(self, message: bytes, signature: HybridSignature) -> None:
        """Return if both signatures verify, else raise InvalidSignatureError.

        Raises ProviderMissingError where this OpenSSL has no ML-DSA-87.
        """
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        mldsa = _load_mldsa_public(self.mldsa)
        try:
            Ed25519PublicKey.from_public_bytes(self.ed25519).verify(signature.ed25519, message)
            mldsa.verify(signature.mldsa, message, _CONTEXT)
        except (InvalidSignature, ValueError):
            raise InvalidSignatureError(
                "a signature does not verify: the message was changed, or another identity signed it"
            ) from None


class IdentityKeyPair:
    """The private half of an identity; `seed` (64 bytes) is all of it."""

    __slots__ = ("_ed25519", "_mldsa", "_seed", "public_key")

    public_key: IdentityPublicKey

    def __init__(self, seed: Secret) -> None:
        """Make the pair of a 64-byte seed; see from_seed."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        if len(seed) != SEED_BYTES:
            raise InvalidKeyError(f"an identity's seed has {SEED_BYTES} bytes, not {len(seed)}")
        raw = seed.reveal()
        self._seed = seed
        self._ed25519 = Ed25519PrivateKey.from_private_bytes(raw[:ED25519_SEED_BYTES])
        self._mldsa = _load_mldsa_private(raw[ED25519_SEED_BYTES:])
        self.public_key = IdentityPublicKey(
            ed25519=self._ed25519.public_key().public_bytes_raw(),
            mldsa=self._mldsa.public_key().public_bytes_raw(),
        )

    @classmethod
    def generate(cls) -> "IdentityKeyPair":
        """Return a new identity from the system's random source.

        Raises ProviderMissingError where this OpenSSL has no ML-DSA-87.
        """
        return cls(Secret(secrets.token_bytes(SEED_BYTES)))

    @classmethod
    def from_seed(cls, seed: Secret) -> "IdentityKeyPair":
        """Return the identity of a 64-byte seed: Ed25519's 32 (RFC 8032 5.1.5), ML-DSA's 32 (FIPS 204 xi).

        Raises InvalidKeyError for another length, ProviderMissingError where this OpenSSL has no ML-DSA-87.
        """
        return cls(seed)

    @property
    def seed(self) -> Secret:
        """The 64 bytes from which from_seed makes this identity again."""
        return self._seed

    def sign(self, message: bytes) -> HybridSignature:
        """Return both signatures over `message`, which begins with a label of its own.

        ML-DSA is hedged (FIPS 204 section 3.4): two calls give two signatures, and both verify.
        """
        return HybridSignature(ed25519=self._ed25519.sign(message), mldsa=self._mldsa.sign(message, _CONTEXT))

    def __repr__(self) -> str:
        return f"IdentityKeyPair({self.public_key.fingerprint!r})"


def _load_mldsa_private(seed: bytes) -> "MLDSA87PrivateKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PrivateKey

    try:
        return MLDSA87PrivateKey.from_seed_bytes(seed)
    except UnsupportedAlgorithm:
        raise _mldsa_missing() from None


def _load_mldsa_public(key: bytes) -> "MLDSA87PublicKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PublicKey

    try:
        return MLDSA87PublicKey.from_public_bytes(key)
    except UnsupportedAlgorithm:
        raise _mldsa_missing() from None
    except ValueError:
        raise InvalidKeyError("an ML-DSA-87 public key is malformed") from None


def _mldsa_missing() -> ProviderMissingError:
    return ProviderMissingError(
        "this OpenSSL has no ML-DSA-87, and Tallow's identities need it",
        hints=("install the cryptography package's own wheel, or build it with OpenSSL 3.5 or later",),
    )

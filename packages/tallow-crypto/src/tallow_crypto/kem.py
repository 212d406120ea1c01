"""The hybrid KEM: ML-KEM-1024 and X25519 in one, secret as long as either of the two holds.

Key and ciphertext are the ML-KEM part (1568 bytes), then the X25519 part (32). The combiner is the UG
framework of draft-irtf-cfrg-hybrid-kems with everything hashed, ML-KEM first:

    SHA3-256(ss_PQ || ss_T || ct_PQ || ct_T || ek_PQ || ek_T || "tallow/1 MLKEM1024-X25519")
"""

import hashlib
import secrets
from dataclasses import dataclass

from tallow_crypto import mlkem, x25519
from tallow_crypto.errors import InvalidKeyError
from tallow_crypto.mlkem import MlKemEncapsulation, MlKemProvider, default_provider
from tallow_crypto.secret import Secret

SEED_BYTES = mlkem.SEED_BYTES + x25519.SCALAR_BYTES
PUBLIC_KEY_BYTES = mlkem.PUBLIC_KEY_BYTES + x25519.POINT_BYTES
CIPHERTEXT_BYTES = mlkem.CIPHERTEXT_BYTES + x25519.POINT_BYTES

_LABEL = b"tallow/1 MLKEM1024-X25519"


@dataclass(frozen=True, slots=True)
class Encapsulation:
    """A 32-byte shared secret and the 1600-byte ciphertext that carries it."""

    shared_secret: Secret
    ciphertext: bytes


class HybridKeyPair:
    """A key pair for one handshake; `public_key` has 1600 bytes."""

    __slots__ = ("_mlkem", "_scalar", "public_key")

    public_key: bytes

    def __init__(self, provider: MlKemProvider, seed: Secret) -> None:
        """Make the pair of a 96-byte seed: ML-KEM's d || z (64), then the X25519 scalar (32).

        Raises InvalidKeyError for another length.
        """
        if len(seed) != SEED_BYTES:
            raise InvalidKeyError(f"a hybrid KEM seed has {SEED_BYTES} bytes, not {len(seed)}")
        raw = seed.reveal()
        self._mlkem = provider.from_seed(Secret(raw[: mlkem.SEED_BYTES]))
        self._scalar = Secret(raw[mlkem.SEED_BYTES :])
        self.public_key = self._mlkem.public_key + x25519.public_point(self._scalar)

    def decapsulate(self, ciphertext: bytes) -> Secret:
        """Return the 32-byte shared secret of a 1600-byte ciphertext.

        A ciphertext changed in its ML-KEM half gives another secret, which key confirmation then finds.
        Raises InvalidKeyError for another length, InvalidPointError where X25519's result is all zero.
        """
        if len(ciphertext) != CIPHERTEXT_BYTES:
            raise InvalidKeyError(
                f"a hybrid ciphertext has {CIPHERTEXT_BYTES} bytes, not {len(ciphertext)}; end this attempt"
            )
        share = ciphertext[mlkem.CIPHERTEXT_BYTES :]
        traditional = x25519.multiply(self._scalar, share)
        post_quantum = self._mlkem.decapsulate(ciphertext[: mlkem.CIPHERTEXT_BYTES])
        return _combine(post_quantum, traditional, ciphertext, self.public_key)

    def __repr__(self) -> str:
        return "HybridKeyPair()"


class HybridKem:
    """Makes key pairs and encapsulates to others' public keys."""

    __slots__ = ("_provider",)

    def __init__(self, provider: MlKemProvider | None = None) -> None:
        """Use `provider` for ML-KEM, or the best there is.

        Raises ProviderMissingError, which names the remedy, where there is none.
        """
        self._provider = default_provider() if provider is None else provider

    def generate(self) -> HybridKeyPair:
        """Return a fresh key pair from the system's random source; use it for one handshake."""
        return self.from_seed(Secret(secrets.token_bytes(SEED_BYTES)))

    def from_seed(self, seed: Secret) -> HybridKeyPair:
        """Return the key pair of a 96-byte seed (ML-KEM's d || z, then the X25519 scalar).

        Raises InvalidKeyError for another length.
        """
        return HybridKeyPair(self._provider, seed)

    def encapsulate(self, public_key: bytes) -> Encapsulation:
        """Return a fresh 32-byte shared secret and the 1600-byte ciphertext that carries it.

        Raises InvalidKeyError where the 1600-byte key or its ML-KEM half is malformed, InvalidPointError
        where X25519's result is all zero (RFC 7748 section 6.1).
        """
        check_public_key(public_key)
        part = self._provider.encapsulate(public_key[: mlkem.PUBLIC_KEY_BYTES])
        return complete_encapsulation(public_key, part, Secret(secrets.token_bytes(x25519.SCALAR_BYTES)))


def check_public_key(public_key: bytes) -> None:
    """Raise InvalidKeyError unless `public_key` has 1600 bytes: a missing half is refused, never agreed on."""
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise InvalidKeyError(
            f"a hybrid public key has {PUBLIC_KEY_BYTES} bytes, not {len(public_key)}; end this attempt"
        )


def complete_encapsulation(public_key: bytes, part: MlKemEncapsulation, ephemeral: Secret) -> Encapsulation:
    """Return the hybrid encapsulation made of ML-KEM's and of an ephemeral X25519 scalar (32 bytes).

    Raises InvalidPointError where X25519's result is all zero.
    """
    traditional = x25519.multiply(ephemeral, public_key[mlkem.PUBLIC_KEY_BYTES :])
    ciphertext = part.ciphertext + x25519.public_point(ephemeral)
    return Encapsulation(_combine(part.shared_secret, traditional, ciphertext, public_key), ciphertext)


def _combine(post_quantum: Secret, traditional: Secret, ciphertext: bytes, public_key: bytes) -> Secret:
    # Wire order is the combiner's order, so ct_PQ || ct_T and ek_PQ || ek_T are the fields as they stand.
    data = post_quantum.reveal() + traditional.reveal() + ciphertext + public_key + _LABEL
    return Secret(hashlib.sha3_256(data).digest())

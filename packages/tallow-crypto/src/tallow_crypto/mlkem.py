"""ML-KEM-1024 (FIPS 203) from OpenSSL, or from kyber-py where OpenSSL has none.

There is no weaker handshake: where neither provider is there, every use ends in ProviderMissingError.
kyber-py is not constant-time; Tallow's KEM keys are used once, which is why it may stand in.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from tallow_crypto.errors import InvalidKeyError, ProviderMissingError
from tallow_crypto.secret import Secret

SEED_BYTES = 64  # d || z, FIPS 203 section 7.1
PUBLIC_KEY_BYTES = 1568
CIPHERTEXT_BYTES = 1568
SHARED_SECRET_BYTES = 32

_BAD_KEY = "an ML-KEM-1024 key is malformed; end this attempt"
_HINTS = (
    "run `pip install 'tallow-crypto[kyber-py]'`, which brings ML-KEM-1024 in Python",
    "or install the cryptography package's own wheel, or build it with OpenSSL 3.5 or later",
)


@dataclass(frozen=True, slots=True)
class MlKemEncapsulation:
    """A 32-byte ML-KEM shared secret and the 1568-byte ciphertext that carries it."""

    shared_secret: Secret
    ciphertext: bytes


class MlKemKeyPair(Protocol):
    """A private key that stays with its provider."""

    @property
    def public_key(self) -> bytes:
        """The encapsulation key, 1568 bytes."""

    def decapsulate(self, ciphertext: bytes) -> Secret:
        """Return the 32-byte secret (FIPS 203 section 7.3).

        A changed ciphertext gives another secret, not an error (implicit rejection). Raises
        InvalidKeyError unless the ciphertext has 1568 bytes.
        """


class MlKemProvider(Protocol):
    """One implementation of ML-KEM-1024. Calls may overlap; none keeps state."""

    @property
    def name(self) -> str:
        """Who computes, for a version line: "openssl" or "kyber-py"."""

    def from_seed(self, seed: Secret) -> MlKemKeyPair:
        """Return the key pair of a 64-byte seed d || z; InvalidKeyError for another length."""

    def encapsulate(self, public_key: bytes) -> MlKemEncapsulation:
        """Return a fresh secret and its ciphertext (FIPS 203 section 7.2).

        Raises InvalidKeyError where the key fails section 7.2's checks (its length, a coefficient >= q).
        """


class OpenSslMlKem:
    """ML-KEM-1024 in OpenSSL's constant-time code, through the cryptography package."""

    __slots__ = ()
    name = "openssl"

    def __init__(self) -> None:
        """Raise ProviderMissingError where this OpenSSL has no ML-KEM-1024."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM1024PrivateKey

        try:
            # The library answers only by trying; one key costs some 30 microseconds.
            MLKEM1024PrivateKey.generate()
        except UnsupportedAlgorithm:
            raise ProviderMissingError(
                "this OpenSSL has no ML-KEM-1024, and Tallow needs it", hints=_HINTS
            ) from None

    def from_seed(self, seed: Secret) -> MlKemKeyPair:
        """Return the key pair of a 64-byte seed d || z; InvalidKeyError for another length."""
        return _OpenSslKeyPair(seed)

    def encapsulate(self, public_key: bytes) -> MlKemEncapsulation:
        """Return a fresh secret and its ciphertext; InvalidKeyError where the key is malformed."""
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM1024PublicKey

        try:
            shared_secret, ciphertext = MLKEM1024PublicKey.from_public_bytes(public_key).encapsulate()
        except ValueError:
            raise InvalidKeyError(_BAD_KEY) from None
        return MlKemEncapsulation(Secret(shared_secret), ciphertext)


class _OpenSslKeyPair:
    __slots__ = ("_private", "public_key")

    def __init__(self, seed: Secret) -> None:
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM1024PrivateKey

        _check_seed(seed)
        self._private = MLKEM1024PrivateKey.from_seed_bytes(seed.reveal())
        self.public_key = self._private.public_key().public_bytes_raw()

    def decapsulate(self, ciphertext: bytes) -> Secret:
        _check_ciphertext(ciphertext)
        return Secret(self._private.decapsulate(ciphertext))


class KyberPyMlKem:
    """ML-KEM-1024 in pure Python (the extra tallow-crypto[kyber-py]): some 5 ms a call, not constant-time."""

    __slots__ = ("_algorithm",)
    name = "kyber-py"

    def __init__(self) -> None:
        """Raise ProviderMissingError where kyber-py is not installed."""
        try:
            from kyber_py.ml_kem import ML_KEM_1024
        except ImportError:
            raise ProviderMissingError("kyber-py is not installed", hints=_HINTS) from None
        self._algorithm: Any = ML_KEM_1024

    def from_seed(self, seed: Secret) -> MlKemKeyPair:
        """Return the key pair of a 64-byte seed d || z; InvalidKeyError for another length."""
        return _KyberPyKeyPair(self._algorithm, seed)

    def encapsulate(self, public_key: bytes) -> MlKemEncapsulation:
        """Return a fresh secret and its ciphertext; InvalidKeyError where the key is malformed."""
        try:
            shared_secret, ciphertext = self._algorithm.encaps(public_key)
        except ValueError:
            raise InvalidKeyError(_BAD_KEY) from None
        return MlKemEncapsulation(Secret(shared_secret), ciphertext)

    def encapsulate_deterministically(self, public_key: bytes, message: Secret) -> MlKemEncapsulation:
        """Return the encapsulation of a given 32-byte m (FIPS 203 section 6.2), for tests and simulations.

        Raises InvalidKeyError where the key is malformed or `message` is not 32 bytes long.
        """
        if len(message) != SHARED_SECRET_BYTES:
            raise InvalidKeyError(f"ML-KEM's m has {SHARED_SECRET_BYTES} bytes, not {len(message)}")
        try:
            shared_secret, ciphertext = self._algorithm._encaps_internal(  # noqa: SLF001  # its one seeded form
                public_key, message.reveal()
            )
        except ValueError:
            raise InvalidKeyError(_BAD_KEY) from None
        return MlKemEncapsulation(Secret(shared_secret), ciphertext)


class _KyberPyKeyPair:
    __slots__ = ("_algorithm", "_private", "public_key")

    public_key: bytes

    def __init__(self, algorithm: Any, seed: Secret) -> None:
        _check_seed(seed)
        self._algorithm = algorithm
        self.public_key, private = algorithm.key_derive(seed.reveal())
        self._private = Secret(private)

    def decapsulate(self, ciphertext: bytes) -> Secret:
        _check_ciphertext(ciphertext)
        return Secret(self._algorithm.decaps(self._private.reveal(), ciphertext))


def default_provider() -> MlKemProvider:
    """Return OpenSSL's ML-KEM-1024, or kyber-py's where OpenSSL has none.

    Raises ProviderMissingError, which names the remedy, where neither is there.
    """
    try:
        return OpenSslMlKem()
    except ProviderMissingError as missing:
        try:
            return KyberPyMlKem()
        except ProviderMissingError:
            raise missing from None


def _check_seed(seed: Secret) -> None:
    if len(seed) != SEED_BYTES:
        raise InvalidKeyError(f"an ML-KEM-1024 seed has {SEED_BYTES} bytes, not {len(seed)}")


def _check_ciphertext(ciphertext: bytes) -> None:
    if len(ciphertext) != CIPHERTEXT_BYTES:
        raise InvalidKeyError(
            f"an ML-KEM-1024 ciphertext has {CIPHERTEXT_BYTES} bytes, not {len(ciphertext)}"
        )

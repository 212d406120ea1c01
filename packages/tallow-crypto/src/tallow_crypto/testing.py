"""A KEM without chance, for simulations and worked examples; never for a real transfer."""

from tallow_crypto import kem, mlkem, x25519
from tallow_crypto.hashing import derive_key
from tallow_crypto.kem import Encapsulation, HybridKem, HybridKeyPair
from tallow_crypto.mlkem import KyberPyMlKem
from tallow_crypto.secret import Secret

__all__ = ["SeededKem"]


class SeededKem(HybridKem):
    """A HybridKem whose n-th `generate` and n-th `encapsulate` depend on the seed and n alone.

    It needs kyber-py, the only provider that takes encapsulation's random value from outside.
    """

    __slots__ = ("_encapsulations", "_generations", "_kyber", "_seed")

    def __init__(self, seed: bytes) -> None:
        """Begin at call 0 of `seed`, of any length; ProviderMissingError where kyber-py is missing."""
        super().__init__()
        self._kyber = KyberPyMlKem()
        self._seed = bytes(seed)
        self._generations = 0
        self._encapsulations = 0

    def generate(self) -> HybridKeyPair:
        """Return the next key pair of this seed."""
        seed = self._draw("tallow/1 testing generate", self._generations, kem.SEED_BYTES)
        self._generations += 1
        return self.from_seed(seed)

    def encapsulate(self, public_key: bytes) -> Encapsulation:
        """Return the next encapsulation of this seed; errors as HybridKem.encapsulate's."""
        kem.check_public_key(public_key)
        length = mlkem.SHARED_SECRET_BYTES + x25519.SCALAR_BYTES
        drawn = self._draw("tallow/1 testing encapsulate", self._encapsulations, length).reveal()
        self._encapsulations += 1
        part = self._kyber.encapsulate_deterministically(
            public_key[: mlkem.PUBLIC_KEY_BYTES], Secret(drawn[: mlkem.SHARED_SECRET_BYTES])
        )
        return kem.complete_encapsulation(public_key, part, Secret(drawn[mlkem.SHARED_SECRET_BYTES :]))

    def _draw(self, context: str, count: int, length: int) -> Secret:
        return Secret(derive_key(context, count.to_bytes(8, "big") + self._seed, length))

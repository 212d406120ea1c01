"""What stands in for costly cryptography in 49 of 50 worlds, and the watch over every (key, nonce) in all of them.

Key exchange and signatures are keyed hashes with the lengths and the failures of the real ones: another password,
a changed share, ciphertext, message or signature never verifies. Records are sealed for real in every world, since
AES-GCM costs no more than a stand-in; the cipher is wrapped to see each key with each nonce.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING
from unittest import mock

from tallow_crypto import (
    IdentityKeyPair,
    IdentityPublicKey,
    InvalidKeyError,
    InvalidSignatureError,
    Secret,
    aead,
)
from tallow_crypto import derive_key as blake
from tallow_crypto.kem import Encapsulation
from tallow_crypto.signing import HybridSignature
from tallow_crypto.testing import SeededKem
from tallow_protocol.core import auth, handshake

from tests.sim.world import BrokenRuleError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tallow_protocol.core.handshake import KemPort

    from tests.sim.world import World

REAL_EVERY = 50


def _stretch(what: str, material: bytes, length: int) -> bytes:
    return blake(f"tests/sim {what}", material, length)


class StandInCPace:
    """CPace's interface; both sides of one password and channel come to one key, nobody else."""

    def __init__(
        self, password: Secret, channel_identifier: bytes, scalar: Secret, session_id: bytes = b""
    ) -> None:
        self._known = password.reveal() + channel_identifier + session_id
        self.share = _stretch("share", scalar.reveal(), 32)

    def _isk(self, first: bytes, second: bytes) -> Secret:
        return Secret(_stretch("isk", self._known + first + second, 64))

    def isk_initiator(self, associated_data: bytes, peer_share: bytes, peer_associated_data: bytes) -> Secret:
        return self._isk(self.share + associated_data, peer_share + peer_associated_data)

    def isk_responder(self, associated_data: bytes, peer_share: bytes, peer_associated_data: bytes) -> Secret:
        return self._isk(peer_share + peer_associated_data, self.share + associated_data)


class _StandInKeyPair:
    def __init__(self, seed: bytes) -> None:
        self.public_key = _stretch("kem public", seed, 1600)

    def decapsulate(self, ciphertext: bytes) -> Secret:
        if len(ciphertext) != 1600:
            raise InvalidKeyError("a ciphertext has 1600 bytes")
        return Secret(_stretch("kem secret", self.public_key + ciphertext, 32))


class StandInKem:
    """A KEM whose secret is a hash of what was sent: whole, so any change ends in another secret."""

    def __init__(self, world: World) -> None:
        self._world = world

    def generate(self) -> _StandInKeyPair:
        return _StandInKeyPair(self._world.fresh(32))

    def encapsulate(self, public_key: bytes) -> Encapsulation:
        ciphertext = _stretch("kem ciphertext", self._world.fresh(32), 1600)
        return Encapsulation(Secret(_stretch("kem secret", public_key + ciphertext, 32)), ciphertext)


class StandInPublicKey(IdentityPublicKey):
    """Public keys whose signatures are hashes: enough to notice any change, no proof against a forger."""

    __slots__ = ()

    def verify(self, message: bytes, signature: HybridSignature) -> None:
        if signature != _signature(self.ed25519, message):
            raise InvalidSignatureError("a signature does not verify")


def _signature(key: bytes, message: bytes) -> HybridSignature:
    return HybridSignature(_stretch("ed", key + message, 64), _stretch("mldsa", key + message, 4627))


class StandInIdentity:
    """An identity of 64 seed bytes."""

    def __init__(self, seed: Secret) -> None:
        raw = seed.reveal()
        self.public_key = StandInPublicKey(
            _stretch("ed public", raw, 32), _stretch("mldsa public", raw, 2592)
        )

    def sign(self, message: bytes) -> HybridSignature:
        return _signature(self.public_key.ed25519, message)


class _WatchedCipher:
    """An AEAD that tells of each nonce it seals with."""

    def __init__(self, cipher, key: bytes, crypto: Cryptography) -> None:
        self.decrypt_into = cipher.decrypt_into
        self._cipher = cipher
        self._key = key
        self._crypto = crypto

    def encrypt_into(self, nonce: bytes, data, associated_data, into) -> int:
        self._crypto.sealed(self._key, nonce)
        return self._cipher.encrypt_into(nonce, data, associated_data, into)


class Cryptography:
    """What a world's nodes use, and every nonce of every key that they sealed with."""

    def __init__(self, world: World, *, real: bool) -> None:
        self.real = real
        self._world = world
        self._kems = 0
        self._identities: dict[bytes, IdentityKeyPair | StandInIdentity] = {}
        self.used: set[tuple[bytes, bytes]] = set()

    def kem(self) -> KemPort:
        self._kems += 1
        return SeededKem(b"sim%d" % self._kems) if self.real else StandInKem(self._world)

    def identity(self, name: bytes) -> IdentityKeyPair | StandInIdentity:
        """Return the identity of a name, the same one each time."""
        if name not in self._identities:
            seed = Secret(_stretch("identity", name, 64))
            self._identities[name] = IdentityKeyPair.from_seed(seed) if self.real else StandInIdentity(seed)
        return self._identities[name]

    def sealed(self, key: bytes, nonce: bytes) -> None:
        if (key, nonce) in self.used:
            raise BrokenRuleError("no (key, nonce) twice", nonce.hex())
        self.used.add((key, nonce))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the code under test use all this."""
        make = aead._make_cipher

        def watched(suite, key):
            return _WatchedCipher(make(suite, key), key.reveal(), self)

        with ExitStack() as stack:
            stack.enter_context(mock.patch.object(aead, "_make_cipher", watched))
            if not self.real:
                stack.enter_context(mock.patch.object(handshake, "CPace", StandInCPace))
                stack.enter_context(mock.patch.object(auth, "IdentityPublicKey", StandInPublicKey))
            yield

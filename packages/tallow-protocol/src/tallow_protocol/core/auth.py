"""Auth: each side shows an identity key and proves that it took part in this very handshake.

Both signatures, Ed25519 and ML-DSA-87 (context "tallow/1"), cover

    "tallow/1 auth" || 0x00 || "A" or "B" || th (64) || own fingerprint (32) || peer's fingerprint (32)

with zeros for the peer's in code mode. A's Auth also reveals r_A, which must fit the commitment in Hello.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tallow_crypto.errors import CryptoError, ProviderMissingError
from tallow_crypto.sas import sas_commitment
from tallow_crypto.secret import equal
from tallow_crypto.signing import HybridSignature, IdentityPublicKey
from tallow_net.signaling import Side

from tallow_protocol.core import labels
from tallow_protocol.core.keyschedule import side_byte
from tallow_protocol.core.messages import Auth
from tallow_protocol.errors import (
    AuthError,
    MisuseError,
    NotVerifiedError,
    UnexpectedMessageError,
    UnsupportedSystemError,
)
from tallow_protocol.events import Event, PeerIdentified, VerificationNeeded
from tallow_protocol.limits import SAS_NONCE_BYTES

if TYPE_CHECKING:
    from tallow_crypto.fingerprint import Fingerprint

    from tallow_protocol.core.keyschedule import SessionKeys

__all__ = ["Introduction", "SignerPort", "auth_message", "check_auth", "make_auth"]

_NO_FINGERPRINT = bytes(32)


class SignerPort(Protocol):
    """What signs for an identity; `tallow_crypto.IdentityKeyPair` satisfies it."""

    @property
    def public_key(self) -> IdentityPublicKey:
        """The identity's public keys."""

    def sign(self, message: bytes) -> HybridSignature:
        """Return both signatures of `message`."""


def auth_message(
    side: Side, transcript_hash: bytes, own: Fingerprint, peer: Fingerprint | None = None
) -> bytes:
    """Return what `side` signs; `own` is its fingerprint, `peer` the other's or None in code mode."""
    other = _NO_FINGERPRINT if peer is None else bytes(peer)
    return labels.AUTH + b"\x00" + side_byte(side) + transcript_hash + bytes(own) + other


def make_auth(
    signer: SignerPort,
    side: Side,
    transcript_hash: bytes,
    *,
    r_a: bytes | None = None,
    verify: bool = False,
    peer: Fingerprint | None = None,
) -> Auth:
    """Return this side's Auth. `r_a` (32 bytes) is given by A and by A alone."""
    if (r_a is not None) != (side is Side.A) or (r_a is not None and len(r_a) != SAS_NONCE_BYTES):
        raise MisuseError("the sender's Auth, and no other, reveals r_a of 32 bytes")
    key = signer.public_key
    signature = signer.sign(auth_message(side, transcript_hash, key.fingerprint, peer))
    return Auth(key.ed25519, key.mldsa, signature.ed25519, signature.mldsa, r_a, verify)


def check_auth(
    auth: Auth,
    side: Side,
    transcript_hash: bytes,
    *,
    sas_commit: bytes | None = None,
    peer: Fingerprint | None = None,
) -> IdentityPublicKey:
    """Return the identity that the Auth of `side` proves. Raises AuthError if anything does not verify.

    `sas_commit` is Hello's commitment (32 bytes), given when the Auth is A's. `peer` is the fingerprint that the
    signer must have named: None in code mode.
    """
    if (sas_commit is not None) != (side is Side.A):
        raise MisuseError("the commitment is checked for the sender's Auth, and for no other")
    if (auth.r_a is not None) != (side is Side.A):
        raise AuthError("the sender's Auth lacks r_a, or the receiver's has one")
    if auth.r_a is not None and sas_commit is not None and not equal(sas_commitment(auth.r_a), sas_commit):
        raise AuthError("the sender's Auth does not open the commitment of its Hello")
    try:
        key = IdentityPublicKey(auth.ed, auth.mldsa)
        signature = HybridSignature(auth.sig_ed, auth.sig_mldsa)
        key.verify(auth_message(side, transcript_hash, key.fingerprint, peer), signature)
    except ProviderMissingError:
        raise UnsupportedSystemError from None
    except CryptoError:
        raise AuthError from None
    return key


class Introduction:
    """How the sides of one session show each other who they are, and whether a user has yet to compare the digits."""

    def __init__(
        self,
        side: Side,
        keys: SessionKeys,
        *,
        verify: bool,
        sas_nonce: bytes | None,
        sas_commitment: bytes | None,
    ) -> None:
        """`verify` asks our user for the digits. The 32 bytes are those of `Session`."""
        if (sas_nonce is None) is (side is Side.A) or (sas_commitment is None) is (side is Side.B):
            raise MisuseError("the sender gives the nonce behind its commitment, the receiver the commitment")
        self.peer: IdentityPublicKey | None = None
        self.awaits_confirmation = verify
        self._side = side
        self._keys = keys
        self._verify = verify
        self._sas_nonce = sas_nonce
        self._sas_commitment = sas_commitment

    def ours(self, signer: SignerPort) -> Auth:
        """Return our own Auth."""
        return make_auth(
            signer, self._side, self._keys.transcript_hash, r_a=self._sas_nonce, verify=self._verify
        )

    def take(self, auth: Auth) -> list[Event]:
        """Take the peer's Auth; return what the application should know. Raises AuthError, UnexpectedMessageError."""
        if self.peer is not None:
            raise UnexpectedMessageError
        other = Side.B if self._side is Side.A else Side.A
        self.peer = check_auth(auth, other, self._keys.transcript_hash, sas_commit=self._sas_commitment)
        events: list[Event] = [PeerIdentified(self.peer.fingerprint, None)]
        nonce = self._sas_nonce if self._side is Side.A else auth.r_a
        if nonce is None:
            raise AuthError
        if self._verify or auth.verify:
            events.append(VerificationNeeded(self._keys.sas(nonce), must_confirm=self._verify))
        return events

    def confirm(self, *, yes: bool) -> None:
        """Take our user's answer to the digits. Raises NotVerifiedError for a no, MisuseError where none is due."""
        if not self.awaits_confirmation or self.peer is None:
            raise MisuseError("nothing waits to be confirmed")
        if not yes:
            raise NotVerifiedError
        self.awaits_confirmation = False

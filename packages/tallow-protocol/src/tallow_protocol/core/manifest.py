"""FileManifest: one digest over every name and every root of a transfer, signed by the sender for this receiver.

    digest = BLAKE3-derive-key("tallow/1 manifest", lv(raw map of each Offer part) || root of each entry in order)

where 32 zeros stand for an entry that is no file or was not selected. The signatures cover

    "tallow/1 manifest" || 0x00 || th (64) || fingerprint of A (32) || fingerprint of B (32) || digest (32)

so the list cannot be passed on as if it had been sent to somebody else.
"""

from __future__ import annotations

from operator import gt
from typing import TYPE_CHECKING

from tallow_crypto.errors import CryptoError
from tallow_crypto.hashing import DerivedHasher
from tallow_crypto.secret import equal
from tallow_crypto.signing import HybridSignature

from tallow_protocol.core import labels
from tallow_protocol.core.keyschedule import lv
from tallow_protocol.core.messages import EntryKind, Manifest, Offer, TallowCodec
from tallow_protocol.errors import IntegrityError, MisuseError

if TYPE_CHECKING:
    from tallow_crypto.fingerprint import Fingerprint
    from tallow_crypto.signing import IdentityPublicKey

    from tallow_protocol.core.auth import SignerPort
    from tallow_protocol.core.roots import Roots

__all__ = ["FileManifest", "manifest_message", "sign_manifest", "verify_manifest"]


class FileManifest:
    """Collects an offer's parts, then takes the roots of its files. One byte an entry.

    Calls may not overlap.
    """

    __slots__ = ("_is_file", "_last", "_over", "_parts")

    def __init__(self) -> None:
        self._parts = DerivedHasher(labels.MANIFEST_DIGEST)
        self._last = False
        self._over = False
        self._is_file = bytearray()

    def add_offer(self, offer: Offer) -> None:
        """Add the next part. Raises MisuseError after the last part, or once a digest was taken."""
        if self._last:
            raise MisuseError("a part was added to a manifest after the last one")
        self._parts.update(lv(TallowCodec.raw_map(offer)))
        self._is_file.extend([entry.kind is EntryKind.FILE for entry in offer.entries])
        self._last = offer.last

    def digest(self, roots: Roots) -> bytes:
        """Return the digest (32 bytes) over all parts and the roots. Usable once, after the last part.

        An entry that is no file, and a file that was not selected, has none.
        """
        if not self._last or self._over:
            raise MisuseError("a manifest's digest is taken once, after the last part of the offer")
        if len(roots.known) != len(self._is_file) or any(map(gt, roots.known, self._is_file)):
            raise MisuseError("the roots are not those of this offer's files")
        self._over = True
        self._parts.update(roots.joined)
        return self._parts.digest()


def manifest_message(
    transcript_hash: bytes, sender: Fingerprint, receiver: Fingerprint, digest: bytes
) -> bytes:
    """Return what the sender signs."""
    return labels.MANIFEST + b"\x00" + transcript_hash + bytes(sender) + bytes(receiver) + digest


def sign_manifest(
    signer: SignerPort, transcript_hash: bytes, receiver: Fingerprint, digest: bytes
) -> Manifest:
    """Return the signed Manifest of the sender `signer` for `receiver`; `digest` has 32 bytes."""
    sender = signer.public_key.fingerprint
    signature = signer.sign(manifest_message(transcript_hash, sender, receiver, digest))
    return Manifest(digest, signature.ed25519, signature.mldsa)


def verify_manifest(
    manifest: Manifest,
    sender: IdentityPublicKey,
    transcript_hash: bytes,
    receiver: Fingerprint,
    digest: bytes,
) -> None:
    """Check a Manifest against this side's own `digest`. Raises IntegrityError; the transfer fails then."""
    if not equal(manifest.digest, digest):
        raise IntegrityError("the sender's list of files is not what arrived")
    message = manifest_message(transcript_hash, sender.fingerprint, receiver, digest)
    try:
        sender.verify(message, HybridSignature(manifest.sig_ed, manifest.sig_mldsa))
    except CryptoError:
        raise IntegrityError("the signature of the sender's list of files does not verify") from None

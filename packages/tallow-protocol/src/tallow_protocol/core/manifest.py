"""FileManifest: one digest over every name and every root of a transfer, signed by the sender for this receiver.

    digest = BLAKE3-derive-key("tallow/1 manifest", lv(raw map of each Offer part) || root of each entry in order)

where 32 zeros stand for an entry that is no file or was not selected. The signatures cover

    "tallow/1 manifest" || 0x00 || th (64) || fingerprint of A (32) || fingerprint of B (32) || digest (32)

so the list cannot be passed on as if it had been sent to somebody else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallow_crypto.errors import CryptoError
from tallow_crypto.hashing import DIGEST_BYTES, DerivedHasher
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

__all__ = ["FileManifest", "manifest_message", "sign_manifest", "verify_manifest"]

_HAS_ROOT = 2
"""In place of 1, which is a file whose root is to come."""


class FileManifest:
    """Collects an offer's parts and the roots of its files, in any order of files. 33 bytes an entry.

    Calls may not overlap.
    """

    __slots__ = ("_entries", "_is_file", "_last", "_parts", "_roots")

    def __init__(self) -> None:
        self._parts = DerivedHasher(labels.MANIFEST_DIGEST)
        self._entries = 0
        self._last = False
        self._is_file = bytearray()
        self._roots = bytearray()

    def add_offer(self, offer: Offer) -> None:
        """Add the next part. Raises MisuseError after the last part, or once a digest was taken."""
        if self._last:
            raise MisuseError("a part was added to a manifest after the last one")
        self._parts.update(lv(TallowCodec.raw_map(offer)))
        self._is_file.extend([entry.kind is EntryKind.FILE for entry in offer.entries])
        self._entries += len(offer.entries)
        self._roots.extend(bytes(DIGEST_BYTES * len(offer.entries)))
        self._last = offer.last

    def add_root(self, file: int, root: bytes) -> None:
        """Set the root (32 bytes) of a file of the offer; a file that was not selected gets none."""
        if not 0 <= file < len(self._is_file) or not self._is_file[file] or len(root) != DIGEST_BYTES:
            raise MisuseError(f"entry {file} of the offer is no file, or its root has not 32 bytes")
        begin, end = DIGEST_BYTES * file, DIGEST_BYTES * (file + 1)
        if self._is_file[file] == _HAS_ROOT and self._roots[begin:end] != root:
            raise IntegrityError(f"file {file} was given two different roots")
        self._is_file[file] = _HAS_ROOT
        self._roots[begin:end] = root

    def digest(self) -> bytes:
        """Return the digest (32 bytes) over all parts and the roots so far. Usable once, after the last part."""
        if not self._last or self._entries < 0:
            raise MisuseError("a manifest's digest is taken once, after the last part of the offer")
        self._parts.update(self._roots)
        self._entries = -1
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

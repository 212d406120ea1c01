from __future__ import annotations

from dataclasses import replace

import blake3
import pytest
from tallow_crypto.secret import Secret
from tallow_crypto.signing import IdentityKeyPair
from tallow_protocol.core.manifest import FileManifest, manifest_message, sign_manifest, verify_manifest
from tallow_protocol.core.messages import Entry, EntryKind, Offer, TallowCodec
from tallow_protocol.core.roots import Roots
from tallow_protocol.errors import IntegrityError, MisuseError

from tests.protocol.core.material import flipped, octets

SENDER = IdentityKeyPair.from_seed(Secret(octets("sender", 64)))
RECEIVER = IdentityKeyPair.from_seed(Secret(octets("receiver", 64))).public_key.fingerprint
THIRD = IdentityKeyPair.from_seed(Secret(octets("third", 64))).public_key.fingerprint
TH = octets("th", 64)

PARTS = (
    Offer(
        0, False, (Entry("d", EntryKind.FOLDER, None, 0o755, 1), Entry("d/a", EntryKind.FILE, 3, 0o644, 2))
    ),
    Offer(
        1, True, (Entry("b", EntryKind.FILE, 0, 0o600, 3), Entry("l", EntryKind.LINK, None, 0o777, 4, "b"))
    ),
)
ROOTS = {1: octets("root 1"), 2: octets("root 2")}


def manifest_of(parts=PARTS) -> FileManifest:
    manifest = FileManifest()
    for part in parts:
        manifest.add_offer(part)
    return manifest


def roots_of(known, entries=4) -> Roots:
    roots = Roots(entries)
    for number, root in known.items():
        roots.put(number, root)
    return roots


def digest_of(parts=PARTS, roots=ROOTS) -> bytes:
    return manifest_of(parts).digest(roots_of(roots))


def test_the_digest_is_the_one_of_the_specification():
    data = b""
    for part in PARTS:
        raw = TallowCodec.encode(part)[2:]
        data += len(raw).to_bytes(4, "big") + raw
    data += bytes(32) + ROOTS[1] + ROOTS[2] + bytes(32)
    assert digest_of() == blake3.blake3(data, derive_key_context="tallow/1 manifest").digest()


def test_both_sides_get_the_same_digest_whatever_the_order_of_the_roots():
    received = [TallowCodec.decode(TallowCodec.encode(part)) for part in PARTS]
    assert digest_of() == digest_of(received, dict(reversed(ROOTS.items())))


def test_a_file_that_was_not_selected_counts_as_zeros():
    data = digest_of(roots={1: ROOTS[1]})
    assert data != digest_of()


def test_another_name_or_root_gives_another_digest():
    renamed = (
        replace(PARTS[0], entries=(PARTS[0].entries[0], PARTS[0].entries[1]._replace(path="d/A"))),
        PARTS[1],
    )
    digests = {
        digest_of(),
        digest_of(renamed),
        digest_of(roots=ROOTS | {1: octets("other")}),
        digest_of(roots={1: ROOTS[2], 2: ROOTS[1]}),
    }
    assert len(digests) == 4


def test_what_is_signed_names_transcript_both_fingerprints_and_digest():
    own = SENDER.public_key.fingerprint
    digest = octets("digest")
    assert manifest_message(TH, own, RECEIVER, digest) == (
        b"tallow/1 manifest\x00" + TH + bytes(own) + bytes(RECEIVER) + digest
    )


def test_a_signed_manifest_verifies_for_its_receiver():
    signed = sign_manifest(SENDER, TH, RECEIVER, digest_of())
    verify_manifest(signed, SENDER.public_key, TH, RECEIVER, digest_of())


def test_a_manifest_shown_to_a_third_party_under_another_fingerprint_fails():
    signed = sign_manifest(SENDER, TH, RECEIVER, digest_of())
    with pytest.raises(IntegrityError):
        verify_manifest(signed, SENDER.public_key, TH, THIRD, digest_of())


def test_a_manifest_of_another_session_fails():
    signed = sign_manifest(SENDER, TH, RECEIVER, digest_of())
    with pytest.raises(IntegrityError):
        verify_manifest(signed, SENDER.public_key, octets("another th", 64), RECEIVER, digest_of())


def test_a_manifest_over_other_data_fails():
    signed = sign_manifest(SENDER, TH, RECEIVER, octets("other data"))
    with pytest.raises(IntegrityError, match="not what arrived"):
        verify_manifest(signed, SENDER.public_key, TH, RECEIVER, digest_of())


@pytest.mark.parametrize("field", ["sig_ed", "sig_mldsa"])
def test_both_signatures_must_verify(field):
    signed = sign_manifest(SENDER, TH, RECEIVER, digest_of())
    broken = replace(signed, **{field: flipped(getattr(signed, field), 3)})
    with pytest.raises(IntegrityError, match="signature"):
        verify_manifest(broken, SENDER.public_key, TH, RECEIVER, digest_of())


@pytest.mark.parametrize("roots", [{0: ROOTS[1]}, {3: ROOTS[1]}, {1: ROOTS[1], 3: ROOTS[2]}])
def test_a_root_for_what_is_no_file_is_misuse(roots):
    with pytest.raises(MisuseError):
        digest_of(roots=roots)


@pytest.mark.parametrize("entries", [3, 5])
def test_the_roots_of_another_offer_are_misuse(entries):
    with pytest.raises(MisuseError):
        manifest_of().digest(roots_of({1: ROOTS[1]}, entries))


def test_the_digest_is_taken_once_and_after_the_last_part():
    manifest = FileManifest()
    manifest.add_offer(PARTS[0])
    with pytest.raises(MisuseError):
        manifest.digest(roots_of(ROOTS))
    manifest.add_offer(PARTS[1])
    with pytest.raises(MisuseError):
        manifest.add_offer(PARTS[1])
    manifest.digest(roots_of(ROOTS))
    with pytest.raises(MisuseError):
        manifest.digest(roots_of(ROOTS))

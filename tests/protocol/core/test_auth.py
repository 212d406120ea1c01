from __future__ import annotations

from dataclasses import replace

import pytest
from tallow_crypto.sas import sas_commitment
from tallow_crypto.secret import Secret
from tallow_crypto.signing import IdentityKeyPair
from tallow_net.signaling import Side
from tallow_protocol.core.auth import auth_message, check_auth, make_auth
from tallow_protocol.core.messages import TallowCodec
from tallow_protocol.errors import AuthError, MisuseError

from tests.protocol.core.material import flipped, octets

ALICE = IdentityKeyPair.from_seed(Secret(octets("alice", 64)))
BOB = IdentityKeyPair.from_seed(Secret(octets("bob", 64)))
TH = octets("th", 64)
R_A = octets("r_a")
COMMIT = sas_commitment(R_A)


def from_alice():
    return make_auth(ALICE, Side.A, TH, r_a=R_A)


def from_bob():
    return make_auth(BOB, Side.B, TH, verify=True)


def test_each_side_proves_its_identity():
    assert check_auth(from_alice(), Side.A, TH, sas_commit=COMMIT) == ALICE.public_key
    assert check_auth(from_bob(), Side.B, TH) == BOB.public_key


def test_an_auth_survives_the_codec():
    assert check_auth(TallowCodec.decode(TallowCodec.encode(from_bob())), Side.B, TH) == BOB.public_key


def test_what_is_signed_names_role_transcript_and_both_fingerprints():
    own, peer = ALICE.public_key.fingerprint, BOB.public_key.fingerprint
    assert auth_message(Side.A, TH, own) == b"tallow/1 auth\x00A" + TH + bytes(own) + bytes(32)
    assert auth_message(Side.B, TH, peer, own) == b"tallow/1 auth\x00B" + TH + bytes(peer) + bytes(own)


def test_an_auth_of_another_handshake_is_refused():
    with pytest.raises(AuthError):
        check_auth(from_bob(), Side.B, octets("another th", 64))


def test_an_auth_reflected_to_its_sender_is_refused():
    reflected = replace(from_bob(), r_a=R_A)
    with pytest.raises(AuthError):
        check_auth(reflected, Side.A, TH, sas_commit=COMMIT)
    reflected = replace(from_alice(), r_a=None)
    with pytest.raises(AuthError):
        check_auth(reflected, Side.B, TH)


@pytest.mark.parametrize("field", ["ed", "mldsa", "sig_ed", "sig_mldsa"])
def test_a_changed_key_or_signature_is_refused(field):
    auth = from_bob()
    with pytest.raises(AuthError):
        check_auth(replace(auth, **{field: flipped(getattr(auth, field), 5)}), Side.B, TH)


@pytest.mark.parametrize("fields", [("ed", "sig_ed"), ("mldsa", "sig_mldsa")])
def test_half_of_another_identity_is_refused(fields):
    other = make_auth(ALICE, Side.B, TH)
    mixed = replace(from_bob(), **{name: getattr(other, name) for name in fields})
    with pytest.raises(AuthError):
        check_auth(mixed, Side.B, TH)


def test_an_r_a_that_was_not_committed_to_is_refused():
    with pytest.raises(AuthError, match="commitment"):
        check_auth(replace(from_alice(), r_a=octets("ground")), Side.A, TH, sas_commit=COMMIT)


def test_a_sender_without_r_a_and_a_receiver_with_one_are_refused():
    with pytest.raises(AuthError):
        check_auth(replace(from_alice(), r_a=None), Side.A, TH, sas_commit=COMMIT)
    with pytest.raises(AuthError):
        check_auth(replace(from_bob(), r_a=R_A), Side.B, TH)


def test_a_contact_proves_itself_to_the_peer_it_names_and_to_no_other():
    named = make_auth(BOB, Side.B, TH, peer=ALICE.public_key.fingerprint)
    assert check_auth(named, Side.B, TH, peer=ALICE.public_key.fingerprint) == BOB.public_key
    with pytest.raises(AuthError):
        check_auth(named, Side.B, TH, peer=BOB.public_key.fingerprint)
    with pytest.raises(AuthError):
        check_auth(named, Side.B, TH)


def test_misuse_is_told_apart_from_a_bad_peer():
    with pytest.raises(MisuseError):
        make_auth(ALICE, Side.A, TH)
    with pytest.raises(MisuseError):
        make_auth(BOB, Side.B, TH, r_a=R_A)
    with pytest.raises(MisuseError):
        make_auth(ALICE, Side.A, TH, r_a=b"short")
    with pytest.raises(MisuseError):
        check_auth(from_alice(), Side.A, TH)
    with pytest.raises(MisuseError):
        check_auth(from_bob(), Side.B, TH, sas_commit=COMMIT)

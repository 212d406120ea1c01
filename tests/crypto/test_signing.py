import hashlib

import pytest
from cryptography.hazmat.backends.openssl import backend
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PrivateKey
from tallow_crypto import (
    Fingerprint,
    HybridSignature,
    IdentityKeyPair,
    IdentityPublicKey,
    InvalidKeyError,
    InvalidSignatureError,
    ProviderMissingError,
    Secret,
)

_SEED = Secret(bytes(range(64)))
_MESSAGE = b"tallow/1 auth\x00A and the rest"


@pytest.fixture(scope="module")
def identity():
    return IdentityKeyPair.from_seed(_SEED)


@pytest.fixture
def without_ml_dsa(monkeypatch):
    monkeypatch.setattr(backend, "mldsa_supported", lambda: False)


@pytest.mark.parametrize(
    ("seed", "public_key", "message", "signature"),
    [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            (
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
                "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
            ),
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            (
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
                "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
            ),
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            (
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
                "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
            ),
        ),
    ],
)
def test_the_ed25519_half_is_rfc_8032_section_7_1(seed, public_key, message, signature):
    identity = IdentityKeyPair.from_seed(Secret(bytes.fromhex(seed) + bytes(32)))

    assert identity.public_key.ed25519.hex() == public_key
    assert identity.sign(bytes.fromhex(message)).ed25519.hex() == signature


def test_a_signature_verifies(identity):
    signature = identity.sign(_MESSAGE)

    identity.public_key.verify(_MESSAGE, signature)

    assert len(signature.ed25519) == 64
    assert len(signature.mldsa) == 4627


def test_the_ml_dsa_half_is_under_tallows_context(identity):
    private = MLDSA87PrivateKey.from_seed_bytes(_SEED.reveal()[32:])

    private.public_key().verify(identity.sign(_MESSAGE).mldsa, _MESSAGE, b"tallow/1")

    foreign = HybridSignature(identity.sign(_MESSAGE).ed25519, private.sign(_MESSAGE))
    with pytest.raises(InvalidSignatureError):
        identity.public_key.verify(_MESSAGE, foreign)


def test_a_seed_makes_the_same_identity_again(identity):
    again = IdentityKeyPair.from_seed(identity.seed)

    assert again.public_key == identity.public_key
    again.public_key.verify(_MESSAGE, identity.sign(_MESSAGE))


def test_two_generated_identities_share_no_key():
    first, second = IdentityKeyPair.generate().public_key, IdentityKeyPair.generate().public_key

    assert first.ed25519 != second.ed25519
    assert first.mldsa != second.mldsa


def test_the_fingerprint_covers_label_and_both_keys(identity):
    key = identity.public_key
    ed25519 = Ed25519PrivateKey.from_private_bytes(_SEED.reveal()[:32]).public_key().public_bytes_raw()

    expected = hashlib.sha256(b"tallow/1 identity" + ed25519 + key.mldsa).digest()
    assert bytes(key.fingerprint) == expected


def test_another_message_is_refused(identity):
    with pytest.raises(InvalidSignatureError):
        identity.public_key.verify(_MESSAGE + b"x", identity.sign(_MESSAGE))


@pytest.mark.parametrize("half", ["ed25519", "mldsa"])
@pytest.mark.parametrize("position", [0, -1])
def test_one_wrong_half_is_enough_to_refuse(identity, half, position):
    good = identity.sign(_MESSAGE)
    halves = {"ed25519": bytearray(good.ed25519), "mldsa": bytearray(good.mldsa)}
    halves[half][position] ^= 1

    with pytest.raises(InvalidSignatureError):
        identity.public_key.verify(
            _MESSAGE, HybridSignature(bytes(halves["ed25519"]), bytes(halves["mldsa"]))
        )


def test_one_identitys_half_beside_anothers_is_refused(identity):
    other = IdentityKeyPair.generate()
    mixed_key = IdentityPublicKey(identity.public_key.ed25519, other.public_key.mldsa)

    with pytest.raises(InvalidSignatureError):
        mixed_key.verify(_MESSAGE, identity.sign(_MESSAGE))
    with pytest.raises(InvalidSignatureError):
        identity.public_key.verify(
            _MESSAGE, HybridSignature(identity.sign(_MESSAGE).ed25519, other.sign(_MESSAGE).mldsa)
        )


def test_an_ed25519_key_that_is_no_point_verifies_nothing(identity):
    key = IdentityPublicKey(b"\x02" + bytes(31), identity.public_key.mldsa)

    with pytest.raises(InvalidSignatureError):
        key.verify(_MESSAGE, identity.sign(_MESSAGE))


@pytest.mark.parametrize(("ed25519", "mldsa"), [(31, 2592), (33, 2592), (32, 2591), (32, 2593), (0, 0)])
def test_keys_of_another_length_are_refused(ed25519, mldsa):
    with pytest.raises(InvalidKeyError):
        IdentityPublicKey(bytes(ed25519), bytes(mldsa))


@pytest.mark.parametrize(("ed25519", "mldsa"), [(63, 4627), (65, 4627), (64, 4626), (64, 4628), (0, 0)])
def test_signatures_of_another_length_are_refused(ed25519, mldsa):
    with pytest.raises(InvalidSignatureError):
        HybridSignature(bytes(ed25519), bytes(mldsa))


@pytest.mark.parametrize("length", [0, 32, 63, 65])
def test_a_seed_of_another_length_is_refused(length):
    with pytest.raises(InvalidKeyError):
        IdentityKeyPair.from_seed(Secret(bytes(length)))


def test_without_ml_dsa_the_error_names_the_remedy(without_ml_dsa):
    with pytest.raises(ProviderMissingError, match="ML-DSA-87") as caught:
        IdentityKeyPair.generate()

    assert any("wheel" in hint for hint in caught.value.hints)


def test_without_ml_dsa_nothing_verifies(identity, monkeypatch):
    signature = identity.sign(_MESSAGE)
    monkeypatch.setattr(backend, "mldsa_supported", lambda: False)

    with pytest.raises(ProviderMissingError):
        identity.public_key.verify(_MESSAGE, signature)


def test_repr_shows_the_fingerprint_only(identity):
    assert repr(identity) == f"IdentityKeyPair({identity.public_key.fingerprint!r})"
    assert _SEED.reveal().hex() not in repr(identity)


def test_a_fingerprint_is_shown_whole_in_groups_of_four():
    shown = str(Fingerprint(bytes(range(32))))

    assert shown.startswith("0001 0203 ")
    assert [len(group) for group in shown.split(" ")] == [4] * 16
    assert bytes.fromhex(shown) == bytes(range(32))
    assert f"{Fingerprint(bytes(range(32)))}" == shown


def test_fingerprints_compare_and_hash_by_value():
    a, b = Fingerprint(bytes(32)), Fingerprint(b"\x01" * 32)

    assert a == Fingerprint(bytes(32))
    assert a != b
    assert a != bytes(32)
    assert {a: "known"}[Fingerprint(bytes(32))] == "known"


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_fingerprint_of_another_length_is_refused(length):
    with pytest.raises(ValueError):
        Fingerprint(bytes(length))

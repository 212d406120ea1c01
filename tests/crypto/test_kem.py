import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from kyber_py.ml_kem import ML_KEM_1024
from tallow_crypto import HybridKem, InvalidKeyError, InvalidPointError, KyberPyMlKem, OpenSslMlKem, Secret
from tallow_crypto.testing import SeededKem

_SEED = bytes(range(96))


@pytest.mark.parametrize("make", [HybridKem, lambda: HybridKem(KyberPyMlKem()), lambda: SeededKem(b"seed")])
def test_both_sides_get_the_same_secret(make):
    kem = make()
    pair = kem.generate()

    encapsulation = kem.encapsulate(pair.public_key)

    assert len(pair.public_key) == len(encapsulation.ciphertext) == 1600
    assert len(encapsulation.shared_secret) == 32
    assert pair.decapsulate(encapsulation.ciphertext) == encapsulation.shared_secret


def test_a_pair_over_openssl_and_a_peer_over_kyber_py_agree():
    pair = HybridKem(OpenSslMlKem()).generate()

    encapsulation = HybridKem(KyberPyMlKem()).encapsulate(pair.public_key)

    assert pair.decapsulate(encapsulation.ciphertext) == encapsulation.shared_secret


def test_a_pair_over_kyber_py_and_a_peer_over_openssl_agree():
    pair = HybridKem(KyberPyMlKem()).generate()

    encapsulation = HybridKem(OpenSslMlKem()).encapsulate(pair.public_key)

    assert pair.decapsulate(encapsulation.ciphertext) == encapsulation.shared_secret


def test_the_combiner_hashes_both_secrets_both_ciphertexts_both_keys_and_the_label():
    pair = HybridKem().from_seed(Secret(_SEED))
    ek_pq, dk = ML_KEM_1024.key_derive(_SEED[:64])
    private = X25519PrivateKey.from_private_bytes(_SEED[64:])
    ek_t = private.public_key().public_bytes_raw()
    assert pair.public_key == ek_pq + ek_t

    ciphertext = HybridKem().encapsulate(pair.public_key).ciphertext
    ct_pq, ct_t = ciphertext[:1568], ciphertext[1568:]
    ss_pq = ML_KEM_1024.decaps(dk, ct_pq)
    ss_t = private.exchange(X25519PublicKey.from_public_bytes(ct_t))

    expected = hashlib.sha3_256(
        ss_pq + ss_t + ct_pq + ct_t + ek_pq + ek_t + b"tallow/1 MLKEM1024-X25519"
    ).digest()
    assert pair.decapsulate(ciphertext).reveal() == expected


def test_one_seed_gives_one_key():
    assert HybridKem().from_seed(Secret(_SEED)).public_key == HybridKem().from_seed(Secret(_SEED)).public_key


def test_two_generated_keys_share_neither_half():
    first, second = HybridKem().generate().public_key, HybridKem().generate().public_key

    assert first[:1568] != second[:1568]
    assert first[1568:] != second[1568:]


def test_two_encapsulations_to_one_key_share_neither_half():
    public_key = HybridKem().generate().public_key

    first, second = HybridKem().encapsulate(public_key), HybridKem().encapsulate(public_key)

    assert first.ciphertext[:1568] != second.ciphertext[:1568]
    assert first.ciphertext[1568:] != second.ciphertext[1568:]
    assert first.shared_secret != second.shared_secret


@pytest.mark.parametrize("position", [0, 1567, 1568, 1599])
def test_a_changed_ciphertext_gives_another_secret(position):
    pair = HybridKem().generate()
    encapsulation = HybridKem().encapsulate(pair.public_key)
    changed = bytearray(encapsulation.ciphertext)
    changed[position] ^= 1

    assert pair.decapsulate(bytes(changed)) != encapsulation.shared_secret


def test_the_ignored_bit_of_the_share_still_changes_the_secret():
    # X25519 clears bit 255, so only the combiner's hash over ct_T tells the two apart.
    pair = HybridKem().generate()
    encapsulation = HybridKem().encapsulate(pair.public_key)
    changed = bytearray(encapsulation.ciphertext)
    changed[1599] ^= 0x80

    assert pair.decapsulate(bytes(changed)) != encapsulation.shared_secret


@pytest.mark.parametrize("length", [0, 32, 1568, 1599, 1601])
def test_a_missing_half_is_refused(length):
    with pytest.raises(InvalidKeyError):
        HybridKem().encapsulate(bytes(length))
    with pytest.raises(InvalidKeyError):
        HybridKem().generate().decapsulate(bytes(length))
    with pytest.raises(InvalidKeyError):
        SeededKem(b"seed").encapsulate(bytes(length))


@pytest.mark.parametrize("length", [0, 64, 95, 97])
def test_a_seed_of_another_length_is_refused(length):
    with pytest.raises(InvalidKeyError):
        HybridKem().from_seed(Secret(bytes(length)))


def test_a_malformed_ml_kem_half_is_refused():
    good = HybridKem().generate().public_key

    with pytest.raises(InvalidKeyError):
        HybridKem().encapsulate(b"\xff" * 1568 + good[1568:])


@pytest.mark.parametrize("point", [bytes(32), bytes((1, *bytes(31)))])
def test_a_low_order_x25519_half_is_refused_on_both_sides(point):
    pair = HybridKem().generate()
    ciphertext = HybridKem().encapsulate(pair.public_key).ciphertext

    with pytest.raises(InvalidPointError):
        HybridKem().encapsulate(pair.public_key[:1568] + point)
    with pytest.raises(InvalidPointError):
        pair.decapsulate(ciphertext[:1568] + point)


def test_a_seeded_kem_repeats_itself_call_by_call():
    first, second = SeededKem(b"seed"), SeededKem(b"seed")

    keys = [(first.generate().public_key, second.generate().public_key) for _ in range(3)]
    sent = [(first.encapsulate(keys[0][0]), second.encapsulate(keys[0][0])) for _ in range(3)]

    assert all(a == b for a, b in keys)
    assert all(a == b for a, b in sent)
    assert len({a for a, _ in keys}) == len({a.ciphertext for a, _ in sent}) == 3


def test_seeded_kems_of_two_seeds_differ():
    assert SeededKem(b"one").generate().public_key != SeededKem(b"two").generate().public_key


def test_repr_shows_no_key():
    assert repr(HybridKem().generate()) == "HybridKeyPair()"
    assert "shared_secret=Secret(32 bytes)" in repr(
        HybridKem().encapsulate(HybridKem().generate().public_key)
    )

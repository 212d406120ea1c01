import sys

import pytest
from cryptography.hazmat.backends.openssl import backend
from tallow_crypto import (
    HybridKem,
    InvalidKeyError,
    KyberPyMlKem,
    OpenSslMlKem,
    ProviderMissingError,
    Secret,
    default_provider,
)

_SEED = Secret(bytes(range(64)))
_PROVIDERS = {"openssl": OpenSslMlKem, "kyber-py": KyberPyMlKem}
_BOTH_WAYS = [("openssl", "kyber-py"), ("kyber-py", "openssl")]


@pytest.fixture(params=sorted(_PROVIDERS))
def provider(request):
    return _PROVIDERS[request.param]()


@pytest.fixture
def without_openssl(monkeypatch):
    monkeypatch.setattr(backend, "mlkem_supported", lambda: False)


@pytest.fixture
def without_kyber_py(monkeypatch):
    monkeypatch.setitem(sys.modules, "kyber_py.ml_kem", None)


@pytest.mark.parametrize("seed", [bytes(64), bytes(range(64)), b"\xff" * 64])
def test_both_providers_make_the_same_key_of_a_seed(seed):
    assert (
        OpenSslMlKem().from_seed(Secret(seed)).public_key == KyberPyMlKem().from_seed(Secret(seed)).public_key
    )


@pytest.mark.parametrize(("sealing", "opening"), _BOTH_WAYS)
def test_each_provider_opens_what_the_other_encapsulated(sealing, opening):
    pair = _PROVIDERS[opening]().from_seed(_SEED)

    encapsulation = _PROVIDERS[sealing]().encapsulate(pair.public_key)

    assert len(encapsulation.ciphertext) == 1568
    assert pair.decapsulate(encapsulation.ciphertext) == encapsulation.shared_secret


def test_implicit_rejection_agrees_between_providers():
    ours, theirs = OpenSslMlKem().from_seed(_SEED), KyberPyMlKem().from_seed(_SEED)
    encapsulation = OpenSslMlKem().encapsulate(ours.public_key)
    changed = bytes((encapsulation.ciphertext[0] ^ 1,)) + encapsulation.ciphertext[1:]

    assert ours.decapsulate(changed) == theirs.decapsulate(changed)
    assert ours.decapsulate(changed) != encapsulation.shared_secret


def test_openssl_opens_a_deterministic_encapsulation():
    pair = OpenSslMlKem().from_seed(_SEED)
    kyber = KyberPyMlKem()

    first = kyber.encapsulate_deterministically(pair.public_key, Secret(b"m" * 32))
    second = kyber.encapsulate_deterministically(pair.public_key, Secret(b"m" * 32))

    assert first == second
    assert pair.decapsulate(first.ciphertext) == first.shared_secret


@pytest.mark.parametrize("length", [31, 33])
def test_a_deterministic_encapsulation_takes_32_bytes(length):
    kyber = KyberPyMlKem()

    with pytest.raises(InvalidKeyError):
        kyber.encapsulate_deterministically(kyber.from_seed(_SEED).public_key, Secret(bytes(length)))


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_seed_of_another_length_is_refused(provider, length):
    with pytest.raises(InvalidKeyError):
        provider.from_seed(Secret(bytes(length)))


@pytest.mark.parametrize("length", [0, 1567, 1569])
def test_a_key_of_another_length_is_refused(provider, length):
    with pytest.raises(InvalidKeyError):
        provider.encapsulate(bytes(length))


def test_a_key_with_a_coefficient_of_q_or_more_is_refused(provider):
    with pytest.raises(InvalidKeyError):
        provider.encapsulate(b"\xff" * 1568)


def test_a_deterministic_encapsulation_refuses_a_malformed_key():
    with pytest.raises(InvalidKeyError):
        KyberPyMlKem().encapsulate_deterministically(b"\xff" * 1568, Secret(bytes(32)))


@pytest.mark.parametrize("length", [0, 1567, 1569])
def test_a_ciphertext_of_another_length_is_refused(provider, length):
    with pytest.raises(InvalidKeyError):
        provider.from_seed(_SEED).decapsulate(bytes(length))


def test_openssl_is_the_default():
    assert default_provider().name == "openssl"


def test_kyber_py_stands_in_where_openssl_has_no_ml_kem(without_openssl):
    assert default_provider().name == "kyber-py"
    pair = HybridKem().generate()
    encapsulation = HybridKem().encapsulate(pair.public_key)
    assert pair.decapsulate(encapsulation.ciphertext) == encapsulation.shared_secret


def test_without_any_provider_the_error_names_the_remedy(without_openssl, without_kyber_py):
    with pytest.raises(ProviderMissingError, match="ML-KEM-1024") as caught:
        HybridKem()

    assert any("tallow-crypto[kyber-py]" in hint for hint in caught.value.hints)


def test_without_kyber_py_openssl_serves(without_kyber_py):
    assert default_provider().name == "openssl"
    with pytest.raises(ProviderMissingError):
        KyberPyMlKem()


def test_without_openssls_ml_kem_its_provider_is_not_made(without_openssl):
    with pytest.raises(ProviderMissingError):
        OpenSslMlKem()

import inspect
import subprocess
import sys

import pytest
import tallow_crypto
import tallow_crypto.testing
from tallow_crypto import errors

_CLASSES = [
    value for value in vars(errors).values() if inspect.isclass(value) and value.__module__ == errors.__name__
]


def test_exported_members():
    assert tallow_crypto.__all__ == [
        "DIGEST_BYTES",
        "TAG_BYTES",
        "AuthenticationError",
        "Buffer",
        "CPace",
        "CryptoError",
        "DerivedHasher",
        "Encapsulation",
        "FileRoot",
        "Fingerprint",
        "HybridKem",
        "HybridKeyPair",
        "HybridSignature",
        "IdentityKeyPair",
        "IdentityPublicKey",
        "InvalidKeyError",
        "InvalidPointError",
        "InvalidSignatureError",
        "KeyExhaustedError",
        "KyberPyMlKem",
        "MlKemProvider",
        "OpenSslMlKem",
        "ProviderMissingError",
        "RecordOpener",
        "RecordSealer",
        "Secret",
        "Suite",
        "chunk_digest",
        "default_provider",
        "derive_key",
        "equal",
        "file_root",
        "hkdf_expand",
        "hkdf_extract",
        "hmac_sha512",
        "lv_cat",
        "passphrase_key",
        "sas_commitment",
        "sas_digits",
    ]
    assert tallow_crypto.testing.__all__ == ["SeededKem"]


@pytest.mark.parametrize("name", tallow_crypto.__all__)
def test_every_exported_name_exists(name):
    assert hasattr(tallow_crypto, name)


def _parameters():
    members = [getattr(tallow_crypto, name) for name in tallow_crypto.__all__]
    functions = [member for member in members if inspect.isfunction(member)]
    for member in filter(inspect.isclass, members):
        functions += [function for _, function in inspect.getmembers(member, inspect.isroutine)]
    for function in functions:
        try:
            signature = inspect.signature(function)
        except ValueError:  # a slot of a built-in type has no signature
            continue
        yield from signature.parameters


def test_no_public_signature_has_a_nonce():
    names = set(_parameters())

    assert {"buffer", "associated_data", "secret", "epoch_shift"} <= names
    assert not {name for name in names if "nonce" in name or name in {"iv", "counter"}}


@pytest.mark.parametrize("error", _CLASSES)
def test_every_error_has_a_code_hints_and_says_whether_to_retry(error):
    raised = error("what happened", hints=("what to do",))

    assert isinstance(raised, tallow_crypto.CryptoError)
    assert raised.code.replace("_", "").isalpha()
    assert raised.hints == ("what to do",)
    assert raised.retryable is False
    assert error("what happened").hints == ()
    assert str(raised) == "what happened"


def test_error_codes_are_distinct():
    assert len({error.code for error in _CLASSES}) == len(_CLASSES) == 7


def test_importing_the_package_does_not_load_cryptography():
    program = "import sys, tallow_crypto; print('cryptography' in sys.modules, 'kyber_py' in sys.modules)"

    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )

    assert result.stdout.split() == ["False", "False"]

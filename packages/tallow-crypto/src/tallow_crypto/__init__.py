"""Cryptography of Tallow: hybrid KEM, CPace, record sealing, signatures, hashing."""

from typing import TYPE_CHECKING

from tallow_crypto.errors import (
    AuthenticationError,
    CryptoError,
    InvalidKeyError,
    InvalidPointError,
    InvalidSignatureError,
    KeyExhaustedError,
    ProviderMissingError,
)

if TYPE_CHECKING:
    from tallow_crypto.aead import TAG_BYTES, RecordOpener, RecordSealer, Suite
    from tallow_crypto.cpace import CPace, lv_cat
    from tallow_crypto.fingerprint import Fingerprint
    from tallow_crypto.hashing import (
        DIGEST_BYTES,
        DerivedHasher,
        FileRoot,
        chunk_digest,
        derive_key,
        file_root,
    )
    from tallow_crypto.kdf import hkdf_expand, hkdf_extract, hmac_sha512
    from tallow_crypto.kem import Encapsulation, HybridKem, HybridKeyPair
    from tallow_crypto.mlkem import KyberPyMlKem, MlKemProvider, OpenSslMlKem, default_provider
    from tallow_crypto.passphrase import passphrase_key
    from tallow_crypto.sas import sas_commitment, sas_digits
    from tallow_crypto.secret import Buffer, Secret, equal
    from tallow_crypto.signing import HybridSignature, IdentityKeyPair, IdentityPublicKey

__all__ = [
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

# OpenSSL and its bindings cost 20 ms of imports: each module comes with the first use of a name.
_LATE = {
    "Buffer": "secret",
    "CPace": "cpace",
    "DIGEST_BYTES": "hashing",
    "DerivedHasher": "hashing",
    "Encapsulation": "kem",
    "FileRoot": "hashing",
    "Fingerprint": "fingerprint",
    "HybridKem": "kem",
    "HybridKeyPair": "kem",
    "HybridSignature": "signing",
    "IdentityKeyPair": "signing",
    "IdentityPublicKey": "signing",
    "KyberPyMlKem": "mlkem",
    "MlKemProvider": "mlkem",
    "OpenSslMlKem": "mlkem",
    "RecordOpener": "aead",
    "RecordSealer": "aead",
    "Secret": "secret",
    "Suite": "aead",
    "TAG_BYTES": "aead",
    "chunk_digest": "hashing",
    "default_provider": "mlkem",
    "derive_key": "hashing",
    "equal": "secret",
    "file_root": "hashing",
    "hkdf_expand": "kdf",
    "hkdf_extract": "kdf",
    "hmac_sha512": "kdf",
    "lv_cat": "cpace",
    "passphrase_key": "passphrase",
    "sas_commitment": "sas",
    "sas_digits": "sas",
}


def __getattr__(name: str) -> object:
    module = _LATE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{module}"), name)

"""Certificates: made by ourselves, named by their public key, or judged by the system's authorities."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallow_crypto.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

# A pin names the key, not the dates, so the lifetime protects nothing; ten years outlive any relay's disk.
LIFETIME_DAYS = 3650

# Clocks of peers may be behind; a day covers every time zone mistake.
BACKDATED_DAYS = 1


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate (DER) with its private key (PEM, PKCS #8) and the SHA-256 (32 bytes) of its SPKI."""

    certificate_der: bytes
    private_key_pem: Secret
    spki_sha256: bytes


def generate_certificate(common_name: str = "tallow") -> Certificate:
    """Return a new self-signed certificate for a new ECDSA P-256 key."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=BACKDATED_DAYS))
        .not_valid_after(now + timedelta(days=LIFETIME_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(common_name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    der = certificate.public_bytes(serialization.Encoding.DER)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Certificate(der, Secret(pem), spki_sha256(der))


def spki_sha256(certificate_der: bytes) -> bytes:
    """Return SHA-256 (32 bytes) of the SubjectPublicKeyInfo (RFC 5280, section 4.1) of a DER certificate.

    Raises ValueError where the bytes are no certificate, or one that cannot be read.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        key = _read(certificate_der).public_key()
    except UnsupportedAlgorithm as error:
        raise ValueError("The certificate's key is of an unknown kind.") from error
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()


def _read(certificate_der: bytes) -> x509.Certificate:
    """Return the certificate; ValueError, and never a warning on the terminal, whatever was sent in its place."""
    import warnings

    from cryptography import x509

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # oddities of what others made are nothing that the user could mend
        try:
            return x509.load_der_x509_certificate(certificate_der)
        except x509.InvalidVersion as error:
            raise ValueError("The certificate is of an unknown version.") from error


def authority_check(chain_der: Sequence[bytes], host: str) -> bool:
    """Return whether the system's authorities vouch for `host` by this chain (DER, the peer's own first).

    The roots are those of `ssl.create_default_context()`, so SSL_CERT_FILE and SSL_CERT_DIR count. False
    for an empty chain and for anything that cannot be read; never raises for what the peer sent.
    """
    import ipaddress
    import ssl

    from cryptography import x509
    from cryptography.x509 import verification

    roots = ssl.create_default_context().get_ca_certs(binary_form=True)
    if not roots or not chain_der:
        return False
    anchors = []
    for root in roots:
        try:
            anchors.append(_read(root))
        except ValueError:
            continue  # a system store may hold a root that is too old to parse; the others still count
    try:
        subject: x509.DNSName | x509.IPAddress = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        try:
            subject = x509.DNSName(host.encode("idna").decode("ascii"))
        except (UnicodeError, ValueError):
            return False
    try:
        leaf, *rest = [_read(der) for der in chain_der]
        verifier = (
            verification.PolicyBuilder().store(verification.Store(anchors)).build_server_verifier(subject)
        )
        verifier.verify(leaf, rest)
    except (ValueError, verification.VerificationError, x509.UnsupportedGeneralNameType):
        return False
    return True

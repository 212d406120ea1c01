"""A certificate authority of the tests' own, for a system that trusts it and no other."""

import datetime as dt
import hashlib
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tallow_crypto import Secret
from tallow_net.transport.certificates import Certificate

_SIGNS = {"digital_signature": False, "key_cert_sign": True, "crl_sign": True}
_SERVES = {"digital_signature": True, "key_cert_sign": False, "crl_sign": False}
_NEVER = dict.fromkeys(
    (
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "encipher_only",
        "decipher_only",
    ),
    False,
)


class Authority:
    def __init__(self):
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test Root")])
        self.root = self._sign(
            self._key,
            self._name,
            (x509.BasicConstraints(ca=True, path_length=None), True),
            (x509.KeyUsage(**_SIGNS, **_NEVER), True),
            (x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), False),
        )

    def issue(self, address):
        """Return a certificate with a new key for an IP address."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(
            key,
            x509.Name([]),
            (x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), True),
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (x509.KeyUsage(**_SERVES, **_NEVER), True),
            (x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False),
        )
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        spki = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        der = certificate.public_bytes(serialization.Encoding.DER)
        return Certificate(der, Secret(pem), hashlib.sha256(spki).digest())

    def write_root(self, path):
        path.write_bytes(self.root.public_bytes(serialization.Encoding.PEM))

    def _sign(self, key, subject, *extensions):
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - dt.timedelta(days=1),
            not_valid_after=now + dt.timedelta(days=30),
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self._key, hashes.SHA256())

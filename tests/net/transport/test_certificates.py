"""Self-signed certificates, pins and the system's authorities."""

import datetime as dt
import hashlib
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from tallow_net.transport.certificates import authority_check, generate_certificate, spki_sha256
from tallow_net.transport.memory import memory_pair


def test_a_generated_certificate_names_its_key():
    made = generate_certificate()
    certificate = x509.load_der_x509_certificate(made.certificate_der)
    key = load_pem_private_key(made.private_key_pem.reveal(), password=None)
    assert certificate.public_key() == key.public_key()
    assert isinstance(key.curve, ec.SECP256R1)
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert made.spki_sha256 == hashlib.sha256(spki).digest() == spki_sha256(made.certificate_der)
    certificate.verify_directly_issued_by(certificate)


def test_every_certificate_has_a_key_of_its_own():
    assert generate_certificate().spki_sha256 != generate_certificate().spki_sha256


def test_no_key_shows_in_repr():
    made = generate_certificate()
    assert "PRIVATE" not in repr(made)


def test_bytes_that_are_no_certificate_have_no_pin():
    with pytest.raises(ValueError):
        spki_sha256(b"\x30\x03abc")


VERSION_3 = bytes.fromhex("a003020102")
P256_KEY = bytes.fromhex("06082a8648ce3d030107")


def changed(old: bytes, new: bytes) -> bytes:
    """Return a certificate that OpenSSL still shows to whoever asks, with other bytes in it."""
    made = generate_certificate().certificate_der
    assert old in made
    return made.replace(old, new)


@pytest.mark.parametrize(
    "strange",
    [
        pytest.param(changed(VERSION_3, bytes.fromhex("a003020105")), id="version 6"),
        pytest.param(changed(P256_KEY, bytes.fromhex("06082a8648ce3d030163")), id="unknown curve"),
        pytest.param(
            changed(bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06072a8648ce3d0263")),
            id="unknown key",
        ),
    ],
)
def test_a_certificate_that_cannot_be_read_has_no_pin_and_nobody_vouches_for_it(strange: bytes):
    with pytest.raises(ValueError):
        spki_sha256(strange)
    assert not authority_check((strange,), "relay.example")
    assert not authority_check((generate_certificate().certificate_der, strange), "relay.example")
    one, other = memory_pair()
    one.peer_certificate_der = strange
    assert one.peer_spki is None
    one.abort()
    other.abort()


def test_an_odd_certificate_prints_no_warning_on_the_users_terminal(recwarn):
    made = generate_certificate().certificate_der
    serial = made.index(VERSION_3) + len(VERSION_3) + 2
    odd = made[:serial] + bytes((made[serial] | 0x80,)) + made[serial + 1 :]  # a negative number
    assert len(spki_sha256(odd)) == 32
    assert not authority_check((odd,), "relay.example")
    assert not recwarn.list


@pytest.fixture
def authority(tmp_path, monkeypatch):
    """An authority that the system trusts, and a function that issues for a host."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test Root")])
    now = dt.datetime.now(dt.UTC)

    def build(subject, public_key, extensions):
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=30))
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(key, hashes.SHA256())

    usage = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    root = build(
        name,
        key.public_key(),
        [
            (x509.BasicConstraints(ca=True, path_length=None), True),
            (x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), True),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        ],
    )
    store = tmp_path / "roots.pem"
    store.write_bytes(root.public_bytes(Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(store))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))

    def issue(*names: x509.GeneralName) -> bytes:
        leaf = ec.generate_private_key(ec.SECP256R1())
        return build(
            x509.Name([]),
            leaf.public_key(),
            [
                (x509.SubjectAlternativeName(names), True),
                (x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False),
                (x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), False),
            ],
        ).public_bytes(Encoding.DER)

    return issue


def test_the_authorities_vouch_for_the_host_that_they_named(authority):
    assert authority_check([authority(x509.DNSName("relay.example"))], "relay.example")


def test_the_authorities_vouch_for_no_other_host(authority):
    assert not authority_check([authority(x509.DNSName("relay.example"))], "other.example")


def test_an_address_is_checked_as_an_address(authority):
    import ipaddress

    chain = [authority(x509.IPAddress(ipaddress.ip_address("192.0.2.7")))]
    assert authority_check(chain, "192.0.2.7")
    assert not authority_check(chain, "192.0.2.8")


@pytest.mark.usefixtures("authority")
def test_a_self_signed_certificate_is_vouched_for_by_nobody():
    assert not authority_check([generate_certificate("relay.example").certificate_der], "relay.example")


@pytest.mark.parametrize("chain", [[], [b""], [b"garbage"], [b"\x30\x80" * 50]])
@pytest.mark.usefixtures("authority")
def test_a_chain_that_cannot_be_read_is_vouched_for_by_nobody(chain):
    assert not authority_check(chain, "relay.example")


@pytest.mark.parametrize("host", ["", "a" * 300, "bad host", "\udcff", "*.example"])
def test_a_host_that_is_no_name_is_vouched_for_by_nobody(authority, host):
    assert not authority_check([authority(x509.DNSName("relay.example"))], host)


def test_without_any_authority_nobody_is_vouched_for(monkeypatch, tmp_path):
    empty = tmp_path / "empty.pem"
    empty.write_bytes(b"")
    monkeypatch.setattr(ssl.SSLContext, "get_ca_certs", lambda *_, **__: [])
    assert not authority_check([generate_certificate().certificate_der], "relay.example")

"""RFC 5869 has no SHA-512 case: its Appendix A inputs are taken, the other side is cryptography's HKDF."""

import pytest
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st
from tallow_crypto import Secret, hkdf_expand, hkdf_extract, hmac_sha512

_RFC_5869_INPUTS = [
    (b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)), 42),
    (bytes(range(80)), bytes(range(0x60, 0xB0)), bytes(range(0xB0, 0x100)), 82),
    (b"\x0b" * 22, b"", b"", 42),
]


def _ours(key_material, salt, info, length):
    return hkdf_expand(hkdf_extract(salt, Secret(key_material)), info, length).reveal()


@pytest.mark.parametrize(("key_material", "salt", "info", "length"), _RFC_5869_INPUTS)
def test_rfc_5869_inputs_give_what_cryptographys_hkdf_gives(key_material, salt, info, length):
    reference = HKDF(SHA512(), length=length, salt=salt, info=info).derive(key_material)

    assert _ours(key_material, salt, info, length) == reference


@given(st.binary(max_size=200), st.binary(max_size=200), st.binary(max_size=200), st.integers(1, 300))
def test_any_input_gives_what_cryptographys_hkdf_gives(key_material, salt, info, length):
    reference = HKDF(SHA512(), length=length, salt=salt, info=info).derive(key_material)

    assert _ours(key_material, salt, info, length) == reference


def test_extract_is_hmac_under_the_salt():
    assert hkdf_extract(b"salt", Secret(b"ikm")).reveal() == hmac_sha512(Secret(b"salt"), b"ikm")


def test_expand_is_the_chain_of_rfc_5869():
    key = Secret(bytes(range(64)))
    first = hmac_sha512(key, b"info\x01")
    second = hmac_sha512(key, first + b"info\x02")

    assert hkdf_expand(key, b"info", 64).reveal() == first
    assert hkdf_expand(key, b"info", 65).reveal() == first + second[:1]
    assert hkdf_expand(key, b"info", 128).reveal() == first + second


@pytest.mark.parametrize("length", [1, 255 * 64])
def test_the_longest_and_the_shortest_output_are_given(length):
    assert len(hkdf_expand(Secret(bytes(64)), b"", length)) == length


@pytest.mark.parametrize("length", [-1, 0, 255 * 64 + 1])
def test_an_output_just_outside_is_refused(length):
    with pytest.raises(ValueError):
        hkdf_expand(Secret(bytes(64)), b"", length)


@pytest.mark.parametrize(
    ("key", "data", "tag"),
    [
        (
            b"\x0b" * 20,
            b"Hi There",
            (
                "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde"
                "daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854"
            ),
        ),
        (
            b"Jefe",
            b"what do ya want for nothing?",
            (
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
                "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
            ),
        ),
    ],
)
def test_rfc_4231_hmac(key, data, tag):
    assert hmac_sha512(Secret(key), data).hex() == tag

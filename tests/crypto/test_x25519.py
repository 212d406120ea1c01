"""RFC 7748, sections 5.2 and 6.1."""

import pytest
from tallow_crypto import InvalidKeyError, InvalidPointError, Secret, x25519

_BASE = bytes((9, *bytes(31)))


@pytest.mark.parametrize(
    ("scalar", "point", "result"),
    [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ],
)
def test_section_5_2_multiplications(scalar, point, result):
    product = x25519.multiply(Secret(bytes.fromhex(scalar)), bytes.fromhex(point))

    assert product.reveal().hex() == result


def test_section_5_2_after_1000_iterations():
    k = u = _BASE

    for _ in range(1000):
        k, u = x25519.multiply(Secret(k), u).reveal(), k

    assert k.hex() == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"


def test_section_6_1_key_agreement():
    a = Secret(bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
    b = Secret(bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))

    public_a, public_b = x25519.public_point(a), x25519.public_point(b)

    assert public_a.hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert public_b.hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert x25519.multiply(a, public_b).reveal().hex() == shared
    assert x25519.multiply(b, public_a).reveal().hex() == shared


def test_the_base_point_is_nine():
    scalar = Secret(bytes(range(32)))

    assert x25519.multiply(scalar, _BASE).reveal() == x25519.public_point(scalar)


def test_an_all_zero_result_is_refused():
    with pytest.raises(InvalidPointError):
        x25519.multiply(Secret(bytes(range(32))), bytes(32))


@pytest.mark.parametrize("length", [31, 33])
def test_lengths_other_than_32_are_refused(length):
    with pytest.raises(InvalidPointError):
        x25519.multiply(Secret(bytes(range(32))), bytes(length))
    with pytest.raises(InvalidKeyError):
        x25519.multiply(Secret(bytes(length)), _BASE)
    with pytest.raises(InvalidKeyError):
        x25519.public_point(Secret(bytes(length)))

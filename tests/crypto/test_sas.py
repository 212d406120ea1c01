import hashlib

import pytest
from tallow_crypto import Secret, hkdf_expand, sas_commitment, sas_digits

_PRK = Secret(bytes(range(64)))
_TH = bytes(range(64, 128))
_R_A = bytes(range(32))


def test_the_commitment_is_a_labelled_hash():
    assert sas_commitment(_R_A) == hashlib.sha512(b"tallow/1 sas commit" + _R_A).digest()[:32]


def test_the_digits_are_a_big_endian_number_modulo_ten_to_the_eighth():
    output = hkdf_expand(_PRK, b"tallow/1 sas\x00" + _TH + _R_A, 8).reveal()

    assert sas_digits(_PRK, _TH, _R_A) == str(int.from_bytes(output, "big") % 10**8).zfill(8)


def test_leading_zeros_are_kept():
    shown = [sas_digits(_PRK, _TH, bytes((i, j)) + bytes(30)) for i in range(16) for j in range(16)]

    assert {len(digits) for digits in shown} == {8}
    assert any(digits.startswith("0") for digits in shown)
    assert all(digits.isdecimal() for digits in shown)


def test_each_input_changes_the_digits():
    shown = {
        sas_digits(_PRK, _TH, _R_A),
        sas_digits(Secret(bytes(64)), _TH, _R_A),
        sas_digits(_PRK, bytes(64), _R_A),
        sas_digits(_PRK, _TH, bytes(32)),
    }

    assert len(shown) == 4


@pytest.mark.parametrize("length", [0, 31, 33])
def test_another_length_of_r_a_is_refused(length):
    with pytest.raises(ValueError):
        sas_commitment(bytes(length))
    with pytest.raises(ValueError):
        sas_digits(_PRK, _TH, bytes(length))


@pytest.mark.parametrize("length", [63, 65])
def test_another_length_of_the_transcript_hash_is_refused(length):
    with pytest.raises(ValueError):
        sas_digits(_PRK, bytes(length), _R_A)

"""The formulas of the specification, computed a second time with the standard library alone."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from tallow_crypto.secret import Secret
from tallow_net.signaling import Side
from tallow_protocol.core.keyschedule import extract_prk, lv, side_byte, transcript_hash
from tallow_protocol.errors import MisuseError

from tests.protocol.core.material import established, octets

KEYS = established("schedule")[0].keys
PRK = KEYS.prk.reveal()
TH = KEYS.transcript_hash


def expand(key: bytes, info: bytes, length: int = 64) -> bytes:
    return hmac.digest(key, info + b"\x01", "sha512")[:length]


def k(label: bytes) -> bytes:
    return expand(PRK, b"tallow/1 " + label + b"\x00" + TH)


def x(label: bytes, number: int, extra: bytes = b"") -> bytes:
    return expand(k(b"paths"), b"tallow/1 " + label + b"\x00" + number.to_bytes(4, "big") + extra)


def test_lv_has_a_big_endian_u32_length():
    assert lv(b"abc") == b"\x00\x00\x00\x03abc"


def test_the_transcript_hash_takes_ci_hello_and_core_with_their_lengths():
    expected = hashlib.sha512(b"tallow/1 transcript" + lv(b"ci") + lv(b"hello") + lv(b"core")).digest()
    assert transcript_hash(b"ci", b"hello", b"core") == expected
    assert transcript_hash(b"ci", b"hell", b"ocore") != expected


def test_prk_is_hmac_of_isk_and_hybrid_secret_under_the_salt():
    isk, hybrid = octets("isk", 64), octets("hybrid")
    assert extract_prk(Secret(isk), Secret(hybrid)).reveal() == hmac.digest(
        b"tallow/1 handshake", isk + hybrid, "sha512"
    )


def test_room_and_contact_secret_hang_on_their_own_labels():
    assert KEYS.rejoin_room == k(b"rejoin room")[:32]
    assert KEYS.contact.reveal() == k(b"contact")


def test_tag_and_attach_key_hang_on_the_connection_number():
    assert KEYS.attach_tag(6) == x(b"tag", 6)[:16]
    assert KEYS.attach_key(6).reveal() == x(b"attach", 6)


def test_a_record_secret_hangs_on_number_side_and_both_nonces():
    opener, acceptor = octets("o"), octets("a")
    assert KEYS.record_secret(6, Side.A, opener, acceptor).reveal() == x(b"conn", 6, b"A" + opener + acceptor)
    assert KEYS.record_secret(6, Side.B, opener, acceptor).reveal() == x(b"conn", 6, b"B" + opener + acceptor)


def test_connection_0_takes_the_handshakes_nonces():
    expected = x(b"conn", 0, b"A" + KEYS.nonce_a + KEYS.nonce_b)
    assert KEYS.handshake_record_secret(Side.A).reveal() == expected


def test_sides_are_named_by_one_letter():
    assert (side_byte(Side.A), side_byte(Side.B)) == (b"A", b"B")


def test_numbers_and_nonces_out_of_range_are_misuse():
    for number in (-1, 2**32):
        with pytest.raises(MisuseError):
            KEYS.attach_tag(number)
    with pytest.raises(MisuseError):
        KEYS.record_secret(1, Side.A, b"short", bytes(32))

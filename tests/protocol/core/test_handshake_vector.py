"""The pinned handshake, made again by this code and, from its inputs, by libraries that know nothing of Tallow."""

from __future__ import annotations

import hashlib
import hmac
import json

import blake3
import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM1024PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.vectors.make_handshake_vector import VECTOR, build

STORED = json.loads(VECTOR.read_text(encoding="utf-8"))
INPUTS = STORED["inputs"]
DERIVED = STORED["derived_from_code"]
KEYS = STORED["keys"]
HELLO, REPLY, CONFIRM = (bytes.fromhex(STORED["frames"][name]) for name in ("hello", "reply", "confirm"))
CORE = REPLY[1:-64]
TH, PRK = bytes.fromhex(KEYS["th"]), bytes.fromhex(KEYS["prk"])


def lv(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def expand(key: bytes, info: bytes, length: int = 64) -> bytes:
    return hmac.digest(key, info + b"\x01", "sha512")[:length]


def k(label: bytes) -> bytes:
    return expand(PRK, b"tallow/1 " + label + b"\x00" + TH)


def x(label: bytes, number: int, extra: bytes = b"") -> bytes:
    return expand(k(b"paths"), b"tallow/1 " + label + b"\x00" + number.to_bytes(4, "big") + extra)


def test_this_code_makes_the_stored_handshake():
    assert build() == STORED


def test_the_room_comes_from_the_nameplate():
    assert blake3.blake3(b"4821", derive_key_context="tallow/1 room").hexdigest() == DERIVED["room_id"]
    assert (
        blake3.blake3(b"4821", derive_key_context="tallow/1 lan").hexdigest()[:16] == DERIVED["lan_name_text"]
    )


def test_hello_is_laid_out_as_specified():
    assert HELLO[:10] == bytes.fromhex("10" + "0001" + "000000000000" + "00")
    assert HELLO[10:42] == bytes.fromhex("0001f0aa") + bytes(28)
    assert HELLO[42:74].hex() == INPUTS["nonce_a"]
    commitment = hashlib.sha512(b"tallow/1 sas commit" + bytes.fromhex(INPUTS["r_a"])).digest()[:32]
    assert HELLO[1706:] == commitment


def test_core_is_laid_out_as_specified():
    assert CORE[:4] == bytes.fromhex("00010100")
    assert CORE[4:36] == bytes.fromhex("0001f0bb") + bytes(28)
    assert CORE[36:68].hex() == INPUTS["nonce_b"]
    assert CORE[100:].hex() == INPUTS["ciphertext"]


def test_the_hybrid_secret_opens_with_the_senders_seed():
    seed, ciphertext = bytes.fromhex(INPUTS["kem_seed_a"]), bytes.fromhex(INPUTS["ciphertext"])
    mlkem, own = (
        MLKEM1024PrivateKey.from_seed_bytes(seed[:64]),
        X25519PrivateKey.from_private_bytes(seed[64:]),
    )
    public = mlkem.public_key().public_bytes_raw() + own.public_key().public_bytes_raw()
    assert HELLO[106:1706] == public
    shared = mlkem.decapsulate(ciphertext[:1568]) + own.exchange(
        X25519PublicKey.from_public_bytes(ciphertext[1568:])
    )
    secret = hashlib.sha3_256(shared + ciphertext + public + b"tallow/1 MLKEM1024-X25519").hexdigest()
    assert secret == KEYS["hybrid_secret"]


def test_transcript_hash_and_prk_follow():
    transcript = b"tallow/1 transcript" + lv(bytes.fromhex(DERIVED["ci"])) + lv(HELLO) + lv(CORE)
    assert hashlib.sha512(transcript).digest() == TH
    material = bytes.fromhex(KEYS["isk"]) + bytes.fromhex(KEYS["hybrid_secret"])
    assert hmac.digest(b"tallow/1 handshake", material, "sha512") == PRK


def test_the_channel_identifier_has_leb128_lengths():
    room = bytes.fromhex(DERIVED["room_id"])
    parts = (b"tallow/1", b"\x00", room, b"sender", b"receiver")
    assert bytes.fromhex(DERIVED["ci"]) == b"".join(bytes([len(part)]) + part for part in parts)


def test_both_confirmation_tags_follow():
    confirm_b = hmac.digest(k(b"confirm B"), TH, "sha512")
    assert b"\x11" + CORE + confirm_b == REPLY
    assert b"\x12" + hmac.digest(k(b"confirm A"), TH + confirm_b, "sha512") == CONFIRM


def test_rooms_contact_secret_and_digits_follow():
    assert k(b"rejoin room")[:32].hex() == KEYS["rejoin_room"]
    assert k(b"contact").hex() == KEYS["contact"]
    sas = expand(PRK, b"tallow/1 sas\x00" + TH + bytes.fromhex(INPUTS["r_a"]), 8)
    assert f"{int.from_bytes(sas, 'big') % 10**8:08}" == KEYS["sas_text"]


@pytest.mark.parametrize("side", ["a", "b"])
def test_the_record_secrets_of_both_connections_follow(side):
    letter = side.upper().encode()
    nonces = bytes.fromhex(INPUTS["nonce_a"] + INPUTS["nonce_b"])
    assert x(b"conn", 0, letter + nonces).hex() == KEYS[f"connection_0_secret_{side}"]
    second = STORED["connection_2"]
    nonces = bytes.fromhex(second["r_o"] + second["r_a"])
    assert x(b"conn", 2, letter + nonces).hex() == second[f"secret_{side}"]


def test_attach_and_ack_follow():
    second = STORED["connection_2"]
    r_o, r_a = bytes.fromhex(second["r_o"]), bytes.fromhex(second["r_a"])
    mac = hmac.digest(x(b"attach", 2), b"\x01" + r_o, "sha512")[:32]
    assert bytes.fromhex(second["attach"]) == b"\x01" + x(b"tag", 2)[:16] + r_o + mac
    mac = hmac.digest(x(b"attach", 2), b"\x02" + r_o + r_a, "sha512")[:32]
    assert bytes.fromhex(second["ack"]) == b"\x02" + r_a + mac


def test_the_first_record_opens_with_the_derived_key():
    secret = bytes.fromhex(KEYS["connection_0_secret_a"])
    key, iv = expand(secret, b"tallow/1 key", 32), expand(secret, b"tallow/1 iv", 12)
    frame = bytes.fromhex(STORED["first_record_of_a"]["frame"])
    plaintext = AESGCM(key).decrypt(iv, frame[4:], frame[:4])
    message = bytes.fromhex(STORED["first_record_of_a"]["message"])
    assert plaintext.hex() == STORED["first_record_of_a"]["plaintext"]
    assert plaintext == bytes.fromhex("01000000") + len(message).to_bytes(4, "big") + (1).to_bytes(
        8, "big"
    ) + bytes(16) + message + bytes(256 - 32 - len(message))

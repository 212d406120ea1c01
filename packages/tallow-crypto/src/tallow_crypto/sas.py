"""The short authentication string of `--verify`, behind a commitment as in ZRTP (RFC 6189 section 4.4).

Without the commitment, a man in the middle who knows the code tries replies until both ends show the same
eight digits; with it he has one try in 10**8.
"""

import hashlib

from tallow_crypto.kdf import hkdf_expand
from tallow_crypto.secret import Secret

SAS_NONCE_BYTES = 32
SAS_DIGITS = 8


def sas_commitment(r_a: bytes) -> bytes:
    """Return SHA-512("tallow/1 sas commit" || r_A)[:32]; ValueError unless `r_a` has 32 bytes."""
    _check(r_a)
    return hashlib.sha512(b"tallow/1 sas commit" + r_a).digest()[:32]


def sas_digits(prk: Secret, transcript_hash: bytes, r_a: bytes) -> str:
    """Return the eight decimal digits that both users compare, leading zeros kept.

    Expand(prk, "tallow/1 sas" || 0x00 || th || r_A, 8), big-endian, modulo 10**8. `prk` and
    `transcript_hash` have 64 bytes, `r_a` has 32; ValueError for another length.
    """
    _check(r_a)
    if len(transcript_hash) != 64:
        raise ValueError(f"a transcript hash has 64 bytes, not {len(transcript_hash)}")
    output = hkdf_expand(prk, b"tallow/1 sas\x00" + transcript_hash + r_a, 8)
    return f"{int.from_bytes(output.reveal(), 'big') % 10**SAS_DIGITS:0{SAS_DIGITS}d}"


def _check(r_a: bytes) -> None:
    if len(r_a) != SAS_NONCE_BYTES:
        raise ValueError(f"the SAS value r_A has {SAS_NONCE_BYTES} bytes, not {len(r_a)}")

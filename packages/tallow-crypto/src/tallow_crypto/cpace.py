"""CPACE-X25519-SHA512 of draft-irtf-cfrg-cpace-21, initiator-responder.

The generator comes from Elligator2 (RFC 9380 section 6.7.1) in Python integers, which is not constant-time:
it runs once per one-time password, and a remote observer gets three samples at most. Every scalar
multiplication is done by the cryptography package.
"""

import hashlib

from tallow_crypto import x25519
from tallow_crypto.errors import InvalidPointError
from tallow_crypto.secret import Secret

SHARE_BYTES = x25519.POINT_BYTES
ISK_BYTES = 64

_DSI = b"CPace255"
_DSI_ISK = b"CPace255_ISK"
_HASH_BLOCK_BYTES = 128  # SHA-512's s_in_bytes: password and DSI fill the first block
_P = 2**255 - 19
_A = 486662


def lv_cat(*parts: bytes) -> bytes:
    """Return the parts, each behind its length in LEB128 (the draft, Appendix A.1 to A.3)."""
    return b"".join(_prepend_length(part) for part in parts)


def _prepend_length(data: bytes) -> bytes:
    length = len(data)
    encoded = bytearray()
    while length > 0x7F:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded) + data


def generator_string(password: bytes, channel_identifier: bytes, session_id: bytes) -> bytes:
    """Return what is hashed to the generator (the draft, section 7.1)."""
    used = 1 + len(_prepend_length(password)) + len(_prepend_length(_DSI))
    padding = bytes(max(0, _HASH_BLOCK_BYTES - used))
    return lv_cat(_DSI, password, padding, channel_identifier, session_id)


def elligator2(field_element: bytes) -> bytes:
    """Return the u-coordinate on curve25519 (32 bytes) of a field element (32 bytes, little-endian).

    RFC 9380 section 6.7.1 with Z = 2. Bit 255 of the input is ignored, as the draft's decoding says.
    """
    r = int.from_bytes(field_element, "little") % (1 << 255)
    # 1 + 2 r^2 is never zero: -1/2 is no square modulo p.
    v = -_A * pow(1 + 2 * r * r, -1, _P) % _P
    # 1 for a square and p - 1 for none; never 0, as v is not 0 and v^2 + A v + 1 has no root modulo p.
    e = pow(v * v * v + _A * v * v + v, (_P - 1) // 2, _P)
    x = (e * v - (1 - e) * (_A // 2)) % _P  # v or -v - A, without a branch on the password
    return x.to_bytes(32, "little")


def generator(password: bytes, channel_identifier: bytes, session_id: bytes) -> bytes:
    """Return the 32-byte generator g of a password (the draft, section 7.2)."""
    digest = hashlib.sha512(generator_string(password, channel_identifier, session_id)).digest()
    return elligator2(digest[:32])


class CPace:
    """One side of one run; never run the same scalar twice.

    `share` (32 bytes) goes to the peer. What comes out is equal on both sides only if password, channel
    identifier, session id, both shares and both associated data are; nothing here tells whether it is,
    key confirmation does.
    """

    __slots__ = ("_scalar", "_session_id", "share")

    share: bytes

    def __init__(
        self, password: Secret, channel_identifier: bytes, scalar: Secret, session_id: bytes = b""
    ) -> None:
        """Compute the share of `scalar`, 32 random bytes that are new in each attempt.

        `password` and `channel_identifier` have any length. Raises InvalidKeyError for another scalar
        length.
        """
        point = generator(password.reveal(), channel_identifier, session_id)
        self._scalar = scalar
        self._session_id = session_id
        self.share = x25519.multiply(scalar, point).reveal()

    def isk_initiator(self, associated_data: bytes, peer_share: bytes, peer_associated_data: bytes) -> Secret:
        """Return the 64-byte intermediate session key on the initiator's side (the draft, section 6.2).

        Raises InvalidPointError, and the run must end, where the peer's share is not 32 bytes long or
        gives the neutral element.
        """
        key = self._shared_point(peer_share)
        return self._isk(key, lv_cat(self.share, associated_data), lv_cat(peer_share, peer_associated_data))

    def isk_responder(self, associated_data: bytes, peer_share: bytes, peer_associated_data: bytes) -> Secret:
        """Return the 64-byte intermediate session key on the responder's side; errors as above."""
        key = self._shared_point(peer_share)
        return self._isk(key, lv_cat(peer_share, peer_associated_data), lv_cat(self.share, associated_data))

    def _shared_point(self, peer_share: bytes) -> bytes:
        if len(peer_share) != SHARE_BYTES:
            raise InvalidPointError(
                f"a CPace share has {SHARE_BYTES} bytes, not {len(peer_share)}; end this attempt"
            )
        return x25519.multiply(self._scalar, peer_share).reveal()

    def _isk(self, key: bytes, initiator: bytes, responder: bytes) -> Secret:
        return Secret(
            hashlib.sha512(lv_cat(_DSI_ISK, self._session_id, key) + initiator + responder).digest()
        )

    def __repr__(self) -> str:
        return "CPace()"

"""Everything that is derived from a handshake: transcript hash, confirmation tags, paths, rooms, record secrets.

th  = SHA-512("tallow/1 transcript" || lv(CI) || lv(Hello) || lv(core))            lv: u32 length, then the bytes
prk = HKDF-SHA-512-Extract("tallow/1 handshake", ISK (64) || hybrid secret (32))
K(label)       = HKDF-SHA-512-Expand(prk, "tallow/1 " || label || 0x00 || th, 64)
x(label, n, …) = HKDF-SHA-512-Expand(K("paths"), "tallow/1 " || label || 0x00 || u32 n || …, 64)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallow_crypto.kdf import hkdf_expand, hkdf_extract, hmac_sha512
from tallow_crypto.sas import sas_digits
from tallow_crypto.secret import Secret
from tallow_net.signaling import Side

from tallow_protocol.core import labels
from tallow_protocol.errors import MisuseError
from tallow_protocol.limits import CONNECTION_NUMBER_MAX

if TYPE_CHECKING:
    from tallow_crypto.aead import Suite

__all__ = [
    "SessionKeys",
    "confirm_tag_a",
    "confirm_tag_b",
    "extract_prk",
    "lv",
    "side_byte",
    "transcript_hash",
]

_KEY_BYTES = 64


def lv(data: bytes) -> bytes:
    """Return `data` behind its length as a big-endian u32."""
    return len(data).to_bytes(4, "big") + data


def side_byte(side: Side) -> bytes:
    """Return b"A" for the sender, b"B" for the receiver."""
    return b"A" if side is Side.A else b"B"


def transcript_hash(channel_identifier: bytes, hello: bytes, core: bytes) -> bytes:
    """Return th (64 bytes) over the raw bytes as they were on the wire: Hello with its type byte, core without."""
    return hashlib.sha512(labels.TRANSCRIPT + lv(channel_identifier) + lv(hello) + lv(core)).digest()


def extract_prk(isk: Secret, hybrid_secret: Secret) -> Secret:
    """Return prk (64 bytes) from CPace's ISK (64 bytes) and the hybrid KEM's secret (32 bytes)."""
    return hkdf_extract(labels.HANDSHAKE_SALT, Secret(isk.reveal() + hybrid_secret.reveal()))


def _expand(key: Secret, label: bytes, context: bytes) -> Secret:
    return hkdf_expand(key, labels.KEY_PREFIX + label + b"\x00" + context, _KEY_BYTES)


def confirm_tag_b(prk: Secret, th: bytes) -> bytes:
    """Return confirm_B (64 bytes): HMAC-SHA-512(K("confirm B"), th)."""
    return hmac_sha512(_expand(prk, labels.CONFIRM_B, th), th)


def confirm_tag_a(prk: Secret, th: bytes, confirm_b: bytes) -> bytes:
    """Return confirm_A (64 bytes): HMAC-SHA-512(K("confirm A"), th || confirm_B)."""
    return hmac_sha512(_expand(prk, labels.CONFIRM_A, th), th + confirm_b)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionKeys:
    """What both sides hold after a handshake; made by `core.handshake` alone.

    `transcript_hash` has 64 bytes, `nonce_a` and `nonce_b` 32 each; `prk` is 64 bytes and secret. Nothing is
    cached: dropping the object forgets the session, as far as Python can forget.
    """

    transcript_hash: bytes
    nonce_a: bytes
    nonce_b: bytes
    suite: Suite
    version: int
    peer_capabilities: frozenset[int]
    prk: Secret

    def _k(self, label: bytes) -> Secret:
        return _expand(self.prk, label, self.transcript_hash)

    def _x(self, label: bytes, number: int, extra: bytes = b"") -> Secret:
        if not 0 <= number <= CONNECTION_NUMBER_MAX:
            raise MisuseError(f"connection number {number} does not fit a u32")
        return _expand(self._k(labels.PATHS), label, number.to_bytes(4, "big") + extra)

    @property
    def rejoin_room(self) -> bytes:
        """The 32-byte room id in which this session's sides meet again."""
        return self._k(labels.REJOIN_ROOM).reveal()[:32]

    @property
    def contact(self) -> Secret:
        """The 64-byte secret that a pair of contacts would store."""
        return self._k(labels.CONTACT)

    def record_secret(self, number: int, side: Side, opener_nonce: bytes, acceptor_nonce: bytes) -> Secret:
        """Return secret_0 (64 bytes) of what `side` seals on connection `number`; both nonces have 32 bytes."""
        if len(opener_nonce) != 32 or len(acceptor_nonce) != 32:
            raise MisuseError("a connection's nonces have 32 bytes each")
        return self._x(labels.CONNECTION, number, side_byte(side) + opener_nonce + acceptor_nonce)

    def handshake_record_secret(self, side: Side) -> Secret:
        """Return secret_0 (64 bytes) of what `side` seals on connection 0, whose nonces are the handshake's."""
        return self.record_secret(0, side, self.nonce_a, self.nonce_b)

    def attach_tag(self, number: int) -> bytes:
        """Return the 16 bytes by which an acceptor knows connection `number`."""
        return self._x(labels.TAG, number).reveal()[:16]

    def attach_key(self, number: int) -> Secret:
        """Return the 64-byte key of the MACs in Attach and Ack of connection `number`."""
        return self._x(labels.ATTACH, number)

    def sas(self, r_a: bytes) -> str:
        """Return the eight digits that both people compare; `r_a` is the 32 bytes that A's Auth reveals."""
        return sas_digits(self.prk, self.transcript_hash, r_a)

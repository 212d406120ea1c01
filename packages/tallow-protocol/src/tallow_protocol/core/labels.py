"""Every label that separates one use of a hash or key from another, in one place.

All are ASCII. Labels with a trailing "|| 0x00" in the specification get it where they are used.
"""

from __future__ import annotations

from typing import Final

PROTOCOL: Final = b"tallow/1"
"""First part of CPace's channel identifier, and the ML-DSA context."""

ROOM: Final = "tallow/1 room"
LAN: Final = "tallow/1 lan"
MANIFEST_DIGEST: Final = "tallow/1 manifest"
"""Contexts of BLAKE3's derive-key mode (str, as that mode takes them)."""

ROLE_SENDER: Final = b"sender"
ROLE_RECEIVER: Final = b"receiver"

TRANSCRIPT: Final = b"tallow/1 transcript"
HANDSHAKE_SALT: Final = b"tallow/1 handshake"
KEY_PREFIX: Final = b"tallow/1 "

CONFIRM_A: Final = b"confirm A"
CONFIRM_B: Final = b"confirm B"
PATHS: Final = b"paths"
REJOIN_ROOM: Final = b"rejoin room"
CONTACT: Final = b"contact"
"""Labels of K(label)."""

TAG: Final = b"tag"
ATTACH: Final = b"attach"
CONNECTION: Final = b"conn"
"""Labels of x(label, number, ...)."""

AUTH: Final = b"tallow/1 auth"
MANIFEST: Final = b"tallow/1 manifest"
"""Beginnings of signed messages."""

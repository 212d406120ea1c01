"""Versions, capabilities and suite: what Hello offers and core chooses.

Hello lists up to 4 versions and 16 capabilities, core one version and up to 16 capabilities of B's own; unused
slots are zero and stand last. The highest common version is taken; there is no retry at a lower one, and th
covers both lists, so nobody between can shorten them. An unknown capability is ignored, and each side sends one
at random from 0xF000 up, so that ignoring them is exercised in every handshake.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from tallow_crypto.aead import Suite

from tallow_protocol.errors import HandshakeError, MisuseError, VersionError
from tallow_protocol.limits import CAPABILITY_SLOTS, VERSION_SLOTS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "CAP_FAST_AES",
    "GREASE_FROM",
    "SUPPORTED_VERSIONS",
    "check_version",
    "choose_suite",
    "choose_version",
    "own_capabilities",
    "pack_capabilities",
    "pack_versions",
    "parse_capabilities",
    "parse_versions",
]

SUPPORTED_VERSIONS: Final = (1,)
"""Versions of this implementation, highest first."""

CAP_FAST_AES: Final = 1
"""This machine has AES in hardware."""

GREASE_FROM: Final = 0xF000
"""Capabilities from here up mean nothing, for ever."""

_VERSIONS = struct.Struct(f">{VERSION_SLOTS}H")
_CAPABILITIES = struct.Struct(f">{CAPABILITY_SLOTS}H")


def _pack(values: Sequence[int], layout: struct.Struct, slots: int) -> bytes:
    if len(values) > slots or len(set(values)) != len(values) or not all(0 < v <= 0xFFFF for v in values):
        raise MisuseError(f"a list needs at most {slots} different numbers from 1 to 65535")
    return layout.pack(*values, *(0,) * (slots - len(values)))


def _parse(data: bytes, layout: struct.Struct) -> tuple[int, ...]:
    slots = layout.unpack(data)
    used = tuple(value for value in slots if value)
    if slots[: len(used)] != used or len(set(used)) != len(used):
        raise HandshakeError("a list in the handshake has a gap or a repeated number")
    return used


def pack_versions(versions: Sequence[int]) -> bytes:
    """Return the 8 bytes of Hello's version list."""
    if not versions:
        raise MisuseError("a handshake offers at least one version")
    return _pack(versions, _VERSIONS, VERSION_SLOTS)


def parse_versions(data: bytes) -> tuple[int, ...]:
    """Return the versions in 8 bytes. Raises HandshakeError for none, a gap or a repeated number."""
    versions = _parse(data, _VERSIONS)
    if not versions:
        raise HandshakeError("the other side offers no version")
    return versions


def pack_capabilities(capabilities: Sequence[int]) -> bytes:
    """Return the 32 bytes of a capability list."""
    return _pack(capabilities, _CAPABILITIES, CAPABILITY_SLOTS)


def parse_capabilities(data: bytes) -> frozenset[int]:
    """Return the capabilities in 32 bytes, unknown ones too. Raises HandshakeError for a gap or a repeat."""
    return frozenset(_parse(data, _CAPABILITIES))


def own_capabilities(*, fast_aes: bool, grease: int) -> tuple[int, ...]:
    """Return what this side lists; `grease` is a random number from 0xF000 to 0xFFFF."""
    if not GREASE_FROM <= grease <= 0xFFFF:
        raise MisuseError("the random capability lies between 0xF000 and 0xFFFF")
    return (CAP_FAST_AES, grease) if fast_aes else (grease,)


def choose_version(offered: Sequence[int], own: Sequence[int] = SUPPORTED_VERSIONS) -> int:
    """Return the highest version that both know. Raises VersionError, in words, where there is none."""
    common = set(offered) & set(own)
    if not common:
        raise VersionError(
            f"the other side speaks protocol version {_words(offered)}, this one {_words(own)}",
            hints=(f"update Tallow on {'this' if max(offered) > max(own) else 'the other'} side",),
        )
    return max(common)


def check_version(chosen: int, offered: Sequence[int]) -> None:
    """Check what B chose against what A offered. Raises VersionError."""
    if chosen not in offered:
        raise VersionError(
            f"the other side chose protocol version {chosen}, which was not offered ({_words(offered)} was)"
        )


def choose_suite(one: frozenset[int], other: frozenset[int]) -> Suite:
    """Return AES-256-GCM where both sides have it in hardware, else ChaCha20-Poly1305."""
    return Suite.AES_256_GCM if CAP_FAST_AES in one & other else Suite.CHACHA20_POLY1305


def _words(versions: Sequence[int]) -> str:
    return " or ".join(str(version) for version in sorted(versions))

"""What this package needs from its application, as small protocols; each has a default that keeps nothing.

`tallow_store` satisfies them for the command line; an embedding application may bring its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tallow_net import ForgetfulRelays, KnownRelays

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tallow_crypto import Fingerprint
    from tallow_net import PeerText

__all__ = [
    "DigestCache",
    "ForgetfulDigests",
    "ForgetfulHistory",
    "ForgetfulPartials",
    "History",
    "KnownRelays",
    "NoTrust",
    "PartialTransfers",
    "Ports",
    "SourceDigests",
    "SourceVersion",
    "TransferRecord",
    "Trust",
]


@dataclass(frozen=True, slots=True)
class TransferRecord:
    """One finished transfer, as a history keeps it. `outcome` is "done" or an error's stable code."""

    sent: bool
    peer: Fingerprint | None
    files: int
    bytes: int
    outcome: str


class Trust(Protocol):
    """What the application knows of a peer's identity key."""

    def name_of(self, fingerprint: Fingerprint) -> PeerText | None:
        """Return the name under which this identity is known, or None. Must not block for long."""


class History(Protocol):
    """Where finished transfers are written down."""

    def record(self, transfer: TransferRecord) -> None:
        """Keep one finished transfer. Called once per transfer, at its end; must not raise."""


class PartialTransfers(Protocol):
    """Where unfinished transfers lie, so that they can be found again. Called in worker threads; must not raise."""

    def remember(self, peer: Fingerprint, place: str) -> None:
        """Note that a partial transfer of this sender lies in the folder `place`."""

    def forget(self, peer: Fingerprint, place: str) -> None:
        """Drop that note: the transfer is whole, or its partial data is gone."""


class SourceVersion(NamedTuple):
    """What tells one version of a file of ours from any other: where it is, how long, when it changed last."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, slots=True)
class SourceDigests:
    """What chunks of a file were hashed to, from number `first` on: 32 bytes each, joined."""

    version: SourceVersion
    chunk_size: int
    first: int
    digests: bytes


class DigestCache(Protocol):
    """What files that are sent were hashed to, so that one that goes on need not be read again up to there.

    It may lose anything at any time. Called in worker threads, one call at a time and transfer; must not raise.
    """

    def digests(self, version: SourceVersion, chunk_size: int) -> bytes:
        """Return the digests, joined, of the first chunks of this version of a file, as far as they are known."""

    def remember(self, pieces: Sequence[SourceDigests]) -> None:
        """Keep digests."""


class NoTrust:
    """Knows nobody."""

    def name_of(self, fingerprint: Fingerprint) -> PeerText | None:
        """Return None."""
        del fingerprint
        return None


class ForgetfulHistory:
    """Keeps nothing."""

    def record(self, transfer: TransferRecord) -> None:
        """Drop it."""


class ForgetfulPartials:
    """Keeps nothing."""

    def remember(self, peer: Fingerprint, place: str) -> None:
        """Drop it."""

    def forget(self, peer: Fingerprint, place: str) -> None:
        """Drop it."""


class ForgetfulDigests:
    """Keeps nothing."""

    def digests(self, version: SourceVersion, chunk_size: int) -> bytes:
        """Return nothing."""
        del version, chunk_size
        return b""

    def remember(self, pieces: Sequence[SourceDigests]) -> None:
        """Drop it."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The application's answers, one field a port."""

    trust: Trust = field(default_factory=NoTrust)
    history: History = field(default_factory=ForgetfulHistory)
    partials: PartialTransfers = field(default_factory=ForgetfulPartials)
    digests: DigestCache = field(default_factory=ForgetfulDigests)
    relays: KnownRelays = field(default_factory=ForgetfulRelays)

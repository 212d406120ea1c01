"""What this package needs from its application, as small protocols; each has a default that keeps nothing.

`tallow_store` satisfies them for the command line; an embedding application may bring its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tallow_net import ForgetfulRelays, KnownRelays

if TYPE_CHECKING:
    from tallow_crypto import Fingerprint
    from tallow_net import PeerText

__all__ = [
    "ForgetfulHistory",
    "ForgetfulPartials",
    "History",
    "KnownRelays",
    "NoTrust",
    "PartialTransfers",
    "Ports",
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
    """Where unfinished transfers lie, so that they can be found again."""

    def remember(self, peer: Fingerprint, place: str) -> None:
        """Note that a partial transfer of this sender lies in the folder `place`."""

    def forget(self, peer: Fingerprint, place: str) -> None:
        """Drop that note: the transfer is whole, or its partial data is gone."""


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


@dataclass(frozen=True, slots=True)
class Ports:
    """The application's answers, one field a port."""

    trust: Trust = field(default_factory=NoTrust)
    history: History = field(default_factory=ForgetfulHistory)
    partials: PartialTransfers = field(default_factory=ForgetfulPartials)
    relays: KnownRelays = field(default_factory=ForgetfulRelays)

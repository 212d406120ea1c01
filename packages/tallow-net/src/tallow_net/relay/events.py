"""What a RelayClient tells whoever started it, while it waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from tallow_net.transport.interface import TransportKind
    from tallow_net.untrusted import PeerText

__all__ = ["RelayConnected", "RelayEvent", "RelayNotice", "RelayReconnecting", "RelayWaiting"]


@dataclass(frozen=True, slots=True)
class RelayConnected:
    """A connection to a relay is open and its key was checked."""

    kind: TransportKind


@dataclass(frozen=True, slots=True)
class RelayWaiting:
    """The client stands in its room."""


@dataclass(frozen=True, slots=True)
class RelayReconnecting:
    """The relay was lost, or restarts; the next attempt is in `in_s` seconds."""

    in_s: float


@dataclass(frozen=True, slots=True)
class RelayNotice:
    """What the relay's operator has to say; told again only when it changed."""

    text: PeerText


RelayEvent: TypeAlias = "RelayConnected | RelayWaiting | RelayReconnecting | RelayNotice"

"""How a transfer meets the other side, and who it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tallow_net.transport.interface import TransportChoice

from tallow_protocol.events import PathLimit
from tallow_protocol.ports import Ports

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallow_crypto import IdentityKeyPair
    from tallow_net import RelayAddress

__all__ = ["TransferOptions"]


@dataclass(frozen=True, slots=True)
class TransferOptions:
    """How to meet and who to be. The defaults keep nothing and trust nobody in advance."""

    relays: tuple[RelayAddress, ...] = ()
    """Relays to meet at, in order of preference. None: the sender listens itself, the receiver finds or dials it."""

    lan: bool = True
    """Without a relay, whether a sender announces itself on its networks, and a receiver without an address looks for
    it there: mDNS, which needs the extra `tallow-net[lan]`."""

    transport: TransportChoice = TransportChoice.AUTO
    """QUIC, TCP, or whichever works first."""

    paths: PathLimit = PathLimit.ANY
    """Relayed paths alone, direct ones alone for file data, or the best that is found."""

    plain_data: bool = True
    """Whether file data may leave the encrypted connection to a relay for plain TCP ones, sealed as it is anyway.

    Where it may not, a relay is tried over TLS before QUIC, which moves less.
    """

    compress: bool = True
    """Whether data that shrinks is compressed where that makes the transfer faster."""

    verify: bool = False
    """Show eight digits and wait for `confirm()`: proof against somebody between who knows the code."""

    identity: IdentityKeyPair | Callable[[], IdentityKeyPair] | None = None
    """Our long-lived identity, or what gives it: called once, in a thread, while a sender waits already. What it raises
    ends the transfer. None: a new one for this transfer, so that nothing links it to another."""

    ports: Ports = field(default_factory=Ports)
    """The application's trust, history, partial transfers and known relays."""

    limit_bytes_per_s: float | None = None
    """A sender sends at most so many bytes of file data a second, over all connections together."""

    expire_s: float | None = None
    """How long a sender's code may wait for somebody who knows it; None is as long as the relay lets it."""

    force_space: bool = False
    """Whether a receiver begins where the disk seems too small."""

    exclude: tuple[str, ...] = ()
    """Patterns, as in a `.gitignore`, of what a sender leaves out of folders. `.tallowignore` files in them count too."""

    gitignore: bool = False
    """Whether `.gitignore` files count as well."""

    rejoin_s: float = 600.0
    """How long a transfer whose last connection was lost tries to come back before it fails; 0 is not at all."""

    listen_host: str = ""
    """Where a sender without a relay listens; empty for every address, IPv4 and IPv6."""

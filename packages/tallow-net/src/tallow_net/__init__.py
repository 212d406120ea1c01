"""Network layer of Tallow: transports, framing, signaling, relay client."""

from typing import TYPE_CHECKING

from tallow_net.errors import (
    CertificateChangedError,
    CertificateRefusedError,
    ConnectError,
    ConnectionLostError,
    DiscoveryUnavailableError,
    EndOfStreamError,
    FrameTooLargeError,
    InvalidAddressError,
    MalformedMessageError,
    MisuseError,
    NetError,
    NotTallowError,
    PeerUnreachableError,
    PeerViolationError,
    RelayRefusedError,
    RelayUnreachableError,
    UnexpectedFrameError,
)
from tallow_net.relay.address import RelayAddress
from tallow_net.untrusted import PeerText

if TYPE_CHECKING:
    from tallow_net.relay.client import Leg, RelayClient
    from tallow_net.relay.events import (
        RelayConnected,
        RelayEvent,
        RelayNotice,
        RelayReconnecting,
        RelayWaiting,
    )
    from tallow_net.relay.pins import ForgetfulRelays, KnownRelays, RelayPin
    from tallow_net.signaling import LeaveReason, Side
    from tallow_net.transport.certificates import Certificate, generate_certificate
    from tallow_net.transport.frames import FrameStream
    from tallow_net.transport.interface import Transport, TransportChoice, TransportKind
    from tallow_net.transport.listener import ConnectionGate, Listener, listen
    from tallow_net.transport.negotiate import connect_direct, connect_encrypted

__all__ = [
    "Certificate",
    "CertificateChangedError",
    "CertificateRefusedError",
    "ConnectError",
    "ConnectionGate",
    "ConnectionLostError",
    "DiscoveryUnavailableError",
    "EndOfStreamError",
    "ForgetfulRelays",
    "FrameStream",
    "FrameTooLargeError",
    "InvalidAddressError",
    "KnownRelays",
    "LeaveReason",
    "Leg",
    "Listener",
    "MalformedMessageError",
    "MisuseError",
    "NetError",
    "NotTallowError",
    "PeerText",
    "PeerUnreachableError",
    "PeerViolationError",
    "RelayAddress",
    "RelayClient",
    "RelayConnected",
    "RelayEvent",
    "RelayNotice",
    "RelayPin",
    "RelayReconnecting",
    "RelayRefusedError",
    "RelayUnreachableError",
    "RelayWaiting",
    "Side",
    "Transport",
    "TransportChoice",
    "TransportKind",
    "UnexpectedFrameError",
    "connect_direct",
    "connect_encrypted",
    "generate_certificate",
    "listen",
]

# Sockets, QUIC, X.509 and the messages cost over 150 ms of imports: each module comes with the first use of a name.
_LATE = {
    "Certificate": "transport.certificates",
    "ConnectionGate": "transport.listener",
    "ForgetfulRelays": "relay.pins",
    "FrameStream": "transport.frames",
    "KnownRelays": "relay.pins",
    "LeaveReason": "signaling",
    "Leg": "relay.client",
    "Listener": "transport.listener",
    "RelayClient": "relay.client",
    "RelayConnected": "relay.events",
    "RelayEvent": "relay.events",
    "RelayNotice": "relay.events",
    "RelayPin": "relay.pins",
    "RelayReconnecting": "relay.events",
    "RelayWaiting": "relay.events",
    "Side": "signaling",
    "Transport": "transport.interface",
    "TransportChoice": "transport.interface",
    "TransportKind": "transport.interface",
    "connect_direct": "transport.negotiate",
    "connect_encrypted": "transport.negotiate",
    "generate_certificate": "transport.certificates",
    "listen": "transport.listener",
}


def __getattr__(name: str) -> object:
    module = _LATE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{module}"), name)

"""The public surface of tallow_net, and what importing it costs."""

import subprocess
import sys

import pytest
import tallow_net

SURFACE = [
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


def test_exported_members():
    assert tallow_net.__all__ == SURFACE


@pytest.mark.parametrize("name", SURFACE)
def test_every_exported_name_is_there(name):
    assert getattr(tallow_net, name) is not None


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = tallow_net.nothing_of_the_kind


def test_importing_the_package_brings_no_network_stack():
    program = "import sys, tallow_net; print(*sorted(m for m in sys.modules if '.' not in m))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    heavy = {"asyncio", "socket", "ssl", "aioquic", "uvloop", "cryptography", "_blake3", "tallow_crypto"}
    assert heavy.isdisjoint(loaded.stdout.split())

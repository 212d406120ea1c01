"""Addresses of people's making: the one that a listening sender shows, the one that a receiver types."""

from __future__ import annotations

import socket

from tallow_protocol.errors import UnreachableError

__all__ = ["parse_peer", "reachable_address"]

DOCUMENTATION_ADDRESS = "192.0.2.1"
"""RFC 5737: nobody's. Connecting a UDP socket sends nothing; the kernel just says which address it would use."""


def join_address(host: str, port: int) -> str:
    """Return HOST:PORT, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable_address(listen_host: str, port: int) -> str:
    """Return HOST:PORT under which other machines most likely reach a listener of ours."""
    if listen_host not in {"", "::", "0.0.0.0"}:  # noqa: S104 - compared with, not bound
        return join_address(listen_host, port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((DOCUMENTATION_ADDRESS, 9))
            host = probe.getsockname()[0]
        except OSError:
            host = "127.0.0.1"
    return join_address(host, port)


def parse_peer(text: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT or [HOST]:PORT; raises UnreachableError with a plain sentence."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise UnreachableError(
            "the sender's address must look like HOST:PORT", hints=("copy the line from the sender's screen",)
        )
    return host, int(port)

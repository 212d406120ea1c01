"""The address of a listening sender, as a person types it."""

from __future__ import annotations

from tallow_protocol.errors import UnreachableError

__all__ = ["parse_peer"]

MOST_DIGITS = 5


def parse_peer(text: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT or [HOST]:PORT; raises UnreachableError with a plain sentence."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    is_number = port.isascii() and port.isdigit() and len(port) <= MOST_DIGITS
    if not colon or not host or not is_number or not 0 < int(port) < 65536:
        raise UnreachableError(
            "the sender's address must look like HOST:PORT", hints=("copy the line from the sender's screen",)
        )
    return host, int(port)

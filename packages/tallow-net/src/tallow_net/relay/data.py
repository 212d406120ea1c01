"""Plain data connections through a relay: "TLW1" || token on the relay's TCP port, then whatever the two sides say.

The relay answers nothing and joins the two connections of one index in the kernel. What travels on one must be
sealed: an observer sees it, and whoever stole a token may be at its other end.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tallow_net.errors import ConnectionLostError, MisuseError, RelayUnreachableError
from tallow_net.limits import TOKEN_BYTES
from tallow_net.transport.interface import remote_name
from tallow_net.transport.negotiate import resolve
from tallow_net.transport.tcp import TcpTransport, connected_socket

if TYPE_CHECKING:
    import socket

__all__ = ["DATA_PREAMBLE", "TOKEN_BYTES", "open_data_connection", "open_data_socket"]

DATA_PREAMBLE: Final = b"TLW1"
"""How a data connection differs from TLS, whose first byte is 0x16."""


async def open_data_connection(
    host: str, port: int, token: bytes, timeout_s: float, *, small_segments: bool = False
) -> TcpTransport:
    """Return a plain connection to the relay at `host` (a literal address) that has said `token` (32 bytes).

    `small_segments` as for `connected_socket`. The other side's may not be there yet; nothing tells when it is. Raises RelayUnreachableError, or
    ConnectionLostError where the relay ended it at once.
    """
    if len(token) != TOKEN_BYTES:
        raise MisuseError(f"a token has {TOKEN_BYTES} bytes")
    try:
        async with asyncio.timeout(timeout_s):
            family, address = (await resolve(host, port, RelayUnreachableError))[0]
            sock = await connected_socket(
                address, family, RelayUnreachableError, small_segments=small_segments
            )
            transport = TcpTransport(sock, remote_name(address))
            try:
                await transport.send(DATA_PREAMBLE, token)
            except BaseException:
                transport.abort()
                raise
            return transport
    except TimeoutError:
        raise RelayUnreachableError(f"{host}:{port} did not answer within {timeout_s:g} s.") from None


async def open_data_socket(host: str, port: int, token: bytes, timeout_s: float) -> socket.socket:
    """Return `open_data_connection`'s socket, non-blocking; the caller closes it. Raises as that does."""
    transport = await open_data_connection(host, port, token, timeout_s)
    try:
        return transport.take_socket()
    except ConnectionLostError:
        transport.abort()
        raise

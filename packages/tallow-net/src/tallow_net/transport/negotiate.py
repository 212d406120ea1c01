"""Connecting: which transport, which address, and who is asked whether the peer is the right one."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import TYPE_CHECKING

from tallow_net.errors import PeerUnreachableError, RelayUnreachableError
from tallow_net.limits import FIRST_WAIT_S
from tallow_net.transport.interface import TransportChoice
from tallow_net.transport.race import race
from tallow_net.transport.tcp import TcpTlsTransport, TcpTransport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tallow_net.errors import ConnectError
    from tallow_net.transport.interface import Transport

    Address = tuple[socket.AddressFamily, tuple[str, int]]

# Between two addresses of one host (RFC 8305, section 8).
BETWEEN_ADDRESSES_S = 0.25

# Addresses that are tried of one name; a name with more is no relay of a person's.
ADDRESSES = 8


async def connect_encrypted(
    host: str,
    port: int,
    *,
    choice: TransportChoice,
    timeout_s: float,
    check: Callable[[Transport], None],
    first_wait_s: float = FIRST_WAIT_S,
    unreachable: type[ConnectError] = RelayUnreachableError,
) -> Transport:
    """Return an encrypted transport to `host`: QUIC first, TLS raced in after `first_wait_s`.

    `check` sees the winner, its certificate known, before any byte of ours is sent; what it raises is
    raised, and nothing else is tried. Raises NotTallowError where something else answers, `unreachable`
    where nobody does in `timeout_s`.
    """

    async def over_quic() -> Transport:
        from tallow_net.transport.quic import QuicTransport

        return await _each(
            addresses, partial(QuicTransport.connect, server_name=host, unreachable=unreachable)
        )

    async def over_tls() -> Transport:
        return await _each(
            addresses, partial(TcpTlsTransport.connect, server_name=host, unreachable=unreachable)
        )

    ways = {
        TransportChoice.AUTO: [over_quic, over_tls],
        TransportChoice.QUIC: [over_quic],
        TransportChoice.TCP: [over_tls],
    }[choice]
    try:
        async with asyncio.timeout(timeout_s):
            addresses = await resolve(host, port, unreachable)
            transport = await race(ways, stagger_s=first_wait_s)
    except TimeoutError:
        raise unreachable(f"{host}:{port} did not answer within {timeout_s:g} s.") from None
    try:
        check(transport)
    except BaseException:
        transport.abort()
        raise
    return transport


async def connect_direct(
    host: str,
    port: int,
    *,
    choice: TransportChoice,
    timeout_s: float,
    first_wait_s: float = FIRST_WAIT_S,
    unreachable: type[ConnectError] = PeerUnreachableError,
) -> Transport:
    """Return a transport to a peer: plain TCP first, QUIC raced in after `first_wait_s`.

    Neither is authenticated here: the handshake above protects itself. Raises as connect_encrypted does;
    that a plain TCP port belongs to something else shows only in what it answers.
    """

    async def over_tcp() -> Transport:
        return await _each(addresses, partial(TcpTransport.connect, unreachable=unreachable))

    async def over_quic() -> Transport:
        from tallow_net.transport.quic import QuicTransport

        return await _each(addresses, partial(QuicTransport.connect, unreachable=unreachable))

    ways = {
        TransportChoice.AUTO: [over_tcp, over_quic],
        TransportChoice.TCP: [over_tcp],
        TransportChoice.QUIC: [over_quic],
    }[choice]
    try:
        async with asyncio.timeout(timeout_s):
            addresses = await resolve(host, port, unreachable)
            return await race(ways, stagger_s=first_wait_s)
    except TimeoutError:
        raise unreachable(f"{host}:{port} did not answer within {timeout_s:g} s.") from None


async def _each(addresses: list[Address], connect: Callable[..., Awaitable[Transport]]) -> Transport:
    """Race the addresses of one host over one transport."""
    return await race(
        [partial(connect, address, family) for family, address in addresses], stagger_s=BETWEEN_ADDRESSES_S
    )


async def resolve(host: str, port: int, unreachable: type[ConnectError]) -> list[Address]:
    """Return the addresses of `host` in the system's order, families taking turns (RFC 8305, section 4)."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "the name is malformed"
        raise unreachable(f"The name {host} cannot be resolved: {reason}.") from error
    groups: dict[socket.AddressFamily, list[Address]] = {}
    for family, _, _, _, address in found:
        if family in (socket.AF_INET, socket.AF_INET6):
            groups.setdefault(family, []).append((family, (str(address[0]), int(address[1]))))
    ordered: list[Address] = []
    queues = [list(dict.fromkeys(group)) for group in groups.values()]
    while any(queues):
        ordered.extend(queue.pop(0) for queue in queues if queue)
    if not ordered:
        raise unreachable(f"The name {host} has no address.")
    return ordered[:ADDRESSES]

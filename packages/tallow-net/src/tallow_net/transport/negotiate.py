"""Connecting: which transport, which address, and who is asked whether the peer is the right one."""

from __future__ import annotations

import asyncio
import os
import socket
from functools import partial
from typing import TYPE_CHECKING

from tallow_net.errors import NotTallowError, PeerUnreachableError, RelayUnreachableError
from tallow_net.limits import FIRST_WAIT_S
from tallow_net.transport.interface import TransportChoice, remote_name
from tallow_net.transport.race import race
from tallow_net.transport.tcp import TcpTlsTransport, TcpTransport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tallow_net.errors import ConnectError
    from tallow_net.transport.interface import Transport

    Address = tuple[socket.AddressFamily, tuple[str, int]]
    Way = Callable[[list[Address]], Awaitable[Transport]]

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
    carries_bulk: bool = False,
    first_wait_s: float = FIRST_WAIT_S,
    unreachable: type[ConnectError] = RelayUnreachableError,
) -> Transport:
    """Return an encrypted transport to `host`: QUIC first, TLS raced in after `first_wait_s`.

    With `carries_bulk` it is the other way round: TLS moves several times as much, and stands losses better. Without,
    TLS keeps to small segments, which cost little where little is sent and get through everywhere.
    `check` sees the winner, its certificate known, before any byte of ours is sent; what it raises is
    raised, and nothing else is tried. Raises NotTallowError where something else answers, `unreachable`
    where nobody does in `timeout_s`.
    """

    async def over_quic(addresses: list[Address]) -> Transport:
        from tallow_net.transport.quic import QuicTransport

        return await _each(
            addresses, partial(QuicTransport.connect, server_name=host, unreachable=unreachable)
        )

    async def over_tls(addresses: list[Address]) -> Transport:
        return await _each(
            addresses,
            partial(
                TcpTlsTransport.connect,
                server_name=host,
                unreachable=unreachable,
                small_segments=not carries_bulk,
            ),
        )

    ways: Sequence[Way] = {
        TransportChoice.AUTO: [over_tls, over_quic] if carries_bulk else [over_quic, over_tls],
        TransportChoice.QUIC: [over_quic],
        TransportChoice.TCP: [over_tls],
    }[choice]
    transport = await _first(
        (host, port), ways, choice, timeout_s=timeout_s, stagger_s=first_wait_s, unreachable=unreachable
    )
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
    small_segments: bool = False,
) -> Transport:
    """Return a transport to a peer: plain TCP first, QUIC raced in after `first_wait_s`.

    Neither is authenticated here: the handshake above protects itself. Raises as connect_encrypted does;
    that a plain TCP port belongs to something else shows only in what it answers. `small_segments`: of TCP, as for
    `connected_socket`; QUIC looks for the size of its datagrams by itself.
    """

    async def over_tcp(addresses: list[Address]) -> Transport:
        connect = partial(TcpTransport.connect, unreachable=unreachable, small_segments=small_segments)
        return await _each(addresses, connect)

    async def over_quic(addresses: list[Address]) -> Transport:
        from tallow_net.transport.quic import QuicTransport

        return await _each(addresses, partial(QuicTransport.connect, unreachable=unreachable))

    ways: Sequence[Way] = {
        TransportChoice.AUTO: [over_tcp, over_quic],
        TransportChoice.TCP: [over_tcp],
        TransportChoice.QUIC: [over_quic],
    }[choice]
    return await _first(
        (host, port), ways, choice, timeout_s=timeout_s, stagger_s=first_wait_s, unreachable=unreachable
    )


async def _first(
    place: tuple[str, int],
    ways: Sequence[Way],
    choice: TransportChoice,
    *,
    timeout_s: float,
    stagger_s: float,
    unreachable: type[ConnectError],
) -> Transport:
    """Race the transports; an error says which were tried, and advises nothing that was tried already."""
    hints = (*unreachable.hints, *_next_steps(choice, unreachable))
    try:
        async with asyncio.timeout(timeout_s):
            addresses = await resolve(*place, unreachable)
            try:
                return await race([partial(way, addresses) for way in ways], stagger_s=stagger_s)
            except NotTallowError:
                raise
            except unreachable as error:
                sentence = str(error)
                if choice is TransportChoice.AUTO:
                    number = getattr(error.__cause__, "errno", None)
                    told = f": {os.strerror(number)}" if number else ""
                    sentence = f"{remote_name(place)} cannot be reached over TCP or QUIC{told}."
                raise unreachable(sentence, hints=hints) from error
    except TimeoutError:
        sentence = f"{remote_name(place)} did not answer within {timeout_s:g} s."
        raise unreachable(sentence, hints=hints) from None


def _next_steps(choice: TransportChoice, unreachable: type[ConnectError]) -> tuple[str, ...]:
    """Return the hints that depend on the transports that were tried."""
    if not issubclass(unreachable, RelayUnreachableError) and choice is not TransportChoice.AUTO:
        return ("If one side was given --transport, the other needs the same.",)
    if choice is TransportChoice.QUIC:
        return ("A firewall may block UDP; --transport tcp avoids it.",)
    return ("A firewall may block the port.",)


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

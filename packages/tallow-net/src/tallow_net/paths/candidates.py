"""Candidates: addresses at which a side may be reached directly, and the rules for offering and trying them.

A candidate is a hint of a peer's: trying one sends a connection request, and an Attach where somebody answers. So
what a peer says is judged before anything is sent: a peer shall not make us knock where it could not, on this
machine, on the hosts of a network behind another interface, or on everybody at once.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import IntEnum
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

from tallow_net.limits import CANDIDATES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Candidate", "CandidateKind", "IpAddress", "IpInterface", "acceptable", "gather"]

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
_IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_PRIVATE: Final[tuple[_IpNetwork, ...]] = (
    ipaddress.IPv4Network("10.0.0.0/8"),  # RFC 1918
    ipaddress.IPv4Network("172.16.0.0/12"),
    ipaddress.IPv4Network("192.168.0.0/16"),
    ipaddress.IPv4Network("100.64.0.0/10"),  # RFC 6598, behind a carrier's NAT
    ipaddress.IPv6Network("fc00::/7"),  # RFC 4193
)
_NEVER: Final[tuple[_IpNetwork, ...]] = (
    ipaddress.IPv4Network("0.0.0.0/8"),  # "this network"
    ipaddress.IPv4Network("169.254.0.0/16"),  # link-local
    ipaddress.IPv4Network("224.0.0.0/4"),  # multicast
    ipaddress.IPv4Network("240.0.0.0/4"),  # reserved, broadcast
    ipaddress.IPv6Network("::/96"),  # unspecified and IPv4-compatible; loopback is judged before
    ipaddress.IPv6Network("::ffff:0:0/96"),  # IPv4-mapped: the same host twice, past the rules for IPv4
    ipaddress.IPv6Network("64:ff9b::/96"),  # NAT64: an IPv4 address past the rules for IPv4
    ipaddress.IPv6Network("2002::/16"),  # 6to4, likewise
    ipaddress.IPv6Network("fe80::/10"),  # link-local
    ipaddress.IPv6Network("fec0::/10"),  # site-local, deprecated
    ipaddress.IPv6Network("ff00::/8"),  # multicast
)
_LONGEST_SHARED_PREFIX: Final = 30
"""An IPv4 subnet with a longer prefix has no broadcast address (RFC 3021)."""


class CandidateKind(IntEnum):
    """What listens at a candidate."""

    TCP = 0
    QUIC = 1


@dataclass(frozen=True, slots=True)
class Candidate:
    """One place to try: `address` is 4 bytes of IPv4 or 16 of IPv6, `port` 1 to 65535."""

    kind: CandidateKind
    address: bytes
    port: int

    @property
    def ip(self) -> IpAddress:
        """Return the address as one; raises ValueError for another number of bytes."""
        return ipaddress.ip_address(self.address)

    def __str__(self) -> str:
        host = f"[{self.ip}]" if self.ip.version == 6 else str(self.ip)
        return f"{self.kind.name.lower()} {host}:{self.port}"


def _within(address: IpAddress, networks: Iterable[_IpNetwork]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _broadcast(address: IpAddress, own: Iterable[IpInterface]) -> bool:
    """Return whether a host of ours would take the address for a whole subnet."""
    return any(
        interface.version == 4
        and interface.network.prefixlen <= _LONGEST_SHARED_PREFIX
        and address in (interface.network.broadcast_address, interface.network.network_address)
        for interface in own
    )


def _usable(address: IpAddress, own: Sequence[IpInterface], *, one_host: bool) -> bool:
    if address.is_loopback:
        return one_host
    if _within(address, _NEVER) or _broadcast(address, own):
        return False
    return not _within(address, _PRIVATE) or _within(address, (interface.network for interface in own))


def _ordered(addresses: Iterable[IpAddress], own: Sequence[IpInterface]) -> list[IpAddress]:
    """Return them the nearest first: on a subnet of ours, then others, IPv6 and IPv4 taking turns in each."""
    near: dict[int, list[IpAddress]] = {6: [], 4: []}
    far: dict[int, list[IpAddress]] = {6: [], 4: []}
    for address in dict.fromkeys(addresses):
        group = near if _within(address, (interface.network for interface in own)) else far
        group[address.version].append(address)
    return [
        address
        for group in (near, far)
        for pair in zip_longest(group[6], group[4])
        for address in pair
        if address is not None
    ]


def gather(
    own: Sequence[IpInterface],
    ports: Mapping[CandidateKind, int],
    *,
    observed: IpAddress | None = None,
    one_host: bool = False,
) -> tuple[Candidate, ...]:
    """Return what we offer: every address of ours with every kind that listens, at its port; 16 at most.

    `own` are the addresses of our interfaces with their networks, docker's and the like left out; `observed` is
    what a relay says our address is; with `one_host` the peer may be on this machine, and the loopback address is
    offered first. A peer's rules apply to ours: what it would not try is not offered. Beyond the limit whole
    addresses are left out, so each has every kind.
    """
    addresses = [interface.ip for interface in own]
    if observed is not None:
        addresses.append(observed)
    usable = [address for address in _ordered(addresses, own) if _usable(address, own, one_host=False)]
    if one_host:
        usable.insert(0, ipaddress.IPv4Address("127.0.0.1"))
    room = CANDIDATES // max(len(ports), 1)
    return tuple(
        Candidate(kind, address.packed, port) for kind, port in ports.items() for address in usable[:room]
    )


def acceptable(
    offered: Sequence[Candidate],
    own: Sequence[IpInterface],
    kinds: Sequence[CandidateKind],
    *,
    one_host: bool = False,
) -> tuple[Candidate, ...]:
    """Return those of a peer's candidates that we try, in the order to try them; 16 at most.

    Left out: loopback unless the peer is on this machine (`one_host`); link-local, multicast, broadcast,
    unspecified and IPv4-mapped addresses; private ones (RFC 1918, RFC 6598, ULA) that are not on a subnet of `own`;
    kinds that we do not use. The first of `kinds` goes before the second; within one, our own subnets go first.
    """
    chosen: list[Candidate] = []
    mine = list(dict.fromkeys(offered[:CANDIDATES]))
    for kind in kinds:
        places: dict[IpAddress, list[Candidate]] = {}
        for candidate in mine:
            if candidate.kind is kind and _usable(candidate.ip, own, one_host=one_host):
                places.setdefault(candidate.ip, []).append(candidate)
        chosen += [
            candidate
            for address in sorted(_ordered(places, own), key=lambda a: not a.is_loopback)
            for candidate in places[address]
        ]
    return tuple(chosen)

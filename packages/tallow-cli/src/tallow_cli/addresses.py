"""Addresses under which another machine may reach this one, for the line that the sender prints.

Nothing is sent: connecting a UDP socket only asks the kernel which of our addresses it would use.
"""

from __future__ import annotations

import ipaddress
import socket

__all__ = ["host_port", "own_addresses", "reachable"]

_FAR = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Documentation addresses (RFC 5737, RFC 3849): they select the default route and are nobody's."""

_MOST = 4
"""More addresses than this are no help to a person."""

_CONTAINER_LINKS = ("docker", "br-", "veth", "virbr", "lxc", "podman")
"""Networks inside this machine: their addresses are reached by nobody else."""


def own_addresses() -> tuple[str, ...]:
    """Return this machine's addresses, the default route's first, at most four; loopback if there is no other."""
    found: list[str] = []
    for family, far in _FAR:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((far, 9))
                found.append(str(probe.getsockname()[0]))
        except OSError:
            continue  # no route in this family
    found += _interface_addresses()
    useful = [address for address in dict.fromkeys(found) if _is_useful(address)]
    return tuple(useful[:_MOST]) or ("127.0.0.1",)


def reachable(peer: str, own: tuple[str, ...]) -> tuple[str, ...]:
    """Return every HOST:PORT for the other side to try, given the one where we listen on all addresses.

    `peer` names the address that the listener thinks best; the loopback is no good to another machine, so it stays
    alone only where there is no other.
    """
    host, _colon, port = peer.rpartition(":")
    host = host.strip("[]")
    first = () if host in {"127.0.0.1", "::1"} and own else (host,)
    return tuple(host_port(address, port) for address in dict.fromkeys((*first, *own)))


def host_port(host: str, port: str) -> str:
    """Return HOST:PORT, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_useful(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return not (parsed.is_loopback or parsed.is_link_local or parsed.is_unspecified or parsed.is_multicast)


def _interface_addresses() -> list[str]:
    """Return the IPv4 address of each interface where the system tells (Linux), else nothing."""
    try:
        import fcntl
    except ImportError:
        return []
    addresses = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        for _index, name in socket.if_nameindex():
            if name.startswith(_CONTAINER_LINKS):
                continue
            try:
                # SIOCGIFADDR: struct ifreq is 16 bytes of name, then a sockaddr_in with its address at byte 20.
                reply = fcntl.ioctl(handle.fileno(), 0x8915, name.encode()[:15].ljust(256, b"\0"))
            except OSError:
                continue  # an interface without an IPv4 address
            addresses.append(socket.inet_ntoa(reply[20:24]))
    return addresses

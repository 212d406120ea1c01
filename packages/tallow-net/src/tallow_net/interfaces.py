"""This machine's own networks: the addresses under which others on them reach it.

Left out: loopback and link-local addresses, networks inside this machine (containers, virtual machines) and tunnels
(a VPN's address is not on the local network). Synchronous; nothing is sent.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass

__all__ = ["Network", "host_port", "own_networks", "reachable_hosts"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_INSIDE = re.compile(
    r"""
    docker | br-[0-9a-f]+ | veth | virbr | vnet | vmnet | vboxnet | lxc | lxd | podman | cni | cali | flannel
    | tun | tap | wg | utun | ipsec | ppp | tailscale | zt | nordlynx | gpd | awdl | llw
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""How interfaces of containers, virtual machines, VPNs and Apple's own radio links are named."""

_INSIDE_NICE = re.compile(
    r"hyper-v|virtualbox|vmware|wsl|wireguard|openvpn|tailscale|tap-windows", re.IGNORECASE
)
"""The same on Windows, where only the long name tells."""

_FAR = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Documentation addresses (RFC 5737, RFC 3849): they select the default route and are nobody's."""

_MOST = 4
"""More addresses than this are no help to a person."""


@dataclass(frozen=True, slots=True)
class Network:
    """One address of this machine and the network that it is on.

    `prefix` is the length in bits, the address's own (32 or 128) where the system does not tell; `interface` is the
    interface's name, empty where that is not known; `index` its number, 0 where not known.
    """

    address: Address
    prefix: int
    interface: str = ""
    index: int = 0

    def holds(self, address: Address) -> bool:
        """Return whether `address` is on this network, by its prefix."""
        network = ipaddress.ip_network((self.address, self.prefix), strict=False)
        return address.version == network.version and address in network

    def is_broadcast(self, address: Address) -> bool:
        """Return whether `address` means everybody on this network (IPv4, prefixes up to 30)."""
        network = ipaddress.ip_network((self.address, self.prefix), strict=False)
        return network.version == 4 and self.prefix < 31 and address == network.broadcast_address


def is_useful(address: Address) -> bool:
    """Return whether others may reach `address`: neither loopback nor link-local, nor no address of a host at all."""
    return not (
        address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast
    )


def is_inside(name: str, nice_name: str = "") -> bool:
    """Return whether an interface of this name leads nowhere but into this machine, or through a tunnel."""
    return _INSIDE.match(name) is not None or _INSIDE_NICE.search(nice_name) is not None


def own_networks() -> tuple[Network, ...]:
    """Return the networks of this machine, the default routes' first; empty where there is only the loopback.

    Uses ifaddr (extra `tallow-net[lan]`) where it is installed. Without it each family has the one address of its
    default route, as a network of its own.
    """
    routed = _routed_addresses()
    try:
        import ifaddr
    except ImportError:
        return tuple(Network(address, address.max_prefixlen) for address in routed)
    networks = []
    for adapter in ifaddr.get_adapters():
        if is_inside(adapter.name, adapter.nice_name):
            continue
        for ip in adapter.ips:
            text = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            address = ipaddress.ip_address(text)
            if is_useful(address):
                networks.append(Network(address, ip.network_prefix, adapter.nice_name, adapter.index or 0))
    return tuple(sorted(networks, key=lambda network: _rank(network.address, routed)))


def reachable_hosts(listen_host: str = "") -> tuple[str, ...]:
    """Return under which addresses a listener at `listen_host` ("": all) is reached, the likeliest first, at most four.

    The loopback, if this machine is on no network.
    """
    if listen_host not in {"", "::", "0.0.0.0", "*"}:  # noqa: S104 - compared with, not bound
        return (listen_host,)
    hosts = tuple(str(network.address) for network in own_networks())
    return hosts[:_MOST] or ("127.0.0.1",)


def host_port(host: str, port: int) -> str:
    """Return HOST:PORT, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _routed_addresses() -> list[Address]:
    """Return what the kernel would send from: connecting a UDP socket asks for that and sends nothing."""
    found: list[Address] = []
    for family, far in _FAR:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((far, 9))
                address = ipaddress.ip_address(str(probe.getsockname()[0]).partition("%")[0])
        except OSError:
            continue  # no route in this family
        if is_useful(address):
            found.append(address)
    return found


def _rank(address: Address, routed: list[Address]) -> tuple[int, int]:
    """Sort the default routes' addresses first, then IPv4 before IPv6; otherwise in the system's order."""
    return (routed.index(address) if address in routed else len(routed), address.version)

"""What this machine's own network shows: whether an address is still ours, and from where another would be reached.

Nothing is sent: binding a UDP socket asks the kernel the first, connecting one the second, in a few microseconds.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tallow_protocol.core.links import Link

__all__ = ["AddressWatch", "source_for", "still_ours"]

_NO_PORT = 9
"""Of the discard service; connecting a UDP socket to it sends nothing."""


def still_ours(host: str) -> bool:
    """Return whether this machine has the address `host`; also where the kernel does not tell."""
    found = _socket_address(host)
    if found is None:
        return True
    family, address = found
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        return error.errno != errno.EADDRNOTAVAIL
    return True


def source_for(host: str) -> str | None:
    """Return the address from which this machine would reach `host`; None where no way leads there."""
    found = _socket_address(host)
    if found is None:
        return None
    family, address = found
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, _NO_PORT))
            return str(probe.getsockname()[0])
    except OSError:
        return None


def _socket_address(host: str) -> tuple[socket.AddressFamily, str] | None:
    """Return what a socket call takes for a literal address; None for a name, or for one that needs its zone."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return socket.AF_INET, str(address)
    if address.ipv4_mapped is not None:
        return socket.AF_INET, str(address.ipv4_mapped)
    return None if address.is_link_local else (socket.AF_INET6, str(address))


class AddressWatch:
    """Which of a session's connections lost the address that they are bound to, and when the network is another."""

    def __init__(
        self,
        ours: Callable[[str], bool] = still_ours,
        source: Callable[[str], str | None] = source_for,
    ) -> None:
        self._ours = ours
        self._source = source
        self._bound: dict[Link, str] = {}
        self._seen: tuple[str | None, ...] | None = None

    def bound(self, link: Link, local: str | None) -> None:
        """Watch a connection whose own address is `local`; None is not watched."""
        if local is not None:
            self._bound[link] = local

    def orphans(self) -> list[Link]:
        """Return the connections whose address this machine has no more, each once. No packet reaches them again."""
        self._bound = {link: local for link, local in self._bound.items() if not link.lost}
        gone = {local for local in set(self._bound.values()) if not self._ours(local)}
        found = [link for link, local in self._bound.items() if local in gone]
        for link in found:
            del self._bound[link]
        return found

    def changed(self, hosts: Iterable[str]) -> bool:
        """Return whether any of `hosts` would be reached another way than when this was asked last, or at last again."""
        seen = tuple(self._source(host) for host in hosts)
        before, self._seen = self._seen, seen
        return before is not None and seen != before and any(seen)

    def forget(self) -> None:
        """Compare with nothing that was seen so far."""
        self._seen = None

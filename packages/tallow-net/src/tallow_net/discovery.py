"""Finding a listener on the local network by a name that both sides know: mDNS (RFC 6762), DNS-SD (RFC 6763).

The listener announces one instance of `_tallow._tcp` under a given name, with a random host label and nothing in its
TXT record. The other side asks for that very name and never browses. What arrives is a hint that anybody on the network
may have sent: `Places` is the pure rule of what of it may be tried at all, and only a handshake decides.

Needs zeroconf (extra `tallow-net[lan]`), which is imported when it is first used: about 60 ms.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import secrets
from typing import TYPE_CHECKING, Any, Final

from tallow_net.errors import DiscoveryUnavailableError, MisuseError
from tallow_net.interfaces import own_networks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Self

    from zeroconf import RecordUpdate, RecordUpdateListener, Zeroconf
    from zeroconf.asyncio import AsyncZeroconf

    from tallow_net.interfaces import Address, Network

__all__ = ["Announcement", "Places", "Search", "acceptable", "announce"]

SERVICE: Final = "_tallow._tcp.local."

ADDRESSES: Final = 16
"""Places that one search gives out. A machine has a handful of addresses; more is somebody who floods."""

SERVERS: Final = 8
"""Host labels that may answer for one name: the sender, and impostors beside it. 1 KiB each."""

CLOSE_S: Final = 1.0
"""How long saying goodbye may take: three packets, 125 ms apart."""

ASK_AGAIN_S: Final = (0.1, 0.25, 0.5)
"""Waits between the first questions; later ones are a second apart, the least that RFC 6762, section 5.2, allows."""

ASK_LATER_S: Final = 1.0

QUERY, CLASS_IN, TYPE_A, TYPE_AAAA, TYPE_SRV = 0x0000, 1, 1, 28, 33
"""RFC 1035, sections 3.2.2, 3.2.4 and 4.1.1; RFC 3596; RFC 2782."""

_NAME: Final = re.compile(r"[0-9a-f]{16}")

_NO_MULTICAST = (
    "give the sender's address: --peer HOST:PORT, as the sender's screen shows it",
    "or meet at a relay: --relay HOST on both sides",
)


def acceptable(address: Address, networks: Sequence[Network], *, scoped: bool = False) -> bool:
    """Return whether an address that came over mDNS may be dialled, on a machine that is on `networks`.

    Loopback only where this machine is on no network, so that both sides must be on it; link-local only for IPv6 with a
    scope (`scoped`); never an address that is no single host's, or an IPv4 address in an IPv6 one's clothes.
    """
    if address.is_multicast or address.is_unspecified:
        return False
    if address.is_loopback:
        return not networks
    if isinstance(address, ipaddress.IPv6Address):
        return scoped if address.is_link_local else not address.is_reserved and address.ipv4_mapped is None
    if address.is_link_local or address.is_reserved or address.packed[0] == 0:
        return False  # 240.0.0.0/4 with 255.255.255.255 is reserved; 0.0.0.0/8 is "this network" (RFC 1122)
    return not any(network.is_broadcast(address) for network in networks)


class Places:
    """What the answers for one name come to: HOST and port of each place to try, each once, at most 16.

    Pure. Several servers may claim the name; none displaces another, whatever the order of arrival.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = networks
        self._ports: dict[str, list[int]] = {}
        self._addresses: dict[str, list[str]] = {}
        self._given: set[tuple[str, int]] = set()

    @property
    def without_address(self) -> tuple[str, ...]:
        """Return the servers that have the name but no known address: they are worth a question of their own."""
        return tuple(server for server in self._ports if not self._addresses.get(server))

    def service(self, server: str, port: int) -> None:
        """Note an SRV record of the name: `server` (a host label) listens on `port`."""
        if not 0 < port < 65536 or (server not in self._ports and len(self._ports) >= SERVERS):
            return
        ports = self._ports.setdefault(server, [])
        if port not in ports and len(ports) < SERVERS:
            ports.append(port)

    def address(self, server: str, packed: bytes, scope: int | None = None) -> None:
        """Note an A or AAAA record (4 or 16 bytes) of `server`; `scope` is the interface that a link-local one is on."""
        if len(packed) not in (4, 16):
            return
        address = ipaddress.ip_address(packed)
        if not acceptable(address, self._networks, scoped=scope is not None):
            return
        if server not in self._addresses and len(self._addresses) >= SERVERS:
            return
        host = f"{address}%{scope}" if address.is_link_local else str(address)
        hosts = self._addresses.setdefault(server, [])
        if host not in hosts and len(hosts) < ADDRESSES:
            hosts.append(host)

    def new(self) -> list[tuple[str, int]]:
        """Return the places that were not given before, those on a network of our own first."""
        found = [
            (host, port)
            for server, ports in self._ports.items()
            for port in ports
            for host in self._addresses.get(server, ())
        ]
        fresh = [place for place in dict.fromkeys(found) if place not in self._given]
        fresh = sorted(fresh, key=self._distance)[: ADDRESSES - len(self._given)]
        self._given.update(fresh)
        return fresh

    def _distance(self, place: tuple[str, int]) -> int:
        address = ipaddress.ip_address(place[0].partition("%")[0])
        return 0 if any(network.holds(address) for network in self._networks) else 1


class Announcement:
    """A name that is announced until `close`."""

    def __init__(self, responder: AsyncZeroconf) -> None:
        self._responder = responder
        self._closed = False

    async def close(self) -> None:
        """Say goodbye and stop answering; at most a second. Idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._responder.async_unregister_all_services()
        except TimeoutError:
            pass  # others forget the name by themselves, after its two minutes
        finally:
            await self._responder.async_close()


async def announce(name: str, port: int, *, hosts: Iterable[str] = ()) -> Announcement:
    """Announce that a listener at `port` goes by `name` (16 hex digits), and answer for it from now on.

    `hosts` are the literal addresses where it listens; none: all of this machine's. Returns once the first packet has
    been sent. Raises DiscoveryUnavailableError where zeroconf is missing or there is no network for multicast.
    """
    networks = own_networks()
    addresses = list(hosts) or [str(network.address) for network in networks] or ["127.0.0.1"]
    responder = await _opened(networks)
    try:
        from zeroconf import ServiceInfo

        info = ServiceInfo(
            SERVICE,
            _instance(name),
            port=port,
            parsed_addresses=addresses[:ADDRESSES],
            server=f"{secrets.token_hex(8)}.local.",
        )
        # Nobody is asked whether the name is taken: an answer would be an impostor's or chance, and both may stand
        # beside ours. The returned task repeats the announcement twice; closing ends it.
        repeats = await responder.async_register_service(info, cooperating_responders=True)
        del repeats
    except BaseException:
        await responder.async_close()
        raise
    return Announcement(responder)


class Search:
    """A search for a name: `async with` starts and ends it, `next` gives one place to try after another.

    Questions are repeated and announcements heard until the end, so a listener that comes later is found too.
    """

    def __init__(self, name: str) -> None:
        self._instance = _instance(name)
        self._found: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        self._places = Places(())
        self._asker: AsyncZeroconf | None = None
        self._asking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start; raises DiscoveryUnavailableError."""
        networks = own_networks()
        self._places = Places(networks)
        self._asker = await _opened(networks)
        zeroconf = self._asker.zeroconf
        zeroconf.async_add_listener(_listener(self._take), None)
        self._asking = asyncio.create_task(self._ask(zeroconf))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        if self._asker is not None:
            await self._asker.async_close()

    async def next(self) -> tuple[str, int]:
        """Wait for the next place: a literal address and a port. The caller sets the deadline."""
        return await self._found.get()

    async def _ask(self, zeroconf: Zeroconf) -> None:
        """Ask for the name over and over; first so that the answer comes at once and to us alone."""
        waits = iter(ASK_AGAIN_S)
        alone = True
        while True:
            zeroconf.async_send(_question(self._instance, self._places.without_address, alone=alone))
            alone = False
            await asyncio.sleep(next(waits, ASK_LATER_S))

    def _take(self, update: RecordUpdate) -> None:
        from zeroconf import DNSAddress, DNSService  # type: ignore[attr-defined]  # public, but not in __all__

        record = update.new
        if isinstance(record, DNSService) and record.key == self._instance:
            self._places.service(record.server_key, record.port)
        elif isinstance(record, DNSAddress):
            self._places.address(record.key, record.address, record.scope_id)
        else:
            return
        for place in self._places.new():
            self._found.put_nowait(place)


def _instance(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise MisuseError("A name on the local network is 16 hex digits.")
    return f"{name}.{SERVICE}"


async def _opened(networks: Sequence[Network]) -> AsyncZeroconf:
    """Return a zeroconf on all our networks, or on the loopback if there are none."""
    try:
        from zeroconf import IPVersion
        from zeroconf.asyncio import AsyncZeroconf
    except ImportError:
        raise DiscoveryUnavailableError(
            "Finding a sender on the local network needs zeroconf, which is not installed.",
            hints=("install it: tallow-net[lan]", *_NO_MULTICAST),
        ) from None
    versions = {network.address.version for network in networks} or {4}
    interfaces = [str(network.address) for network in networks if network.address.version == 4]
    # IPv6 multicast goes out by interface: of several addresses there one will do.
    interfaces += {n.index: str(n.address) for n in reversed(networks) if n.address.version == 6}.values()
    version = IPVersion.All if len(versions) == 2 else IPVersion.V4Only if 4 in versions else IPVersion.V6Only
    try:
        opened = AsyncZeroconf(list(interfaces) or ["127.0.0.1"], ip_version=version)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DiscoveryUnavailableError(
            f"This machine cannot be found, or find others, on its network: {reason}.", hints=_NO_MULTICAST
        ) from error
    try:
        await opened.zeroconf.async_wait_for_start()
        if not opened.zeroconf.engine.senders:
            raise DiscoveryUnavailableError(
                "None of this machine's networks carries multicast.", hints=_NO_MULTICAST
            )
    except BaseException:
        await opened.async_close()
        raise
    return opened


def _question(instance: str, servers: Iterable[str], *, alone: bool) -> Any:
    """Return the packet (a DNSOutgoing) that asks for the name's SRV record, and for the addresses of `servers`.

    `alone` asks for an answer to this machine (RFC 6762, section 5.4), which comes without delay. Later ones ask for a
    multicast answer, since another program here may share the port and get what was meant for us.
    """
    from zeroconf import DNSOutgoing, DNSQuestion  # type: ignore[attr-defined]  # public, but not in __all__

    questions = [DNSQuestion(instance, TYPE_SRV, CLASS_IN)]
    questions += [DNSQuestion(server, kind, CLASS_IN) for server in servers for kind in (TYPE_A, TYPE_AAAA)]
    packet = DNSOutgoing(QUERY)
    for question in questions:
        question.unicast = alone
        packet.add_question(question)
    return packet


def _listener(take: Callable[[RecordUpdate], None]) -> RecordUpdateListener:
    """Return what hands every record that arrives to `take`; goodbyes are none."""
    from zeroconf import RecordUpdateListener

    class Listener(RecordUpdateListener):
        def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
            del zc, now
            for update in records:
                if update.new.ttl:
                    take(update)

    return Listener()

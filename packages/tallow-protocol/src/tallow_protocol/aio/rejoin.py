"""How the two sides of a session find each other again: in the relay's rejoin room, or where the sender listens.

`core/rejoining.py` decides when; `aio/paths.py` does the rest, since what comes of it is one more connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallow_net import RelayReconnecting, Side
from tallow_net.transport.interface import TransportChoice, TransportKind

from tallow_protocol.events import PathKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallow_net import KnownRelays, RelayAddress, RelayEvent
    from tallow_net.relay.client import Leg

    from tallow_protocol.core.keyschedule import SessionKeys

__all__ = ["LOOK_S", "MetAgain", "Rejoin", "RejoinRoom", "found_on_lan", "relay_path"]

LEASE_BYTES = 16

REACH_S = 10.0
"""How long the relays may take to be reached, all together: the next try comes soon."""

LOOK_S = 4.0
"""How long the local network is searched for a sender whose address may have changed."""

_RELAY_PATHS = {TransportKind.QUIC: PathKind.RELAY_QUIC, TransportKind.TLS: PathKind.RELAY_TCP}


def relay_path(kind: TransportKind) -> PathKind:
    """Return the path of a connection through a relay."""
    return _RELAY_PATHS[kind]


@dataclass(frozen=True, slots=True)
class Rejoin:
    """What a session may use to come back: `relays` where both met at one, `lan_name` where it was found by mDNS.

    `carries_bulk`: file data stays inside the connection to the relay.
    """

    relays: tuple[RelayAddress, ...] = ()
    choice: TransportChoice = TransportChoice.AUTO
    known: KnownRelays | None = None
    lan_name: str | None = None
    carries_bulk: bool = False


@dataclass(frozen=True, slots=True)
class MetAgain:
    """The other side stands at the other end of `leg`; nothing was said. `observed` is our address for the relay."""

    leg: Leg
    observed: str | None


class RejoinRoom:
    """One side's place in the rejoin room of its session. Its lease is made once, so that it replaces itself there."""

    def __init__(self, rejoin: Rejoin, keys: SessionKeys, side: Side) -> None:
        self._rejoin = rejoin
        self._room_id = keys.rejoin_room
        self._side = side
        self._lease = secrets.token_bytes(LEASE_BYTES)

    async def meet(self, retry: Callable[[float], None]) -> MetAgain:
        """Stand in the room until the other side is there; `retry` is told of a relay that went away meanwhile.

        Raises the NetErrors of `RelayClient.meet`. B waits for A at the only relay. Of several it asks one after the
        other instead, and again later: A stands at the first that it can reach, which may not be the first for B.
        """
        from tallow_net.relay.client import RelayClient  # 10 ms, for nothing where no relay is asked

        def told(event: RelayEvent) -> None:
            if isinstance(event, RelayReconnecting):
                retry(event.in_s)

        client = RelayClient(
            self._rejoin.relays,
            transport=self._rejoin.choice,
            known=self._rejoin.known,
            on_event=told,
            max_connect_s=REACH_S,
            carries_bulk=self._rejoin.carries_bulk,
        )
        wait = self._side is Side.A or len(self._rejoin.relays) == 1
        async with client as relay:
            leg = await relay.meet(self._room_id, self._side, self._lease, wait=wait)
            address = None if relay.welcome is None else relay.welcome.address
            return MetAgain(leg, None if address is None else address.raw)


async def found_on_lan(lan_name: str) -> list[tuple[str, int]]:
    """Return where something answers under the sender's name on this network, none of it trusted; [] after 4 s.

    Raises the NetErrors of a network that cannot be searched.
    """
    from tallow_net.discovery import Search

    found: list[tuple[str, int]] = []
    async with Search(lan_name) as search:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                found.append(await search.next())
    return found

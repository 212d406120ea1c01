"""How the two sides of a session find each other again: in the relay's rejoin room, or where the sender listens.

`core/rejoining.py` decides when; `aio/paths.py` does the rest, since what comes of it is one more connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tallow_net import ConnectionLostError, RelayReconnecting, Side
from tallow_net.transport.interface import TransportChoice, TransportKind

from tallow_protocol.events import PathKind

if TYPE_CHECKING:
    from tallow_net import KnownRelays, RelayAddress, RelayEvent
    from tallow_net.relay.client import Leg

    from tallow_protocol.core.keyschedule import SessionKeys

__all__ = ["LOOK_S", "MetAgain", "Rejoin", "RejoinRoom", "found_on_lan", "relay_path"]

LEASE_BYTES = 16

REACH_S = 10.0
"""How long the relays may take to be reached, all together: the next try comes soon."""

STAND_S = 30.0
"""How long one try stands in the room. The relay may believe in a connection that leads nowhere by now, and would join
the other side to it: whoever waits comes in anew now and then."""

LOOK_S = 4.0
"""How long the local network is searched for a sender whose address may have changed."""

LOOK_ON_S = 0.2
"""How long after its first address: a sender on two networks has one that is of use to us, perhaps the other."""

_RELAY_PATHS = {TransportKind.QUIC: PathKind.RELAY_QUIC, TransportKind.TLS: PathKind.RELAY_TCP}


def relay_path(kind: TransportKind) -> PathKind:
    """Return the path of a connection through a relay."""
    return _RELAY_PATHS[kind]


@dataclass(frozen=True, slots=True)
class Rejoin:
    """What a session may use to come back: `relays` where both met at one, `lan_name` where mDNS may help.

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

    async def meet(self, *, stalled: bool = False) -> MetAgain:
        """Stand in the room until the other side is there.

        Raises the NetErrors of `RelayClient.meet`, ConnectionLostError where the relay went away meanwhile, and
        TimeoutError where nobody came for half a minute: the caller comes again. B waits for A at the only relay. Of
        several it asks one after the other instead, and again later: A stands at the first that it can reach, which
        may not be the first for B. After a stall the relay is reached as where no file data goes through it: with
        packets of a size that every path carries.
        """
        from tallow_net.relay.client import RelayClient  # 10 ms, for nothing where no relay is asked

        away = asyncio.Event()

        def told(event: RelayEvent) -> None:
            if isinstance(event, RelayReconnecting):
                away.set()

        client = RelayClient(
            self._rejoin.relays,
            transport=self._rejoin.choice,
            known=self._rejoin.known,
            on_event=told,
            max_connect_s=REACH_S,
            carries_bulk=self._rejoin.carries_bulk and not stalled,
        )
        wait = self._side is Side.A or len(self._rejoin.relays) == 1
        async with client as relay:
            meeting = relay.meet(self._room_id, self._side, self._lease, wait=wait)
            leg = await _unless_away(asyncio.ensure_future(meeting), away)
            address = None if relay.welcome is None else relay.welcome.address
            return MetAgain(leg, None if address is None else address.raw)


async def _unless_away(meeting: asyncio.Future[Leg], away: asyncio.Event) -> Leg:
    """Return the leg that `meeting` gives; end it where the relay goes away, or after the time of one stand."""
    gone = asyncio.ensure_future(away.wait())
    either: set[asyncio.Future[Any]] = {meeting, gone}
    try:
        async with asyncio.timeout(STAND_S):
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not meeting.done():
            raise ConnectionLostError("The relay went away.", by="network")
        return meeting.result()
    except BaseException:
        meeting.cancel()
        (outcome,) = await asyncio.gather(meeting, return_exceptions=True)
        if not isinstance(outcome, BaseException):
            outcome.transport.abort()
        raise
    finally:
        gone.cancel()


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
            async with asyncio.timeout(LOOK_ON_S):
                while True:
                    found.append(await search.next())
    return found

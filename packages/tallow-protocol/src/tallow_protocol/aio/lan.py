"""The local network: a sender without a relay announces itself, a receiver with the code alone finds it.

What answers may be an impostor. Every place that answers is tried, and the handshake decides: an impostor costs a guess
and no more, as anybody does who reaches a listening sender.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from typing import TYPE_CHECKING

from tallow_net import DiscoveryUnavailableError, NetError, PeerText

from tallow_protocol.aio.failures import translated
from tallow_protocol.code import lan_name_of
from tallow_protocol.errors import (
    CodeBurnedError,
    NoSuchCodeError,
    ProtocolError,
    UnreachableError,
    WrongCodeError,
)
from tallow_protocol.events import Warned, WrongCode

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from tallow_net.discovery import Announcement, Search
    from tallow_net.interfaces import Network
    from tallow_net.transport.interface import TransportChoice
    from tallow_net.transport.listener import Listener

    from tallow_protocol.aio.routes import Met
    from tallow_protocol.code import Code
    from tallow_protocol.core.budget import GuessBudget
    from tallow_protocol.events import Event

__all__ = ["Announcer", "LanReceiverRoute", "hosts_to_announce"]

FIND_S = 10.0
"""How long a receiver looks. An answer takes milliseconds, a sender that is being started a second."""

AFTER_WRONG_S = 1.5
"""How long after a wrong guess: whoever is not the sender may have answered first, and the sender is as quick."""

UNCONNECTED_TURN_S = 0.3
"""When the next place is tried beside one that has not answered at all."""

TURN_S = 2.0
"""When it is tried beside one that answered: a handshake on one network takes a tenth of this."""

CONNECT_S = 5.0
"""How long one place may take to answer; a place that swallows packets must not hold the receiver up for long."""

LEAVE_S = 2.0
"""How long the end of the announcement may take, goodbyes included."""


def hosts_to_announce(bound: Sequence[str], networks: Sequence[Network]) -> tuple[str, ...]:
    """Return the addresses under which a listener bound to `bound` is reached by others; none: not worth announcing.

    A machine on no network has its loopback, where others on it find the sender.
    """
    hosts: list[str] = []
    for text in bound:
        address = ipaddress.ip_address(text.partition("%")[0])
        if address.is_unspecified:
            hosts += [str(net.address) for net in networks if net.address.version == address.version]
        elif not (address.is_loopback and networks):
            hosts.append(text)
    if not hosts and not networks:
        hosts = ["127.0.0.1"]
    return tuple(dict.fromkeys(hosts))


class Announcer:
    """Announces a listener in the background, from its making until `stop`. A failure is a warning."""

    def __init__(self, code: Code, listener: Listener, on_event: Callable[[Event], None]) -> None:
        self._code = code
        self._name = lan_name_of(code.nameplate)
        self._before: Announcer | None = None
        self._listener = listener
        self._on_event = on_event
        self._over = asyncio.Event()
        self.settled = asyncio.Event()
        """Set once the announcement is out, or will not be: what else is to be loaded may have the processor now."""
        self._task = asyncio.create_task(self._run(), name="tallow-announce")

    @property
    def stopped(self) -> bool:
        """Return whether the announcement ended, or is about to."""
        return self._over.is_set()

    def again(self) -> Announcer:
        """Announce the same listener once more, under the addresses that this machine has now."""
        other = Announcer(self._code, self._listener, self._on_event)
        other._before = self
        return other

    async def _run(self) -> None:
        if self._before is not None:
            await self._before.close()
        try:
            announcement = await self._announced()
        finally:
            self.settled.set()
        if announcement is not None:
            try:
                await self._over.wait()
            finally:
                await announcement.close()

    async def _announced(self) -> Announcement | None:
        from tallow_net.discovery import announce
        from tallow_net.interfaces import own_networks

        bound = [host for host, _port in self._listener.addresses]
        hosts = hosts_to_announce(bound, await asyncio.to_thread(own_networks))
        if not hosts:
            return None
        try:
            await asyncio.to_thread(_import_zeroconf)
            return await announce(self._name, self._listener.port, hosts=hosts)
        except DiscoveryUnavailableError as error:
            self._on_event(Warned(PeerText(f"The code alone does not lead to this sender: {error}")))
            return None

    def stop(self) -> None:
        """Say goodbye, in the background."""
        self._over.set()

    async def close(self) -> None:
        """Stop, and wait until that is done; at most two seconds."""
        self.stop()
        if self._before is not None:
            await self._before.close()
        await asyncio.wait({self._task}, timeout=LEAVE_S)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def _import_zeroconf() -> None:
    with contextlib.suppress(ImportError):  # `announce` says so in its own words
        import zeroconf.asyncio  # noqa: F401 - 60 ms that the event loop shall not stand still for


class LanReceiverRoute:
    """B looks for the sender on the local network."""

    def __init__(
        self,
        code: Code,
        choice: TransportChoice,
        budget: GuessBudget,
        on_event: Callable[[Event], None],
    ) -> None:
        self._code = code
        self._choice = choice
        self._budget = budget
        self._on_event = on_event
        self._attempts: set[asyncio.Task[None]] = set()
        self._undecided = 0
        self._outcomes: asyncio.Queue[Met | ProtocolError] = asyncio.Queue()

    async def next(self) -> Met:
        """Find the sender, prove the code.

        Raises NoSuchCodeError where nobody answers under the code within ten seconds, UnreachableError where the
        network cannot be asked or who answered cannot be reached, and what a handshake raises.
        """
        from tallow_net.discovery import Search

        try:
            async with Search(lan_name_of(self._code.nameplate)) as search:
                trying = asyncio.create_task(self._try_each(search))
                try:
                    return await self._first()
                finally:
                    trying.cancel()
                    for attempt in self._attempts:
                        attempt.cancel()
                    await asyncio.gather(trying, *self._attempts, return_exceptions=True)
        except NetError as error:
            raise translated(error) from None

    async def _first(self) -> Met:
        """Return the first handshake that succeeds, or raise what says most of why none did."""
        loop = asyncio.get_running_loop()
        until = loop.time() + FIND_S
        failure: ProtocolError | None = None
        while loop.time() < until or self._undecided:
            try:
                async with asyncio.timeout_at(None if self._undecided else until):
                    outcome = await self._outcomes.get()
            except TimeoutError:
                continue  # an attempt that began meanwhile is waited for
            self._undecided -= 1
            if not isinstance(outcome, ProtocolError):
                return outcome
            if isinstance(outcome, CodeBurnedError):
                raise outcome
            if isinstance(outcome, WrongCodeError):
                if outcome.left == 0:
                    raise outcome
                self._on_event(WrongCode(outcome.left))
            if not isinstance(outcome, UnreachableError):
                until = min(until, loop.time() + AFTER_WRONG_S)
            if failure is None or isinstance(failure, UnreachableError):
                failure = outcome
        raise failure or NoSuchCodeError(
            "nobody on this network sends under this code",
            hints=(
                "check the number before the words, that the sender still waits, and that both are on one network",
                "where that network blocks multicast: --peer HOST:PORT, as the sender's screen shows it",
                "on different networks both sides need the same relay: --relay HOST",
            ),
        )

    async def _try_each(self, search: Search) -> None:
        """Try every place that is found, the next one as soon as the one before has had its turn."""
        while True:
            place = await search.next()
            connected = asyncio.Event()
            self._undecided += 1
            attempt = asyncio.create_task(self._attempt(place, connected))
            self._attempts.add(attempt)
            attempt.add_done_callback(self._attempts.discard)
            await _soonest(attempt, connected.wait(), UNCONNECTED_TURN_S)
            if connected.is_set():
                await asyncio.wait({attempt}, timeout=TURN_S)

    async def _attempt(self, place: tuple[str, int], connected: asyncio.Event) -> None:
        from tallow_protocol.aio.routes import DirectReceiverRoute

        route = DirectReceiverRoute(
            *place, self._choice, self._code, self._budget, connect_s=CONNECT_S, connected=connected.set
        )
        try:
            met = await route.next()
        except ProtocolError as error:
            self._outcomes.put_nowait(error)
        else:
            self._outcomes.put_nowait(met)

    async def close(self) -> None:
        """Nothing is held."""


async def _soonest(task: asyncio.Task[None], other: Coroutine[None, None, object], timeout_s: float) -> None:
    """Wait until `task` is done, or `other`, or the time is over; only `other` is cancelled."""
    beside = asyncio.ensure_future(other)
    try:
        await asyncio.wait({task, beside}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        beside.cancel()

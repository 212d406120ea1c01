"""Dialler: opens a connection to the first of several places that answers an Attach."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallow_net import FrameStream, NetError
from tallow_net.paths.candidates import Candidate, CandidateKind
from tallow_net.transport.interface import TransportChoice, TransportKind

from tallow_protocol.core.keeping import ATTACH_WAIT_S
from tallow_protocol.errors import AttachError, ProtocolError
from tallow_protocol.events import PathKind
from tallow_protocol.limits import ATTACH_BYTES

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Sequence
    from typing import Any

    from tallow_net.paths.candidates import IpAddress

    from tallow_protocol.aio.attaching import Attaching
    from tallow_protocol.core.links import Link

__all__ = ["DIRECT_PATHS", "FAILED_TRY", "Dialler", "Place", "address_and_port", "first_that_attaches"]

BETWEEN_PLACES_S = 0.05
"""The next place is tried this much later: the nearest first, and none waits for one that swallows packets."""

QUIC_AFTER_S = 0.3
"""QUIC is tried this long after the first of TCP."""

DIRECT_PATHS = {TransportKind.QUIC: PathKind.DIRECT_QUIC, TransportKind.TCP: PathKind.DIRECT_TCP}
_CHOICES = {CandidateKind.TCP: TransportChoice.TCP, CandidateKind.QUIC: TransportChoice.QUIC}

FAILED_TRY = NetError, ProtocolError, TimeoutError, OSError
"""How a try that leads nowhere ends; anything else is a fault of ours."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to dial; `host` is a literal address, with its zone where it has one."""

    kind: CandidateKind
    host: str
    port: int

    @classmethod
    def of(cls, candidate: Candidate) -> Place:
        """Return the place that the other side offered."""
        return cls(candidate.kind, str(candidate.ip), candidate.port)


class Dialler:
    """Dials for one session. `good` is the last place that led to the other side."""

    def __init__(self, attaching: Attaching) -> None:
        self._attaching = attaching
        self.good: Place | None = None

    async def dial(self, places: Sequence[Place]) -> Link:
        """Try all of `places` under one number, each a little after the one before; keep the first that attaches.

        Raises AttachError where none did, TimeoutError after ten seconds.
        """
        with self._attaching.number() as number:
            async with asyncio.timeout(ATTACH_WAIT_S):
                return await self._race(places, number)

    async def _race(self, places: Sequence[Place], number: int) -> Link:
        links: list[Link] = []

        async def attempt(place: Place, wait_s: float) -> Link:
            await asyncio.sleep(wait_s)
            frames = await _reach(place, small_segments=self._attaching.small_segments)
            try:
                path = DIRECT_PATHS[frames.transport.kind]
                link = await self._attaching.ask(frames, number, path, lambda: not links)
            except BaseException:
                frames.transport.abort()
                raise
            self.good = place
            links.append(link)
            return link

        waits = {CandidateKind.TCP: 0.0, CandidateKind.QUIC: QUIC_AFTER_S}
        if all(place.kind is CandidateKind.QUIC for place in places):
            waits[CandidateKind.QUIC] = 0.0
        attempts = []
        for place in places:
            attempts.append(attempt(place, waits[place.kind]))
            waits[place.kind] += BETWEEN_PLACES_S
        return await first_that_attaches(attempts)


async def first_that_attaches(tries: Iterable[Coroutine[Any, Any, Link]]) -> Link:
    """Run all `tries` side by side; return the first link, and end the others. Raises AttachError where none gave one."""
    tasks = [asyncio.create_task(attempt) for attempt in tries]
    pending = set(tasks)
    won: Link | None = None
    try:
        while pending and won is None:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            won = next((task.result() for task in tasks if task in done and _gave_one(task)), None)
    finally:
        for task in pending:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    if won is not None:
        return won
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(
            outcome, (*FAILED_TRY, asyncio.CancelledError)
        ):
            raise outcome
    raise AttachError("no place where the other side may be answered")


def _gave_one(task: asyncio.Task[Link]) -> bool:
    return not task.cancelled() and task.exception() is None


async def _reach(place: Place, *, small_segments: bool) -> FrameStream:
    """Return a connection to `place` on which nothing was said."""
    from tallow_net.transport.negotiate import connect_direct

    if place.kind is CandidateKind.QUIC:
        await asyncio.to_thread(_import_quic)
    transport = await connect_direct(
        place.host,
        place.port,
        choice=_CHOICES[place.kind],
        timeout_s=ATTACH_WAIT_S,
        small_segments=small_segments,
    )
    return FrameStream(transport, limit=ATTACH_BYTES)


def _import_quic() -> None:
    """Import the engine, which takes a tenth of a second, away from the loop."""
    import tallow_net.transport.quic  # noqa: F401 - loaded in a thread, used by whoever dials


def address_and_port(remote: str) -> tuple[IpAddress, int] | None:
    """Return the address and port of "host:port" or "[host]:port"; None for a name or none at all."""
    host, colon, port = remote.rpartition(":")
    try:
        return (ipaddress.ip_address(host.strip("[]")), int(port)) if colon else None
    except ValueError:
        return None

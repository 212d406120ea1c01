"""The connections of one session: which of them carries file data, which control, and how silent each may be."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from tallow_net.signaling import Side

from tallow_protocol.core.paths import allows, rank
from tallow_protocol.events import PathInUse
from tallow_protocol.limits import (
    DATA_CONNECTIONS,
    FLOW_PING_S,
    PATH_PING_S,
    PATH_SILENCE_DEDICATED_S,
    PATH_SILENCE_S,
    PING_AFTER_S,
    SILENCE_S,
    STANDBY_PING_S,
    STANDBY_SILENCE_S,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tallow_crypto import RecordOpener, RecordSealer

    from tallow_protocol.core.attach import AttachedConnection
    from tallow_protocol.errors import ProtocolError
    from tallow_protocol.events import PathKind, PathLimit

__all__ = ["Link", "LinkTable", "ShownPath"]


class Link:
    """One connection of a session: its number, its keys, its times. Made by the session alone.

    `dedicated` says that a thread owns its socket. `hearing` is false while what arrived is still being stored: the
    peer cannot be blamed for a silence then. `round_trip_s` and `lost_share` are the kernel's, where it tells.
    """

    __slots__ = (
        "attached",
        "bulk_arrived",
        "cause",
        "dedicated",
        "direct",
        "hearing",
        "ident",
        "last_received",
        "last_sent",
        "lost",
        "lost_share",
        "number",
        "opener",
        "owes_first",
        "passing",
        "path",
        "proven",
        "rank",
        "round_trip_s",
        "sealer",
    )

    def __init__(
        self,
        ident: int,
        number: int,
        sealer: RecordSealer,
        opener: RecordOpener,
        now: float,
        *,
        proven: bool,
        attached: AttachedConnection,
        path: PathKind,
        dedicated: bool,
    ) -> None:
        self.ident = ident
        self.number = number
        self.sealer = sealer
        self.opener = opener
        self.attached = attached
        self.path = path
        self.direct = path.direct
        self.dedicated = dedicated
        self.rank = rank(path, dedicated=dedicated)
        self.proven = proven
        self.owes_first = False
        self.passing: deque[bytes] = deque()
        self.hearing = True
        self.bulk_arrived = False
        self.round_trip_s: float | None = None
        self.lost_share: float | None = None
        self.lost = False
        self.cause: ProtocolError | None = None
        self.last_sent = now
        self.last_received = now

    def __repr__(self) -> str:
        return f"Link(number={self.number}, path={self.path.value}, dedicated={self.dedicated}, lost={self.lost})"


class LinkTable:
    """The connections that are not lost. What is asked for each record is kept until something changes."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._links: dict[int, Link] = {}
        self._carriers: dict[PathLimit, tuple[Link, ...]] = {}
        self._speaker: Link | None = None
        self._proven = 0
        self.revision = 0
        """Counts the changes."""

    def __iter__(self) -> Iterator[Link]:
        return iter(self._links.values())

    def __len__(self) -> int:
        return len(self._links)

    def add(self, link: Link) -> None:
        """Take a new one."""
        self._links[link.ident] = link
        self.changed()

    def remove(self, link: Link) -> None:
        """Forget one that is lost."""
        self._links.pop(link.ident, None)
        self.changed()

    def prove(self, link: Link) -> None:
        """Note that a record of the peer opened on it."""
        link.proven = True
        self.changed()

    def serve(self, link: Link) -> None:
        """Note that no thread was left for it: the event loop runs it."""
        link.dedicated = False
        link.rank = rank(link.path, dedicated=False)
        self.changed()

    def changed(self) -> None:
        """Forget what was worked out."""
        self.revision += 1
        self._carriers.clear()
        self._proven = sum(link.proven for link in self)
        self._speaker = self._choose_speaker()

    def carriers(self, allowed: PathLimit) -> tuple[Link, ...]:
        """Return those that carry file data: the best, and its like where each has a thread."""
        known = self._carriers.get(allowed)
        if known is None:
            known = self._carriers[allowed] = self._choose_carriers(allowed)
        return known

    def _choose_carriers(self, allowed: PathLimit) -> tuple[Link, ...]:
        usable = [link for link in self if link.proven and allows(allowed, link.path)]
        if not usable:
            return ()
        best = min(usable, key=lambda link: (link.rank, link.ident))
        if not best.dedicated:
            return (best,)
        return tuple(link for link in usable if link.rank == best.rank)[:DATA_CONNECTIONS]

    def speaker(self) -> Link | None:
        """Return the one that carries control; connection 0 may speak before it is proven.

        A's control keeps out of the way of A's own file data where another connection of the same kind stands, since
        it would wait behind what is queued. B sends no file data: it answers where that comes from.
        """
        return self._speaker

    def _choose_speaker(self) -> Link | None:
        keeps_off = self._side is Side.A

        def place(link: Link) -> tuple[bool, bool, int, int]:
            return not link.direct, link.dedicated is keeps_off, link.rank, link.ident

        return min((link for link in self if link.proven or link.number == 0), key=place, default=None)

    def silence_s(self, link: Link) -> float:
        """Return how long `link` may be silent: short where another stands by, which may carry on at once."""
        if self._proven <= link.proven:
            return SILENCE_S
        if link.number == 0:
            return STANDBY_SILENCE_S
        return PATH_SILENCE_DEDICATED_S if link.dedicated else PATH_SILENCE_S

    def ping_s(self, link: Link, *, flowing: bool) -> float:
        """Return after how long without sending `link` is pinged; `flowing` from the yes to the end."""
        if self.silence_s(link) == SILENCE_S:
            return FLOW_PING_S if flowing else PING_AFTER_S
        return STANDBY_PING_S if link.number == 0 else PATH_PING_S


class ShownPath:
    """What the application was told of where file data goes."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._shown: tuple[Link, int] | None = None

    def look(self, link: Link, links: Iterable[Link]) -> PathInUse | None:
        """Return the news, if there is any, now that file data went over `link`, one of `links`."""
        alike = sum(other.rank == link.rank and other.proven for other in links)
        if self._shown is not None and not self._shown[0].lost:
            before, count = self._shown
            if (before.rank, count) == (link.rank, alike):
                return None
            if self._side is Side.B and before.rank < link.rank:
                return None  # what was on its way when the sender moved
        self._shown = link, alike
        return PathInUse(link.path, link.dedicated, alike)

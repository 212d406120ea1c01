"""Silence: how long each connection may say nothing, and when it is pinged so that the other side need not wonder.

Also whether one stalled: then packets above a size may vanish on its path, and new connections keep to small ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tallow_protocol.errors import PeerLeftError
from tallow_protocol.limits import FLOW_SILENCE_S, SILENCE_S

if TYPE_CHECKING:
    from tallow_protocol.core.links import Link, LinkTable

__all__ = ["STALL_S", "Silence"]

STALL_S: Final = 3.0
"""A connection that is lost after so long without a word, or with what it sent unacknowledged for so long, stalled.
Shorter than any silence that a connection is given up for."""


class Silence:
    """Judges the links of one session by the times of their last records. Times are monotonic seconds.

    From the yes on data flows: both sides then ping more often, and a session that may come back gives a silent
    connection up sooner.

    `stalled` says whether a connection stalled while data flowed. It stays: a path that swallows large packets does so
    without a word (RFC 4821, section 1), and small ones cost little where it was something else.
    """

    def __init__(self, links: LinkTable, *, returns: bool) -> None:
        """Judge `links`; `returns` says that the loss of the last connection is waited out."""
        self._links = links
        self._returns = returns
        self._flowing_since: float | None = None
        self.stalled = False

    def flows(self, now: float) -> None:
        """Take note that the transfer runs; the first call counts."""
        if self._flowing_since is None:
            self._flowing_since = now

    def owes_ping(self, link: Link, now: float) -> bool:
        """Return whether nothing was sent on `link` for so long that a ping is due."""
        return now - link.last_sent >= self._ping_s(link)

    def broken(self, link: Link, now: float, oldest_sent_at: float | None) -> PeerLeftError | None:
        """Return why `link` is to be given up: it was silent, or what was sent at that time is not acknowledged."""
        if not link.hearing:
            link.last_received = now
        allowed_s = self._allowed_s(link)
        if now - self._heard_at(link) < allowed_s and (
            oldest_sent_at is None or now - oldest_sent_at < SILENCE_S
        ):
            return None
        return PeerLeftError(f"the other side was silent for {allowed_s:g} s", by="network")

    def lost(self, link: Link, now: float, oldest_sent_at: float | None) -> None:
        """Take note that `link` ended; what was sent on it at that time was not acknowledged, None for nothing.

        The receiver of file data hears nothing, the sender hears pings and no acknowledgement.
        """
        if self._flowing_since is None or not link.hearing:
            return
        since = self._heard_at(link)
        if oldest_sent_at is not None:
            since = min(since, oldest_sent_at)
        self.stalled = self.stalled or now - since >= STALL_S

    def next_look(self, link: Link, looked_at: float, oldest_sent_at: float | None) -> float:
        """Return when `link` has to be looked at again, for a ping or for its end; `looked_at` is the last time."""
        when = self._heard_at(link) + self._allowed_s(link)
        if link.proven or link.number == 0:
            # One that is overdue could not leave when it was looked at: its writer waits. It is looked at again
            # in its time, or the loop would turn at once until then.
            ping_s = self._ping_s(link)
            due = link.last_sent + ping_s
            when = min(when, due if due > looked_at else looked_at + ping_s)
        return when if oldest_sent_at is None else min(when, oldest_sent_at + SILENCE_S)

    def _ping_s(self, link: Link) -> float:
        return self._links.ping_s(link, flowing=self._flowing_since is not None)

    def _allowed_s(self, link: Link) -> float:
        """Return how long `link` may be silent: not long while data flows, if its loss is waited out."""
        allowed_s = self._links.silence_s(link)
        flows = self._flowing_since is not None and self._returns
        return min(allowed_s, FLOW_SILENCE_S) if flows and allowed_s == SILENCE_S else allowed_s

    def _heard_at(self, link: Link) -> float:
        """Return from when on a silence of `link` counts: before the yes the other side pings seldom."""
        return max(link.last_received, self._flowing_since or link.last_received)

"""How many data connections a path is worth: one, and more only where loss or length makes one fall short."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CONNECTIONS_MAX", "PathSample", "SpreadChoice", "connections_worth"]

CONNECTIONS_MAX = 4
"""As many as a relay gives tokens; a fifth would take from others more than it gives us."""

LONG_S = 0.020
"""Below this round trip one connection recovers from a loss in well under a second; a LAN never reaches it."""

LONGER_S = 0.080
LOSSY = 0.001
"""One in a thousand: at 20 ms the square-root law leaves one stream 2.2 MB/s, whatever the link could do."""

VERY_LOSSY = 0.005

ENOUGH_BYTES_PER_S = 250e6
"""A path that runs at this rate is not held up by loss; a second connection cost 0.61 against 0.62 on loopback."""

WATCH_S = 1.0
"""A rate and a loss are taken from this much of transferring at least, past the slow start of the first second."""

RISE_S = 2.0
"""Between two rises: the last one must have had time to show in the loss."""

SETTLED_ROUND_TRIPS = 5


@dataclass(frozen=True, slots=True)
class PathSample:
    """What the sender measured on the path in use.

    `round_trip_s` is the kernel's where it tells (TCP_INFO, the least); the window's has a record's own time in it.
    `lost_share` is the share of segments that were sent again (from TCP_INFO), None where the system does not tell.
    """

    round_trip_s: float
    rate_bytes_per_s: float
    lost_share: float | None = None


def connections_worth(sample: PathSample) -> int:
    """Return how many connections such a path is worth, 1 to 4.

    Short paths and fast ones get one, whatever they lose. Loss decides where it is known: two from 0.1 %, four from 0.5 %,
    where each stream's share of the link is the smaller the longer the path. A long path without loss gets two, since
    each stream grows by itself after a loss. One whose loss is not known yet gets four: each grows by itself from ten
    packets, and where loss comes it costs one of them half its rate, not all of them.
    """
    if sample.round_trip_s < LONG_S or sample.rate_bytes_per_s >= ENOUGH_BYTES_PER_S:
        return 1
    longer = sample.round_trip_s >= LONGER_S
    if sample.lost_share is None:
        return CONNECTIONS_MAX
    if sample.lost_share >= VERY_LOSSY:
        return CONNECTIONS_MAX
    if sample.lost_share >= LOSSY:
        return CONNECTIONS_MAX if longer else 3
    return 2 if longer else 1


class SpreadChoice:
    """How many connections to have on one path; it only rises. Another path begins with another choice.

    A long path gets its second at once: its length is known from the first look, and two grow twice as fast through
    their slow start. Loss is watched for first.

    Pure; `now` is monotonic seconds. The sender looks now and then while data moves.
    """

    def __init__(self) -> None:
        self.connections = 1
        self._since: float | None = None
        self._risen_at: float | None = None

    def look(self, sample: PathSample, now: float, *, lan: bool = False) -> int:
        """Return how many connections there should be; `lan` says that the peer is on a network of our own."""
        if self._since is None:
            self._since = now
        if lan:
            return self.connections
        if now - self._since < max(WATCH_S, SETTLED_ROUND_TRIPS * sample.round_trip_s):
            if sample.round_trip_s >= LONGER_S and sample.lost_share is not None:
                self.connections = max(self.connections, 2)
            return self.connections
        if self._risen_at is not None and now - self._risen_at < RISE_S:
            return self.connections
        worth = connections_worth(sample)
        if worth > self.connections:
            self.connections = worth
            self._risen_at = now
        return self.connections

"""How many bytes may be on their way, over all links and on each: bandwidth times delay, as acknowledged.

Acknowledgements come in batches (every 8 MiB or 10 ms, or when the receiver has nothing more to read), and the
time of a record includes our own queue before the socket and in it. Both are borne, not modelled: the shortest round
trip of a link is that of a record which found it empty and was acknowledged alone, and the slack holds a batch.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

__all__ = ["Mark", "Steady", "Tuning", "Window"]

MIB = 1024 * 1024

INITIAL_BYTES = 4 * MIB
"""Before anything was measured: a quarter of the usual limit, 40 MB/s at 100 ms, and still warm in the caches."""

FLOOR_BYTES = 1 * MIB
"""Two records of the usual size, so that one is on its way while the other is made."""

SLACK_S = 0.25
SLACK_BYTES = 8 * MIB
"""At least this above bandwidth times delay: a quarter of a second's worth, for the receiver's disk, but no more than
a batch of acknowledgements; without it a short fast path would wait for each of them."""

STEADY_S = 1.0
CHANGE = 1.5
"""What a chooser calls a change: by half or more."""

GROWING_S = 3.0
GROWING_ROUND_TRIPS = 10
"""So long a link keeps the first size at least: TCP's slow start doubles what is on its way each round trip, and a window
of twice the rate that it allowed would be the brake (at 200 ms it was 1.6 MB where 5 MB were wanted)."""

RATE_SAMPLES = 16
"""Batches: 128 MiB on a fast path, which outlasts the stall of a disk."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What was delivered when a record was sent; `acknowledged` wants it back."""

    sent_at: float
    delivered: int
    delivered_at: float


@dataclass(frozen=True, slots=True)
class Tuning:
    """What the window chose, in bytes, and from what: bytes a second, seconds."""

    window_bytes: int
    chunk_bytes: int
    rate_bytes_per_s: int
    round_trip_s: float

    def differs(self, other: Tuning | None) -> bool:
        """Return whether window or chunk changed by half or more, or nothing was chosen before."""
        if other is None:
            return True
        pairs = (self.window_bytes, other.window_bytes), (self.chunk_bytes, other.chunk_bytes)
        return any(max(pair) >= CHANGE * min(pair) for pair in pairs)


class Steady:
    """A measured value that changes only once it has differed by half or more for a second. Pure.

    In the first second nothing holds: the first acknowledgements say little.
    """

    def __init__(self) -> None:
        self._value: float | None = None
        self._begun_at: float | None = None
        self._other_since: float | None = None

    def look(self, value: float, now: float) -> float | None:
        """Take what is measured now; return what holds, None in the first second."""
        if self._begun_at is None:
            self._begun_at = now
        if now - self._begun_at < STEADY_S:
            return None
        if self._value is None:
            self._value = value
        elif max(value, self._value) < CHANGE * min(value, self._value):
            self._other_since = None
        elif self._other_since is None:
            self._other_since = now
        elif now - self._other_since >= STEADY_S:
            self._value, self._other_since = value, None
        return self._value


@dataclass(slots=True)
class _Path:
    """One link, as measured."""

    floor: float
    begun_at: float
    in_flight: int = 0
    delivered: int = 0
    delivered_at: float = 0.0
    used_at: float = 0.0
    shortest_s: float = math.inf
    rates: deque[float] = field(default_factory=lambda: deque(maxlen=RATE_SAMPLES))
    rate: float = 0.0

    @property
    def target(self) -> float:
        """Return the bytes worth having on their way here."""
        delayed = self.rate * self.shortest_s if self.rates else 0.0
        return max(2 * delayed, delayed + min(self.rate * SLACK_S, SLACK_BYTES), self.floor)


class Window:
    """Counts unacknowledged bytes and sizes itself from what comes back. `now` is monotonic seconds.

    A link's target is twice its delivery rate (the best of the last batches) times its shortest round trip, as BBR
    does it, or once that and slack. While the window is what bounds the rate, the target doubles each round trip. A link's shortest
    round trip never expires: on a slow link every later one has our own queue in it, and the window would feed on itself;
    another path is another link with its own. `bytes` is the sum over the links in use, between 1 MiB and
    `limit_bytes` (what Welcome allows a pair to have in flight); beside others a link may hold its own target alone,
    so that a slow one does not keep the window from a fast one.
    """

    def __init__(self, *, limit_bytes: int, initial_bytes: int = INITIAL_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.bytes = self._initial = min(initial_bytes, limit_bytes)
        self.in_flight_bytes = 0
        self._floor = min(FLOOR_BYTES, self.bytes)
        self._paths: dict[int, _Path] = {}
        self._last_used: int | None = None

    def has_room(self, link: int, size_bytes: int) -> bool:
        """Return whether `size_bytes` more may go on a link; into an empty window one record always may."""
        if self.in_flight_bytes == 0:
            return True
        if self.in_flight_bytes + size_bytes > self.bytes:
            return False
        path = self._paths.get(link)
        if path is None or path.in_flight == 0:
            return True
        if path.in_flight == self.in_flight_bytes and len(self._in_use()) == 1:
            return True
        return path.in_flight + size_bytes <= max(path.target, 2 * size_bytes)

    def sent(self, link: int, size_bytes: int, now: float) -> Mark:
        """Count bytes as on their way; return the mark that `acknowledged` wants back."""
        path = self._paths.get(link)
        if path is None:
            path = self._paths[link] = _Path(self._initial, now)
        if path.in_flight == 0:
            path.delivered_at = now  # an idle pause is nobody's rate
        path.in_flight += size_bytes
        path.used_at = now
        self.in_flight_bytes += size_bytes
        if link != self._last_used:
            self._last_used = link
            self._adapt()
        return Mark(now, path.delivered, path.delivered_at)

    def resized(self, link: int, change_bytes: int) -> None:
        """Take note that a record on its way is that much larger, or by compression smaller, than was counted."""
        self._paths[link].in_flight += change_bytes
        self.in_flight_bytes += change_bytes

    def lost(self, link: int) -> None:
        """Forget a link that ended, with what was on its way there."""
        path = self._paths.pop(link, None)
        if path is not None:
            self.in_flight_bytes -= path.in_flight
            self._adapt()

    def acknowledged(self, link: int, size_bytes: int, mark: Mark, now: float) -> None:
        """Count one batch as delivered and adapt; `mark` is that of the batch's record that was sent last."""
        path = self._paths[link]
        path.in_flight -= size_bytes
        self.in_flight_bytes -= size_bytes
        path.delivered += size_bytes
        path.delivered_at = now
        path.shortest_s = min(path.shortest_s, max(now - mark.sent_at, 1e-6))
        path.rates.append((path.delivered - mark.delivered) / max(now - mark.delivered_at, 1e-6))
        path.rate = max(path.rates)
        if now - path.begun_at >= max(GROWING_S, GROWING_ROUND_TRIPS * path.shortest_s):
            path.floor = 0.0
        self._adapt()

    def _in_use(self) -> list[_Path]:
        """Return the links with bytes on their way, and the one that was used last."""
        return [path for link, path in self._paths.items() if path.in_flight > 0 or link == self._last_used]

    def _adapt(self) -> None:
        target = sum(path.target for path in self._in_use()) or self._initial
        self.bytes = int(min(max(target, self._floor), self.limit_bytes))

    @property
    def rate_bytes_per_s(self) -> float | None:
        """Return the delivery rate over the links in use, None before anything was acknowledged."""
        return sum(path.rate for path in self._in_use()) or None

    @property
    def link_rate_bytes_per_s(self) -> float | None:
        """Return the mean delivery rate of one link in use, None before anything was acknowledged."""
        rates = [path.rate for path in self._in_use() if path.rates]
        return sum(rates) / len(rates) if rates else None

    @property
    def round_trip_s(self) -> float | None:
        """Return the shortest round trip of the fastest link in use, None before anything was acknowledged."""
        paths = [path for path in self._in_use() if path.rates]
        return max(paths, key=lambda path: path.rate).shortest_s if paths else None

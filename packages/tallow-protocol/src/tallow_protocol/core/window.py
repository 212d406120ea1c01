"""How many bytes may be on their way: a sliding window that follows bandwidth times delay."""

from __future__ import annotations

import math
from collections import deque

__all__ = ["Window"]

INITIAL_BYTES = 4 * 1024 * 1024
"""Eight chunks of the usual 512 KiB: enough for 40 MB/s at 100 ms before anything was measured."""

RATE_SAMPLES = 16


class Window:
    """Counts unacknowledged bytes and sizes itself from what comes back. `now` is monotonic seconds.

    The target is twice the delivery rate (the best of the last samples) times the shortest round trip
    of the session, as BBR does it, between the initial size and `limit_bytes` (what Welcome allows a pair to have in flight).
    While the window itself is what bounds the rate, the target doubles each round trip. The shortest round trip never
    expires: on a slow link every later one has our own queue in it, and the window would feed on itself.
    """

    def __init__(self, *, limit_bytes: int, initial_bytes: int = INITIAL_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.bytes = min(initial_bytes, limit_bytes)
        self.in_flight_bytes = 0
        self._floor = self.bytes
        self._delivered = 0
        self._rates: deque[float] = deque(maxlen=RATE_SAMPLES)
        self._shortest_s = math.inf

    def has_room(self, size_bytes: int) -> bool:
        """Return whether `size_bytes` more may go; one record always may, however large."""
        return self.in_flight_bytes == 0 or self.in_flight_bytes + size_bytes <= self.bytes

    def sent(self, size_bytes: int) -> int:
        """Count bytes as on their way; return the mark that `acknowledged` wants back."""
        self.in_flight_bytes += size_bytes
        return self._delivered

    def lost(self, size_bytes: int) -> None:
        """Take back bytes whose connection ended."""
        self.in_flight_bytes -= size_bytes

    def acknowledged(self, size_bytes: int, *, sent_at: float, mark: int, now: float) -> None:
        """Count bytes as delivered, sent at `sent_at` with `mark`, and adapt."""
        self.in_flight_bytes -= size_bytes
        self._delivered += size_bytes
        round_trip = max(now - sent_at, 1e-6)
        self._shortest_s = min(self._shortest_s, round_trip)
        self._rates.append((self._delivered - mark) / round_trip)
        target = 2 * max(self._rates) * self._shortest_s
        self.bytes = int(min(max(target, self._floor), self.limit_bytes))

    @property
    def rate_bytes_per_s(self) -> float | None:
        """Return the delivery rate, None before anything was acknowledged."""
        return max(self._rates) if self._rates else None

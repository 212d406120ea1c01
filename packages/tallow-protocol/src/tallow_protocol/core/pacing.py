"""Pacer: a bound on the bytes a second of file data, over all connections together. Pure: `now` is monotonic seconds.

A token bucket that may be overdrawn by one record: a record leaves once the bucket is not empty, so the bound holds for
any record size, and what is spent too much is waited for before the next.
"""

from __future__ import annotations

from tallow_protocol.errors import MisuseError

__all__ = ["BURST_S", "RECORD_S", "Pacer"]

BURST_S = 0.1
"""How much of what was not used may be made up for: too little to be seen, enough for a busy machine's late wake-ups."""

RECORD_S = 0.125
"""How much a record may hold of a second's bytes where it can be cut so: with BURST_S, never a quarter of a second's
worth at once. A record has 64 KiB at least, whatever the rate."""


class Pacer:
    """Says when the next record may be planned."""

    def __init__(self, bytes_per_s: float) -> None:
        """`bytes_per_s` is the bound, more than 0."""
        if not bytes_per_s > 0:
            raise MisuseError("a rate is more than 0 bytes a second")
        self.bytes_per_s = bytes_per_s
        self._level = 0.0
        self._at: float | None = None
        self._refused = False

    @property
    def record_bytes(self) -> int:
        """Return how many bytes a record should have at most."""
        return int(self.bytes_per_s * RECORD_S)

    def allows(self, now: float) -> bool:
        """Return whether a record may be planned now; if not, `next_deadline` says when to ask again."""
        if self._at is not None and now > self._at:
            most = self.bytes_per_s * BURST_S
            self._level = min(self._level + (now - self._at) * self.bytes_per_s, most)
        self._at = now if self._at is None else max(now, self._at)
        self._refused = self._level < -1  # a byte: rounding must not have it asked for ever
        return not self._refused

    def spend(self, size_bytes: int) -> None:
        """Count a record that was planned; a negative number gives back what it did not need."""
        self._level -= size_bytes

    def next_deadline(self) -> float | None:
        """Return when a record that was refused may be planned, None if none was."""
        if not self._refused or self._at is None:
            return None
        return self._at - self._level / self.bytes_per_s

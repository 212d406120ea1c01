"""RateLimiter: what an address, a room and the whole relay may do in a time (core, pure).

Token buckets: `burst` at once, then `rate` a second. Joins are asked for and refused; bytes are charged after
they moved, and the answer is how long the next ones have to wait. So over any time t at most
burst + rate * t, and the one piece that was charged last, pass a bucket.
"""

import heapq
import ipaddress
from dataclasses import dataclass

# A bucket is about 150 bytes; this many addresses with a history cost 15 MB. Beyond it a newcomer waits.
TRACKED_ADDRESSES = 100_000


def address_key(host: str) -> str:
    """Return what counts as one address: an IPv4 address, or the /64 of an IPv6 one.

    An IPv4-mapped IPv6 address is its IPv4 address, a zone (`%eth0`) is left out. A text that is no
    address is its own key.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))


@dataclass(slots=True)
class TokenBucket:
    """`burst` tokens at most, `rate_per_s` new ones a second; `level` may be negative after a charge."""

    rate_per_s: float
    burst: float
    level: float
    at: float

    @classmethod
    def full(cls, rate_per_s: float, burst: float, *, now: float) -> "TokenBucket":
        """Return a bucket with all its tokens."""
        return cls(rate_per_s, burst, burst, now)

    def take(self, count: float, *, now: float) -> float:
        """Take `count` tokens if they are there and return 0; else take none and return the seconds until."""
        self._fill(now)
        if self.level >= count:
            self.level -= count
            return 0.0
        return (count - self.level) / self.rate_per_s

    def charge(self, count: float, *, now: float) -> float:
        """Take `count` tokens in any case; return the seconds until the level is not negative."""
        self._fill(now)
        self.level -= count
        return max(0.0, -self.level / self.rate_per_s)

    def full_at(self) -> float:
        """Return when the bucket is full again and may be forgotten."""
        return self.at + (self.burst - self.level) / self.rate_per_s

    def _fill(self, now: float) -> None:
        if now > self.at:
            self.level = min(self.burst, self.level + (now - self.at) * self.rate_per_s)
            self.at = now


@dataclass(frozen=True, slots=True)
class RateLimits:
    """The limits of a RateLimiter; a rate of 0 bytes means that it is not limited."""

    joins_per_minute: float = 60.0
    joins_burst: float = 240.0
    room_bytes_per_s: float = 0.0
    address_bytes_per_s: float = 0.0
    total_bytes_per_s: float = 0.0


class RateLimiter:
    """All token buckets of one relay. `key` is an address as `address_key` gives it."""

    def __init__(self, limits: RateLimits) -> None:
        self._limits = limits
        self._joins: dict[str, TokenBucket] = {}
        self._addresses: dict[str, TokenBucket] = {}
        self._rooms: dict[int, TokenBucket] = {}
        self._total: TokenBucket | None = None
        self._forget_at: list[tuple[float, int, str]] = []

    @property
    def limits_bytes(self) -> bool:
        """Whether any rate of bytes is limited at all."""
        limits = self._limits
        return bool(limits.room_bytes_per_s or limits.address_bytes_per_s or limits.total_bytes_per_s)

    @property
    def tracked(self) -> int:
        """The number of buckets that are kept for addresses."""
        return len(self._joins) + len(self._addresses)

    def join(self, key: str, rooms: int, *, now: float) -> float:
        """Take one token for each room that an address asks for; 0 if granted, else seconds to wait."""
        bucket = self._joins.get(key)
        if bucket is None:
            if self.tracked >= TRACKED_ADDRESSES:
                self.forget(now=now)
            if self.tracked >= TRACKED_ADDRESSES:
                return 60.0
            rate = self._limits.joins_per_minute / 60.0
            bucket = self._joins[key] = TokenBucket.full(rate, self._limits.joins_burst, now=now)
            self._note(bucket.full_at() + 1.0, 0, key)
        return bucket.take(rooms, now=now)

    def charge(self, pair: int, keys: frozenset[str], count: int, *, now: float) -> float:
        """Charge `count` bytes of a pair to the room, to each address once and to the whole.

        Returns the seconds for which this pair has to stop reading.
        """
        limits = self._limits
        wait = 0.0
        if limits.room_bytes_per_s:
            bucket = self._rooms.get(pair)
            if bucket is None:
                rate = limits.room_bytes_per_s
                bucket = self._rooms[pair] = TokenBucket.full(rate, rate, now=now)
            wait = max(wait, bucket.charge(count, now=now))
        if limits.address_bytes_per_s:
            for key in keys:
                wait = max(wait, self._address(key, now).charge(count, now=now))
        if limits.total_bytes_per_s:
            if self._total is None:
                rate = limits.total_bytes_per_s
                self._total = TokenBucket.full(rate, rate, now=now)
            wait = max(wait, self._total.charge(count, now=now))
        return wait

    def pair_ended(self, pair: int) -> None:
        """Forget the bucket of a room."""
        self._rooms.pop(pair, None)

    def next_deadline(self) -> float | None:
        """Return when `forget` may have something to do."""
        return self._forget_at[0][0] if self._forget_at else None

    def forget(self, *, now: float) -> None:
        """Drop the buckets that are full again: they say nothing about their address any more."""
        while self._forget_at and self._forget_at[0][0] <= now:
            _, kind, key = heapq.heappop(self._forget_at)
            buckets = self._addresses if kind else self._joins
            full_at = buckets[key].full_at()
            if full_at <= now:
                del buckets[key]
            else:
                self._note(full_at, kind, key)

    def _address(self, key: str, now: float) -> TokenBucket:
        bucket = self._addresses.get(key)
        if bucket is None:
            rate = self._limits.address_bytes_per_s
            bucket = self._addresses[key] = TokenBucket.full(rate, rate, now=now)
            self._note(now + 1.0, 1, key)
        return bucket

    def _note(self, at: float, kind: int, key: str) -> None:
        heapq.heappush(self._forget_at, (at, kind, key))

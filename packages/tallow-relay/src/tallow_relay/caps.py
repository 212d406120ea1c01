"""How many connections stand at once: in all, per address, and in the handshake (core, pure).

A newcomer beyond a cap is refused; whoever is here stays. A refusal is an Error frame over the encrypted
connection, so a few places beyond each cap serve only to say it; beyond these, and beyond the cap of
handshakes, a connection is dropped unheard.
"""

from collections import Counter
from dataclasses import dataclass

from tallow_relay.errors import RoomRefusedError

# Places beyond a cap that serve only to tell a newcomer that the relay is full; each is held for at most
# two seconds.
REFUSALS_AT_ONCE = 64
REFUSALS_PER_ADDRESS = 8


@dataclass(frozen=True, slots=True)
class CapLimits:
    """The caps; docs/relay-operations.md has the cost of each."""

    connections: int = 10_000
    connections_per_address: int = 1024
    handshakes: int = 512


class ConnectionCaps:
    """Counts connections by address key (see ratelimit.address_key).

    A connection is admitted, then established (its handshake ended well), then gone; or admitted and gone.
    """

    def __init__(self, limits: CapLimits) -> None:
        self._limits = limits
        self._per_address: Counter[str] = Counter()
        self._handshakes: Counter[str] = Counter()
        self.connections = 0
        self.handshakes = 0

    def admit(self, key: str) -> bool:
        """Count a newcomer in its handshake and return True; False, nothing counted, beyond the caps."""
        limits = self._limits
        if self.handshakes >= limits.handshakes or self.connections >= limits.connections + REFUSALS_AT_ONCE:
            return False
        if self._per_address[key] >= limits.connections_per_address + REFUSALS_PER_ADDRESS:
            return False
        self.connections += 1
        self.handshakes += 1
        self._per_address[key] += 1
        self._handshakes[key] += 1
        return True

    def established(self, key: str) -> None:
        """Note that the handshake of one connection from this address ended well."""
        if self._handshakes[key] > 0:
            self._take_handshake(key)

    def gone(self, key: str) -> None:
        """Forget one connection from this address.

        Whether it was in its handshake is not known; one of the address's handshakes is taken off where there
        is one. While both kinds of an address come and go the count may be too low by those that went, and
        is right again when they settled; the count of connections is always right.
        """
        if self._handshakes[key] > 0:
            self._take_handshake(key)
        else:
            del self._handshakes[key]
        self.connections -= 1
        self._per_address[key] -= 1
        if self._per_address[key] <= 0:
            del self._per_address[key]

    def check(self, key: str) -> None:
        """Raise RoomRefusedError where an established newcomer has one of the places beyond a cap."""
        if self.connections > self._limits.connections:
            raise RoomRefusedError(
                "relay_full", "the relay holds as many connections as it may", retry_after_s=30
            )
        if self._per_address[key] > self._limits.connections_per_address:
            raise RoomRefusedError(
                "rate_limited", "this address holds as many connections as it may", retry_after_s=30
            )

    def _take_handshake(self, key: str) -> None:
        self.handshakes -= 1
        self._handshakes[key] -= 1
        if self._handshakes[key] <= 0:
            del self._handshakes[key]

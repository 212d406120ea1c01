"""Control messages that survive their connection: numbered, acknowledged, re-sent, dropped when repeated."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from tallow_protocol.errors import ViolationError
from tallow_protocol.limits import OFFER_PART_BYTES, OFFER_PARTS, UNACKNOWLEDGED_MESSAGES

__all__ = ["ControlChannel"]

EARLY_MESSAGE_BYTES = OFFER_PARTS * OFFER_PART_BYTES + 8 * 1024 * 1024
"""72 MiB kept at most until what comes before it is there: an offer whole, and all the short messages there may be."""


@dataclass(slots=True)
class _Kept:
    data: bytes
    connection: int | None


class ControlChannel:
    """One direction's numbering of what we send, and the other's order of what we receive.

    Connections are named by small integers of the caller's. Number 0 is never kept, acknowledged or re-sent.
    """

    def __init__(self) -> None:
        self._queued: deque[bytes] = deque()
        self._passing: deque[bytes] = deque()
        self._kept: dict[int, _Kept] = {}
        self._next_number = 1
        self._received = 0
        self._early: dict[int, bytes] = {}
        self._early_bytes = 0
        self._ack_sent = 0
        self._repeat_seen = False

    @property
    def ack(self) -> int:
        """Return the highest number up to which everything arrived."""
        return self._received

    @property
    def settled(self) -> bool:
        """Return whether everything numbered was acknowledged."""
        return not self._kept and not self._queued

    @property
    def room(self) -> int:
        """Return how many numbered messages may be queued before the limit."""
        return UNACKNOWLEDGED_MESSAGES - len(self._kept) - len(self._queued)

    @property
    def ack_owed(self) -> bool:
        """Return whether the peer should hear what arrived, even if we have nothing to say."""
        return self._received > self._ack_sent or self._repeat_seen

    @property
    def acknowledged(self) -> int:
        """Return the highest number up to which the peer has everything."""
        return min(self._kept, default=self._next_number) - 1

    def queue(self, data: bytes) -> int:
        """Queue one numbered message; return the number that it will be sent under."""
        self._queued.append(data)
        return self._next_number + len(self._queued) - 1

    def queue_passing(self, data: bytes) -> None:
        """Queue one message of number 0; an empty one is a bare acknowledgement."""
        self._passing.append(data)

    def take(self, connection: int) -> tuple[int, int, bytes] | None:
        """Return (number, ack, data) of what goes next on `connection`, or None.

        What a lost connection left goes first, then new numbered messages, then passing ones; last, an owed
        acknowledgement by itself.
        """
        chosen: tuple[int, bytes] | None = None
        for number, kept in self._kept.items():
            if kept.connection is None:
                kept.connection = connection
                chosen = number, kept.data
                break
        if chosen is None and self._queued and len(self._kept) < UNACKNOWLEDGED_MESSAGES:
            number, data = self._next_number, self._queued.popleft()
            self._next_number += 1
            self._kept[number] = _Kept(data, connection)
            chosen = number, data
        if chosen is None and self._passing:
            chosen = 0, self._passing.popleft()
        if chosen is None:
            if not self.ack_owed:
                return None
            chosen = 0, b""
        self._ack_sent = self._received
        self._repeat_seen = False
        return chosen[0], self._received, chosen[1]

    def has_work(self) -> bool:
        """Return whether `take` would give something."""
        return bool(
            self._passing
            or self.ack_owed
            or (self._queued and len(self._kept) < UNACKNOWLEDGED_MESSAGES)
            or any(kept.connection is None for kept in self._kept.values())
        )

    def received(self, number: int, ack: int, data: bytes) -> list[bytes]:
        """Take one arrived control record; return the messages that are now in order, oldest first.

        Raises ViolationError for a number or an acknowledgement that cannot be.
        """
        if ack >= self._next_number:
            raise ViolationError("The peer acknowledged a message that was never sent.")
        for settled in [n for n in self._kept if n <= ack]:
            del self._kept[settled]
        if number == 0:
            return [data] if data else []
        if number <= self._received or number in self._early:
            self._repeat_seen = True
            return []
        if number > self._received + UNACKNOWLEDGED_MESSAGES:
            raise ViolationError("The peer sent a control message far ahead of its turn.")
        self._early[number] = data
        self._early_bytes += len(data)
        ready = []
        while self._received + 1 in self._early:
            self._received += 1
            ready.append(self._early.pop(self._received))
            self._early_bytes -= len(ready[-1])
        if self._early_bytes > EARLY_MESSAGE_BYTES:
            raise ViolationError("The peer sent too many long messages ahead of their turn.")
        return ready

    def lost(self, connection: int) -> None:
        """Mark what was sent on `connection` and not acknowledged for sending again.

        An acknowledgement that it carried may be lost too, so one is owed again.
        """
        for kept in self._kept.values():
            if kept.connection == connection:
                kept.connection = None
        if self._received:
            self._repeat_seen = True

"""When the sides of a session that lost their last connection try to meet again. Time and chance are arguments.

An absence begins with the loss of the last connection and ends with the session's next progress: a connection that
comes up and carries nothing does not end it, so that a path which lets only small packets through is not tried for
ever without a pause. Both ways of coming back, the relay's room and the other side's addresses, have a back-off of
their own: at once, then after about 0.5, 1, 2, 4, 8, 10 s, each drawn from the upper half of its ceiling. The wait
counts from where the try before began: one that hung for ten seconds is followed at once. A change of this machine's
own network begins anew, since what failed before it says nothing.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "DONE_RETURN_S",
    "FIRST_S",
    "MOST_LIMIT_S",
    "MOST_S",
    "STEADY_RETURN_S",
    "UNHEARD_RETURN_S",
    "Absence",
    "Backoff",
    "Returning",
    "Way",
]

FIRST_S: Final = 0.5
MOST_S: Final = 10.0
"""A relay that restarts is met within this of its return; six tries a minute cost nobody anything."""

DONE_RETURN_S: Final = 30.0
"""How long a receiver that has everything comes back to say so."""

UNHEARD_RETURN_S: Final = 20.0
"""How long a receiver comes back that does not know whether the sender's session began. If it did not, the sender is
back in the code's room and waits for a new handshake."""

STEADY_RETURN_S: Final = 60.0
"""A connection that lived this long ended the absence, whatever it carried: the silence of 45 s cannot have."""


MOST_LIMIT_S: Final = 30 * 24 * 3600.0
"""A month: as long as what arrived is kept."""


class Way(enum.Enum):
    """How a session's sides come back to each other."""

    ROOM = "room"
    """Through a relay, in the session's rejoin room."""
    DIRECT = "direct"
    """By dialling where the other side listens."""


class Backoff:
    """Waits whose ceiling doubles from `first_s` to `most_s`, drawn evenly from its upper half.

    `random` gives a number from 0 up to 1. The upper half spreads two sides that lost each other at one moment, and
    still grows: no wait is longer than twice the one before.
    """

    __slots__ = ("_first_s", "_most_s", "_random", "_streak")

    def __init__(self, first_s: float, most_s: float, random: Callable[[], float]) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._random = random
        self._streak = 0

    def next_s(self) -> float:
        """Return the next wait in seconds."""
        # 2**64 times anything is beyond every ceiling; a float would overflow at 2**1024.
        ceiling_s = min(self._first_s * 2.0 ** min(self._streak, 64), self._most_s)
        self._streak += 1
        return ceiling_s * (0.5 + self._random() / 2)

    def reset(self) -> None:
        """Begin anew with the first ceiling."""
        self._streak = 0


class Absence:
    """How long one side waits for the other: the session's part of the rule.

    `limit_s` 0 is never. `gone` says that no connection stands; `since` when the absence began, None where there is
    none. It outlasts a connection that came up and carried nothing.
    """

    __slots__ = ("_back_at", "_most_s", "gone", "limit_s", "since")

    def __init__(self, limit_s: float) -> None:
        self._most_s = limit_s
        self.limit_s = limit_s
        self.gone = False
        self.since: float | None = None
        self._back_at: float | None = None

    @property
    def allowed(self) -> bool:
        """Return whether there is any waiting at all."""
        return self.limit_s > 0

    @property
    def ends_at(self) -> float | None:
        """Return when the other side has been waited for long enough; None while a connection stands."""
        return self.since + self.limit_s if self.gone and self.since is not None else None

    def left_s(self, now: float) -> float:
        """Return how long it will be waited yet."""
        ends_at = self.ends_at
        return self.limit_s if ends_at is None else max(ends_at - now, 0.0)

    def begin(self, now: float, at_most_s: float = MOST_LIMIT_S) -> None:
        """Note that no connection stands any more; `at_most_s` is a lower limit for this time."""
        if self.gone:
            return
        steady = self._back_at is not None and now - self._back_at >= STEADY_RETURN_S
        if self.since is None or steady:
            self.since = now
            self.limit_s = min(self._most_s, at_most_s)
        self.gone = True

    def back(self, now: float) -> bool:
        """Note that a connection stands; return whether none did before."""
        was_gone, self.gone = self.gone, False
        if was_gone:
            self._back_at = now
        return was_gone

    def progress(self) -> None:
        """Note that something new arrived."""
        if not self.gone:
            self.since = self._back_at = None


class _TriedWay:
    __slots__ = ("backoff", "began", "not_before", "trying")

    def __init__(self, backoff: Backoff) -> None:
        self.backoff = backoff
        self.began = 0.0
        self.not_before = 0.0
        self.trying = False


class Returning:
    """Which way to try when: the keeper's part of the rule. `look` gives each try once, `ended` says it failed."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._ways: dict[Way, _TriedWay] = {}
        self._absence: float | None = None

    def look(self, since: float, ways: Iterable[Way], now: float) -> list[Way]:
        """Return the ways to try now, in the absence that began at `since`."""
        if since != self._absence:
            self._absence = since
            for tried in self._ways.values():
                tried.not_before = now
                tried.backoff.reset()
        due = []
        for way in ways:
            tried = self._ways.setdefault(way, _TriedWay(Backoff(FIRST_S, MOST_S, self._random)))
            if not tried.trying and now >= tried.not_before:
                tried.trying = True
                tried.began = now
                due.append(way)
        return due

    def ended(self, way: Way, now: float) -> None:
        """Take note that a try failed, or was given up, or that the connection which it made is used now.

        In one absence the next try waits, whatever became of this one. One that took as long as the longest wait was no
        refusal: packets vanished, or nobody came. It is followed at once.
        """
        tried = self._ways[way]
        tried.trying = False
        if now - tried.began >= MOST_S:
            tried.backoff.reset()
        tried.not_before = max(now, tried.began + tried.backoff.next_s())

    def afresh(self, now: float) -> None:
        """Take note that this machine's network changed: what is not being tried is tried now, and soon again."""
        for tried in self._ways.values():
            tried.backoff.reset()
            tried.not_before = now

    def next_at(self, ways: Iterable[Way]) -> float | None:
        """Return when the next try begins; None where every way is being tried, or there is none."""
        waiting = [
            self._ways[way].not_before for way in ways if way in self._ways and not self._ways[way].trying
        ]
        return min(waiting, default=None)

    def trying(self, way: Way) -> bool:
        """Return whether `way` is being tried."""
        return way in self._ways and self._ways[way].trying

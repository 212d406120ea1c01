"""When a client that stands in a room, or wants to, tries the relay again. Time and chance are arguments.

    what happened                                  before it ever stood        after it stood
    no address could be reached                    the error, at once          again, with back-off
    the connection ended, or the relay was silent  again, with back-off        again, with back-off from the start
    Restarting                                     again when it says          again when it says
    Error that may pass (full, rate, closing)      the error, at once          again, not before retry_after
    Error no_such_room                             the error, at once          again while the sender may come back
    any other Error                                the error, at once          the error, at once

Back-off answers failures to reach a relay only. A wrong guess is none: who meets again after one starts anew here,
at once, or a stranger could keep the sender away from its own room.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final

from tallow_net.errors import NetError, RelayRefusedError
from tallow_net.limits import BACKOFF_FIRST_S, BACKOFF_MAX_S, CONNECT_S, RECONNECT_FOR_S, ROOM_RETURN_S
from tallow_net.relay.session import RelayRestarts
from tallow_net.signaling import ErrorCode, error_name

__all__ = ["Backoff", "Presence", "Reconnect"]

_NO_SUCH_ROOM: Final = error_name(ErrorCode.NO_SUCH_ROOM)


class Backoff:
    """Waits whose ceiling doubles from 0.5 s to 30 s; each is drawn evenly below its ceiling.

    `random` gives a number from 0 up to 1. Drawing from zero on spreads the clients of a relay that just came back.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._ceiling_s = BACKOFF_FIRST_S

    def next_s(self) -> float:
        """Return the next wait in seconds."""
        wait_s = self._random() * self._ceiling_s
        self._ceiling_s = min(2 * self._ceiling_s, BACKOFF_MAX_S)
        return wait_s

    def reset(self) -> None:
        """Begin anew with the lowest ceiling."""
        self._ceiling_s = BACKOFF_FIRST_S


class Presence(Enum):
    """Whether the client stands in its room."""

    NEW = "new"
    """It never stood there."""
    STANDING = "standing"
    ABSENT = "absent"
    """It stood there, and is on its way back."""


class Reconnect:
    """The rule above for one meeting. Each `after_...` returns the seconds to wait, or raises the error given.

    `now` is monotonic time in seconds; `connect_for_s` bounds everything before the client first stands in the
    room, ten minutes each absence after that.
    """

    def __init__(self, random: Callable[[], float], now: float, *, connect_for_s: float = CONNECT_S) -> None:
        self._backoff = Backoff(random)
        self._presence = Presence.NEW
        self._give_up_at = now + connect_for_s
        self._restarts_until = now
        self._room_back_by = now

    @property
    def presence(self) -> Presence:
        """Whether the client stands in its room."""
        return self._presence

    def stands(self) -> None:
        """Note that the relay answered Waiting."""
        self._presence = Presence.STANDING
        self._backoff.reset()

    def after_failed_connect(self, error: NetError, now: float) -> float:
        """Answer that no address could be reached."""
        if self._presence is Presence.NEW and now >= self._restarts_until:
            raise error
        return self._again(error, now)

    def after_loss(self, error: NetError, now: float) -> float:
        """Answer an open connection that ended, or whose relay fell silent."""
        self._go_absent(now)
        return self._again(error, now)

    def after_restart(self, event: RelayRestarts, now: float) -> float:
        """Answer Restarting: wait as long as it asks, and a little more by chance."""
        self._go_absent(now)
        self._restarts_until = now + event.reconnect_in_s + event.try_for_s
        self._give_up_at = max(self._give_up_at, self._restarts_until)
        self._room_back_by = max(self._room_back_by, self._restarts_until)
        return event.reconnect_in_s + self._backoff.next_s()

    def after_refusal(self, error: RelayRefusedError, now: float) -> float:
        """Answer an Error of the relay."""
        if self._presence is Presence.NEW:
            raise error
        self._go_absent(now)
        sender_may_return = error.code == _NO_SUCH_ROOM and now < self._room_back_by
        if not sender_may_return and not error.retryable:
            raise error
        return self._again(error, now, at_least_s=float(error.retry_after_s or 0))

    def _go_absent(self, now: float) -> None:
        if self._presence is Presence.STANDING:
            self._presence = Presence.ABSENT
            self._give_up_at = now + RECONNECT_FOR_S
            self._room_back_by = now + ROOM_RETURN_S

    def _again(self, error: NetError, now: float, at_least_s: float = 0.0) -> float:
        wait_s = max(self._backoff.next_s(), at_least_s)
        if now + wait_s > self._give_up_at:
            raise error
        return wait_s

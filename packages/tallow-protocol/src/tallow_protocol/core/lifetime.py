"""Lifetime: whether a session has begun, waits without a connection, is about to end, or has ended, and why.

A session that lost its last connection is `gone` (core/rejoining.py): it waits until a new one stands, or ends after
its limit. One that ends has a moment to say so, and to hear that everything arrived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallow_net.signaling import Side

from tallow_protocol.core.rejoining import DONE_RETURN_S, MOST_LIMIT_S, UNHEARD_RETURN_S, Absence
from tallow_protocol.core.state import TransferState, TransferStateMachine
from tallow_protocol.errors import PeerLeftError
from tallow_protocol.limits import DONE_WAIT_S

if TYPE_CHECKING:
    from tallow_protocol.core.mailbox import Mailbox
    from tallow_protocol.errors import ProtocolError

__all__ = ["Lifetime"]

FAREWELL_S = 2.0
"""How long the news of a failure may take to leave before the connections are closed anyway."""


class Lifetime:
    """One session's. Times are monotonic seconds.

    `error` is why it ended badly or is about to, `last_loss` why its last connection ended. `begun` is whether the peer
    has shown its identity: before that, a loss ends the attempt and no more. `ended` says that nothing is left to do.
    """

    def __init__(
        self, side: Side, mailbox: Mailbox, machine: TransferStateMachine, *, rejoin_s: float
    ) -> None:
        """`rejoin_s` is how long a session without a connection waits for a new one; 0 ends it at once."""
        self.machine = machine
        self.begun = False
        self.ended = False
        self.error: ProtocolError | None = None
        self.last_loss: ProtocolError | None = None
        self._side = side
        self._mailbox = mailbox
        self._absence = Absence(rejoin_s)
        self._ends_at: float | None = None
        self._done_again = False

    # -- without a connection ------------------------------------------------------------------------------

    @property
    def gone(self) -> bool:
        """Return whether no connection stands and the session waits for one."""
        return self._absence.gone and not self.ended

    @property
    def gone_since(self) -> float | None:
        """Return when the present absence began, which outlasts a connection that came up and carried nothing."""
        return self._absence.since

    def left_s(self, now: float) -> float:
        """Return how long a session that is gone waits yet."""
        return self._absence.left_s(now)

    @property
    def lost_by(self) -> str:
        """Return who ended the last connection: "peer" or "network"."""
        by = self.last_loss.by if isinstance(self.last_loss, PeerLeftError) else "network"
        return "peer" if by == "peer" else "network"

    def lost_all(self, now: float, *, unproven: bool) -> None:
        """Take note that no proven connection is left; `unproven` says that another one still is."""
        if not self._may_return():
            if self._ends_at is not None and not unproven:
                self._ends_at = now
            return
        if self._ends_at is not None and not self._done_again:
            self._done_again = True
            self._ends_at = now + DONE_RETURN_S
        self._absence.begin(now, UNHEARD_RETURN_S if self._unheard else MOST_LIMIT_S)

    def back(self, now: float) -> bool:
        """Take note that a connection is proven; return whether none was."""
        return self._absence.back(now)

    def progress(self) -> None:
        """Take note that something new arrived: an absence is over only then."""
        self._absence.progress()

    def _may_return(self) -> bool:
        """Return whether the loss of the last connection is to be waited out.

        A receiver that has everything comes back only to say so; a sender that heard it has nothing left to say.
        """
        if not self._absence.allowed or not self.begun or self.error is not None or self.ended:
            return False
        if self.machine.state is TransferState.COMPLETED:
            return self._side is Side.B and not self._mailbox.settled
        return True

    @property
    def _unheard(self) -> bool:
        """Return whether a receiver does not know that the sender's session began: else that waits for a new one."""
        return self._side is Side.B and not self._mailbox.acknowledged

    # -- the end -------------------------------------------------------------------------------------------

    @property
    def ending(self) -> bool:
        """Return whether the end may come with whatever arrives or leaves."""
        return self._ends_at is not None

    def fail(self, error: ProtocolError, now: float) -> bool:
        """End with an error; return whether that is news. Its farewell has two seconds to leave."""
        if self.error is not None or self.machine.state is TransferState.COMPLETED:
            return False
        self.error = error
        if self.begun:
            self.machine.to(TransferState.FAILED)
        # Without a connection there is nobody to tell.
        self._ends_at = now if self._absence.gone else now + FAREWELL_S
        return True

    def complete(self, now: float) -> None:
        """Reach the good end; what is still unacknowledged has five seconds."""
        self.machine.to(TransferState.COMPLETED)
        self._ends_at = now + DONE_WAIT_S

    def stranded(self, now: float) -> None:
        """End because no connection is left and none will come."""
        self.fail(self.last_loss or PeerLeftError(by="network"), now)
        self.ended = True

    def next_deadline(self) -> float | None:
        """Return when `tick` has something to do by itself, None for never."""
        if self._ends_at is not None:
            return self._ends_at
        return self._absence.ends_at if self.gone else None

    def tick(self, now: float, *, connected: bool) -> bool:
        """Notice the end; return whether the connections that stand are to be lost for it not to come yet.

        A receiver that has everything and that nobody hears says so on another connection, once.
        """
        if self._ends_at is None:
            if self._absence.ends_at is not None and now >= self._absence.ends_at:
                self._give_up(now)
            return False
        if now >= self._ends_at and connected and not self._done_again and self._may_return():
            return True
        if now >= self._ends_at or self._mailbox.idle:
            self.ended = True
        return False

    def _give_up(self, now: float) -> None:
        """End where the other side did not come back."""
        waited = f"{self._absence.limit_s / 60:.3g} minutes"
        if self._absence.limit_s < 120:
            waited = f"{self._absence.limit_s:.3g} s"
        hint = "check that both sides are online, then send the same again: it continues there"
        if self._unheard:
            hint = (
                "if the sender still waits, receive again with the same code; else send again for a new one"
            )
        self.fail(
            PeerLeftError(
                f"the connection was lost and could not be made again within {waited}; what arrived is kept",
                by=self.lost_by,
                hints=(hint,),
            ),
            now,
        )
        self.ended = True

"""Role: what a sender or a receiver does with a session, as the session asks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tallow_protocol.core.links import Link
    from tallow_protocol.core.messages import Message
    from tallow_protocol.core.records import Header
    from tallow_protocol.core.sending import Filled, Plan
    from tallow_protocol.core.session import Session

__all__ = ["Role"]


class Role(Protocol):
    """What makes a session a sender's or a receiver's."""

    @property
    def offer_bytes(self) -> int | None:
        """Return the bytes of the files of the offer, None while it is not known."""

    def started(self, session: Session, now: float) -> None:
        """Begin; our Auth is queued, the peer's has not come."""

    def authenticated(self, session: Session, now: float) -> None:
        """Go on: the peer showed its identity."""

    def confirmed(self, session: Session, now: float) -> None:
        """Go on: the user compared the digits and said yes."""

    def message(self, session: Session, message: Message, now: float) -> None:
        """Take one control message, in order."""

    def verify(self, header: Header, body: memoryview) -> bool:
        """Compare a bulk record with what it says of itself; False where `store` has to. Any thread, beside all others."""

    def store(self, header: Header, body: memoryview, *, verified: bool) -> object:
        """Do the rest of a bulk record; runs in the worker."""

    def stored(self, session: Session, link: Link, outcome: object, now: float) -> None:
        """Take the outcome of what arrived on `link`."""

    def before_control(self, session: Session, link: Link) -> None:
        """Queue what is better said in one message than in many; control is about to leave on `link`."""

    def plan(self, link: Link, now: float) -> Plan | None:
        """Return what bulk goes next on this link."""

    def fill(self, plan: Plan, buffer: memoryview) -> Filled:
        """Make its record; runs in the worker."""

    def filled(self, session: Session, filled: Filled, now: float) -> None:
        """Take note of it."""

    def lost(self, link: Link) -> None:
        """Take back what was on its way on this link."""

    def oldest_sent_at(self, link: Link) -> float | None:
        """Return when the oldest unacknowledged bulk record on this link was planned."""

    def close(self) -> None:
        """Release files; runs in the worker."""

"""DeferredSender: a sender's role while the list of what it offers is still being made.

A receiver may come before a large folder has been read. The session begins then, with identities and digits; the offer
goes out when it is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallow_protocol.errors import MisuseError, UnexpectedMessageError

if TYPE_CHECKING:
    from tallow_protocol.core.links import Link
    from tallow_protocol.core.messages import Message
    from tallow_protocol.core.records import Header
    from tallow_protocol.core.sender import SenderRole
    from tallow_protocol.core.sending import Filled, Plan
    from tallow_protocol.core.session import Session

__all__ = ["DeferredSender"]


class DeferredSender:
    """Passes everything on to a `SenderRole`, once `offer` has given it one; until then it offers nothing."""

    def __init__(self) -> None:
        self._role: SenderRole | None = None
        self._authenticated = False

    def offer(self, role: SenderRole, session: Session, now: float) -> None:
        """Go on as `role`. What happened so far is made up for: the offer leaves if nobody has yet to say yes to it."""
        if self._role is not None:
            raise MisuseError("a session has one offer")
        self._role = role
        if session.over:
            return
        role.started(session, now)
        if self._authenticated:
            role.authenticated(session, now)

    @property
    def offer_bytes(self) -> int | None:
        """Return the bytes of all files, None while they are not counted."""
        return None if self._role is None else self._role.offer_bytes

    def started(self, session: Session, now: float) -> None:
        """Begin."""
        if self._role is not None:
            self._role.started(session, now)

    def authenticated(self, session: Session, now: float) -> None:
        """Note that the peer is somebody who may get the offer."""
        self._authenticated = True
        if self._role is not None:
            self._role.authenticated(session, now)

    def confirmed(self, session: Session, now: float) -> None:
        """Send the offer that waited for the digits; one that comes later need not wait."""
        if self._role is not None:
            self._role.confirmed(session, now)

    def message(self, session: Session, message: Message, now: float) -> None:
        """Take a message; nothing is answered that was not offered."""
        if self._role is None:
            raise UnexpectedMessageError
        self._role.message(session, message, now)

    def verify(self, header: Header, body: memoryview) -> bool:
        """Refuse bulk: only the sender sends it."""
        raise UnexpectedMessageError

    def store(self, header: Header, body: memoryview, *, verified: bool) -> object:
        """Never called: `verify` always raises."""
        raise UnexpectedMessageError

    def stored(self, session: Session, link: Link, outcome: object, now: float) -> None:
        """Never called: `verify` always raises."""

    def before_control(self, session: Session, link: Link) -> None:
        """Look whether acknowledgements made room for what waits."""
        if self._role is not None:
            self._role.before_control(session, link)

    def plan(self, link: Link, now: float) -> Plan | None:
        """Return what to read next for this link."""
        return None if self._role is None else self._role.plan(link, now)

    def fill(self, plan: Plan, buffer: memoryview) -> Filled:
        """Read, hash and compress; runs in the worker."""
        if self._role is None:
            raise MisuseError("nothing was planned")
        return self._role.fill(plan, buffer)

    def filled(self, session: Session, filled: Filled, now: float) -> None:
        """Take the digests."""
        if self._role is not None:
            self._role.filled(session, filled, now)

    def lost(self, link: Link) -> None:
        """Queue again what was on its way on this link."""
        if self._role is not None:
            self._role.lost(link)

    def oldest_sent_at(self, link: Link) -> float | None:
        """Return when the oldest unacknowledged record on this link was planned."""
        return None if self._role is None else self._role.oldest_sent_at(link)

    def close(self) -> None:
        """Close the sources."""
        if self._role is not None:
            self._role.close()

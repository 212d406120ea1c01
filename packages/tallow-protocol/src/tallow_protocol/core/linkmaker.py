"""LinkMaker: how the connections of a session come to be: connection 0, those that we attach, those that the peer does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallow_crypto import RecordOpener, RecordSealer
from tallow_net.signaling import Side

from tallow_protocol.core.attach import AttachAcceptor, AttachedConnection, AttachOpener, first_number
from tallow_protocol.core.links import Link

if TYPE_CHECKING:
    from tallow_protocol.core.keyschedule import SessionKeys
    from tallow_protocol.events import PathKind

__all__ = ["LinkMaker"]


class LinkMaker:
    """Gives each connection its number and its two keys. What becomes of it is a `LinkTable`'s."""

    def __init__(self, side: Side, keys: SessionKeys, *, epoch_shift: int) -> None:
        """`epoch_shift` is that of the record keys: a new one after 2 ** `epoch_shift` records."""
        self._side = side
        self._other = Side.B if side is Side.A else Side.A
        self._keys = keys
        self._epoch_shift = epoch_shift
        self._next_ident = 0
        self._next_number = first_number(side)
        self._acceptor = AttachAcceptor(keys, self._other)

    def first(self, now: float, path: PathKind) -> Link:
        """Return connection 0, which carried the handshake.

        For A it is proven by B's first record; B has confirm_A already.
        """
        attached = AttachedConnection(0, self._keys.nonce_a, self._keys.nonce_b)
        return self._link(attached, now, path, proven=self._side is Side.B, dedicated=False)

    def next_number(self) -> int:
        """Return a connection number of ours that was not used."""
        number = self._next_number
        self._next_number += 2
        return number

    def opener(self, number: int, nonce: bytes) -> AttachOpener:
        """Return an attempt to attach our connection `number`; `nonce` is 32 fresh random bytes."""
        return AttachOpener(self._keys, number, nonce)

    def opened(
        self, opener: AttachOpener, ack: bytes, now: float, path: PathKind, *, dedicated: bool
    ) -> Link:
        """Return the link of an attempt that was answered; it owes the peer a first record. Raises AttachError."""
        link = self._link(opener.receive_ack(ack), now, path, proven=True, dedicated=dedicated)
        link.owes_first = True
        return link

    def accepted(
        self, attach: bytes, nonce: bytes, now: float, path: PathKind, *, dedicated: bool
    ) -> tuple[Link, bytes]:
        """Take a peer's Attach; return the link, which is not proven, and the Ack to send. Raises AttachError."""
        attached = self._acceptor.answer(attach, nonce)
        return self._link(attached, now, path, proven=False, dedicated=dedicated), attached.ack

    def proven(self, link: Link) -> None:
        """Take note that a record of the peer opened on a link. Raises AttachError where its number was used meanwhile."""
        if link.number:
            self._acceptor.opened(link.attached)

    def lost(self, link: Link) -> None:
        """Take note that a link ended; of one that the peer never proved, another try may come."""
        if not link.proven and link.number:
            self._acceptor.ended(link.attached)

    def _link(
        self, attached: AttachedConnection, now: float, path: PathKind, *, proven: bool, dedicated: bool
    ) -> Link:
        keys, shift = self._keys, self._epoch_shift
        ident = self._next_ident
        self._next_ident += 1
        return Link(
            ident,
            attached.number,
            RecordSealer(keys.suite, attached.record_secret(keys, self._side), epoch_shift=shift),
            RecordOpener(keys.suite, attached.record_secret(keys, self._other), epoch_shift=shift),
            now,
            proven=proven,
            attached=attached,
            path=path,
            dedicated=dedicated,
        )

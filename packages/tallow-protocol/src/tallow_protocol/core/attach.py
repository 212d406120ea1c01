"""Attach and Ack: how a further connection of a session proves itself and gets keys of its own.

    Attach (81)  0x01 || x("tag", n)[:16] || r_o (32) || HMAC-SHA-512(x("attach", n), 0x01 || r_o)[:32]
    Ack    (65)  0x02 || r_a (32) || HMAC-SHA-512(x("attach", n), 0x02 || r_o || r_a)[:32]

The opener's first record completes it. Number n is spent when that record opens and not before; until then up to
four Attaches with one n stand side by side, each with its own r_a, so a replayed Attach yields a connection whose
first record its copier cannot make, and uses nothing up. A opens even numbers from 2, B odd ones from 1.

Connections are opened side by side over paths of different speed, so a number may be attached before a lower one:
the lower one stays valid until the highest is 64 numbers ahead of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallow_crypto.kdf import hmac_sha512
from tallow_crypto.secret import equal
from tallow_net.signaling import Side

from tallow_protocol.errors import AttachError, MisuseError
from tallow_protocol.limits import (
    ACK_BYTES,
    ATTACH_BYTES,
    ATTACHES_PER_NUMBER,
    CONNECTION_NUMBER_MAX,
    CONNECTION_NUMBERS_AHEAD,
)

if TYPE_CHECKING:
    from tallow_crypto.secret import Secret

    from tallow_protocol.core.keyschedule import SessionKeys
    from tallow_protocol.core.records import Buffer

__all__ = ["ACK_TYPE", "ATTACH_TYPE", "AttachAcceptor", "AttachOpener", "AttachedConnection", "first_number"]

ATTACH_TYPE = 0x01
ACK_TYPE = 0x02
_TAG_BYTES = 16
_NONCE_BYTES = 32
_MAC_BYTES = 32


def first_number(opener: Side) -> int:
    """Return the first connection number that `opener` opens: 2 for A, 1 for B; each next one is 2 higher."""
    return 2 if opener is Side.A else 1


def _mac(key: Secret, data: bytes) -> bytes:
    return hmac_sha512(key, data)[:_MAC_BYTES]


@dataclass(frozen=True, slots=True)
class AttachedConnection:
    """A connection whose keys are known: its number and both nonces (32 bytes each).

    For an acceptor `ack` is the 65-byte body to send, and the connection counts as attached only once its first
    record opened and `AttachAcceptor.opened` was called. For an opener `ack` is empty.
    """

    number: int
    opener_nonce: bytes
    acceptor_nonce: bytes
    ack: bytes = b""

    def record_secret(self, keys: SessionKeys, side: Side) -> Secret:
        """Return secret_0 (64 bytes) of what `side` seals on this connection."""
        return keys.record_secret(self.number, side, self.opener_nonce, self.acceptor_nonce)


class AttachOpener:
    """One try to attach connection `number`; `nonce` is r_o, 32 fresh random bytes for each try.

    A try without an Ack is repeated with the same number and a new nonce, which is a new AttachOpener.
    """

    __slots__ = ("_done", "_key", "_nonce", "_number", "attach")

    def __init__(self, keys: SessionKeys, number: int, nonce: bytes) -> None:
        if len(nonce) != _NONCE_BYTES:
            raise MisuseError("an Attach needs a nonce of 32 bytes")
        if not 1 <= number <= CONNECTION_NUMBER_MAX:
            raise MisuseError(f"connection number {number} cannot be opened: 0 carried the handshake")
        self._number = number
        self._nonce = nonce
        self._key = keys.attach_key(number)
        self._done = False
        head = bytes((ATTACH_TYPE,))
        self.attach = head + keys.attach_tag(number) + nonce + _mac(self._key, head + nonce)

    def __repr__(self) -> str:
        return f"AttachOpener(number={self._number})"

    def receive_ack(self, body: Buffer) -> AttachedConnection:
        """Return the attached connection for a valid Ack body (65 bytes). Raises AttachError; usable once."""
        if self._done:
            raise MisuseError("this Attach was answered already; make a new AttachOpener for another try")
        self._done = True
        ack = bytes(body) if len(body) == ACK_BYTES else b""
        if not ack or ack[0] != ACK_TYPE:
            raise AttachError("the other side did not answer an Attach with an Ack")
        nonce = ack[1:33]
        if not equal(ack[33:], _mac(self._key, ack[:1] + self._nonce + nonce)):
            raise AttachError("the answer to an Attach does not verify")
        return AttachedConnection(self._number, self._nonce, nonce)


class AttachAcceptor:
    """Answers the Attaches of one session's peer.

    `opener` is the peer's side, which fixes the parity of its numbers; `highest` is the highest number already
    attached (0 at the start). It knows the tags of the peer's next 64 numbers, and of those among the 64 before
    that were passed over: 16 bytes each.
    """

    __slots__ = ("_highest", "_keys", "_opener", "_passed", "_pending", "_tags")

    def __init__(self, keys: SessionKeys, opener: Side, highest: int = 0) -> None:
        self._keys = keys
        self._opener = opener
        self._highest = highest
        self._passed: list[int] = []
        self._tags: dict[int, bytes] = {}
        self._pending: dict[int, list[AttachedConnection]] = {}

    def __repr__(self) -> str:
        return f"AttachAcceptor(opener={self._opener.name}, highest={self._highest})"

    @property
    def highest(self) -> int:
        """The highest number attached so far."""
        return self._highest

    def _window(self) -> dict[int, bytes]:
        start = self._next()
        numbers = range(start, min(start + 2 * CONNECTION_NUMBERS_AHEAD, CONNECTION_NUMBER_MAX + 1), 2)
        self._tags = {n: self._tags.get(n) or self._keys.attach_tag(n) for n in (*self._passed, *numbers)}
        return self._tags

    def _next(self) -> int:
        start = first_number(self._opener)
        if self._highest >= start:
            start = self._highest + 2 - (self._highest - start) % 2
        return start

    def answer(self, body: Buffer, nonce: bytes) -> AttachedConnection:
        """Return the connection that an Attach body (81 bytes) asks for, with the Ack to send.

        `nonce` is r_a, 32 fresh random bytes. Raises AttachError for a wrong length or type, an unknown or spent
        number, a MAC that does not verify, and a fifth try of one number; the connection is then closed without
        an answer.
        """
        if len(nonce) != _NONCE_BYTES:
            raise MisuseError("an Ack needs a nonce of 32 bytes")
        attach = bytes(body) if len(body) == ATTACH_BYTES else b""
        if not attach or attach[0] != ATTACH_TYPE:
            raise AttachError("a connection began with something that is no Attach")
        tag = attach[1 : 1 + _TAG_BYTES]
        opener_nonce = attach[17:49]
        number = 0
        for (
            candidate,
            known,
        ) in self._window().items():  # all of them, whatever matched: no timing by position
            number |= candidate * equal(tag, known)
        if number == 0:
            raise AttachError("a connection named a number that is unknown or spent")
        key = self._keys.attach_key(number)
        if not equal(attach[49:], _mac(key, attach[:1] + opener_nonce)):
            raise AttachError("an Attach does not verify")
        waiting = self._pending.setdefault(number, [])
        if len(waiting) >= ATTACHES_PER_NUMBER:
            raise AttachError(
                f"connection {number} was tried {ATTACHES_PER_NUMBER} times side by side already"
            )
        ack = bytes((ACK_TYPE,)) + nonce + _mac(key, bytes((ACK_TYPE,)) + opener_nonce + nonce)
        connection = AttachedConnection(number, opener_nonce, nonce, ack)
        waiting.append(connection)
        return connection

    def opened(self, connection: AttachedConnection) -> None:
        """Record that the first record of `connection` opened: its number is spent, its siblings are void.

        Raises AttachError when a sibling with the same number was first; that connection is then closed.
        """
        if connection not in self._pending.get(connection.number, ()):
            raise AttachError(f"connection {connection.number} is attached already")
        number = connection.number
        del self._pending[number]
        passed = [n for n in self._passed if n != number]
        if number > self._highest:
            passed += range(self._next(), number, 2)
            self._highest = number
        oldest = self._highest - 2 * CONNECTION_NUMBERS_AHEAD
        self._passed = [n for n in passed if n >= oldest]

    def ended(self, connection: AttachedConnection) -> None:
        """Forget a try whose connection ended before its first record opened; unknown tries are ignored."""
        waiting = self._pending.get(connection.number, [])
        if connection in waiting:
            waiting.remove(connection)
        if not waiting:
            self._pending.pop(connection.number, None)

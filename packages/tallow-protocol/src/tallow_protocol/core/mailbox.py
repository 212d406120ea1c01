"""Mailbox: the typed messages of one session, over a `ControlChannel` that outlives its connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallow_protocol.core.control import ControlChannel
from tallow_protocol.core.messages import Ping, Received, TallowCodec
from tallow_protocol.core.records import control_record
from tallow_protocol.errors import UnexpectedMessageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tallow_protocol.core.links import Link
    from tallow_protocol.core.messages import Message
    from tallow_protocol.core.records import ControlHeader

__all__ = ["Mailbox", "Undecoded"]

LONG_OFFER_BYTES = 16 * 1024
"""A part of an offer longer than this is decoded in a job: a MiB of it would hold the loop for 60 ms and more."""


@dataclass(frozen=True, slots=True)
class Undecoded:
    """A part of an offer that is worth a worker's time. `Mailbox.decoded` is told once it was decoded."""

    codec: TallowCodec
    data: bytes

    def decode(self) -> Message:
        """Return the message. Raises ViolationError."""
        return self.codec.decode(self.data)


class Mailbox:
    """What is said and what is heard, in order; links are those of the session."""

    def __init__(self) -> None:
        self._codec = TallowCodec()
        self._control = ControlChannel()
        self._decoding = 0

    # -- out -----------------------------------------------------------------------------------------------

    def send(self, message: Message) -> int:
        """Queue one numbered message; return its number."""
        return self._control.queue(self._codec.encode(message))

    def send_passing(self, message: Message, link: Link | None) -> None:
        """Queue one message that is never re-sent, for `link` alone where it is about what that carries."""
        data = self._codec.encode(message)
        if link is None:
            self._control.queue_passing(data)
        else:
            link.passing.append(data)

    @property
    def acknowledged(self) -> int:
        """Return up to which of our numbered messages the peer has everything."""
        return self._control.acknowledged

    @property
    def room(self) -> int:
        """Return how many numbered messages may be queued before the limit."""
        return self._control.room

    @property
    def settled(self) -> bool:
        """Return whether the peer has every numbered message."""
        return self._control.settled

    @property
    def idle(self) -> bool:
        """Return whether the peer has everything, and is owed no word about what we have."""
        return self._control.settled and not self._control.has_work()

    def next_record(self, link: Link, *, speaks: bool) -> bytearray | None:
        """Return the record to seal next on `link`, None if there is nothing to say; `speaks`: what is for any link, too."""
        taken: tuple[int, int, bytes] | None = None
        if speaks:
            taken = self._control.take(link.ident)
        if taken is None and link.passing:
            taken = 0, self._control.ack, link.passing.popleft()
        if taken is None and link.owes_first:
            taken = 0, self._control.ack, b""
        if taken is None:
            return None
        link.owes_first = False
        return control_record(*taken)

    def ping_record(self) -> bytearray:
        """Return the record that says no more than that we are there, and what arrived."""
        return control_record(0, self._control.ack, self._codec.encode(Ping()))

    def lost(self, link: Link) -> None:
        """Queue again what was sent on `link` and not acknowledged."""
        self._control.lost(link.ident)

    # -- in ------------------------------------------------------------------------------------------------

    def take(self, header: ControlHeader, content: bytes) -> Iterator[Message | Undecoded]:
        """Take one arrived record; give the messages that are in order now, one at a time.

        What follows a part of an offer that is still being decoded waits with it where it is one, too. Raises
        ViolationError, UnexpectedMessageError where the peer numbered what has no number, or the reverse.
        """
        for data in self._control.received(header.number, header.ack, content):
            if self._codec.is_offer(data) and (self._decoding or len(data) > LONG_OFFER_BYTES):
                if header.number == 0:
                    raise UnexpectedMessageError("the peer sent a part of its offer without a number")
                self._decoding += 1
                yield Undecoded(self._codec, data)
                continue
            message = self._codec.decode(data)
            if isinstance(message, Ping | Received) is not (header.number == 0):
                raise UnexpectedMessageError("the peer numbered a message that has no number, or the reverse")
            yield message

    def decoded(self) -> None:
        """Take note that a job is done with the oldest part that was given undecoded."""
        self._decoding -= 1

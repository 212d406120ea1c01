"""A sender and a receiver: the cores that the commands run, and around them what the shell does, without threads.

A peer meets the other at a relay (SignalingClient), proves the code (the handshake's states with a GuessBudget), runs
the Session with its role and pipeline over any number of wires, and ends with a result or an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallow_net.signaling import LeaveReason, Side
from tallow_protocol.core.chunking import ChunkConfig
from tallow_protocol.core.codes import AbortCode
from tallow_protocol.core.deferred import DeferredSender
from tallow_protocol.core.handshake import ReceiverStart, SenderStart, encode_abort
from tallow_protocol.core.pacing import BURST_S, Pacer
from tallow_protocol.core.receiver import ReceiverRole
from tallow_protocol.core.sender import SenderRole
from tallow_protocol.core.sending import SendPipeline
from tallow_protocol.core.session import Session
from tallow_protocol.core.state import TransferState
from tallow_protocol.core.window import Window
from tallow_protocol.errors import (
    CodeBurnedError,
    PeerLeftError,
    ProtocolError,
    ViolationError,
    WrongCodeError,
)
from tallow_protocol.events import (
    OfferReceived,
    PeerIdentified,
)

from tests.sim.peer import Peer
from tests.sim.world import BrokenRuleError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tallow_protocol.aio.streambuffer import StreamBuffer
    from tallow_protocol.code import Code
    from tallow_protocol.core.messages import Entry
    from tallow_protocol.events import Event

    from tests.sim.net import Net


class SendingPeer(Peer):
    """Side A."""

    side = Side.A

    def __init__(
        self,
        net: Net,
        code: Code,
        entries: Sequence[Entry],
        sources,
        *,
        scan_s: float,
        digests=None,
        buffer: StreamBuffer | None = None,
        rate: float | None = None,
        **options,
    ) -> None:
        super().__init__(net, code, name="sender", **options)
        self._buffer = buffer
        self._rate = rate
        self._pacer: Pacer | None = None
        self._entries = entries
        self._sources = sources
        self._scan_s = scan_s
        self._digests = digests
        self._awaiting = None
        self.pipeline: SendPipeline | None = None

    def stands(self) -> None:
        """Tell the code: the receiver may come."""
        self.net.code_told(self)

    def prove(self) -> None:
        start = SenderStart(self.inputs(), self.world.fresh(32))
        self._line.write(start.hello)
        awaiting = start.sent()
        self._expect(lambda body: self._replied(awaiting, body))

    def _replied(self, awaiting, body: bytes) -> None:
        try:
            established = awaiting.receive_reply(body, self.budget)
        except WrongCodeError as error:
            code = AbortCode.WRONG_CODE if error.left else AbortCode.BURNED
            self.world.note(f"sender counts a wrong guess, {error.left} left")
            self._line.retire(self.world, encode_abort(code))
            if error.left == 0:
                self.errand(LeaveReason.BURNED)
                self.fail(CodeBurnedError())
            else:
                self.meet()
            return
        except ProtocolError as error:
            told = isinstance(error, ViolationError)
            self._line.retire(self.world, encode_abort(AbortCode.of(error)) if told else None)
            self.meet()
            return
        self._line.write(established.confirm)
        role = DeferredSender()
        self._pacer = None if self._rate is None else Pacer(self._rate)
        self.bulk_bytes, self.bulk_since = 0, self.world.now
        session = Session(
            side=Side.A,
            keys=established.keys,
            identity=self.identity,
            role=role,
            verify=self._verify,
            now=self.world.now,
            machine=self._machine,
            sas_nonce=established.r_a,
            epoch_shift=self.net.epoch_shift,
            rejoin_s=self._rejoin_s,
            paths=self._limit,
            pacer=self._pacer,
        )
        self.world.after(self._scan_s, lambda: self._scanned(session, role))
        self.begin(session)

    def _scanned(self, session: Session, role: DeferredSender) -> None:
        if not self.alive or session is not self.session or self.ended:
            return
        self.pipeline = SendPipeline(
            self._entries,
            self._sources,
            window=Window(limit_bytes=self.net.in_flight_bytes),
            chunks=ChunkConfig(usual_bytes=self.net.usual_bytes, largest_bytes=self.net.chunk_bytes),
            record_bytes=None if self._pacer is None else self._pacer.record_bytes,
            streams=None if self._buffer is None else {0: self._buffer},
            compress=self.net.compress,
            clock=(lambda: self.world.now) if self.net.compress else None,
            digests=self._digests,
        )
        role.offer(SenderRole(self._entries, self.pipeline, self.identity), session, self.world.now)
        if self._buffer is not None and self._buffer.error is not None:
            session.fail(self._buffer.error, self.world.now)
        self.settle()

    def count_bulk(self, size_bytes: int) -> None:
        super().count_bulk(size_bytes)
        if self._rate is not None:
            most = self._rate * (self.world.now - self.bulk_since + BURST_S) + 2 * self.net.largest_record
            if self.bulk_bytes > most:
                raise BrokenRuleError("no more a second than is allowed", f"{self.bulk_bytes} of {most:.0f}")

    def moved(self) -> None:
        """Look again: a stream has more, has ended, or cannot be read."""
        if self.alive and self.session is not None and not self.ended:
            if self._buffer.error is not None:
                self.session.fail(self._buffer.error, self.world.now)
            self.settle()

    def attempt_lost(self) -> None:
        self._wait_for(None, self.meet)
        if self.alive and not self.ended:
            self.meet()

    def stranded(self) -> None:
        if self.session.begun:
            super().stranded()
            return
        self.session.role.close()
        self.session = None
        self._machine.to(TransferState.CONNECTING)
        self.meet()

    def take(self, event: Event) -> None:
        super().take(event)
        if isinstance(event, PeerIdentified):
            self.errand(LeaveReason.SPENT)


class ReceivingPeer(Peer):
    """Side B."""

    side = Side.B

    def __init__(self, net: Net, code: Code, folder, **options) -> None:
        super().__init__(net, code, **options)
        self._folder = folder
        self.answer = "yes"
        self.chosen: frozenset[int] | None = None
        self.before_yes: Callable[[], None] = lambda: None
        self._silent = 0
        self._left = self.budget.left

    def prove(self) -> None:
        self._left = self.budget.left
        start = ReceiverStart(self.inputs())
        self._expect(lambda body: self._hello(start, body))

    def _hello(self, start: ReceiverStart, body: bytes) -> None:
        try:
            replied = start.receive_hello(body, self.budget)
        except ProtocolError as error:
            self.over(error)
            return
        self._line.write(replied.reply)
        self._expect(lambda confirm: self._confirmed(replied, confirm))

    def _confirmed(self, replied, body: bytes) -> None:
        try:
            established = replied.receive_confirm(body, self.budget)
        except ProtocolError as error:
            self.over(error)
            return
        self.role = ReceiverRole(self._folder, self.identity.public_key.fingerprint)
        session = Session(
            side=Side.B,
            keys=established.keys,
            identity=self.identity,
            role=self.role,
            verify=self._verify,
            now=self.world.now,
            machine=self._machine,
            sas_commitment=established.sas_commit,
            epoch_shift=self.net.epoch_shift,
            rejoin_s=self._rejoin_s,
            paths=self._limit,
        )
        self.begin(session)

    def over(self, error: ProtocolError) -> None:
        """End the attempt with what it raised."""
        told = isinstance(error, ViolationError)
        self._line.retire(self.world, encode_abort(AbortCode.of(error)) if told else None)
        self.fail(error)

    def attempt_lost(self) -> None:
        self._wait_for(None, self.meet)
        if not self.alive or self.ended:
            return
        if self.budget.burned:
            self.fail(CodeBurnedError())
            return
        self._silent += self.budget.left == self._left
        if self._silent > 2:
            self.fail(PeerLeftError(by="peer"))
            return
        self.meet()

    def take(self, event: Event) -> None:
        super().take(event)
        if isinstance(event, OfferReceived):
            self.world.after(self.net.answer_s, self._accept)

    def _accept(self) -> None:
        if self.alive and not self.ended:
            if self.answer == "yes":
                self.before_yes()
                self.role.accept(self.session, self.world.now, chosen=self.chosen)
            else:
                self.role.refuse(
                    self.session,
                    self.world.now,
                    unattended=self.answer == "unattended",
                    looked=self.answer == "looked",
                )
            self.settle()

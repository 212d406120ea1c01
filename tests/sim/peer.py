"""What a sender and a receiver share: the relay, the handshake's frame, the session over any number of wires, the end."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from tallow_crypto import CryptoError, Secret
from tallow_net import NetError
from tallow_net.errors import RelayUnreachableError
from tallow_net.relay.reconnect import Reconnect
from tallow_net.relay.session import LeftRoom, Paired, Refused, RelaySilent, SignalingClient, Standing
from tallow_net.signaling import LeaveReason, Side
from tallow_protocol.aio.failures import translated
from tallow_protocol.core.budget import GuessBudget
from tallow_protocol.core.handshake import HandshakeInputs
from tallow_protocol.core.rejoining import Returning, Way
from tallow_protocol.core.state import TransferState, TransferStateMachine
from tallow_protocol.errors import (
    AttachError,
    InternalError,
    ProtocolError,
)
from tallow_protocol.events import (
    PathKind,
    PathLimit,
    TransferDone,
    TransferProgress,
    VerificationNeeded,
)
from tallow_protocol.limits import REPLY_WAIT_S

from tests.sim.returning import PeerLostNetError, Return
from tests.sim.shell import RETIRE_S, Line, Runner, Worker
from tests.sim.world import BrokenRuleError, Timer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallow_protocol.code import Code
    from tallow_protocol.core.session import Session
    from tallow_protocol.events import Event

    from tests.sim.net import Net
    from tests.sim.wire import End


CLOCK_S = 1e-6
OVERDUE = 500
"""So often in a row may a deadline lie in the past; each costs a turn of the event loop."""

SPOILED_EVERY = 24
"""One record in so many is spoiled by a side that lies."""


class Peer:
    """What both sides share."""

    side: Side

    def __init__(
        self,
        net: Net,
        code: Code,
        *,
        name: str,
        verify: bool,
        cost_s: float,
        rejoin_s: float = 0.0,
        limit: PathLimit = PathLimit.ANY,
    ) -> None:
        self.world = net.world
        self.net = net
        self.code = code
        self.name = name
        self.identity = net.crypto.identity(name.encode())
        self.alive = True
        self.cost_s = cost_s
        self.spoils = False
        self.bulk_bytes = 0
        self.bulk_since = 0.0
        self.error: ProtocolError | None = None
        self.summary: TransferDone | None = None
        self.session: Session | None = None
        self.ended = False
        self.budget = GuessBudget()
        self.events: list[Event] = []
        self.runners: dict[int, Runner] = {}
        self.worker = Worker(self, cost_s)
        self.aside = Worker(self, 3 * cost_s)
        self._rejoin_s = rejoin_s
        self._limit = limit
        self._returning = Returning(lambda: self.world.tape.below(16) / 16)
        self._returns: Timer | None = None
        self._verify = verify
        self._machine = TransferStateMachine()
        self._machine.to(TransferState.CONNECTING)
        self._lease = self.world.fresh(16)
        self._dials = 0
        self._redial: Timer | None = None
        self._timer: Timer | None = None
        self._waits: Timer | None = None
        self._settling = False
        self._overdue = 0
        self.tokens: tuple[bytes, ...] = ()
        self._line: Line | None = None
        self._signal: SignalingClient | None = None
        self._again: Reconnect | None = None

    # -- the relay -----------------------------------------------------------------------------------------

    def meet(self) -> None:
        """Go to the room of the code."""
        self._again = Reconnect(lambda: self.world.tape.below(16) / 16, self.world.now)
        self._dial()

    def _dial(self) -> None:
        if self.alive and not self.ended:
            self._dials += 1
            mine = self._dials
            self.world.note(f"{self.name} dials the relay")
            self.net.dial_relay(
                self, lambda end: self._relay_open(end, mine), lambda: self._relay_closed(mine)
            )

    def _relay_closed(self, mine: int) -> None:
        if self.alive and not self.ended and mine == self._dials:
            self._retry(lambda rule, now: rule.after_failed_connect(RelayUnreachableError("it is away"), now))

    def _retry(self, rule: Callable[[Reconnect, float], float]) -> None:
        try:
            wait_s = rule(self._again, self.world.now)
        except NetError as error:
            self.fail(translated(error))
            return
        if self._redial is not None:
            self._redial.cancel()
        self._redial = self.world.after(wait_s, self._dial)

    def _relay_open(self, end: End, mine: int) -> None:
        if not self.alive or self.ended or mine != self._dials:
            end.abort()
            return
        self._signal = SignalingClient()
        line = self._line = Line(
            end, self._signaled, lambda: self._line_lost() if self._line is line else None
        )
        self._signal.join(
            [self.code.room_id], self.side, self._lease, self.world.now, wait=self.side is Side.A
        )
        self._say()

    def _say(self) -> None:
        for body in self._signal.frames_to_send():
            self._line.write(body)
        self._wait_for(self._signal.next_deadline(), self._signal_due)

    def _wait_for(self, when: float | None, call: Callable[[], None]) -> None:
        if self._waits is not None:
            self._waits.cancel()
        self._waits = None if when is None else self.world.at(when, lambda: call() if self.alive else None)

    def _signal_due(self) -> None:
        event = self._signal.handle_timeout(self.world.now)
        if isinstance(event, RelaySilent):
            self._line.on_body = None
            self._line.end.abort()
            self._line_lost()
            return
        self._say()

    def _line_lost(self) -> None:
        self._wait_for(None, self.meet)
        if self.alive and not self.ended:
            self._retry(lambda rule, now: rule.after_loss(PeerLostNetError(), now))

    def _signaled(self, body: bytes) -> None:
        if not self.alive:
            return
        event = self._signal.receive(body, self.world.now)
        self.world.note(f"{self.name} hears {type(event).__name__}")
        self._say()
        match event:
            case Standing():
                self._again.stands()
                self.stands()
            case Paired():
                self.tokens = event.tokens
                self._wait_for(None, self.meet)
                self._line.on_lost = self.attempt_lost
                self.net.in_flight_bytes = self._signal.in_flight_bytes
                self.prove()
            case Refused():
                self._line.on_body = None
                self._line.end.close()
                self._wait_for(None, self.meet)
                self._retry(lambda rule, now: rule.after_refusal(event.error, now))
            case _:
                pass

    def errand(self, reason: LeaveReason) -> None:
        """Tell the relay on a fresh connection that the room is not needed any more."""

        def opened(end: End) -> None:
            signal = SignalingClient()

            def answered(body: bytes) -> None:
                if isinstance(signal.receive(body, self.world.now), LeftRoom):
                    end.close()

            line = Line(end, answered, lambda: None)
            signal.leave(self.code.room_id, self._lease, reason, self.world.now)
            for body in signal.frames_to_send():
                line.write(body)
            self.world.after(RETIRE_S, end.close)

        self.net.dial_relay(self, opened, lambda: None)

    # -- the handshake -------------------------------------------------------------------------------------

    def inputs(self) -> HandshakeInputs:
        """Return what one attempt needs, all of it new."""
        return HandshakeInputs(
            password=self.code.password,
            room_id=self.code.room_id,
            nonce=self.world.fresh(32),
            scalar=Secret(self.world.fresh(32)),
            grease=0xF000 + self.world.tape.below(16),
            fast_aes=True,
            kem=self.net.crypto.kem(),
        )

    def stands(self) -> None:
        """Take note that the room is ours."""

    @abstractmethod
    def prove(self) -> None:
        """Prove the code over the line."""

    @abstractmethod
    def attempt_lost(self) -> None:
        """Take note that the line ended before there were keys."""

    def _expect(self, take: Callable[[bytes], None]) -> None:
        def taken(body: bytes) -> None:
            self._wait_for(None, self.meet)
            if self.alive and not self.ended:
                take(body)

        def late() -> None:
            self._line.on_body = None
            self._line.end.abort()
            self.attempt_lost()

        self._line.on_body = taken
        self._wait_for(self.world.now + REPLY_WAIT_S, late)

    # -- the session ---------------------------------------------------------------------------------------

    def spoil(self, plaintext: bytearray | memoryview, start: int) -> None:
        """Flip a bit of what is about to be sealed, now and then: this side breaks the protocol."""
        running = self.session.machine.state in {TransferState.TRANSFERRING, TransferState.FINISHING}
        tape = self.world.tape
        if self.spoils and running and len(plaintext) > start and tape.chance(SPOILED_EVERY):
            # Half of the time near the beginning, where kinds, numbers and lengths are.
            reach = len(plaintext) - start if tape.below(2) else min(len(plaintext) - start, 40)
            plaintext[start + tape.below(reach)] ^= 1 << tape.below(8)
            self.world.note(f"{self.name} spoils a record")

    def count_bulk(self, size_bytes: int) -> None:
        """Count file data that goes out; no more may go than the user allows."""
        self.bulk_bytes += size_bytes

    def begin(self, session: Session) -> None:
        """Run a session that begins on the line."""
        self.session = session
        line = self._line
        line.on_body = None
        link = session.first_link(self.world.now, PathKind.RELAY_TCP)
        self.runners[link.ident] = Runner(self, link, line.end, line.decoder.pending)
        self.world.note(f"{self.name} session")
        self.settle()

    def settle(self) -> None:
        """Let the session do all that it can now, then wait for its next deadline."""
        if self._settling or not self.alive or self.ended or self.session is None:
            return
        self._settling = True
        try:
            while not self.ended and self._turn():
                pass
        except (ProtocolError, CryptoError, NetError) as error:
            raise BrokenRuleError("no error escapes a session", f"{type(error).__name__}: {error}") from error
        finally:
            self._settling = False
        self._rearm()

    def _turn(self) -> bool:
        """Look at the session once, as the shell's loop does; return whether anything moved."""
        session = self.session
        session.tick(self.world.now)
        jobs = session.take_jobs()
        for job in jobs:
            (self.aside if job.apart else self.worker).submit(job)
        events = session.take_events()
        for event in events:
            if not isinstance(event, TransferProgress):
                self.world.note(f"{self.name} {type(event).__name__}")
            self.take(event)
        moved = bool(jobs or events)
        for ident, runner in list(self.runners.items()):
            if runner.link.lost:
                del self.runners[ident]
                runner.close()
                moved = True
            else:
                moved = runner.pump() or moved
        if isinstance(session.error, InternalError):
            fault = session.error.__cause__
            raise BrokenRuleError("every failure is a typed error", f"{self.name}: {fault!r}") from fault
        if session.finished:
            self._finish()
        elif session.gone:
            self._return()
        elif not session.links:
            self.stranded()
            return False
        return moved

    def _rearm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.ended or self.session is None or not self.alive:
            return
        deadline = self.session.next_deadline()
        if deadline is None:
            return
        self._overdue = self._overdue + 1 if deadline <= self.world.now else 0
        if self._overdue > OVERDUE:
            raise BrokenRuleError(
                "a timer lets time pass", f"{self.name}: due at {deadline:.6f} s, again and again"
            )
        # A real clock never stands at a deadline exactly.
        self._timer = self.world.at(max(deadline, self.world.now) + CLOCK_S, self.settle)

    # -- rejoin --------------------------------------------------------------------------------------------

    def _return(self) -> None:
        """Try to meet the other side again, each way when it is due."""
        now = self.world.now
        direct = (
            self.side is Side.B
            and self.net.direct
            and self.session.agreement.allowed is not PathLimit.RELAY_ONLY
        )
        ways = (Way.ROOM, Way.DIRECT) if direct else (Way.ROOM,)
        for way in self._returning.look(self.session.gone_since, ways, now):
            self.world.note(f"{self.name} returns by {way.value}")
            Return(self, way).start()
        due = self._returning.next_at(ways)
        if self._returns is not None:
            self._returns.cancel()
        if due is not None:
            self._returns = self.world.at(due + CLOCK_S, self.settle)

    def stranded(self) -> None:
        """End, or meet again: no connection is left."""
        self.session.stranded(self.world.now)
        self._finish()

    def _finish(self) -> None:
        session = self.session
        for runner in self.runners.values():
            runner.close()
        self.runners.clear()
        self.worker.close()
        self.aside.close()
        session.role.close()
        if session.error is not None:
            self.fail(session.error)
        elif not self.ended:
            self.ended = True
            self.world.note(f"{self.name} ended well")
            self.closed()

    def fail(self, error: ProtocolError) -> None:
        """End with an error."""
        if self.ended:
            return
        if not isinstance(error, ProtocolError) or isinstance(error, InternalError):
            raise BrokenRuleError(
                "every failure is a typed error", f"{self.name}: {error!r} from {error.__cause__!r}"
            )
        self.ended = True
        self.error = error
        self.world.note(f"{self.name} failed: {error.code}")
        self._wait_for(None, self.meet)
        if self._line is not None and self.session is None:
            self._line.on_body = None
            self._line.end.close()
        self.closed()

    def closed(self) -> None:
        """Do what leaves nothing behind."""

    def crash(self) -> None:
        """Die at once: every socket is reset, memory is gone."""
        self.alive = False
        self.ended = True
        self.world.note(f"{self.name} crashed")
        for timer in (self._timer, self._waits, self._returns, self._redial):
            if timer is not None:
                timer.cancel()
        for runner in self.runners.values():
            runner.end.abort()
        if self._line is not None:
            self._line.on_body = None
            self._line.end.abort()

    def take(self, event: Event) -> None:
        """React as a user would."""
        self.events.append(event)
        if isinstance(event, TransferDone):
            self.summary = event
        elif isinstance(event, VerificationNeeded) and event.must_confirm:
            self.world.after(self.net.answer_s, self._confirm)

    def _confirm(self) -> None:
        if self.alive and not self.ended and self.session.awaits_confirmation:
            self.session.confirm(yes=True, now=self.world.now)
            self.settle()

    # -- further connections -------------------------------------------------------------------------------

    def accept_data(self, token: bytes) -> None:
        """Wait for an Attach on a plain connection through the relay."""
        self.accept(self.net.dial_data(token), PathKind.RELAY_TCP, dedicated=True)

    def attach_data(self, token: bytes) -> None:
        """Attach over a plain connection through the relay."""

        def dial(peer: Peer, opened: Callable[[End], None]) -> None:
            opened(self.net.dial_data(token))

        self.attach(PathKind.RELAY_TCP, dedicated=True, dial=dial)

    def attach(self, path: PathKind, *, dedicated: bool, dial: Callable[..., None] | None = None) -> None:
        """Open one more connection of the session to the other side."""
        session = self.session
        number = session.next_number()

        def opened(end: End) -> None:
            if not self.alive or self.ended:
                end.abort()
                return
            opener = session.open_link(number, self.world.fresh(32))

            def answered(body: bytes) -> None:
                line.on_body = None
                try:
                    link = session.opened_link(opener, body, self.world.now, path=path, dedicated=dedicated)
                except AttachError:
                    end.abort()
                    return
                self.runners[link.ident] = Runner(self, link, end, line.decoder.pending)
                self.settle()

            line = Line(end, answered, end.close)
            line.write(opener.attach)

        (dial or self.net.dial_peer)(self, opened)

    def accept(self, end: End, path: PathKind, *, dedicated: bool) -> None:
        """Take a connection that the other side opened."""

        def first(body: bytes) -> None:
            line.on_body = None
            if not self.alive or self.ended or self.session is None:
                end.abort()
                return
            self.attached(end, line, body, path, dedicated=dedicated)

        line = Line(end, first, end.close)

    def attached(self, end: End, line: Line, body: bytes, path: PathKind, *, dedicated: bool) -> None:
        """Answer an Attach."""
        try:
            link, ack = self.session.accept_link(
                body, self.world.fresh(32), self.world.now, path=path, dedicated=dedicated
            )
        except AttachError:
            end.abort()
            return
        line.write(ack)
        self.runners[link.ident] = Runner(self, link, end, line.decoder.pending)
        self.settle()

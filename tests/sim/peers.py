"""A sender and a receiver: the cores that the commands run, and around them what the shell does, without threads.

A peer meets the other at a relay (SignalingClient), proves the code (the handshake's states with a GuessBudget), runs
the Session with its role and pipeline over any number of wires, and ends with a result or an error.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from typing import TYPE_CHECKING

from tallow_crypto import TAG_BYTES, CryptoError, Secret
from tallow_net import NetError
from tallow_net.errors import RelayUnreachableError
from tallow_net.framing import FrameDecoder, encode_frame, frame_header
from tallow_net.limits import PLAIN_FRAME_BYTES, SEALED_FRAME_BYTES
from tallow_net.relay.reconnect import Reconnect
from tallow_net.relay.session import LeftRoom, Paired, Refused, RelaySilent, SignalingClient, Standing
from tallow_net.signaling import LeaveReason, Side
from tallow_protocol.aio.failures import translated
from tallow_protocol.core.budget import GuessBudget
from tallow_protocol.core.chunking import ChunkConfig
from tallow_protocol.core.codes import AbortCode
from tallow_protocol.core.deferred import DeferredSender
from tallow_protocol.core.handshake import HandshakeInputs, ReceiverStart, SenderStart, encode_abort
from tallow_protocol.core.pacing import BURST_S, Pacer
from tallow_protocol.core.receiver import ReceiverRole
from tallow_protocol.core.records import RECORD_HEADER_BYTES
from tallow_protocol.core.rejoining import Returning, Way
from tallow_protocol.core.sender import SenderRole
from tallow_protocol.core.sending import SendPipeline
from tallow_protocol.core.session import Session
from tallow_protocol.core.state import TransferState, TransferStateMachine
from tallow_protocol.core.window import Window
from tallow_protocol.errors import (
    AttachError,
    CodeBurnedError,
    InternalError,
    PeerLeftError,
    ProtocolError,
    ViolationError,
    WrongCodeError,
)
from tallow_protocol.events import (
    OfferReceived,
    PathKind,
    PathLimit,
    PeerIdentified,
    TransferDone,
    TransferProgress,
    VerificationNeeded,
)
from tallow_protocol.limits import REPLY_WAIT_S

from tests.sim.world import BrokenRuleError, Timer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tallow_protocol.aio.streambuffer import StreamBuffer
    from tallow_protocol.code import Code
    from tallow_protocol.core.jobs import Job
    from tallow_protocol.core.links import Link
    from tallow_protocol.core.messages import Entry
    from tallow_protocol.events import Event

    from tests.sim.net import Net
    from tests.sim.wire import End
    from tests.sim.world import World

READ_AHEAD = 3
FILL_AHEAD = 3
INLINE_BYTES = 16 * 1024
"""As in `aio.links`: so short a record is opened where it arrives, unless others wait before it."""

RETIRE_S = 2.0
RETURN_S = 20.0
"""So long one try to meet again may take."""
CLOCK_S = 1e-6
OVERDUE = 500
JOB_TIMES = (1.0, 1.0, 0.1, 8.0)
"""What a thread's turn may take, in parts of a world's usual time."""

SPOILED_EVERY = 24
"""So often in a row may a deadline lie in the past; each costs a turn of the event loop."""


class Line:
    """A wire before its session: frames of at most 4 KiB, one expected at a time."""

    def __init__(self, end: End, on_body: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        self.end = end
        self.decoder = FrameDecoder(PLAIN_FRAME_BYTES)
        self.on_body: Callable[[bytes], None] | None = on_body
        self.on_lost = on_end
        end.on_data = self._data
        end.on_end = lambda cut: self._ended()

    def _data(self, data: bytes) -> None:
        self.decoder.push(data)
        self.look()

    def look(self) -> None:
        """Hand over whole frames while somebody wants them."""
        try:
            while (
                self.on_body is not None and not self.end.closed and (body := self.decoder.pop()) is not None
            ):
                self.on_body(body)
        except NetError:
            self.end.abort()
            self._ended()

    def _ended(self) -> None:
        if self.on_body is not None:
            self.on_body = None
            self.end.close()
            self.on_lost()

    def write(self, body: bytes) -> None:
        """Send one frame."""
        self.end.write(encode_frame(body))

    def retire(self, world: World, body: bytes | None = None) -> None:
        """End it so that what was said arrives."""
        if body is not None:
            self.write(body)
        self.on_body = None
        self.end.finish()
        world.after(RETIRE_S, self.end.close)


class Worker:
    """A thread of a peer's: jobs in order, each taking its time, and told of a little later.

    Between two threads nothing is ordered: each job's time is drawn, so that one asked for later may run before.
    """

    def __init__(self, peer: Peer, cost_s: float) -> None:
        self._peer = peer
        self._cost_s = cost_s
        self._jobs: deque[Job] = deque()
        self._busy = False
        self._told_at = 0.0

    def _time_s(self) -> float:
        return self._cost_s * self._peer.world.tape.pick(JOB_TIMES)

    def submit(self, job: Job) -> None:
        """Run it when those before it have run."""
        if not self._cost_s:
            job.run()
            job.finish(self._peer.world.now)
            return
        self._jobs.append(job)
        if not self._busy:
            self._busy = True
            self._peer.world.after(self._time_s(), self._turn)

    def close(self) -> None:
        """Drop what waits, as the shell's worker does."""
        self._jobs.clear()

    def _turn(self) -> None:
        if not self._peer.alive or not self._jobs:
            return
        job = self._jobs.popleft()
        job.run()
        if self._jobs:
            self._peer.world.after(self._time_s(), self._turn)
        else:
            self._busy = False
        self._told_at = max(self._told_at, self._peer.world.now + self._time_s() / 4)
        self._peer.world.at(self._told_at, lambda: self._tell(job))

    def _tell(self, job: Job) -> None:
        if self._peer.alive and not self._peer.ended:
            job.finish(self._peer.world.now)
            self._peer.settle()


class Runner:
    """Moves one connection's frames between its wire and the session, as `aio.links.LinkRunner` does."""

    def __init__(self, peer: Peer, link: Link, end: End, rest: bytes = b"") -> None:
        self.peer = peer
        self.link = link
        self.end = end
        self._decoder = FrameDecoder(SEALED_FRAME_BYTES)
        self._bodies: deque[bytes] = deque()
        self._opening = 0
        self._at_end = False
        self._filling = 0
        self._ready: deque[tuple[object, bytearray]] = deque()
        # A dedicated connection has a thread of its own, which opens what comes to the receiver, and fills at the sender.
        self._thread = Worker(peer, peer.cost_s) if link.dedicated else peer.worker
        self._never_inline = link.dedicated and peer.side is Side.B
        self._always_inline = link.dedicated and peer.side is Side.A
        end.on_data = self._data
        end.on_end = self._ended
        end.on_room = peer.settle
        if rest:
            self._decoder.push(rest)
            peer.world.after(0.0, lambda: self._data(b""))

    def _data(self, data: bytes) -> None:
        if not self.peer.alive or self.link.lost or self.peer.ended:
            return
        try:
            self._bodies.extend(self._decoder.feed(data))
        except NetError as error:
            self.peer.session.lost(self.link, self.peer.world.now, ViolationError(str(error)))
        self._open()
        self.peer.settle()

    def _open(self) -> None:
        session = self.peer.session
        while self._bodies and self._opening < READ_AHEAD and not session.finished:
            body = self._bodies.popleft()
            self._opening += 1
            job = session.incoming(self.link, memoryview(bytearray(body)), frame_header(len(body)))
            job.after = self._opened
            inline = len(body) <= INLINE_BYTES and self._opening == 1 and not self._never_inline
            if inline or self._always_inline:
                job.run()
                job.finish(self.peer.world.now)
            else:
                self._thread.submit(job)
        if len(self._bodies) > READ_AHEAD:
            self.link.hearing = False
            self.end.pause()

    def _opened(self) -> None:
        self._opening -= 1
        if len(self._bodies) <= READ_AHEAD and not self.end.reading and not self.end.closed:
            self.link.hearing = True
            self.end.resume()
        if self._bodies and self.peer.alive and not self.link.lost:
            self._open()
        if self._at_end and not self._opening and not self._bodies:
            self._ended(cut=False)

    def _ended(self, cut: bool) -> None:
        if not cut and (self._opening or self._bodies):
            self._at_end = True  # what came before the end is looked at before it
            return
        if self.peer.alive and not self.link.lost and not self.peer.ended:
            self.peer.session.lost(
                self.link, self.peer.world.now, PeerLeftError(by="network" if cut else "peer")
            )
            self.peer.settle()

    def pump(self) -> bool:
        """Write what the session has for this wire; return whether something moved."""
        session, now = self.peer.session, self.peer.world.now
        moved = False
        while self.end.room and not self.link.lost and not session.finished:
            record = session.control_record(self.link, now)
            if record is not None:
                self.peer.spoil(memoryview(record)[:-TAG_BYTES], RECORD_HEADER_BYTES)
                self.end.write(bytes(session.sealed_frame(self.link, record)))
                moved = True
                continue
            while self._filling + len(self._ready) < FILL_AHEAD:
                plan = session.plan(self.link, now)
                if plan is None:
                    break
                moved = True
                buffer = bytearray(SendPipeline.frame_capacity(plan))
                job = session.fill_job(plan, memoryview(buffer))
                self._filling += 1
                job.after = lambda job=job, buffer=buffer: self._filled(job, buffer)
                self._thread.submit(job)
            if not self._ready:
                break
            filled, buffer = self._ready.popleft()
            self.peer.spoil(memoryview(buffer)[4 : filled.frame_bytes - TAG_BYTES], 0)
            frame = session.bulk_frame(self.link, filled, memoryview(buffer), now)
            if frame is not None:
                self.peer.count_bulk(len(frame))
                self.end.write(bytes(frame))
            moved = True
        return moved

    def _filled(self, job: Job, buffer: bytearray) -> None:
        self._filling -= 1
        if job.error is None:
            self._ready.append((job.result, buffer))

    def close(self) -> None:
        """End the wire as the shell does."""
        if self._thread is not self.peer.worker:
            self._thread.close()
        if self.link.lost:
            self.end.abort()
        else:
            self.end.close()


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
        direct = self.side is Side.B and self.net.direct and self.session.allowed is not PathLimit.RELAY_ONLY
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


class Return:
    """One try to meet again: in the session's rejoin room, or at the other side's address."""

    def __init__(self, peer: Peer, way: Way) -> None:
        self.peer = peer
        self.way = way
        self.session = peer.session
        self.over = False

    def start(self) -> None:
        """Dial."""
        if self.way is Way.DIRECT:
            self.peer.net.dial_peer(self.peer, self.attach, self.end)
        else:
            self.peer.net.dial_relay(self.peer, self.join, self.end)
        self.peer.world.after(RETURN_S, self.end)

    @property
    def wanted(self) -> bool:
        """Return whether the session still waits."""
        peer = self.peer
        return not self.over and peer.alive and not peer.ended and self.session.gone

    def end(self) -> None:
        """Give up, or stop after success."""
        if self.over:
            return
        self.over = True
        self.peer._returning.ended(self.way, self.peer.world.now)
        self.peer.settle()

    def join(self, end: End) -> None:
        """Stand in the rejoin room."""
        peer, world = self.peer, self.peer.world
        if not self.wanted:
            end.abort()
            self.end()
            return
        signal = SignalingClient()

        def body(data: bytes) -> None:
            event = signal.receive(data, world.now)
            say()
            if isinstance(event, Paired):
                if peer.side is Side.A:
                    self.attach(end, line)
                else:
                    line.on_body = lambda attach: self.accepted(end, line, attach)
            elif isinstance(event, Refused):
                end.abort()
                self.end()

        def say() -> None:
            for frame in signal.frames_to_send():
                line.write(frame)

        line = Line(end, body, self.end)
        signal.join(
            [self.session.keys.rejoin_room], peer.side, world.fresh(16), world.now, wait=peer.side is Side.B
        )
        say()
        world.after(RETURN_S, lambda: line.on_body is None or end.abort())

    def attach(self, end: End, line: Line | None = None) -> None:
        """Attach over the new connection."""
        peer, session = self.peer, self.session
        if not self.wanted:
            end.abort()
            self.end()
            return
        opener = session.open_link(session.next_number(), peer.world.fresh(32))

        def answered(body: bytes) -> None:
            line.on_body = None
            if self.wanted:
                try:
                    link = session.opened_link(opener, body, peer.world.now, path=self.path)
                except AttachError:
                    end.abort()
                else:
                    peer.runners[link.ident] = Runner(peer, link, end, line.decoder.pending)
            else:
                end.abort()
            self.end()

        if line is None:
            line = Line(end, answered, self.end)
        line.on_body = answered
        line.write(opener.attach)
        line.look()

    def accepted(self, end: End, line: Line, body: bytes) -> None:
        """Answer an Attach that came over the new connection."""
        line.on_body = None
        if self.peer.alive and not self.peer.ended:
            self.peer.attached(end, line, body, self.path, dedicated=False)
        else:
            end.abort()
        self.end()

    @property
    def path(self) -> PathKind:
        """Return what kind of connection it makes."""
        return PathKind.DIRECT_TCP if self.way is Way.DIRECT else PathKind.RELAY_TCP


class PeerLostNetError(RelayUnreachableError):
    """A wire to the relay ended."""

    def __init__(self) -> None:
        super().__init__("the connection to the relay ended")


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
            chunks=ChunkConfig(usual_bytes=64 * 1024, largest_bytes=self.net.chunk_bytes),
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

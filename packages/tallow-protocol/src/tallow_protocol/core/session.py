"""Session: everything between two peers after the handshake, over any number of connections.

Pure: frames and `now` (monotonic seconds) in, frames and events out. The shell owns sockets and threads and asks, in
this order, as often as it likes: `incoming` with a frame, `run` the job it gives (anywhere, in order per
connection), `Job.finish`; `take_jobs` and the same; `control_frame` and `plan`/`fill_job`/`bulk_frame` for what to
send on a connection; `tick` at `next_deadline`. What a sender or a receiver does with messages is its role's.

The end of a connection means nothing to a session: unacknowledged control messages and chunks go again, sealed anew,
on the next one. A record that does not open ends its connection; a message that breaks the protocol ends the session.

Of several connections the best one carries control and file data (`core/paths.py` says which is better). A better one
takes over once it is proven; what was on its way elsewhere arrives there. While others stand by, a connection is given
up after a short silence.

Each of its jobs is a unit of its own: who the peer is (core/auth.py), messages in and out (core/mailbox.py), how a
connection comes to be (core/linkmaker.py), which one carries what (core/links.py), what both sides allow
(core/paths.py), how long one may be silent (core/silence.py), and when it all ends (core/lifetime.py).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from tallow_crypto import AuthenticationError, CryptoError
from tallow_net.signaling import Side

from tallow_protocol.core.auth import Introduction
from tallow_protocol.core.codes import CloseCode
from tallow_protocol.core.jobs import Job, no_silent_faults
from tallow_protocol.core.lifetime import Lifetime
from tallow_protocol.core.linkmaker import LinkMaker
from tallow_protocol.core.links import Link, LinkTable, ShownPath
from tallow_protocol.core.mailbox import Mailbox, Undecoded
from tallow_protocol.core.messages import Auth, Cancel, Message, Paths, Ping, Spread
from tallow_protocol.core.paths import PathAgreement, allows
from tallow_protocol.core.records import ControlHeader, parse_record
from tallow_protocol.core.silence import Silence
from tallow_protocol.core.state import TransferState, TransferStateMachine
from tallow_protocol.errors import (
    AuthError,
    CancelledByUserError,
    NoPathError,
    NotVerifiedError,
    PeerLeftError,
    ProtocolError,
    RecordError,
    UnexpectedMessageError,
    ViolationError,
)
from tallow_protocol.events import PathKind, PathLimit, Rejoined, TransferProgress

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallow_crypto import IdentityKeyPair, IdentityPublicKey

    from tallow_protocol.core.attach import AttachOpener
    from tallow_protocol.core.keyschedule import SessionKeys
    from tallow_protocol.core.pacing import Pacer
    from tallow_protocol.core.records import Header
    from tallow_protocol.core.role import Role
    from tallow_protocol.core.sending import Filled, Plan
    from tallow_protocol.events import Event

__all__ = ["Session"]

_FLOWING = frozenset({TransferState.TRANSFERRING, TransferState.FINISHING})


class Session:
    """One session of side A (the sender) or B (the receiver). Calls may not overlap; jobs may run elsewhere."""

    def __init__(
        self,
        *,
        side: Side,
        keys: SessionKeys,
        identity: IdentityKeyPair,
        role: Role,
        verify: bool,
        now: float,
        machine: TransferStateMachine | None = None,
        sas_nonce: bytes | None = None,
        sas_commitment: bytes | None = None,
        epoch_shift: int = 14,
        paths: PathLimit = PathLimit.ANY,
        rejoin_s: float = 0.0,
        pacer: Pacer | None = None,
    ) -> None:
        """`sas_nonce` is the 32 bytes that A's Hello committed to, `sas_commitment` those 32 that B got there.

        `machine` is the transfer's, which outlives an attempt whose session never began. `rejoin_s` is how long a
        session without a connection waits for a new one; 0 ends it at once. `pacer` bounds the rate of file data.
        """
        self.side = side
        self.keys = keys
        self.role = role
        self.connections_wanted = 1
        self._introduction = Introduction(
            side, keys, verify=verify, sas_nonce=sas_nonce, sas_commitment=sas_commitment
        )
        self._mailbox = Mailbox()
        self._life = Lifetime(side, self._mailbox, machine or TransferStateMachine(), rejoin_s=rejoin_s)
        self.agreement = PathAgreement(paths)
        self._maker = LinkMaker(side, keys, epoch_shift=epoch_shift)
        self._links = LinkTable(side)
        self._silence = Silence(self._links, returns=rejoin_s > 0)
        self._shown = ShownPath(side)
        self._pacer = pacer
        self._jobs: deque[Job] = deque()
        self._events: deque[Event] = deque()
        self._ticked_at = now
        if self.machine.state is TransferState.IDLE:
            self.machine.to(TransferState.CONNECTING)
        self.machine.to(TransferState.NEGOTIATING)
        self.send(self._introduction.ours(identity))
        if paths is not PathLimit.ANY:
            self.send(Paths(paths, ()))
        role.started(self, now)

    @property
    def machine(self) -> TransferStateMachine:
        """Return the state of the transfer."""
        return self._life.machine

    @property
    def peer(self) -> IdentityPublicKey | None:
        """Return the identity that the peer has shown, None before."""
        return self._introduction.peer

    @property
    def offer_bytes(self) -> int | None:
        """Return the bytes of the files of the offer, None while it is not known."""
        return self.role.offer_bytes

    # -- connections ---------------------------------------------------------------------------------------

    @property
    def links(self) -> tuple[Link, ...]:
        """Return the connections that are not lost."""
        return tuple(self._links)

    @property
    def carriers(self) -> tuple[Link, ...]:
        """Return the connections that carry file data now: the best, and its like where each has a thread."""
        return self._links.carriers(self.agreement.allowed)

    def first_link(self, now: float, path: PathKind = PathKind.MEMORY) -> Link:
        """Return connection 0, which carried the handshake."""
        return self._new(self._maker.first(now, path), now)

    def next_number(self) -> int:
        """Return a connection number of ours that was not used; a try that fails repeats it with another nonce."""
        return self._maker.next_number()

    def open_link(self, number: int, nonce: bytes) -> AttachOpener:
        """Return an attempt to attach our connection `number`; `nonce` is 32 fresh random bytes."""
        return self._maker.opener(number, nonce)

    def opened_link(
        self,
        opener: AttachOpener,
        ack: bytes,
        now: float,
        *,
        path: PathKind = PathKind.MEMORY,
        dedicated: bool = False,
    ) -> Link:
        """Take the answer to an Attach; the first record that we send on the link completes it.

        Raises AttachError where the answer does not verify: the number may be tried again.
        """
        self.agreement.admit(path)
        return self._new(self._maker.opened(opener, ack, now, path, dedicated=dedicated), now)

    def accept_link(
        self,
        attach: bytes,
        nonce: bytes,
        now: float,
        *,
        path: PathKind = PathKind.MEMORY,
        dedicated: bool = False,
    ) -> tuple[Link, bytes]:
        """Take a peer's Attach; return the link and the Ack to send. Raises AttachError.

        Until a record of the peer opens on it, the link sends nothing more.
        """
        self.agreement.admit(path)
        link, answer = self._maker.accepted(attach, nonce, now, path, dedicated=dedicated)
        return self._new(link, now), answer

    def _new(self, link: Link, now: float) -> Link:
        self._links.add(link)
        if link.proven:
            self._back(link, now)
        return link

    def serve(self, link: Link) -> None:
        """Note that no thread was left for a dedicated connection: the event loop runs it."""
        self._links.serve(link)

    def lost(self, link: Link, now: float, cause: ProtocolError | None = None) -> None:
        """Take note that a connection ended; what it had not delivered goes again elsewhere."""
        if link.lost:
            return
        if isinstance(cause, ViolationError) and not self.begun and not link.number:
            # This side would not come back. The other may have begun: it is told, and does not wait.
            self.fail(cause, now)
            return
        self._life.last_loss = cause or self._life.last_loss
        link.cause = cause
        link.lost = True
        self._links.remove(link)
        self._mailbox.lost(link)
        self._silence.lost(link, now, self.role.oldest_sent_at(link))
        self.role.lost(link)
        self._maker.lost(link)
        if not any(other.proven for other in self._links):
            self._life.lost_all(now, unproven=bool(self._links))

    @property
    def stalled(self) -> bool:
        """Return whether a connection stalled: on this path large packets may vanish."""
        return self._silence.stalled

    def _back(self, link: Link, now: float) -> None:
        """Take note that a connection is proven."""
        if self._life.back(now):
            self.agreement.again(now)
            if self.machine.state is not TransferState.COMPLETED:
                self._events.append(Rejoined(link.path))

    def _show_path(self, link: Link) -> None:
        event = self._shown.look(link, self._links)
        if event is not None:
            self._events.append(event)

    @property
    def gone(self) -> bool:
        """Return whether no connection stands and the session waits for one."""
        return self._life.gone

    @property
    def gone_since(self) -> float | None:
        """Return when the present absence began, which outlasts a connection that came up and carried nothing."""
        return self._life.gone_since

    def rejoin_left_s(self, now: float) -> float:
        """Return how long a session that is gone waits yet."""
        return self._life.left_s(now)

    @property
    def loss(self) -> str:
        """Return who ended the last connection: "peer" or "network"."""
        return self._life.lost_by

    # -- paths ---------------------------------------------------------------------------------------------

    def await_direct(self, now: float) -> None:
        """Note that data is to flow; where only a direct path may carry it, one has to come up in time."""
        self.agreement.await_direct(now)

    def _take_paths(self, paths: Paths, now: float) -> None:
        self.agreement.take(paths)
        if self.agreement.allowed is PathLimit.RELAY_ONLY:  # one that came up before this was known
            for link in self.links:
                if link.direct and link.number:
                    self.lost(link, now)

    # -- receiving -----------------------------------------------------------------------------------------

    def incoming(self, link: Link, sealed: memoryview, length_header: bytes) -> Job:
        """Return the job that opens one frame's body and does its heavy part.

        `sealed` is the body, opened in place; `length_header` are the frame's four length bytes. The buffer may
        be reused once the job has run. Jobs of one link begin and run in the order of their frames.
        """

        def first() -> tuple[Header, memoryview | bytes, bool]:
            if link.lost:
                raise RecordError
            try:
                header, body = parse_record(link.opener.open_in_place(sealed, length_header))
            except AuthenticationError:
                raise RecordError from None
            if isinstance(header, ControlHeader):
                return header, bytes(body), True
            if not allows(self.agreement.allowed, link.path):
                raise ViolationError("The peer sent file data over a path that is not allowed.")
            return header, body, self.role.verify(header, body)

        def work() -> tuple[Header, object]:
            header, body, verified = job.result
            if isinstance(header, ControlHeader):
                return header, body
            return header, self.role.store(header, body, verified=verified)

        job = self.job(work, lambda job, now: self._opened(link, job, now), first=first)
        return job

    def _opened(self, link: Link, job: Job, now: float) -> None:
        if isinstance(job.error, RecordError):
            self.lost(link, now, job.error)
            return
        if job.error is not None:
            self.fail(job.error, now)
            return
        if link.lost:
            return
        link.last_received = now
        if not link.proven:
            self._links.prove(link)
            try:
                self._maker.proven(link)
            except ProtocolError:
                self.lost(link, now)
                return
            self._back(link, now)
        header, content = job.result
        if isinstance(header, ControlHeader):
            self._take_control(header, content, now)
        else:
            link.bulk_arrived = True
            self._life.progress()
            self._show_path(link)
            self.role.stored(self, link, content, now)

    def _take_control(self, header: ControlHeader, content: bytes, now: float) -> None:
        for message in self._mailbox.take(header, content):
            if isinstance(message, Undecoded):
                self.ask(message.decode, self._take_decoded)
                continue
            if not isinstance(message, Ping):
                self._life.progress()
            self._message(message, now)

    def _take_decoded(self, job: Job, now: float) -> None:
        """Take a long part of an offer that a job has decoded; jobs keep the order of the parts."""
        self._mailbox.decoded()
        if job.error is not None:
            self.fail(job.error, now)
        else:
            self._message(job.result, now)

    def _message(self, message: Message, now: float) -> None:
        if self.error is not None or isinstance(message, Ping):
            return
        if isinstance(message, Cancel):
            self.fail(message.code.error(), now, notify=False)
            return
        if isinstance(message, Auth):
            self._authenticate(message, now)
            return
        if self.peer is None and not isinstance(message, Paths):
            raise UnexpectedMessageError
        if isinstance(message, Paths):
            self._take_paths(message, now)
            return
        if isinstance(message, Spread):
            if self.side is Side.A:
                raise UnexpectedMessageError
            self.connections_wanted = max(self.connections_wanted, message.connections)
            return
        self.role.message(self, message, now)

    def _authenticate(self, auth: Auth, now: float) -> None:
        events = self._introduction.take(auth)
        self._life.begun = True
        self._events.extend(events)
        self.role.authenticated(self, now)

    @property
    def begun(self) -> bool:
        """Return whether the peer has shown its identity: before that, a loss ends the attempt and no more."""
        return self._life.begun

    @property
    def over(self) -> bool:
        """Return whether an answer of our user comes too late: the session has ended, or is about to."""
        return self.error is not None or self.finished

    @property
    def awaits_confirmation(self) -> bool:
        """Return whether our user has yet to compare the digits."""
        return self._introduction.awaits_confirmation

    # -- sending -------------------------------------------------------------------------------------------

    def send(self, message: Message) -> int:
        """Queue one numbered control message; return its number."""
        return self._mailbox.send(message)

    @property
    def acknowledged(self) -> int:
        """Return up to which of our numbered messages the peer has everything."""
        return self._mailbox.acknowledged

    def send_passing(self, message: Message, link: Link | None = None) -> None:
        """Queue one message that is never re-sent, for `link` alone where it is about what that carries."""
        self._mailbox.send_passing(message, link)

    @property
    def control_room(self) -> int:
        """Return how many numbered messages may be queued before the limit."""
        return self._mailbox.room

    def spread(self, connections: int) -> None:
        """Have `connections` data connections (side A's decision); the other side is told."""
        if connections > self.connections_wanted:
            self.connections_wanted = connections
            self.send(Spread(connections))

    def control_frame(self, link: Link, now: float) -> bytearray | None:
        """Return the next control frame for `link`, sealed and whole, or None."""
        record = self.control_record(link, now)
        return None if record is None else self.sealed_frame(link, record)

    def control_record(self, link: Link, now: float) -> bytearray | None:
        """Return the next control record for `link`, for `sealed_frame`, or None.

        A thread that owns the link's socket seals it: the order of sealing is the order on the wire.
        """
        if link.lost or not (link.proven or link.number == 0):
            return None
        self.role.before_control(self, link)
        record = self._mailbox.next_record(link, speaks=link is self._links.speaker())
        if record is None and self._silence.owes_ping(link, now):
            record = self._mailbox.ping_record()
        if record is not None:
            link.last_sent = now
        return record

    @staticmethod
    def sealed_frame(link: Link, record: bytearray) -> bytearray:
        """Return the frame of a control record, sealed; called by whoever seals everything on this link."""
        header = len(record).to_bytes(4, "big")
        link.sealer.seal_in_place(memoryview(record), header)
        return bytearray(header) + record

    def plan(self, link: Link, now: float) -> Plan | None:
        """Return what bulk to read for `link` next, or None."""
        if link.lost or self.error is not None or link not in self.carriers:
            return None
        pacer = self._pacer
        if pacer is not None and not pacer.allows(now):
            return None
        plan = self.role.plan(link, now)
        if plan is not None:
            self._show_path(link)
            if pacer is not None:
                pacer.spend(plan.frame_bytes)
        return plan

    def fill_job(self, plan: Plan, buffer: memoryview) -> Job:
        """Return the job that makes the plan's record in `buffer`, for `bulk_frame`."""

        def filled(job: Job, now: float) -> None:
            if job.error is not None:
                # Of a record that is not needed any more, what it was made of may be gone.
                if plan.sending is None or not plan.sending.settled:
                    self.fail(job.error, now)
                return
            if self._pacer is not None:  # what was compressed leaves room for more
                self._pacer.spend(job.result.frame_bytes - plan.frame_bytes)
            self.role.filled(self, job.result, now)

        return self.job(lambda: self.role.fill(plan, buffer), filled)

    def bulk_frame(self, link: Link, filled: Filled, buffer: memoryview, now: float) -> memoryview | None:
        """Seal a filled record in place; return the whole frame, or None where its connection is gone.

        Called by whoever seals everything on this link; it touches nothing else of the session.
        """
        if link.lost or self.error is not None:
            return None
        frame = buffer[: filled.frame_bytes]
        frame[:4] = (filled.frame_bytes - 4).to_bytes(4, "big")
        link.sealer.seal_in_place(frame[4:], frame[:4])
        link.last_sent = now
        return frame

    # -- the application -----------------------------------------------------------------------------------

    def confirm(self, *, yes: bool, now: float) -> None:
        """Take the user's answer to the digits. It may cross the end of the session and comes too late then."""
        if self.over:
            return
        try:
            self._introduction.confirm(yes=yes)
        except NotVerifiedError as error:
            self.fail(error, now)
            return
        self.role.confirmed(self, now)

    def cancel(self, now: float) -> None:
        """End the session because our user wants it; the peer is told."""
        if not self.over:
            self.fail(CancelledByUserError(), now)

    def fail(self, error: ProtocolError | CryptoError, now: float, *, notify: bool = True) -> None:
        """End the session with an error; the peer is told its kind, unless it told us."""
        if not isinstance(error, ProtocolError):
            error = AuthError()
        if self._life.fail(error, now) and notify:
            self.send(Cancel(CloseCode.of(error)))

    def emit(self, event: Event) -> None:
        """Tell the application; of progress that it has not heard yet, the newest alone."""
        if self._events and type(event) is type(self._events[-1]) is TransferProgress:
            self._events[-1] = event
        else:
            self._events.append(event)

    def job(
        self,
        work: Callable[[], object],
        then: Callable[[Job, float], None],
        *,
        first: Callable[[], object] | None = None,
    ) -> Job:
        """Return a job whose continuation cannot leave the session half-way: what it raises ends the session."""

        def guarded(job: Job, now: float) -> None:
            try:
                with no_silent_faults():
                    then(job, now)
            except (ProtocolError, CryptoError) as error:
                self.fail(error, now)

        return Job(work, guarded, first=first)

    def ask(
        self, work: Callable[[], object], then: Callable[[Job, float], None], *, apart: bool = False
    ) -> None:
        """Ask for work to be done; `apart` where it may take long and is safe beside everything else."""
        job = self.job(work, then)
        job.apart = apart
        self._jobs.append(job)

    def take_jobs(self) -> list[Job]:
        """Return the jobs that wait to be run, in order."""
        jobs = list(self._jobs)
        self._jobs.clear()
        return jobs

    def take_events(self) -> list[Event]:
        """Return what the application should know, in order."""
        events = list(self._events)
        self._events.clear()
        return events

    # -- time and the end ----------------------------------------------------------------------------------

    @property
    def error(self) -> ProtocolError | None:
        """Return why the session ends or ended, None while it is well."""
        return self._life.error

    def complete(self, now: float) -> None:
        """Reach the good end; what is still unacknowledged has five seconds."""
        self._life.complete(now)

    def stranded(self, now: float) -> None:
        """End because no connection is left and none will come."""
        self._life.stranded(now)

    @property
    def finished(self) -> bool:
        """Return whether nothing is left to do but close the connections."""
        return self._life.ended

    @property
    def ending(self) -> bool:
        """Return whether the end may come with whatever arrives or leaves: `tick` then looks at each change."""
        return self._life.ending

    @property
    def mark(self) -> object:
        """Return a value that changes when `next_deadline` may have come nearer."""
        paced = None if self._pacer is None else self._pacer.next_deadline()
        return self._links.revision, self.machine.state, self.agreement.direct_by, paced

    def next_deadline(self) -> float | None:
        """Return when `tick` has something to do, None for never."""
        look, ticked_at = self._silence.next_look, self._ticked_at
        times = [look(link, ticked_at, self.role.oldest_sent_at(link)) for link in self._links]
        paced = None if self._pacer is None else self._pacer.next_deadline()
        if paced is not None and paced > ticked_at:
            times.append(paced)
        end = self._life.next_deadline()
        if end is not None:
            times.append(end)
        direct_by = self.agreement.direct_by
        if direct_by is not None and self.error is None and not self.gone:
            times.append(direct_by)
        return min(times, default=None)

    def tick(self, now: float) -> None:
        """Give up connections that are silent; notice the end."""
        self._ticked_at = now
        if self.machine.state in _FLOWING:
            self._silence.flows(now)
        for link in self.links:
            silent = self._silence.broken(link, now, self.role.oldest_sent_at(link))
            if silent is not None:
                self.lost(link, now, silent)
        if self.error is None and not self.gone:
            try:
                self.agreement.look(now, carried=bool(self.carriers))
            except NoPathError as error:
                self.fail(error, now)
        if self._life.tick(now, connected=bool(self._links)):
            for link in self.links:
                self.lost(link, now, PeerLeftError("the other side did not answer", by="network"))

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

A session that lost its last connection is `gone` (core/rejoining.py): it waits until a new one is attached, or ends
after its limit. Nothing else changes for it.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from tallow_crypto import AuthenticationError, CryptoError, RecordOpener, RecordSealer
from tallow_net.signaling import Side

from tallow_protocol.core.attach import AttachAcceptor, AttachedConnection, AttachOpener, first_number
from tallow_protocol.core.auth import check_auth, make_auth
from tallow_protocol.core.codes import CloseCode
from tallow_protocol.core.control import ControlChannel
from tallow_protocol.core.jobs import Job, no_silent_faults
from tallow_protocol.core.links import Link, LinkTable, ShownPath
from tallow_protocol.core.messages import (
    Auth,
    Cancel,
    Message,
    Paths,
    Ping,
    Received,
    Spread,
    TallowCodec,
)
from tallow_protocol.core.paths import allows, combined
from tallow_protocol.core.records import ControlHeader, control_record, parse_record
from tallow_protocol.core.rejoining import DONE_RETURN_S, MOST_LIMIT_S, UNHEARD_RETURN_S, Absence
from tallow_protocol.core.state import TransferState, TransferStateMachine
from tallow_protocol.errors import (
    AttachError,
    AuthError,
    CancelledByUserError,
    MisuseError,
    NoPathError,
    NotVerifiedError,
    PeerLeftError,
    ProtocolError,
    RecordError,
    UnexpectedMessageError,
    ViolationError,
)
from tallow_protocol.events import (
    PathKind,
    PathLimit,
    PeerIdentified,
    Rejoined,
    TransferProgress,
    VerificationNeeded,
)
from tallow_protocol.limits import (
    DIRECT_WAIT_S,
    DONE_WAIT_S,
    FLOW_SILENCE_S,
    SILENCE_S,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallow_crypto import IdentityKeyPair, IdentityPublicKey

    from tallow_protocol.core.keyschedule import SessionKeys
    from tallow_protocol.core.pacing import Pacer
    from tallow_protocol.core.records import Header
    from tallow_protocol.core.role import Role
    from tallow_protocol.core.sending import Filled, Plan
    from tallow_protocol.events import Event

__all__ = ["Session"]

FAREWELL_S = 2.0
"""How long the news of a failure may take to leave before the connections are closed anyway."""

_FLOWING = frozenset({TransferState.TRANSFERRING, TransferState.FINISHING})

LONG_OFFER_BYTES = 16 * 1024
"""A part of an offer longer than this is decoded in a job: a MiB of it would hold the loop for 60 ms and more."""


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
        if (sas_nonce is None) is (side is Side.A) or (sas_commitment is None) is (side is Side.B):
            raise MisuseError("the sender gives the nonce behind its commitment, the receiver the commitment")
        self.side = side
        self.keys = keys
        self.role = role
        self.machine = machine or TransferStateMachine()
        self.error: ProtocolError | None = None
        self.peer: IdentityPublicKey | None = None
        self._verify = verify
        self._sas_nonce = sas_nonce
        self._sas_commitment = sas_commitment
        self._must_confirm = verify
        self._epoch_shift = epoch_shift
        self._codec = TallowCodec()
        self._control = ControlChannel()
        self._links = LinkTable(side)
        self._shown = ShownPath(side)
        self._next_ident = 0
        self._next_number = first_number(side)
        self._acceptor = AttachAcceptor(keys, Side.B if side is Side.A else Side.A)
        self._jobs: deque[Job] = deque()
        self._events: deque[Event] = deque()
        self._ends_at: float | None = None
        self._done_again = False
        self._last_loss: ProtocolError | None = None
        self._ended = False
        self._ticked_at = now
        self._flowing_since: float | None = None
        self._absence = Absence(rejoin_s)
        self._pacer = pacer
        self.paths_limit = paths
        self.peer_paths: Paths | None = None
        self.allowed = paths
        self.connections_wanted = 1
        self._direct_by: float | None = None
        self._offers_decoding = 0
        if self.machine.state is TransferState.IDLE:
            self.machine.to(TransferState.CONNECTING)
        self.machine.to(TransferState.NEGOTIATING)
        self.send(make_auth(identity, side, keys.transcript_hash, r_a=sas_nonce, verify=verify))
        if paths is not PathLimit.ANY:
            self.send(Paths(paths, ()))
        role.started(self, now)

    # -- connections ---------------------------------------------------------------------------------------

    @property
    def links(self) -> tuple[Link, ...]:
        """Return the connections that are not lost."""
        return tuple(self._links)

    @property
    def offer_bytes(self) -> int | None:
        """Return the bytes of the files of the offer, None while it is not known."""
        return self.role.offer_bytes

    def first_link(self, now: float, path: PathKind = PathKind.MEMORY) -> Link:
        """Return connection 0, which carried the handshake.

        For A it is proven by B's first record; B has confirm_A already.
        """
        attached = AttachedConnection(0, self.keys.nonce_a, self.keys.nonce_b)
        return self._link(attached, now, path, proven=self.side is Side.B)

    def next_number(self) -> int:
        """Return a connection number of ours that was not used; a try that fails repeats it with another nonce."""
        number = self._next_number
        self._next_number += 2
        return number

    def open_link(self, number: int, nonce: bytes) -> AttachOpener:
        """Return an attempt to attach our connection `number`; `nonce` is 32 fresh random bytes."""
        return AttachOpener(self.keys, number, nonce)

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
        self._check_path(path)
        link = self._link(opener.receive_ack(ack), now, path, proven=True, dedicated=dedicated)
        link.owes_first = True
        return link

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
        self._check_path(path)
        attached = self._acceptor.answer(attach, nonce)
        return self._link(attached, now, path, proven=False, dedicated=dedicated), attached.ack

    def _check_path(self, path: PathKind) -> None:
        """Refuse a direct connection where a side wants none: a session must not live on what it may not use."""
        if self.allowed is PathLimit.RELAY_ONLY and path.direct:
            raise AttachError("a direct connection came where relayed ones alone are allowed")

    def _link(
        self,
        attached: AttachedConnection,
        now: float,
        path: PathKind,
        *,
        proven: bool,
        dedicated: bool = False,
    ) -> Link:
        other = Side.B if self.side is Side.A else Side.A
        keys = self.keys
        sealer = RecordSealer(
            keys.suite, attached.record_secret(keys, self.side), epoch_shift=self._epoch_shift
        )
        opener = RecordOpener(keys.suite, attached.record_secret(keys, other), epoch_shift=self._epoch_shift)
        link = Link(
            self._next_ident,
            attached.number,
            sealer,
            opener,
            now,
            proven=proven,
            attached=attached,
            path=path,
            dedicated=dedicated,
        )
        self._next_ident += 1
        self._links.add(link)
        if proven:
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
        self._last_loss = cause or self._last_loss
        link.cause = cause
        link.lost = True
        self._links.remove(link)
        self._control.lost(link.ident)
        self.role.lost(link)
        if not link.proven and link.number:
            self._acceptor.ended(link.attached)
        self._left_alone(now)

    # -- without a connection ------------------------------------------------------------------------------

    @property
    def gone(self) -> bool:
        """Return whether no connection stands and the session waits for one."""
        return self._absence.gone and not self._ended

    @property
    def gone_since(self) -> float | None:
        """Return when the present absence began, which outlasts a connection that came up and carried nothing."""
        return self._absence.since

    def rejoin_left_s(self, now: float) -> float:
        """Return how long a session that is gone waits yet."""
        return self._absence.left_s(now)

    @property
    def loss(self) -> str:
        """Return who ended the last connection: "peer" or "network"."""
        by = self._last_loss.by if isinstance(self._last_loss, PeerLeftError) else "network"
        return "peer" if by == "peer" else "network"

    def _may_return(self) -> bool:
        """Return whether the loss of the last connection is to be waited out.

        A receiver that has everything comes back only to say so; a sender that heard it has nothing left to say.
        """
        if not self._absence.allowed or not self.begun or self.error is not None or self._ended:
            return False
        if self.machine.state is TransferState.COMPLETED:
            return self.side is Side.B and not self._control.settled
        return True

    def _left_alone(self, now: float) -> None:
        """Take note of a loss that may have been the last connection's."""
        if any(link.proven for link in self._links):
            return
        if not self._may_return():
            if self._ends_at is not None and not self._links:
                self._ends_at = now
            return
        if self._ends_at is not None and not self._done_again:
            self._done_again = True
            self._ends_at = now + DONE_RETURN_S
        self._absence.begin(now, UNHEARD_RETURN_S if self._unheard else MOST_LIMIT_S)

    @property
    def _unheard(self) -> bool:
        """Return whether a receiver does not know that the sender's session began: else that waits for a new one."""
        return self.side is Side.B and not self.acknowledged

    def _back(self, link: Link, now: float) -> None:
        """Take note that a connection is proven."""
        if self._absence.back(now):
            if self._direct_by is not None:
                self._direct_by = now + DIRECT_WAIT_S
            if self.machine.state is not TransferState.COMPLETED:
                self._events.append(Rejoined(link.path))

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
        self._end(
            PeerLeftError(
                f"the connection was lost and could not be made again within {waited}; what arrived is kept",
                by=self.loss,
                hints=(hint,),
            ),
            now,
            notify=False,
        )
        self._ended = True

    # -- paths ---------------------------------------------------------------------------------------------

    @property
    def carriers(self) -> tuple[Link, ...]:
        """Return the connections that carry file data now: the best, and its like where each has a thread."""
        return self._links.carriers(self.allowed)

    def _show_path(self, link: Link) -> None:
        event = self._shown.look(link, self._links)
        if event is not None:
            self._events.append(event)

    def _take_paths(self, paths: Paths, now: float) -> None:
        self.peer_paths = paths
        both = combined(self.paths_limit, paths.limit)
        if both is None:
            self.fail(
                NoPathError(
                    "one side allows relayed paths alone, the other direct ones alone",
                    hints=("leave out --relay-only or --direct-only on one side",),
                ),
                now,
            )
            return
        self.allowed = both
        if both is PathLimit.RELAY_ONLY:  # one that came up before this was known
            for link in self.links:
                if link.direct and link.number:
                    self.lost(link, now)

    def await_direct(self, now: float) -> None:
        """Note that data is to flow; where only a direct path may carry it, one has to come up in time."""
        self._direct_by = now + DIRECT_WAIT_S

    def _look_for_direct(self, now: float) -> None:
        if self._direct_by is None or self.allowed is not PathLimit.DIRECT_ONLY:
            return
        if self.carriers:
            self._direct_by = now + DIRECT_WAIT_S
        elif now >= self._direct_by and self.error is None and not self.gone:
            self.fail(NoPathError("no direct path to the other side was found, and no other is allowed"), now)

    # -- receiving -----------------------------------------------------------------------------------------

    def incoming(self, link: Link, sealed: memoryview, length_header: bytes) -> Job:
        """Return the job that opens one frame's body and does its heavy part.

        `sealed` is the body, opened in place; `length_header` are the frame's four length bytes. The buffer may
        be reused once the job has run. Jobs of one link run in the order of their frames.
        """

        def work() -> tuple[Header, object]:
            if link.lost:
                raise RecordError
            try:
                header, body = parse_record(link.opener.open_in_place(sealed, length_header))
            except AuthenticationError:
                raise RecordError from None
            if isinstance(header, ControlHeader):
                return header, bytes(body)
            if not allows(self.allowed, link.path):
                raise ViolationError("The peer sent file data over a path that is not allowed.")
            return header, self.role.store(header, body)

        return self.job(work, lambda job, now: self._opened(link, job, now))

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
            if link.number:
                try:
                    self._acceptor.opened(link.attached)
                except ProtocolError:
                    self.lost(link, now)
                    return
            self._back(link, now)
        header, content = job.result
        if isinstance(header, ControlHeader):
            self._take_control(header, content, now)
        else:
            link.bulk_arrived = True
            self._absence.progress()
            self._show_path(link)
            self.role.stored(self, link, content, now)

    def _take_control(self, header: ControlHeader, content: bytes, now: float) -> None:
        for data in self._control.received(header.number, header.ack, content):
            if self._codec.is_offer(data) and (self._offers_decoding or len(data) > LONG_OFFER_BYTES):
                if header.number == 0:
                    raise UnexpectedMessageError("the peer sent a part of its offer without a number")
                self._offers_decoding += 1
                self.ask(partial(self._codec.decode, data), self._take_offer)
                continue
            message = self._codec.decode(data)
            if isinstance(message, Ping | Received) is not (header.number == 0):
                raise UnexpectedMessageError("the peer numbered a message that has no number, or the reverse")
            if not isinstance(message, Ping):
                self._absence.progress()
            self._message(message, now)

    def _take_offer(self, job: Job, now: float) -> None:
        """Take a long part of an offer that a job has decoded; jobs keep the order of the parts."""
        self._offers_decoding -= 1
        if job.error is not None:
            self.fail(job.error, now)
        else:
            self._message(job.result, now)

    def _message(self, message: Message, now: float) -> None:
        if self.error is not None or isinstance(message, Ping):
            return
        if isinstance(message, Cancel):
            self._end(message.code.error(), now, notify=False)
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
        if self.peer is not None:
            raise UnexpectedMessageError
        other = Side.B if self.side is Side.A else Side.A
        self.peer = check_auth(auth, other, self.keys.transcript_hash, sas_commit=self._sas_commitment)
        self._events.append(PeerIdentified(self.peer.fingerprint, None))
        nonce = self._sas_nonce if self.side is Side.A else auth.r_a
        if nonce is None:
            raise AuthError
        if self._verify or auth.verify:
            digits = self.keys.sas(nonce)
            self._events.append(VerificationNeeded(digits, must_confirm=self._verify))
        self.role.authenticated(self, now)

    @property
    def begun(self) -> bool:
        """Return whether the peer has shown its identity: before that, a loss ends the attempt and no more."""
        return self.peer is not None

    @property
    def over(self) -> bool:
        """Return whether an answer of our user comes too late: the session has ended, or is about to."""
        return self.error is not None or self.finished

    @property
    def awaits_confirmation(self) -> bool:
        """Return whether our user has yet to compare the digits."""
        return self._must_confirm

    # -- sending -------------------------------------------------------------------------------------------

    def send(self, message: Message) -> int:
        """Queue one numbered control message; return its number."""
        return self._control.queue(self._codec.encode(message))

    @property
    def acknowledged(self) -> int:
        """Return up to which of our numbered messages the peer has everything."""
        return self._control.acknowledged

    def send_passing(self, message: Message, link: Link | None = None) -> None:
        """Queue one message that is never re-sent, for `link` alone where it is about what that carries."""
        data = self._codec.encode(message)
        if link is None:
            self._control.queue_passing(data)
        else:
            link.passing.append(data)

    @property
    def control_room(self) -> int:
        """Return how many numbered messages may be queued before the limit."""
        return self._control.room

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
        taken: tuple[int, int, bytes] | None = None
        if link is self._links.speaker():
            taken = self._control.take(link.ident)
        if taken is None and link.passing:
            taken = 0, self._control.ack, link.passing.popleft()
        if taken is None and link.owes_first:
            taken = 0, self._control.ack, b""
        if taken is None:
            if now - link.last_sent < self._ping_s(link):
                return None
            taken = 0, self._control.ack, self._codec.encode(Ping())
        link.owes_first = False
        link.last_sent = now
        number, ack, data = taken
        return control_record(number, ack, data)

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
        if not self._must_confirm or self.peer is None:
            raise MisuseError("nothing waits to be confirmed")
        if not yes:
            self._end(NotVerifiedError(), now, notify=True)
            return
        self._must_confirm = False
        self.role.confirmed(self, now)

    def cancel(self, now: float) -> None:
        """End the session because our user wants it; the peer is told."""
        if not self.finished and self.error is None:
            self._end(CancelledByUserError(), now, notify=True)

    def fail(self, error: ProtocolError | CryptoError, now: float, *, notify: bool = True) -> None:
        """End the session with an error of ours; the peer is told its kind."""
        if not isinstance(error, ProtocolError):
            error = AuthError()
        self._end(error, now, notify=notify)

    def _end(self, error: ProtocolError, now: float, *, notify: bool) -> None:
        if self.error is not None or self.machine.state is TransferState.COMPLETED:
            return
        self.error = error
        if self.begun:
            self.machine.to(TransferState.FAILED)
        if notify:
            self.send(Cancel(CloseCode.of(error)))
        # Without a connection there is nobody to tell.
        self.ends_at(now if self._absence.gone else now + FAREWELL_S)

    def emit(self, event: Event) -> None:
        """Tell the application; of progress that it has not heard yet, the newest alone."""
        if self._events and type(event) is type(self._events[-1]) is TransferProgress:
            self._events[-1] = event
        else:
            self._events.append(event)

    def job(self, work: Callable[[], object], then: Callable[[Job, float], None]) -> Job:
        """Return a job whose continuation cannot leave the session half-way: what it raises ends the session."""

        def guarded(job: Job, now: float) -> None:
            try:
                with no_silent_faults():
                    then(job, now)
            except (ProtocolError, CryptoError) as error:
                self.fail(error, now)

        return Job(work, guarded)

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

    def ends_at(self, when: float) -> None:
        """Set when the session ends at the latest; it ends earlier once everything is acknowledged."""
        self._ends_at = when

    def complete(self, now: float) -> None:
        """Reach the good end; what is still unacknowledged has five seconds."""
        self.machine.to(TransferState.COMPLETED)
        self.ends_at(now + DONE_WAIT_S)

    @property
    def finished(self) -> bool:
        """Return whether nothing is left to do but close the connections."""
        return self._ended

    @property
    def ending(self) -> bool:
        """Return whether the end may come with whatever arrives or leaves: `tick` then looks at each change."""
        return self._ends_at is not None

    @property
    def mark(self) -> object:
        """Return a value that changes when `next_deadline` may have come nearer."""
        paced = None if self._pacer is None else self._pacer.next_deadline()
        return self._links.revision, self.machine.state, self._direct_by, paced

    def next_deadline(self) -> float | None:
        """Return when `tick` has something to do, None for never."""
        times = [] if self._ends_at is None else [self._ends_at]
        for link in self._links:
            times.append(self._heard_at(link) + self._silence_s(link))
            if link.proven or link.number == 0:
                # One that is overdue could not leave when it was looked at: its writer waits. It is looked at again
                # in its time, or the loop would turn at once until then.
                ping_s = self._ping_s(link)
                due = link.last_sent + ping_s
                times.append(due if due > self._ticked_at else self._ticked_at + ping_s)
            oldest = self.role.oldest_sent_at(link)
            if oldest is not None:
                times.append(oldest + SILENCE_S)
        paced = None if self._pacer is None else self._pacer.next_deadline()
        if paced is not None and paced > self._ticked_at:
            times.append(paced)
        if self.gone and self._ends_at is None and self._absence.ends_at is not None:
            times.append(self._absence.ends_at)
        elif self._direct_by is not None and self.allowed is PathLimit.DIRECT_ONLY and self.error is None:
            times.append(self._direct_by)
        return min(times, default=None)

    def tick(self, now: float) -> None:
        """Give up connections that are silent; notice the end."""
        self._ticked_at = now
        if self._flowing_since is None and self.machine.state in _FLOWING:
            self._flowing_since = now
        for link in self.links:
            if not link.hearing:
                link.last_received = now
            oldest = self.role.oldest_sent_at(link)
            allowed_s = self._silence_s(link)
            if now - self._heard_at(link) >= allowed_s or (oldest is not None and now - oldest >= SILENCE_S):
                self.lost(
                    link, now, PeerLeftError(f"the other side was silent for {allowed_s:g} s", by="network")
                )
        self._look_for_direct(now)
        if self._ends_at is None:
            if self._absence.ends_at is not None and now >= self._absence.ends_at:
                self._give_up(now)
            return
        if now >= self._ends_at and self._links and not self._done_again and self._may_return():
            # The receiver has everything and nobody hears it say so: it says so on another connection.
            for link in self.links:
                self.lost(link, now, PeerLeftError("the other side did not answer", by="network"))
            return
        if now >= self._ends_at or (self._control.settled and not self._control.has_work()):
            self._ended = True

    def _ping_s(self, link: Link) -> float:
        return self._links.ping_s(link, flowing=self._flowing_since is not None)

    def _silence_s(self, link: Link) -> float:
        """Return how long `link` may be silent: not long while data flows, if its loss is waited out."""
        allowed_s = self._links.silence_s(link)
        flows = self._flowing_since is not None and self._absence.allowed
        return min(allowed_s, FLOW_SILENCE_S) if flows and allowed_s == SILENCE_S else allowed_s

    def _heard_at(self, link: Link) -> float:
        """Return from when on a silence of `link` counts: before the yes the other side pings seldom."""
        return max(link.last_received, self._flowing_since or link.last_received)

    def stranded(self, now: float) -> None:
        """End because no connection is left and none will come."""
        self._end(self._last_loss or PeerLeftError(by="network"), now, notify=False)
        self._ended = True

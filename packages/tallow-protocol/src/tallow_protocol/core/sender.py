"""SenderRole: what side A does with a session. Offer, then data on a yes, then the signed manifest, then Done."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from tallow_net.untrusted import PeerText

from tallow_protocol.core.keeping import BULK_BYTES
from tallow_protocol.core.manifest import FileManifest, sign_manifest
from tallow_protocol.core.messages import (
    Accept,
    Done,
    From,
    Have,
    Manifest,
    Message,
    Offer,
    Received,
    Refuse,
    split_offer,
)
from tallow_protocol.core.spread import LONGER_S, PathSample, SpreadChoice
from tallow_protocol.core.state import TransferState
from tallow_protocol.core.streams import STREAM_GUESS_BYTES
from tallow_protocol.errors import IntegrityError, UnexpectedMessageError
from tallow_protocol.events import (
    Resumed,
    TransferDone,
    TransferProgress,
    TransferStarted,
    Tuned,
    Warned,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tallow_crypto import IdentityKeyPair

    from tallow_protocol.core.jobs import Job
    from tallow_protocol.core.links import Link
    from tallow_protocol.core.messages import Entry
    from tallow_protocol.core.records import Header
    from tallow_protocol.core.resuming import CheckedHave
    from tallow_protocol.core.sending import Filled, Plan, SendPipeline
    from tallow_protocol.core.session import Session
    from tallow_protocol.core.window import Tuning

__all__ = ["SenderRole"]

ROOM_TO_BEGIN_FILES = 128
"""No new file is begun while the receiver has fewer free places than this for FileDone messages."""

NEAR_S = 0.003
"""A round trip that networks in one building have, which are mostly fast."""

TUNED_EVERY_S = 1.0
"""What was chosen is told this often at most: on a machine that is busy elsewhere it moves with every batch."""

HELD_ROUND_TRIPS = 5
"""So long connection 0 of a long path leaves the file data to the data connections, which stand after two and a half."""

FILE_DONES_QUEUED = 16
"""FileDone messages given to the session at a time, so that its queue stays short."""


LEARN_EVERY_S = 1.0
"""Digests of long files are handed over once a second; what is not remembered costs to read it again."""

HAVES_CHECKED = 64
"""Haves checked in one job: for most of them the digests are known, and a job each would cost more than the work."""


class SenderRole:
    """Sends one list of entries through a `SendPipeline`."""

    def __init__(self, entries: Sequence[Entry], pipeline: SendPipeline, identity: IdentityKeyPair) -> None:
        self._entries = entries
        self._pipeline = pipeline
        self._identity = identity
        # A stream may become long: what is worth it for large files is worth it for streams.
        self._offer_bytes = sum(
            STREAM_GUESS_BYTES if entry.is_stream else entry.size or 0 for entry in entries
        )
        self._manifest = FileManifest()
        self._offered = False
        self._authenticated = False
        self._accepted_at: float | None = None
        self._manifest_asked = False
        self._manifest_sent = False
        self._last_byte_at = 0.0
        self._tuned: Tuning | None = None
        self._tuned_at = 0.0
        self._spread = SpreadChoice()
        self._spread_rank: int | None = None
        self._haves: deque[Have] = deque()
        self._checking = False
        self._froms: deque[From] = deque()
        self._unheard: deque[tuple[int, int]] = deque()
        self._resumed_told = False
        self._learning = False
        self._learnt_at = 0.0

    @property
    def offer_bytes(self) -> int | None:
        """Return the bytes of all files."""
        return self._offer_bytes

    def started(self, session: Session, now: float) -> None:
        """Offer with the Confirm, unless our user wants to compare digits first."""
        del now
        if not session.awaits_confirmation:
            self._offer(session)

    def authenticated(self, session: Session, now: float) -> None:
        """Take note that the offer is on its way to somebody who is there."""
        del now
        self._authenticated = True
        if self._offered:
            session.machine.to(TransferState.OFFERING)

    def confirmed(self, session: Session, now: float) -> None:
        """Send the offer that waited for the digits."""
        del now
        self._offer(session)

    def _offer(self, session: Session) -> None:
        session.ask(self._make_offer, lambda job, at: self._offer_made(session, job, at))

    def _make_offer(self) -> list[Offer]:
        """Encode the offer and begin the manifest; a job, since there may be 262,144 entries."""
        parts = list(split_offer(self._entries))
        for part in parts:
            self._manifest.add_offer(part)
        return parts

    def _offer_made(self, session: Session, job: Job, now: float) -> None:
        if job.error is not None:
            session.fail(job.error, now)
        if session.error is not None:
            return
        for part in job.result:
            session.send(part)
        self._offered = True
        if self._authenticated:
            session.machine.to(TransferState.OFFERING)

    def message(self, session: Session, message: Message, now: float) -> None:
        """Take the receiver's answer, its acknowledgements and its end."""
        match message:
            case Have() if self._offered and self._accepted_at is None:
                self._pipeline.take_have(message)
                self._haves.append(message)
                self._check(session)
            case Accept() if self._offered and self._accepted_at is None:
                self._accepted_at = self._last_byte_at = now
                self._pipeline.accept(message.ranges)
                session.machine.to(TransferState.TRANSFERRING)
                session.await_direct(now)
                session.emit(TransferStarted(self._pipeline.files, self._total))
                self._tell_resumed(session)
                self._advance(session)
            case Refuse() if self._offered and self._accepted_at is None:
                session.fail(message.code.error(), now, notify=False)
            case Received() if self._accepted_at is not None:
                before = self._pipeline.acknowledged_bytes
                self._pipeline.acknowledged(message.ranges, now)
                if self._pipeline.acknowledged_bytes != before:
                    self._last_byte_at = now
                session.emit(self._progress())
                self._tune(session, now)
                self._advance(session)
            case Done() if self._manifest_sent:
                self._done(session, message, now)
            case _:
                raise UnexpectedMessageError(
                    f"the receiver sent {type(message).__name__} while the transfer was {session.machine.state.value}"
                )

    # -- what the receiver has already ---------------------------------------------------------------------

    def _check(self, session: Session) -> None:
        """Have the next Haves compared with our files, beside everything else: a prefix may be long."""
        if self._checking or not self._haves:
            return
        self._checking = True
        batch = [self._haves.popleft() for _ in range(min(HAVES_CHECKED, len(self._haves)))]
        pipeline = self._pipeline

        def work() -> list[CheckedHave]:
            return [pipeline.check_have(have, lambda: session.over) for have in batch]

        session.ask(work, lambda job, at: self._compared(session, job, at), apart=True)

    def _compared(self, session: Session, job: Job, now: float) -> None:
        self._checking = False
        if job.error is not None:
            session.fail(job.error, now)
        if session.error is not None:
            return
        results: list[CheckedHave] = job.result
        for checked in results:
            answer = self._pipeline.answer(checked)
            self._froms.append(answer)
            if not answer.first and not checked.whole:
                name = PeerText(self._entries[answer.file].path)
                text = f"{name} is not what it was when it was partly sent: it starts anew"
                session.emit(Warned(PeerText(text)))
        self._answer(session)
        self._check(session)
        self._tell_resumed(session)

    def _answer(self, session: Session) -> None:
        """Send what there is room for; let go the files of which the receiver knows where they go on."""
        while self._froms and session.control_room > FILE_DONES_QUEUED:
            answer = self._froms.popleft()
            self._unheard.append((session.send(answer), answer.file))
        while self._unheard and self._unheard[0][0] <= session.acknowledged:
            self._pipeline.release(self._unheard.popleft()[1])

    def _tell_resumed(self, session: Session) -> None:
        pipeline = self._pipeline
        if self._resumed_told or self._accepted_at is None or pipeline.awaits_check:
            return
        self._resumed_told = True
        if pipeline.resumed_bytes:
            only = PeerText(self._entries[0].path) if len(self._entries) == 1 else None
            session.emit(Resumed(pipeline.resumed_bytes, pipeline.total_bytes, only))

    def _learn(self, session: Session, now: float) -> None:
        """Have digests remembered: one call at a time, and one a second."""
        if self._learning or not self._pipeline.learned or now - self._learnt_at < LEARN_EVERY_S:
            return
        self._learning, self._learnt_at = True, now
        session.ask(self._pipeline.learn, lambda job, at: self._learnt(session, job, at), apart=True)

    def _learnt(self, session: Session, job: Job, now: float) -> None:
        self._learning = False
        if job.error is not None:
            session.fail(job.error, now)

    def _done(self, session: Session, message: Done, now: float) -> None:
        pipeline = self._pipeline
        if (message.files, message.bytes) != (pipeline.files, pipeline.total_bytes):
            raise IntegrityError("the receiver counts other files or bytes than were sent")
        seconds = (self._last_byte_at if pipeline.total_bytes else now) - (self._accepted_at or now)
        session.complete(now)
        session.emit(TransferDone(pipeline.files, pipeline.total_bytes, max(seconds, 0.0)))

    def _tune(self, session: Session, now: float) -> None:
        """Tell what was chosen for the path in use, and choose how many connections it is worth."""
        carriers = session.carriers
        if not carriers:
            return
        link = carriers[0]
        tuning = self._pipeline.tuning(now, near=_is_near(link))
        if tuning is None:
            return
        if link.rank != self._spread_rank:
            self._spread_rank = link.rank
            self._spread = SpreadChoice()
        if link.dedicated:
            # Through a relay the kernel knows the way to the relay alone.
            round_trip_s = link.round_trip_s if link.path.direct else None
            sample = PathSample(round_trip_s or tuning.round_trip_s, tuning.rate_bytes_per_s, link.lost_share)
            session.spread(self._spread.look(sample, now))
        if tuning.differs(self._tuned) and (self._tuned is None or now - self._tuned_at >= TUNED_EVERY_S):
            self._tuned, self._tuned_at = tuning, now
            session.emit(
                Tuned(
                    tuning.window_bytes,
                    tuning.chunk_bytes,
                    tuning.rate_bytes_per_s,
                    tuning.round_trip_s,
                    len(carriers),
                )
            )

    def _progress(self) -> TransferProgress:
        pipeline = self._pipeline
        return TransferProgress(pipeline.acknowledged_bytes, self._total, pipeline.files_done, pipeline.files)

    @property
    def _total(self) -> int | None:
        return None if self._pipeline.streaming else self._pipeline.total_bytes

    def _advance(self, session: Session) -> None:
        """Give the session what the receiver is owed: FileDone for whole files, the manifest after the last."""
        if session.error is not None or self._accepted_at is None:
            return
        if self._pipeline.streaming:
            self._pipeline.end_empty_streams()
        self._pipeline.hold_new_files = session.control_room < ROOM_TO_BEGIN_FILES
        while session.control_room > FILE_DONES_QUEUED and (done := self._pipeline.file_done()) is not None:
            session.send(done)
        if self._manifest_asked or not self._pipeline.all_hashed or self._pipeline.owes_file_done:
            return
        if session.peer is None:
            return
        self._manifest_asked = True
        receiver, transcript_hash = session.peer.fingerprint, session.keys.transcript_hash

        def work() -> Manifest:
            digest = self._manifest.digest(self._pipeline.roots)
            return sign_manifest(self._identity, transcript_hash, receiver, digest)

        session.ask(work, lambda job, at: self._manifest_made(session, job, at))

    def _manifest_made(self, session: Session, job: Job, now: float) -> None:
        if job.error is not None:
            session.fail(job.error, now)
        if session.error is not None:
            return
        session.send(job.result)
        self._manifest_sent = True
        session.machine.to(TransferState.FINISHING)

    def before_control(self, session: Session, link: Link) -> None:
        """Look whether acknowledgements made room for what waits."""
        del link
        if session.error is None and (self._froms or self._unheard):
            self._answer(session)
        self._advance(session)

    def plan(self, link: Link, now: float) -> Plan | None:
        """Return what to read next for this link."""
        if self._accepted_at is None or self._is_held(link, now):
            return None
        return self._pipeline.plan(link.ident, now, near=_is_near(link))

    def _is_held(self, link: Link, now: float) -> bool:
        """Return whether `link` is connection 0 of a long path while the data connections are on their way.

        What it took in these round trips it would send in bursts through theirs: the others would see the delay, and end
        their slow start at a tenth of what the path carries. Where none comes, the next ping makes it look again.
        """
        if link.number or link.dedicated or not link.direct or self._offer_bytes <= BULK_BYTES:
            return False
        length_s = link.round_trip_s or 0.0
        return length_s >= LONGER_S and now - (self._accepted_at or now) < HELD_ROUND_TRIPS * length_s

    def fill(self, plan: Plan, buffer: memoryview) -> Filled:
        """Read, hash and compress; runs in the worker."""
        return self._pipeline.fill(plan, buffer)

    def filled(self, session: Session, filled: Filled, now: float) -> None:
        """Take the digests; a whole file gets its FileDone."""
        self._pipeline.filled(filled)
        self._learn(session, now)
        self._advance(session)

    def verify(self, header: Header, body: memoryview) -> bool:
        """Refuse bulk: only the sender sends it."""
        raise UnexpectedMessageError

    def store(self, header: Header, body: memoryview, *, verified: bool) -> object:
        """Never called: `verify` always raises."""
        raise UnexpectedMessageError

    def stored(self, session: Session, link: Link, outcome: object, now: float) -> None:
        """Never called: `verify` always raises."""

    def lost(self, link: Link) -> None:
        """Queue again what was on its way on this link."""
        self._pipeline.lost(link.ident)

    def oldest_sent_at(self, link: Link) -> float | None:
        """Return when the oldest unacknowledged record on this link was planned."""
        return self._pipeline.oldest_sent_at(link.ident)

    def close(self) -> None:
        """Close the sources; what was learned is remembered, so that the next session need not read it again."""
        if self._pipeline.learned:
            self._pipeline.learn()
        self._pipeline.close()


def _is_near(link: Link) -> bool:
    return link.round_trip_s is not None and link.round_trip_s <= NEAR_S

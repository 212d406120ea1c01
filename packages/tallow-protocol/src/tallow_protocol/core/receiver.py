"""ReceiverRole: what side B does with a session. Show the offer, wait for the yes, store, verify, say Done."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from tallow_net.untrusted import PeerText

from tallow_protocol.core.codes import CloseCode
from tallow_protocol.core.manifest import FileManifest, verify_manifest
from tallow_protocol.core.messages import (
    Accept,
    Done,
    EntryKind,
    FileDone,
    From,
    Have,
    Manifest,
    Message,
    Offer,
    Received,
    Refuse,
)
from tallow_protocol.core.receiving import ReceivePipeline, Stored, is_whole
from tallow_protocol.core.records import ChunkHeader, PackHeader
from tallow_protocol.core.state import TransferState
from tallow_protocol.core.streams import STREAM_GUESS_BYTES
from tallow_protocol.errors import (
    IntegrityError,
    MisuseError,
    ProtocolError,
    RefusedError,
    UnexpectedMessageError,
    ViolationError,
)
from tallow_protocol.events import (
    OfferedEntry,
    OfferedKind,
    OfferReceived,
    Resumed,
    TransferDone,
    TransferProgress,
    TransferStarted,
    Warned,
)
from tallow_protocol.limits import FILE_SIZE_MAX, OFFER_ENTRIES, OFFER_PARTS, RECEIVED_RANGES

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from tallow_crypto import Fingerprint

    from tallow_protocol.core.jobs import Job
    from tallow_protocol.core.links import Link
    from tallow_protocol.core.messages import Entry
    from tallow_protocol.core.receiving import Sink
    from tallow_protocol.core.records import Header
    from tallow_protocol.core.sending import Filled, Plan
    from tallow_protocol.core.session import Session

__all__ = ["ReceiverRole", "SinkPort"]

_KINDS = {
    EntryKind.FILE: OfferedKind.FILE,
    EntryKind.FOLDER: OfferedKind.FOLDER,
    EntryKind.LINK: OfferedKind.LINK,
}


class SinkPort(Protocol):
    """Where the gate to the disk comes from."""

    def check(self, entries: Sequence[Entry]) -> None:
        """Refuse an offer whose names cannot be written; raises BadNameError. Touches no disk."""

    def open(self, sender: Fingerprint) -> Sink:
        """Open the output directory for what this sender offers; raises NotWritableError or NoSpaceError."""


class ReceiverRole:
    """Receives one offer into one sink."""

    def __init__(self, sinks: SinkPort, own: Fingerprint) -> None:
        self._sinks = sinks
        self._own = own
        self._entries: list[Entry] = []
        self._parts = 0
        self._total_bytes = 0
        self._streams = 0
        self._manifest = FileManifest()
        self._offer_ended = False
        self._offer_whole = False
        self._offer: OfferReceived | None = None
        self._answered = False
        self._pipeline: ReceivePipeline | None = None
        self._started_at: float | None = None
        self._last_byte_at = 0.0
        self._owed: dict[int, deque[tuple[int, int, int]]] = {}
        self._signed: Manifest | None = None
        self._finishing = False
        self._session: Session | None = None
        self._haves: deque[Have] = deque()
        self._accepted = False
        self._resumed_told = False

    @property
    def offer_bytes(self) -> int | None:
        """Return the bytes of all files, once the offer is whole."""
        return self._total_bytes + self._streams * STREAM_GUESS_BYTES if self._offer_whole else None

    def started(self, session: Session, now: float) -> None:
        """Wait for the offer."""

    def authenticated(self, session: Session, now: float) -> None:
        """Wait on: the offer follows."""

    def confirmed(self, session: Session, now: float) -> None:
        """Show an offer that waited for the digits."""
        del now
        offer, self._offer = self._offer, None
        if offer is not None:
            session.emit(offer)

    def message(self, session: Session, message: Message, now: float) -> None:
        """Take the offer, the ends of files and the manifest."""
        match message:
            case Offer() if not self._offer_ended:
                self._take_part(session, message)
            case FileDone() if self._pipeline is not None and self._accepted:
                pipeline = self._pipeline
                session.ask(lambda: pipeline.file_done(message), lambda job, at: self._step(session, job, at))
            case From() if self._started_at is not None and self._pipeline is not None:
                pipeline = self._pipeline
                pipeline.hear_from(message)
                session.ask(pipeline.take_heard, lambda job, at: self._goes_on(session, job, at))
            case Manifest() if self._accepted and self._signed is None:
                self._signed = message
                session.machine.to(TransferState.FINISHING)
                self._finish_if_complete(session)
            case _:
                raise UnexpectedMessageError(
                    f"the sender sent {type(message).__name__} while the transfer was {session.machine.state.value}"
                )

    # -- the offer -----------------------------------------------------------------------------------------

    def _take_part(self, session: Session, part: Offer) -> None:
        if part.part != self._parts or self._parts >= OFFER_PARTS:
            raise ViolationError("The parts of the offer came out of order.")
        if len(self._entries) + len(part.entries) > OFFER_ENTRIES:
            raise ViolationError("The offer has too many entries.")
        self._total_bytes += sum(entry.size or 0 for entry in part.entries)
        self._streams += sum(entry.is_stream for entry in part.entries)
        if self._total_bytes > FILE_SIZE_MAX:
            raise ViolationError("The files of the offer have more bytes together than any disk.")
        self._parts += 1
        self._manifest.add_offer(part)
        self._entries.extend(part.entries)
        if part.last:
            self._offer_ended = True
            session.ask(self._look, lambda job, at: self._looked(session, job, at))

    def _look(self) -> OfferReceived:
        """Check the whole offer and make its event; a job, since there may be 262,144 entries."""
        self._sinks.check(self._entries)
        if len(self._entries) > 1 and any(entry.is_text for entry in self._entries):
            raise ViolationError("A text is not alone in its offer.")
        shown = tuple(
            OfferedEntry(
                PeerText(entry.path),
                _KINDS[entry.kind],
                entry.size,
                entry.mode,
                None if entry.target is None else PeerText(entry.target),
            )
            for entry in self._entries
        )
        files = sum(entry.kind is EntryKind.FILE for entry in self._entries)
        return OfferReceived(shown, files, self._total_bytes)

    def _looked(self, session: Session, job: Job, now: float) -> None:
        if session.error is not None:
            return
        self._offer_whole = True
        session.machine.to(TransferState.OFFERING)
        if isinstance(job.error, ProtocolError):
            self._refuse(session, job.error, now)
        elif job.error is not None:
            session.fail(job.error, now)
        elif session.awaits_confirmation:
            self._offer = job.result
        else:  # not kept: of a hundred thousand entries it is 20 MB
            session.emit(job.result)

    def accept(self, session: Session, now: float, *, chosen: Container[int] | None = None) -> None:
        """Take the user's yes: check the disk, then tell the sender. After the session's end it does nothing.

        `chosen` has the numbers of the entries that the user wants, None for all.
        """
        if session.over:
            return
        if not self._offer_whole or self._answered or session.awaits_confirmation:
            raise MisuseError("no offer waits for an answer")
        self._answered = True
        self._session = session
        peer = session.peer
        if peer is None:
            raise MisuseError("no offer waits for an answer")
        del now
        session.ask(
            lambda: self._begin(peer.fingerprint, chosen), lambda job, at: self._begun(session, job, at)
        )

    def _begin(self, sender: Fingerprint, chosen: Container[int] | None) -> list[Have]:
        sink = self._sinks.open(sender)
        pipeline = ReceivePipeline(self._entries, sink, chosen)
        try:
            pipeline.begin()
        except ProtocolError:
            pipeline.close()
            raise
        self._pipeline = pipeline
        return pipeline.haves()

    def _begun(self, session: Session, job: Job, now: float) -> None:
        if session.error is not None:
            return
        if job.error is not None:
            if isinstance(job.error, ProtocolError):
                self._refuse(session, job.error, now)
            else:
                session.fail(job.error, now)
            return
        self._started_at = self._last_byte_at = now
        session.machine.to(TransferState.TRANSFERRING)
        self._haves.extend(job.result)
        self._accept(session, now)

    def _accept(self, session: Session, now: float) -> None:
        """Say what stands already, as there is room for messages, and then Accept."""
        pipeline = self._pipeline
        if self._accepted or pipeline is None or self._started_at is None or session.error is not None:
            return
        while self._haves and session.control_room > 1:
            session.send(self._haves.popleft())
        if self._haves:
            return
        self._accepted = True
        session.await_direct(now)
        session.send(Accept(pipeline.ranges))
        session.emit(TransferStarted(pipeline.files, pipeline.total))

    def _goes_on(self, session: Session, job: Job, now: float) -> None:
        """Tell what a From means for the user."""
        if job.error is not None:
            session.fail(job.error, now)
            return
        pipeline = self._pipeline
        if pipeline is None or session.error is not None:
            return
        anew: list[Entry] = job.result
        for entry in anew:
            name = PeerText(entry.path)
            session.emit(
                Warned(PeerText(f"{name} is not what it was when it was partly received: it starts anew"))
            )
        if not pipeline.awaits_from and not self._resumed_told:
            self._resumed_told = True
            if pipeline.resumed_bytes:
                only = PeerText(self._entries[0].path) if len(self._entries) == 1 else None
                session.emit(Resumed(pipeline.resumed_bytes, pipeline.total_bytes, only))
        self._after(session)

    def refuse(self, session: Session, now: float, *, unattended: bool = False, looked: bool = False) -> None:
        """Take the user's no; `looked` where a look was all that was wanted. After the session's end it does nothing."""
        if session.over:
            return
        if not self._offer_whole or self._answered:
            raise MisuseError("no offer waits for an answer")
        code = CloseCode.LOOKED if looked else CloseCode.UNATTENDED if unattended else CloseCode.REFUSED
        self._refuse(session, RefusedError("the offer was refused"), now, code=code)

    def _refuse(
        self, session: Session, error: ProtocolError, now: float, *, code: CloseCode | None = None
    ) -> None:
        self._answered = True
        session.send(Refuse(code or CloseCode.of(error)))
        session.fail(error, now, notify=False)

    # -- data ----------------------------------------------------------------------------------------------

    def verify(self, header: Header, body: memoryview) -> bool:
        """Compare a chunk with its digest; any thread."""
        return isinstance(header, ChunkHeader) and is_whole(header, body)

    def store(self, header: Header, body: memoryview, *, verified: bool) -> object:
        """Verify what was not, and write; runs in the worker."""
        if self._pipeline is None or not isinstance(header, ChunkHeader | PackHeader):
            raise UnexpectedMessageError
        return self._pipeline.store(header, body, verified=verified)

    def stored(self, session: Session, link: Link, outcome: object, now: float) -> None:
        """Owe the sender an acknowledgement, show progress.

        It goes out on the link on which the data came. Received is never re-sent: on another link, which may be dying
        unseen, it would be lost while the sender waits for it; on this one it is lost with a connection whose data goes
        again anyway.
        """
        if isinstance(outcome, Stored):
            self._owe(self._owed.setdefault(link.ident, deque()), outcome.ranges)
            if outcome.new_bytes:
                self._last_byte_at = now
        if self._pipeline is not None and self._pipeline.sync_due(now):
            session.ask(self._pipeline.sync, lambda job, at: self._step(session, job, at), apart=True)
        self._after(session)

    @staticmethod
    def _owe(owed: deque[tuple[int, int, int]], ranges: Sequence[tuple[int, int, int]]) -> None:
        for file, first, count in ranges:
            if owed:
                last_file, last_first, last_count = owed[-1]
                if last_file == file and last_first + last_count == first:
                    owed[-1] = file, last_first, last_count + count
                    continue
            owed.append((file, first, count))

    def _step(self, session: Session, job: Job, now: float) -> None:
        if job.error is not None:
            session.fail(job.error, now)
            return
        self._after(session)

    def _after(self, session: Session) -> None:
        pipeline = self._pipeline
        if pipeline is None or session.machine.state.terminal:
            return  # what comes after the end was known before it: jobs of several threads are told in batches
        session.emit(
            TransferProgress(pipeline.stored_bytes, pipeline.total, pipeline.files_done, pipeline.files)
        )
        self._finish_if_complete(session)

    def _finish_if_complete(self, session: Session) -> None:
        pipeline, signed, peer = self._pipeline, self._signed, session.peer
        if pipeline is None or signed is None or peer is None or self._finishing or not pipeline.complete:
            return
        self._finishing = True

        def work() -> None:
            digest = self._manifest.digest(pipeline.roots)
            verify_manifest(signed, peer, session.keys.transcript_hash, self._own, digest)
            pipeline.finish()

        session.ask(work, lambda job, now: self._finished(session, job, now))

    def _finished(self, session: Session, job: Job, now: float) -> None:
        if job.error is not None:
            error: ProtocolError | None = None
            if isinstance(job.error, IntegrityError):
                names = ", ".join(str(PeerText(entry.path)) for entry in self._entries[:3])
                error = IntegrityError(f"{job.error}; do not trust what was written: {names}")
            session.fail(error or job.error, now)
            return
        pipeline = self._pipeline
        if pipeline is None or session.error is not None:
            return
        seconds = (self._last_byte_at if pipeline.total_bytes else now) - (self._started_at or now)
        session.send(Done(pipeline.files, pipeline.total_bytes))
        session.complete(now)
        session.emit(TransferDone(pipeline.files, pipeline.total_bytes, max(seconds, 0.0)))

    def before_control(self, session: Session, link: Link) -> None:
        """Say in few messages what came on this link and was written since, and what a full queue held back."""
        if self._haves:
            self._accept(session, self._started_at or 0.0)
        owed = self._owed.get(link.ident)
        while owed:
            count = min(len(owed), RECEIVED_RANGES)
            session.send_passing(Received(tuple(owed.popleft() for _ in range(count))), link)

    def plan(self, link: Link, now: float) -> Plan | None:
        """Return None: a receiver has no bulk to send."""
        del link, now
        return None

    def fill(self, plan: Plan, buffer: memoryview) -> Filled:
        """Never called: there is no plan."""
        raise UnexpectedMessageError

    def filled(self, session: Session, filled: Filled, now: float) -> None:
        """Never called: there is no plan."""

    def lost(self, link: Link) -> None:
        """Forget what is owed there: the sender sends it again. What is written may be all for long: note it."""
        self._owed.pop(link.ident, None)
        session, pipeline = self._session, self._pipeline
        if session is not None and pipeline is not None and pipeline.sync_now(link.last_received):
            session.ask(pipeline.sync, lambda job, at: self._step(session, job, at), apart=True)

    def oldest_sent_at(self, link: Link) -> float | None:
        """Return None: nothing of ours waits for an acknowledgement of bulk."""
        del link
        return None

    def close(self) -> None:
        """Release everything. What is unfinished stays to be resumed, whole files stay."""
        if self._pipeline is not None:
            self._pipeline.close()

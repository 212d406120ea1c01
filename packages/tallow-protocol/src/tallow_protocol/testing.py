"""Test tools for this package and for programs that embed it: a `Pair` of sessions under virtual time.

`Pair` runs the very Session, roles and pipelines that `Sender` and `Receiver` run, with memory in place of disks and
sockets. Time stands still unless told to move; which connection delivers next is the caller's choice (`choose`), and
any connection may be cut between any two frames, so that every order of arrival and every loss can be tried.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tallow_crypto import DIGEST_BYTES, HybridKem, IdentityKeyPair, Secret, chunk_digest
from tallow_net import Side

from tallow_protocol.aio.inputs import BytesSource
from tallow_protocol.code import Code
from tallow_protocol.core.budget import GuessBudget
from tallow_protocol.core.chunking import ChunkConfig
from tallow_protocol.core.handshake import HandshakeInputs, ReceiverStart, SenderStart
from tallow_protocol.core.messages import Entry, EntryKind
from tallow_protocol.core.receiver import ReceiverRole
from tallow_protocol.core.receiving import Existing
from tallow_protocol.core.sender import SenderRole
from tallow_protocol.core.sending import SendPipeline
from tallow_protocol.core.session import Session
from tallow_protocol.core.window import Window
from tallow_protocol.disk.names import check_offer
from tallow_protocol.errors import ConflictError, MisuseError
from tallow_protocol.events import OfferReceived, VerificationNeeded

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence

    from tallow_crypto import Fingerprint

    from tallow_protocol.core.handshake import KemPort, ReceiverEstablished, SenderEstablished
    from tallow_protocol.core.links import Link
    from tallow_protocol.core.resuming import DigestPort
    from tallow_protocol.events import Event

__all__ = ["MemoryFolder", "MemoryPartial", "MemorySources", "Pair", "PairConnection", "handshake"]

CODE = "4821-copper-lantern-tidy"
FRAMES_AHEAD = 4
"""Frames that one direction of a connection holds: as a full socket would, it stops the sender."""


class MemorySources:
    """The files of an offer, by entry number."""

    def __init__(self, contents: Sequence[bytes | None]) -> None:
        self._contents = contents

    def open(self, file: int) -> BytesSource:
        """Open entry `file`."""
        content = self._contents[file]
        if content is None:
            raise MisuseError("a folder was opened as a file")
        return BytesSource(content)


@dataclass
class MemoryPartial:
    """What is left of one file: its data, and the digests that were synced."""

    chunk_size: int
    data: bytearray
    digests: bytes = b""


class _MemoryPlace:
    def __init__(
        self, folder: MemoryFolder, path: str, kept: tuple[object, ...], partial: MemoryPartial
    ) -> None:
        self._folder = folder
        self._path = path
        self._kept = kept
        self._partial = partial

    def write_at(self, offset: int, data: memoryview) -> None:
        self._partial.data.extend(
            bytes(max(offset - len(self._partial.data), 0))
        )  # a stream grows as it comes
        self._partial.data[offset : offset + len(data)] = data

    def sync(self, first: int, digests: bytes) -> None:
        if first * DIGEST_BYTES != len(self._partial.digests):
            raise MisuseError("a journal is written in order")
        self._partial.digests += digests

    def commit(self, mode: int, mtime_ns: int) -> None:
        self._folder.write_small(self._path, memoryview(self._partial.data), mode, mtime_ns)
        del self._folder.partials[self._kept]

    def abandon(self) -> None:
        self._folder.abandoned += 1


class _StandingPlace:
    """A file that is there already, the very same."""

    def write_at(self, offset: int, data: memoryview) -> None:
        raise MisuseError("nothing is written to what stands")

    def sync(self, first: int, digests: bytes) -> None:
        """Do nothing: it is there."""

    def commit(self, mode: int, mtime_ns: int) -> None:
        """Do nothing: it has its name."""

    def abandon(self) -> None:
        """Do nothing: it stays."""


@dataclass
class MemoryFolder:
    """An output folder in memory: what `OutputFolder` is on a disk."""

    files: dict[str, bytes] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    attributes: dict[str, tuple[int, int]] = field(default_factory=dict)
    abandoned: int = 0
    partials: dict[tuple[object, ...], MemoryPartial] = field(default_factory=dict)
    """By sender, path and size: what a session that was killed leaves to the next."""

    standing: int = 0
    """If not 0, files that stand are compared in chunks of this size, and one that differs is replaced."""

    sender: object = None
    left_out: frozenset[int] = frozenset()

    def check(self, entries: Sequence[Entry]) -> None:
        """Refuse names that cannot be written."""
        check_offer(entries)

    def open(self, sender: Fingerprint) -> MemoryFolder:
        """Return itself: memory needs no opening."""
        self.sender = sender
        return self

    def begin_offer(self, entries: Sequence[Entry], chosen: Container[int] | None = None) -> None:
        """Refuse an offer of which a chosen path exists."""
        numbers = range(len(entries))
        self.left_out = frozenset(number for number in numbers if chosen is not None and number not in chosen)
        paths = [entry.path for number, entry in enumerate(entries) if number not in self.left_out]
        taken = any(path in self.files or path in self.folders for path in paths)
        if taken and not self.standing:
            raise ConflictError

    def check_space(self, size_bytes: int) -> None:
        """Memory has room."""

    def make_folder(self, path: str) -> None:
        """Create a folder."""
        self.folders.add(path)

    def make_link(self, path: str, target: str, mtime_ns: int) -> None:
        """Create a link, kept as a file that names its target."""
        self.files[path] = b"-> " + target.encode()
        self.attributes[path] = 0o777, mtime_ns

    def have(self, number: int, entry: Entry) -> Existing | None:
        """Return what an earlier session of this sender left of a file, or the file that stands."""
        del number
        if self.standing and entry.path in self.files:
            data = self.files[entry.path]
            pieces = [data[at : at + self.standing] for at in range(0, len(data), self.standing)]
            digests = b"".join(map(chunk_digest, pieces))
            return Existing(self.standing, digests, partial=False) if len(data) == entry.size else None
        partial = self.partials.get((self.sender, entry.path, entry.size))
        return Existing(partial.chunk_size, partial.digests) if partial and partial.digests else None

    def begin_file(
        self, path: str, size_bytes: int | None, chunk_size: int, *, resume: Existing | None = None
    ) -> _MemoryPlace | _StandingPlace:
        """Open a file for receiving, anew or after what is left of it."""
        if resume is not None and not resume.partial:
            return _StandingPlace()
        if self.standing:
            self.files.pop(path, None)
        kept = self.sender, path, size_bytes
        if resume is None:
            self.partials[kept] = MemoryPartial(chunk_size, bytearray(size_bytes or 0))
        return _MemoryPlace(self, path, kept, self.partials[kept])

    def write_small(self, path: str, data: memoryview, mode: int, mtime_ns: int) -> None:
        """Give a whole file its name; it must not have it yet."""
        if path in self.files:
            raise ConflictError
        self.files[path] = bytes(data)
        self.attributes[path] = mode, mtime_ns

    def finish_folders(self, folders: Sequence[tuple[str, int, int]]) -> None:
        """Give folders their modes and times."""
        self.attributes.update((path, (mode, mtime_ns)) for path, mode, mtime_ns in folders)

    def discard(self) -> None:
        """Partial files stay, and nothing else is staged."""

    def close(self) -> None:
        """Nothing is open."""


def handshake(
    source: random.Random, *, sender_code: str = CODE, receiver_code: str = CODE, kem: KemPort | None = None
) -> tuple[SenderEstablished, ReceiverEstablished]:
    """Run the real handshake in memory; raises WrongCodeError where the codes differ."""

    def inputs(text: str) -> HandshakeInputs:
        code = Code.parse(text)
        return HandshakeInputs(
            password=code.password,
            room_id=code.room_id,
            nonce=source.randbytes(32),
            scalar=Secret(source.randbytes(32)),
            grease=0xF000 + source.randrange(0x1000),
            fast_aes=True,
            kem=kem or HybridKem(),
        )

    budget_a, budget_b = GuessBudget(), GuessBudget()
    start = SenderStart(inputs(sender_code), source.randbytes(32))
    awaiting = start.sent()
    replied = ReceiverStart(inputs(receiver_code)).receive_hello(start.hello, budget_b)
    established = awaiting.receive_reply(replied.reply, budget_a)
    return established, replied.receive_confirm(established.confirm, budget_b)


@dataclass(eq=False)
class PairConnection:
    """One connection between the two: a link on each side, frames on their way in each direction."""

    number: int
    links: dict[Side, Link]
    flying: dict[Side, deque[bytes]] = field(default_factory=lambda: {Side.A: deque(), Side.B: deque()})
    delivered: int = 0
    cut: bool = False


class Pair:
    """A sender's and a receiver's session, after a real handshake, offering `contents`.

    `contents` maps paths to bytes, or to None for a folder. The receiver accepts by itself unless `answer` is
    False. `choose(n)` says which of n possibilities happens next; by default a seeded random choice.
    `folder` and `identities` of an earlier pair make this one the session after that one's crash.
    """

    def __init__(
        self,
        contents: Mapping[str, bytes | None],
        *,
        seed: int = 0,
        choose: Callable[[int], int] | None = None,
        answer: bool = True,
        verify: tuple[bool, bool] = (False, False),
        window_bytes: int = 1024 * 1024,
        chunks: ChunkConfig | None = None,
        epoch_shift: int = 14,
        folder: MemoryFolder | None = None,
        identities: tuple[IdentityKeyPair, IdentityKeyPair] | None = None,
        digests: DigestPort | None = None,
        rejoin_s: float = 0.0,
    ) -> None:
        self._source = random.Random(seed)  # noqa: S311 - a test that repeats needs a seeded source
        self._choose = choose or self._source.randrange
        self._answer = answer
        self.now = 1000.0
        self.connections: list[PairConnection] = []
        self.events: dict[Side, list[Event]] = {Side.A: [], Side.B: []}
        self.folder = folder or MemoryFolder()
        entries = [
            Entry(path, EntryKind.FOLDER, None, 0o755, 1_700_000_000_000_000_000)
            if content is None
            else Entry(path, EntryKind.FILE, len(content), 0o644, 1_700_000_000_000_000_001)
            for path, content in contents.items()
        ]
        established, received = handshake(self._source)
        identities = identities or (IdentityKeyPair.generate(), IdentityKeyPair.generate())
        self.identities = identities
        pipeline = SendPipeline(
            entries,
            MemorySources(list(contents.values())),
            window=Window(limit_bytes=window_bytes),
            chunks=chunks or ChunkConfig(usual_bytes=64 * 1024, largest_bytes=64 * 1024),
            digests=digests,
        )
        self.pipeline = pipeline
        self.receiver_role = ReceiverRole(self.folder, identities[1].public_key.fingerprint)
        self.sessions = {
            Side.A: Session(
                side=Side.A,
                keys=established.keys,
                identity=identities[0],
                role=SenderRole(entries, pipeline, identities[0]),
                verify=verify[0],
                now=self.now,
                sas_nonce=established.r_a,
                epoch_shift=epoch_shift,
                rejoin_s=rejoin_s,
            ),
            Side.B: Session(
                side=Side.B,
                keys=received.keys,
                identity=identities[1],
                role=self.receiver_role,
                verify=verify[1],
                now=self.now,
                sas_commitment=received.sas_commit,
                epoch_shift=epoch_shift,
                rejoin_s=rejoin_s,
            ),
        }
        links = {side: session.first_link(self.now) for side, session in self.sessions.items()}
        self.connections.append(PairConnection(0, links))

    # -- connections ---------------------------------------------------------------------------------------

    @property
    def open_connections(self) -> list[PairConnection]:
        """Return the connections that were not cut."""
        return [connection for connection in self.connections if not connection.cut]

    def attach(self, opener: Side) -> PairConnection:
        """Open the next connection of `opener`: Attach, Ack, and its first record is on its way."""
        other = Side.B if opener is Side.A else Side.A
        number = self.sessions[opener].next_number()
        attempt = self.sessions[opener].open_link(number, self._source.randbytes(32))
        accepted, ack = self.sessions[other].accept_link(attempt.attach, self._source.randbytes(32), self.now)
        opened = self.sessions[opener].opened_link(attempt, ack, self.now)
        connection = PairConnection(opened.number, {opener: opened, other: accepted})
        self.connections.append(connection)
        return connection

    def cut(self, connection: PairConnection) -> None:
        """End a connection for both sides; what was on its way is lost."""
        connection.cut = True
        for side, link in connection.links.items():
            connection.flying[side].clear()
            self.sessions[side].lost(link, self.now)
        self._settle()

    # -- steps ---------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Let both sides write, then deliver one frame of one connection; False when nothing is on its way."""
        self._settle()
        self._write()
        ready = [
            (connection, side)
            for connection in self.open_connections
            for side in (Side.A, Side.B)
            if connection.flying[side]
        ]
        if not ready:
            return False
        connection, side = ready[self._choose(len(ready))]
        self.deliver(connection, side, connection.flying[side].popleft())
        return True

    def deliver(self, connection: PairConnection, sender: Side, frame: bytes) -> None:
        """Hand a frame of `sender` to the other side; a test may hand over what it likes."""
        receiver = Side.B if sender is Side.A else Side.A
        session = self.sessions[receiver]
        connection.delivered += 1
        body = memoryview(bytearray(frame[4:]))
        job = session.incoming(connection.links[receiver], body, frame[:4])
        job.run()
        job.finish(self.now)
        self._settle()

    def run(self, *, until: Callable[[], bool] | None = None, steps: int = 100_000) -> None:
        """Step, and let time pass where nothing is on its way, until both ended or `until` holds.

        Raises MisuseError after `steps` steps: a test that waits for what never comes.
        """
        for _ in range(steps):
            if until is not None and until():
                return
            if all(session.finished for session in self.sessions.values()):
                return
            if not self.step():
                self.pass_time()
        raise MisuseError(f"the pair did not come to an end within {steps} steps")

    def pass_time(self) -> None:
        """Move time to the next deadline of either side; by a second where all are overdue for want of a connection."""
        deadlines = [session.next_deadline() for session in self.sessions.values() if not session.finished]
        self.now = min((d for d in deadlines if d is not None and d > self.now), default=self.now + 1.0)
        for session in self.sessions.values():
            session.tick(self.now)
        self._settle()

    def _settle(self) -> None:
        busy = True
        while busy:
            busy = False
            for session in self.sessions.values():
                for job in session.take_jobs():
                    job.run()
                    job.finish(self.now)
                    busy = True
            for side, session in self.sessions.items():
                for event in session.take_events():
                    self.events[side].append(event)
                    self._react(event)
        for session in self.sessions.values():
            session.tick(self.now)

    def _react(self, event: Event) -> None:
        if not self._answer:
            return
        if isinstance(event, OfferReceived):
            self.receiver_role.accept(self.sessions[Side.B], self.now)
        elif isinstance(event, VerificationNeeded) and event.must_confirm:
            for session in self.sessions.values():
                if session.awaits_confirmation and session.begun:
                    session.confirm(yes=True, now=self.now)

    def _write(self) -> None:
        for connection in self.open_connections:
            for side, link in connection.links.items():
                queue = connection.flying[side]
                for frame in self._frames(side, link):
                    queue.append(frame)
                    if len(queue) >= FRAMES_AHEAD:
                        break

    def _frames(self, side: Side, link: Link) -> Iterator[bytes]:
        session = self.sessions[side]
        while not session.finished:
            control = session.control_frame(link, self.now)
            if control is not None:
                yield bytes(control)
                continue
            plan = session.plan(link, self.now)
            if plan is None:
                return
            buffer = memoryview(bytearray(SendPipeline.frame_capacity(plan)))
            job = session.fill_job(plan, buffer)
            job.run()
            job.finish(self.now)
            if job.error is not None:
                return
            frame = session.bulk_frame(link, job.result, buffer, self.now)
            if frame is not None:
                yield bytes(frame)

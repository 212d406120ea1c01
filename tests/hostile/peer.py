"""A peer that knows the code and keeps no rule: it did the handshake, and then says whatever a script tells it to.

The other side is the very `Session` with the very gate that the commands run. Memory carries the frames; time stands still.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

from tallow_crypto import IdentityKeyPair, RecordOpener, RecordSealer, chunk_digest
from tallow_net import Side
from tallow_net.canonical import encode_map
from tallow_protocol.core.auth import make_auth
from tallow_protocol.core.chunking import ChunkConfig, packed_root
from tallow_protocol.core.manifest import FileManifest, sign_manifest
from tallow_protocol.core.messages import Entry, EntryKind, Offer, TallowCodec
from tallow_protocol.core.receiver import ReceiverRole, SinkPort
from tallow_protocol.core.records import (
    RECORD_HEADER_BYTES,
    ChunkHeader,
    ControlHeader,
    PackHeader,
    RecordKind,
    control_record,
    pack_entry_header,
    pack_header,
    padded_length,
    parse_record,
)
from tallow_protocol.core.roots import Roots
from tallow_protocol.core.sender import SenderRole
from tallow_protocol.core.sending import SendPipeline
from tallow_protocol.core.session import Session
from tallow_protocol.core.window import Window
from tallow_protocol.disk.output import OutputFolder
from tallow_protocol.events import OfferReceived
from tallow_protocol.testing import MemorySources, handshake

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tallow_protocol.core.messages import Message
    from tallow_protocol.events import Event

CHUNK = 64 * 1024
MTIME_NS = 1_700_000_000_000_000_000


def file_entry(path: str, size: int | None, mode: int = 0o644) -> Entry:
    return Entry(path, EntryKind.FILE, size, mode, MTIME_NS)


def folder_entry(path: str) -> Entry:
    return Entry(path, EntryKind.FOLDER, None, 0o755, MTIME_NS)


def link_entry(path: str, target: str) -> Entry:
    return Entry(path, EntryKind.LINK, None, 0o777, MTIME_NS, target)


class HostilePeer:
    """One end of a session; `session` is the honest other one. `heard` is all that this has said, `events` it told."""

    def __init__(self, session: Session, keys, side: Side, identity: IdentityKeyPair, source: random.Random):
        self.session = session
        self.side = side
        self.identity = identity
        self.keys = keys
        other = Side.B if side is Side.A else Side.A
        nonces = keys.nonce_a, keys.nonce_b
        self.sealer = RecordSealer(keys.suite, keys.record_secret(0, side, *nonces))
        self.opener = RecordOpener(keys.suite, keys.record_secret(0, other, *nonces))
        self.link = session.first_link(1000.0)
        self.now = 1000.0
        self.next_number = 1
        self.ack = 0
        self.heard: list[Message] = []
        self.bulk: list[ChunkHeader | PackHeader] = []
        self.events: list[Event] = []
        self.says_yes = True
        self.source = source
        self.manifest = FileManifest()
        self.offered = 0
        self.settle()

    # -- saying --------------------------------------------------------------------------------------------

    def frame(self, plaintext: bytearray) -> None:
        """Seal a record with 16 spare bytes behind it, and have the other side take it."""
        header = len(plaintext).to_bytes(4, "big")
        self.sealer.seal_in_place(memoryview(plaintext), header)
        self.deliver(plaintext, header)

    def deliver(self, sealed: bytearray, header: bytes) -> None:
        job = self.session.incoming(self.link, memoryview(sealed), header)
        job.run()
        job.finish(self.now)
        self.settle()

    def raw(self, data: bytes, *, number: int | None = None, ack: int | None = None) -> None:
        """Say the bytes of a control message, whatever they are."""
        if number is None:
            number, self.next_number = self.next_number, self.next_number + 1
        self.frame(control_record(number, self.ack if ack is None else ack, data))

    def say(self, *messages: Message, number: int | None = None) -> None:
        for message in messages:
            # Not the codec's own encoder, which refuses to say what nobody would take.
            data = int(message.TYPE).to_bytes(2, "big") + encode_map(message.to_map())
            self.raw(data, number=number)

    def record(self, header: ChunkHeader | PackHeader, body: bytes) -> None:
        """Send a record of file data; its header must be one that can be written."""
        kind = RecordKind.CHUNK if isinstance(header, ChunkHeader) else RecordKind.PACK
        plaintext = bytearray(padded_length(kind, len(body)) + 16)
        pack_header(plaintext, header, len(body))
        plaintext[RECORD_HEADER_BYTES : RECORD_HEADER_BYTES + len(body)] = body
        self.frame(plaintext)

    def chunk(
        self, file: int, index: int, data: bytes, *, last: bool = False, digest: bytes | None = None
    ) -> None:
        header = ChunkHeader(file, index, len(data), CHUNK.bit_length() - 1, last=last)
        self.record(header, (digest or chunk_digest(data)) + data)

    def pack(self, *files: tuple[int, bytes], root: bytes | None = None, entries: int | None = None) -> None:
        body = b"".join(
            pack_entry_header(number, len(data), root or packed_root(memoryview(data))) + data
            for number, data in files
        )
        self.record(PackHeader(len(files) if entries is None else entries, len(body)), body)

    # -- hearing -------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let the other side do its jobs, answer its questions, and hear what it sends."""
        busy = True
        while busy:
            busy = False
            for job in self.session.take_jobs():
                job.run()
                job.finish(self.now)
                busy = True
            for event in self.session.take_events():
                self.events.append(event)
                busy = True
                if isinstance(event, OfferReceived) and self.says_yes:
                    role = self.session.role
                    assert isinstance(role, ReceiverRole)
                    role.accept(self.session, self.now)
            busy |= self.hear()

    def hear(self) -> bool:
        frame = self.session.control_frame(self.link, self.now)
        if frame is None and (plan := self.session.plan(self.link, self.now)) is not None:
            buffer = memoryview(bytearray(SendPipeline.frame_capacity(plan)))
            job = self.session.fill_job(plan, buffer)
            job.run()
            job.finish(self.now)
            if job.error is None:
                frame = self.session.bulk_frame(self.link, job.result, buffer, self.now)
        if frame is None:
            return False
        opened = self.opener.open_in_place(memoryview(bytearray(frame[4:])), bytes(frame[:4]))
        header, body = parse_record(opened)
        if not isinstance(header, ControlHeader):
            self.bulk.append(header)
            return True
        self.ack = max(self.ack, header.number)
        if body:
            self.heard.append(TallowCodec.decode(bytes(body)))
        return True

    def said(self, kind: type) -> list[Message]:
        return [message for message in self.heard if isinstance(message, kind)]

    # -- what a sender says in its turn ----------------------------------------------------------------------

    def authenticate(self) -> None:
        nonce = self.sas_nonce if self.side is Side.A else None
        self.say(make_auth(self.identity, self.side, self.keys.transcript_hash, r_a=nonce))

    def offer(self, *entries: Entry) -> None:
        part = TallowCodec.decode(TallowCodec.encode(Offer(0, True, entries)))
        assert isinstance(part, Offer)
        self.manifest.add_offer(part)
        self.offered = len(entries)
        self.say(part)

    def signed(self, roots: dict[int, bytes], *, digest: bytes | None = None):
        """Return a manifest over these roots, or over a digest that is none."""
        known = Roots(self.offered)
        for file, root in roots.items():
            known.put(file, root)
        receiver = self.session_identity.public_key.fingerprint
        digest = digest or self.manifest.digest(known)
        return sign_manifest(self.identity, self.keys.transcript_hash, receiver, digest)


def shaken(source: random.Random):
    """Return both ends of a handshake, and an identity for each."""
    return handshake(source), (IdentityKeyPair.generate(), IdentityKeyPair.generate())


def hostile_sender(output: Path | SinkPort, *, seed: int = 1, prepared=None) -> HostilePeer:
    """Return a sender that has shaken hands with a real receiver into `output`, and nothing more."""
    source = random.Random(seed)
    (established, received), (ours, theirs) = prepared or shaken(source)
    sinks = OutputFolder(output) if isinstance(output, Path) else output
    role = ReceiverRole(sinks, theirs.public_key.fingerprint)
    session = Session(
        side=Side.B,
        keys=received.keys,
        identity=theirs,
        role=role,
        verify=False,
        now=1000.0,
        sas_commitment=received.sas_commit,
    )
    peer = HostilePeer(session, established.keys, Side.A, ours, source)
    peer.sas_nonce = established.r_a
    peer.session_identity = theirs
    return peer


def hostile_receiver(contents: dict[str, bytes], *, seed: int = 1, prepared=None) -> HostilePeer:
    """Return a receiver that has shaken hands with a real sender of `contents`, and nothing more."""
    source = random.Random(seed)
    (established, received), (ours, theirs) = prepared or shaken(source)
    entries: Sequence[Entry] = [file_entry(path, len(data)) for path, data in contents.items()]
    pipeline = SendPipeline(
        entries,
        MemorySources(list(contents.values())),
        window=Window(limit_bytes=2 * CHUNK),
        chunks=ChunkConfig(usual_bytes=CHUNK, largest_bytes=CHUNK),
    )
    session = Session(
        side=Side.A,
        keys=established.keys,
        identity=theirs,
        role=SenderRole(entries, pipeline, theirs),
        verify=False,
        now=1000.0,
        sas_nonce=established.r_a,
    )
    peer = HostilePeer(session, received.keys, Side.B, ours, source)
    peer.session_identity = theirs
    return peer

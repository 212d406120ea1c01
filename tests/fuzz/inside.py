"""Decoders of what arrives inside a session: messages, records, packs, compressed chunks, a whole session."""

from __future__ import annotations

import functools
import random
import struct

from tallow_crypto import chunk_digest
from tallow_protocol.core.compression import Decompressor
from tallow_protocol.core.messages import (
    Accept,
    Cancel,
    Candidate,
    CandidateKind,
    CloseCode,
    Done,
    Entry,
    EntryKind,
    FileDone,
    From,
    Have,
    Manifest,
    Offer,
    Paths,
    Ping,
    Received,
    Refuse,
    Spread,
    TallowCodec,
)
from tallow_protocol.core.receiving import ReceivePipeline
from tallow_protocol.core.records import (
    ChunkHeader,
    PackHeader,
    control_record,
    iter_pack,
    pack_entry_header,
    pack_header,
    padded_length,
    parse_record,
    write_padding,
)
from tallow_protocol.core.state import TransferState
from tallow_protocol.errors import (
    MessageError,
    MisuseError,
    ProtocolError,
    RecordError,
    ViolationError,
)
from tallow_protocol.events import PathLimit
from tallow_protocol.testing import MemoryFolder

from tests.fuzz.kit import Reader, check, peers_fault, target
from tests.hostile.peer import CHUNK, file_entry, folder_entry, hostile_receiver, hostile_sender, shaken


def _message_seeds() -> list[bytes]:
    zeros = bytes(32)
    entries = (
        Entry("d", EntryKind.FOLDER, None, 0o755, -1),
        Entry("d/f", EntryKind.FILE, 2**40, 0o644, 10**18),
        Entry("d/s", EntryKind.FILE, None, 0o644, 5),
        Entry("d/l", EntryKind.LINK, None, 0o777, 0, "f"),
    )
    places = (
        Candidate(CandidateKind.TCP, bytes((10, 0, 0, 1)), 443),
        Candidate(CandidateKind.QUIC, bytes(16), 1),
    )
    messages = [
        Offer(0, True, entries),
        Offer(63, False, ()),
        Accept(None),
        Accept(((0, 1), (3, 5))),
        Refuse(CloseCode.REFUSED),
        FileDone(3, 100_000, 2, zeros),
        Manifest(zeros, bytes(64), bytes(4627)),
        Done(5, 10**12),
        Cancel(CloseCode.CANCELLED),
        Ping(),
        Received(((0, 0, 5), (2**32 - 1, 2**40, 1))),
        Paths(PathLimit.ANY, places),
        Spread(4),
        Have(3, CHUNK, 9, zeros),
        From(3, 9),
    ]
    return [TallowCodec.encode(message) for message in messages]


@target("control messages, the manifest among them", _message_seeds)
def messages(data: bytes) -> None:
    try:
        message = TallowCodec.decode(data)
    except MessageError as error:
        peers_fault(error)
        return
    if isinstance(message, Offer):
        check(TallowCodec.raw_map(message) == data[2:], "the raw map of an offer is not what came")
        message = Offer(message.part, message.last, message.entries)
    encoded = TallowCodec.encode(message)
    if isinstance(message, Refuse | Cancel):  # an unknown reason is read as a known one
        check(TallowCodec.decode(encoded) == message, "a message does not survive its encoding")
    else:
        check(encoded == data, "a message has two encodings")


def _plain(header: ChunkHeader | PackHeader, body: bytes) -> bytes:
    kind = 2 if isinstance(header, ChunkHeader) else 3
    record = bytearray(padded_length(kind, len(body)))
    pack_header(record, header, len(body))
    record[32 : 32 + len(body)] = body
    return bytes(record)


def _record_seeds() -> list[bytes]:
    return [
        bytes(control_record(5, 3, b"\x00\x09\xa0")[:-16]),
        bytes(control_record(0, 3, b"")[:-16]),
        _plain(ChunkHeader(1, 2, 100, 16, last=True), bytes(132)),
        _plain(ChunkHeader(1, 2, 65536, 16, compressed=True), bytes(90)),
        _plain(PackHeader(1, 45), pack_entry_header(0, 5, bytes(32)) + b"12345"),
    ]


@target("records and their padding", _record_seeds)
def records(data: bytes) -> None:
    """An opened record is refused, or is byte for byte what its header and body make."""
    try:
        header, body = parse_record(memoryview(data))
    except RecordError as error:
        peers_fault(error)
        return
    again = bytearray(len(data))
    pack_header(again, header, len(body))
    again[32 : 32 + len(body)] = body
    write_padding(again, 32 + len(body), len(data))
    check(bytes(again) == data, "a record has two forms")


@target(
    "packs of small files",
    lambda: [b"\x01" + pack_entry_header(0, 5, bytes(32)) + b"12345", b"\x02" + bytes(80), b"\xff"],
)
def packs(data: bytes) -> None:
    """The entries of a pack cover its body, each byte once, or it is refused."""
    reader = Reader(data)
    entries, body = reader.number(), data[1:]
    try:
        found = list(iter_pack(body, entries))
    except RecordError as error:
        peers_fault(error)
        return
    check(len(found) == entries, "a pack has another number of entries")
    whole = b"".join(pack_entry_header(e.file, len(e.data), e.root) + bytes(e.data) for e in found)
    check(whole == body, "the entries of a pack are not its body")


def _compressed_seeds() -> list[bytes]:
    import zstandard

    compressed = [
        zstandard.ZstdCompressor(level=1).compress(data) for data in (b"", b"a" * 5000, bytes(range(256)))
    ]
    return [struct.pack(">I", length) + body for length, body in zip((0, 5000, 256), compressed, strict=True)]


@target("compressed chunks", _compressed_seeds)
def compressed(data: bytes) -> None:
    """Compressed data opens to exactly as many bytes as were declared, 4 MiB at most, or is refused."""
    declared = struct.unpack(">I", data[:4].ljust(4, b"\0"))[0] % (4 * 1024 * 1024 + 1)
    try:
        raw = Decompressor().decompress(memoryview(data[4:]), declared)
    except ViolationError as error:
        peers_fault(error)
        return
    check(len(raw) == declared, "compressed data has another length than it declared")


def _pipeline_seeds() -> list[bytes]:
    chunk = b"\x00\x00\x00\x10\x00\x01\x00\x00\x01"
    done = b"\x02\x00\x00\x00\x00\x00\x00\x01\x90\x00\x02"
    pack = b"\x01\x01\x02\x05"
    return [chunk, chunk + done, pack, pack + chunk, b"\x03\x00\x00"]


_OFFERED = (
    Entry("big", EntryKind.FILE, 100_000, 0o644, 1),
    Entry("d", EntryKind.FOLDER, None, 0o755, 1),
    Entry("d/small", EntryKind.FILE, 5, 0o644, 1),
    Entry("stream", EntryKind.FILE, None, 0o644, 1),
    Entry("d/link", EntryKind.LINK, None, 0o777, 1, "small"),
    Entry("empty", EntryKind.FILE, 0, 0o644, 1),
)


def _pipeline_step(pipeline: ReceivePipeline, reader: Reader) -> None:
    what, file = reader.number() % 4, reader.number() % 8
    if what == 0:
        index, log2, flags = reader.number(), reader.number(), reader.number()
        length = reader.number(4)
        data = bytes(min(length, 1 << 18))
        digest = chunk_digest(data) if flags & 1 == 0 else reader.take(32).ljust(32, b"\0")
        compressed_flag = bool(flags & 4)
        header = ChunkHeader(file, index, length, log2, compressed_flag, bool(flags & 2))
        body = digest + (reader.take(64) if compressed_flag else data)
        record = bytearray(padded_length(2, len(body)))
        try:
            pack_header(record, header, len(body))
        except MisuseError:
            return  # `parse_record` refuses such a one; see the target `records`
        pipeline.store(header, memoryview(body))
    elif what == 1:
        entries, length = reader.number(), reader.number()
        data = reader.take(length).ljust(length, b"\0")
        from tallow_protocol.core.chunking import packed_root

        body = pack_entry_header(file, length, packed_root(memoryview(data))) + data
        if entries and entries <= len(body) // 40:
            pipeline.store(PackHeader(entries, len(body)), memoryview(body))
    elif what == 2:
        pipeline.file_done(
            FileDone(file, reader.number(8) >> 1, reader.number(2), reader.take(32).ljust(32, b"\0"))
        )
    else:
        pipeline.hear_from(From(file, reader.number()))
        pipeline.take_heard()


@target("any order of chunks, packs and digests at a receiver", _pipeline_seeds)
def pipeline(data: bytes) -> None:
    """Whatever order of chunks, packs and ends: a typed error, and no file under a name of another size."""
    folder = MemoryFolder()
    receiving = ReceivePipeline(_OFFERED, folder)
    receiving.begin()
    reader = Reader(data)
    try:
        for _ in range(64):
            if not reader.left:
                break
            _pipeline_step(receiving, reader)
    except ProtocolError as error:
        peers_fault(error)
    finally:
        receiving.close()
    sizes = {entry.path: entry.size for entry in _OFFERED if entry.kind is EntryKind.FILE}
    for path, content in folder.files.items():
        check(path in sizes and sizes[path] in {None, len(content)}, "a file under its name has another size")


@functools.cache
def _shaken():
    return shaken(random.Random(8))


_SAID = [
    lambda p: p.authenticate(),
    lambda p: p.offer(file_entry("big", 100_000), folder_entry("d"), file_entry("d/f", 5)),
    lambda p: p.say(Accept(None)),
    lambda p: p.say(Ping(), number=0),
    lambda p: p.chunk(0, 0, bytes(CHUNK)),
    lambda p: p.pack((2, b"12345")),
    lambda p: p.say(Received(((0, 0, 2),)), number=0),
    lambda p: p.say(FileDone(0, 100_000, 2, bytes(32))),
]


def _session_seeds() -> list[bytes]:
    def raw(body: bytes, *, passing: bool = False) -> bytes:
        return bytes((9 if passing else 8,)) + struct.pack(">H", len(body)) + body

    said = [seed for seed in _message_seeds() if len(seed) < 500]
    begun = b"\x00\x00\x01"
    return [
        begun + b"\x04\x05\x07",
        b"\x01\x00\x02\x06",
        *(begun + raw(seed) for seed in said),
        *(b"\x01\x00\x02" + raw(seed) for seed in said),
        b"\x01\x00" + raw(_message_seeds()[9], passing=True),
        begun + b"\x0a\x00\x20" + bytes(32),
    ]


@target("a peer with valid keys that says anything", _session_seeds)
def session(data: bytes) -> None:
    """A peer with valid keys says anything: the session goes on, or ends with a typed error that is not ours."""
    reader = Reader(data)
    if reader.number() % 2:
        peer = hostile_receiver({"big": bytes(100_000), "f": b"12345"}, prepared=_shaken())
    else:
        peer = hostile_sender(MemoryFolder(), prepared=_shaken())
    for _ in range(32):
        if not reader.left or peer.session.finished or peer.link.lost:
            break
        what = reader.number() % 11
        if what < len(_SAID):
            try:
                _SAID[what](peer)
            except MisuseError:
                break  # the script's own: a second offer in one manifest
        elif what < 10:
            body = reader.take(reader.number(2))
            if body or what == 9:
                peer.raw(body, number=None if what == 8 else 0)
        else:
            body = reader.take(reader.number(2))
            peer.frame(bytearray(body + bytes(16)))
    error = peer.session.error
    if error is not None:
        peers_fault(error)
        check(
            peer.session.machine.state in {TransferState.FAILED, TransferState.NEGOTIATING},
            "a session that failed is in no state of failure",
        )
    peer.session.role.close()

"""Every decoder that reads what somebody else wrote, as one function of bytes each, with what must hold of it.

A target returns if all is well, whether the bytes were taken or refused, and raises where a property does not hold: an
error that is no documented one, a value that is not encoded back to the same bytes, a name or an address that leads where
none may. `tests/fuzz/test_targets.py` runs them in the gate, `python -m tests.fuzz.run TARGET` guided by coverage.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import posixpath
import random
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tallow_cli.errors import UsageError
from tallow_cli.rates import bytes_per_second
from tallow_cli.selection import by_numbers, by_patterns
from tallow_cli.times import seconds_of
from tallow_crypto import HybridKem, Secret, chunk_digest
from tallow_net import PeerText, RelayAddress, Side
from tallow_net.canonical import decode_map, encode_map
from tallow_net.discovery import SERVICE, Places, Search
from tallow_net.errors import FrameTooLargeError, InvalidAddressError, MalformedMessageError
from tallow_net.framing import FrameDecoder, encode_frame
from tallow_net.interfaces import Network
from tallow_net.paths import candidates
from tallow_net.signaling import (
    Allocate,
    Allocated,
    Call,
    Join,
    KeepAlive,
    Leave,
    LeaveReason,
    Ready,
    Redirect,
    Restarting,
    SignalingError,
    Welcome,
)
from tallow_net.signaling import decode as decode_signaling
from tallow_net.signaling import encode as encode_signaling
from tallow_protocol import OfferedEntry, OfferedKind
from tallow_protocol.code import Code
from tallow_protocol.core.attach import AttachAcceptor, AttachOpener
from tallow_protocol.core.budget import GuessBudget
from tallow_protocol.core.compression import Decompressor
from tallow_protocol.core.handshake import (
    HandshakeInputs,
    ReceiverStart,
    SenderStart,
    encode_abort,
    parse_abort,
)
from tallow_protocol.core.journal import JournalHeader, decode_journal, encode_records
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
from tallow_protocol.disk.ignore import Ignore, ScanOptions
from tallow_protocol.disk.names import NameIndex, check_link_target, check_path, fold
from tallow_protocol.errors import (
    BadNameError,
    CodeError,
    HandshakeError,
    InternalError,
    MessageError,
    MisuseError,
    ProtocolError,
    RecordError,
    ViolationError,
)
from tallow_protocol.events import PathLimit
from tallow_protocol.testing import MemoryFolder, handshake
from tallow_relay.config import RelayConfig
from tallow_relay.errors import ConfigError as RelayConfigError
from tallow_store import Config, ConfigError, load_config, save_config

from tests.hostile.peer import CHUNK, file_entry, folder_entry, hostile_receiver, hostile_sender, shaken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["TARGETS", "Target"]


@dataclass(frozen=True, slots=True)
class Target:
    """One decoder: `run` raises where a property does not hold, `seeds` are inputs that it takes."""

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


TARGETS: dict[str, Target] = {}


def target(seeds: Callable[[], list[bytes]]) -> Callable[[Callable[[bytes], None]], Callable[[bytes], None]]:
    def register(run: Callable[[bytes], None]) -> Callable[[bytes], None]:
        TARGETS[run.__name__] = Target(run.__name__, run, seeds)
        return run

    return register


def check(holds: object, what: str) -> None:
    """Raise AssertionError unless it holds; a plain `assert` says less without pytest."""
    if not holds:
        raise AssertionError(what)


def peers_fault(error: ProtocolError) -> None:
    """Raise what a peer's bytes must never cause: an error that blames our own caller, or nobody."""
    if isinstance(error, MisuseError | InternalError):
        raise error
    check(str(error), "an error without a sentence")


class Reader:
    """Cuts fields from the front of the bytes; zeros behind their end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    @property
    def left(self) -> int:
        return max(len(self._data) - self.at, 0)

    def take(self, length: int) -> bytes:
        piece = self._data[self.at : self.at + length]
        self.at += length
        return piece

    def number(self, length: int = 1) -> int:
        return int.from_bytes(self.take(length), "big")


# --- frames and signaling -----------------------------------------------------------------------------------------


@target(lambda: [encode_frame(b""), encode_frame(b"abc") + encode_frame(bytes(300)), b"\xff" * 8])
def frames(data: bytes) -> None:
    """The same bodies however the stream is cut; nothing but what was pushed is held."""
    at_once, one_by_one = FrameDecoder(4096), FrameDecoder(4096)
    try:
        bodies = at_once.feed(data)
    except FrameTooLargeError:
        bodies = None
    try:
        found: list[bytes] | None = [body for byte in data for body in one_by_one.feed(bytes((byte,)))]
    except FrameTooLargeError:
        found = None
    check((bodies is None) == (found is None), "cutting the stream decides whether it is refused")
    if bodies is not None:
        check(bodies == found, "cutting the stream changes its frames")
        whole = b"".join(map(encode_frame, bodies)) + at_once.pending
        check(whole == data, "frames are not what they were made of")


def _signaling_seeds() -> list[bytes]:
    room, lease = bytes(range(32)), bytes(16)
    messages = [
        Welcome(),
        Welcome((1, 2), notice=PeerText("hello"), address=PeerText("10.0.0.1:5")),
        Join(1, (room,), Side.A, lease, wait=True),
        Join(1, (room,), Side.B),
        Join(1, (room, bytes(32)), Side.B, lease),
        Allocate(1, lease),
        Allocated("4821"),
        Leave(room, lease, LeaveReason.BURNED),
        KeepAlive(),
        Ready(),
        Ready(tuple(bytes((n,)) * 32 for n in range(4))),
        Call(room, lease),
        Redirect("relay.example.org", 443, bytes(32)),
        Restarting(10, 20),
        SignalingError(11, 60),
    ]
    return [encode_signaling(message) for message in messages]


@target(_signaling_seeds)
def signaling(data: bytes) -> None:
    try:
        message = decode_signaling(data)
    except MalformedMessageError:
        return
    check(encode_signaling(message) == data, "a signaling message has two encodings")


@target(lambda: [encode_map({1: 5, 2: [b"x", "y", {3: None}], 4: True}), b"\xa0"])
def canonical(data: bytes) -> None:
    try:
        value = decode_map(data, max_bytes=4096)
    except MalformedMessageError:
        return
    check(encode_map(value) == data, "a map has two encodings")


@target(
    lambda: [b"relay.example.org", b"[2001:db8::1]:443#sha256:" + b"ab" * 32, b"10.0.0.1:5", b"fe80::1%eth0"]
)
def relay_address(data: bytes) -> None:
    """What a relay's Redirect, a configuration or a person says; it is shown and dialled."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        address = RelayAddress.parse(text)
    except InvalidAddressError:
        return
    shown = str(address)
    check(RelayAddress.parse(shown) == address, "an address does not survive being shown")
    check(shown.isascii() and shown.isprintable() and " " not in shown, "an address could drive a terminal")
    try:
        direct = RelayAddress(text)  # as a Redirect gives its host
    except InvalidAddressError:
        return
    check(str(direct).isascii() and str(direct).isprintable(), "a host could drive a terminal")


# --- handshake and attach -----------------------------------------------------------------------------------------


def _inputs(source: random.Random, text: str = "4821-copper-lantern-tidy") -> HandshakeInputs:
    code = Code.parse(text)
    return HandshakeInputs(
        password=code.password,
        room_id=code.room_id,
        nonce=source.randbytes(32),
        scalar=Secret(source.randbytes(32)),
        grease=0xF123,
        fast_aes=True,
        kem=HybridKem(),
    )


@functools.cache
def _frames_of_a_handshake() -> tuple[bytes, bytes, bytes]:
    source = random.Random(5)
    start = SenderStart(_inputs(source), source.randbytes(32))
    awaiting = start.sent()
    replied = ReceiverStart(_inputs(source)).receive_hello(start.hello, GuessBudget())
    return start.hello, replied.reply, awaiting.receive_reply(replied.reply, GuessBudget()).confirm


@target(lambda: [_frames_of_a_handshake()[0], bytes(1738), b"\x05\x00\x01"])
def hello(data: bytes) -> None:
    """A Hello is refused, at no cost, or answered with a Reply at the cost of one guess."""
    budget = GuessBudget()
    try:
        replied = ReceiverStart(_inputs(random.Random(1))).receive_hello(data, budget)
    except ProtocolError as error:
        peers_fault(error)
        check(budget.left == 3, "a Hello that is refused costs a guess")
        return
    check(budget.left == 2 and len(replied.reply) == 1765, "a Reply was not counted, or has another length")


@target(lambda: [_frames_of_a_handshake()[1], bytes(1765), b"\x05\x00\x01"])
def reply(data: bytes) -> None:
    """No Reply of who does not know the words gives a session, and none costs more than one guess."""
    source = random.Random(2)
    budget = GuessBudget()
    start = SenderStart(_inputs(source, "4821-copper-lantern-absurd"), source.randbytes(32))
    try:
        start.sent().receive_reply(data, budget)
    except ProtocolError as error:
        peers_fault(error)
        check(budget.left >= 2, "one Reply costs two guesses")
        return
    raise AssertionError("somebody who does not know the words was let in")


@target(lambda: [_frames_of_a_handshake()[2], bytes(65), b"\x05\x00\x02"])
def confirm(data: bytes) -> None:
    """No Confirm of who does not know the words gives a session."""
    source = random.Random(3)
    replied = ReceiverStart(_inputs(source)).receive_hello(_frames_of_a_handshake()[0], GuessBudget())
    try:
        replied.receive_confirm(data, GuessBudget())
    except ProtocolError as error:
        peers_fault(error)
        return
    raise AssertionError("a Confirm of another handshake was taken")


@target(lambda: [b"\x05" + code.to_bytes(2, "big") for code in (1, 2, 6, 999)])
def abort(data: bytes) -> None:
    try:
        code = parse_abort(data)
    except HandshakeError:
        return
    check(parse_abort(encode_abort(code)) == code, "an Abort does not survive its encoding")


@functools.cache
def _session_keys():
    return handshake(random.Random(6))


def _attach_seeds() -> list[bytes]:
    keys = _session_keys()[0].keys
    attach = AttachOpener(keys, 2, bytes(32)).attach
    ack = AttachAcceptor(_session_keys()[1].keys, Side.A).answer(attach, bytes(32)).ack
    return [attach, ack, attach[:-1], bytes(81), bytes(65)]


@target(_attach_seeds)
def attach(data: bytes) -> None:
    """Attach and Ack are taken as they were made, or refused."""
    ours, theirs = _session_keys()
    acceptor = AttachAcceptor(theirs.keys, Side.A)
    try:
        accepted = acceptor.answer(data, b"\x01" * 32)
        check(accepted.number == 2 and data == _attach_seeds()[0], "an Attach that nobody made was answered")
    except ViolationError as error:
        peers_fault(error)
    try:
        AttachOpener(ours.keys, 2, bytes(32)).receive_ack(data)
        check(data == _attach_seeds()[1], "an Ack that nobody made was taken")
    except ViolationError as error:
        peers_fault(error)


# --- records and messages -----------------------------------------------------------------------------------------


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


@target(_message_seeds)
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


@target(_record_seeds)
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


@target(lambda: [b"\x01" + pack_entry_header(0, 5, bytes(32)) + b"12345", b"\x02" + bytes(80), b"\xff"])
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


@target(_compressed_seeds)
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


@target(_pipeline_seeds)
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


@target(_session_seeds)
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


# --- what lies on our own disk ------------------------------------------------------------------------------------


def _journal_seeds() -> list[bytes]:
    from tallow_crypto import Fingerprint

    header = JournalHeader(Fingerprint(bytes(32)), "d/f", 1_000_000, CHUNK).encode()
    return [header, header + encode_records(header, 0, bytes(range(96))), header[:-1]]


@target(_journal_seeds)
def journal(data: bytes) -> None:
    """What a journal says is exactly what its first `good_bytes` are the encoding of."""
    said = decode_journal(data)
    if said is None:
        return
    header = said.header.encode()
    check(
        data[: said.good_bytes] == header + encode_records(header, 0, said.digests), "a journal has two forms"
    )
    check(said.count <= said.header.chunks, "a journal says more chunks than the file has")


_TOML_SEEDS = [
    b'relay = ["relay.example.org:443"]\nwords = 4\nverify = true\nout = "/tmp/x"\nlimit = "10M"\nrejoin = "10m"\n',
    b'transport = "quic"\npaths = "relay-only"\ncompress = false\n',
    b"words = 0x10\n",
]


@functools.cache
def _scratch() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="tallow-fuzz-")
    _KEPT.append(folder)
    return Path(folder.name)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


@target(lambda: _TOML_SEEDS)
def store_config(data: bytes) -> None:
    path = _scratch() / "config.toml"
    path.write_bytes(data)
    path.chmod(0o600)
    try:
        config = load_config(path)
    except ConfigError:
        return
    again = _scratch() / "again.toml"
    save_config(config, again)
    check(load_config(again) == config, "settings do not survive being saved")
    check(isinstance(config, Config), "settings are none")


@target(
    lambda: [
        b'notice = "hi"\nrooms = 10\nroom_bytes_per_s = 65536\n',
        b"data_connections = false\njoins_burst = 64\n",
    ]
)
def relay_config(data: bytes) -> None:
    path = _scratch() / "relay.toml"
    path.write_bytes(data)
    try:
        config = RelayConfig.load(path)
    except RelayConfigError as error:
        check(str(error), "an error without a sentence")
        return
    check(config.turn_bytes >= 8192, "a turn is too short")
    check(config.joins_burst >= config.rooms_per_connection, "a burst is too small")


@target(lambda: [b"*.o\n!keep.o\n/build/\n**/x\n", b"a[b-", b"\\", b"!"])
def ignore_file(data: bytes) -> None:
    """The text of an ignore file, or patterns of the user's: a documented error, or patterns that can be asked."""
    lines = tuple(data.decode("utf-8", "replace").split("\n")[:50])
    try:
        ignore = Ignore.of(ScanOptions(exclude=lines))
    except MisuseError:
        return  # said to the user as the command begins
    for path in ("a", "build/x.o", "d/keep.o"):
        ignore.leaves_out(path, folder=False)


# --- codes, names, places -----------------------------------------------------------------------------------------


@target(
    lambda: [
        b"4821-copper-lantern-tidy",
        b"12:a text of my own",
        b"7 COP LANT tid",
        "5:ünïcödé long enough".encode(),
    ]
)
def codes(data: bytes) -> None:
    try:
        code = Code.parse(data.decode("utf-8", "surrogateescape"))
    except CodeError as error:
        check(error.hints, "an error without a next step")
        return
    again = Code.parse(code.reveal())
    check(
        (again.nameplate, again.password.reveal()) == (code.nameplate, code.password.reveal()),
        "a code changes",
    )
    check(code.password.reveal().decode() not in repr(code), "a code shows its words")


def _below(path: str) -> bool:
    root = "/out/put"
    joined = posixpath.normpath(posixpath.join(root, path))
    return joined == f"{root}/{path}" and posixpath.commonpath([root, joined]) == root


@target(
    lambda: [b"a/b/c", b"a..b/x", b"../x", "é/x".encode(), b"CON", b"a:b", b"x.", b"/etc", "e\u0301".encode()]
)
def path_gate(data: bytes) -> None:
    """A path is taken as it stands, and then leads below the output directory on every system; or it is refused."""
    text = data.decode("utf-8", "surrogatepass") if _decodes(data) else data.decode("utf-8", "replace")
    path, _, link = text.partition("\n")
    try:
        components = check_path(path)
    except BadNameError:
        return
    check("/".join(components) == path, "a path was repaired")
    check(_below(path), "a path leads out of the output directory")
    for component in components:
        check(component not in {"", ".", ".."} and not set(component) & set("/\\:\0"), "a component is none")
        check(len(os.fsencode(component)) <= 255 and component[-1] not in ". ", "a component no system has")
        check(str(PeerText(component)) == component or len(component) > 200, "a name is not shown as it is")
    other = NameIndex()
    other.add(path, _FILE)
    for spelling in {path.upper(), path.lower(), path.swapcase()} - {path}:
        if fold(spelling) == fold(path):
            try:
                other.add(spelling, _FILE)
            except BadNameError:
                continue
            raise AssertionError("two names for one place were taken")
    if link:
        _link_gate(components, link)


def _link_gate(components: tuple[str, ...], link: str) -> None:
    try:
        check_link_target(components, link)
    except BadNameError:
        return
    top = f"/out/{components[0]}"
    led = posixpath.normpath(posixpath.join("/out", *components[:-1], link))
    check(led == top or led.startswith(top + "/"), "a link leads out of its own folder")


def _decodes(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _kind_file():
    from tallow_protocol.disk.names import Kind

    return Kind.FILE


_FILE = _kind_file()


@target(lambda: [b"plain", b"\x1b[31mred\x07", "a\u202eexe.txt".encode(), b"\xc2\x9b31m", b"\x1b]0;t\x1b\\"])
def peer_text(data: bytes) -> None:
    """What is shown of a peer's text drives no terminal, in whatever way it is shown, and takes no long time."""
    text = PeerText.from_bytes(data)
    for shown in (str(text), f"{text}", text.shown(20)):
        check(
            not any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u2028\u2029\ufeff" for c in shown),
            "a control character is shown",
        )
        check(
            not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f"), "bidi"
        )
        shown.encode("utf-8")
    check(len(text.shown(20)) <= 20, "a text is longer than was asked for")


_NETWORKS = [Network(ipaddress.ip_address("10.1.2.3"), 24), Network(ipaddress.ip_address("2001:db8::5"), 64)]
_INTERFACES = [ipaddress.ip_interface("10.1.2.3/24"), ipaddress.ip_interface("2001:db8::5/64")]
_NAME = "0123456789abcdef"


def _candidate_seeds() -> list[bytes]:
    texts = [
        "127.0.0.1",
        "10.1.2.9",
        "10.1.2.255",
        "8.8.8.8",
        "169.254.169.254",
        "::1",
        "fe80::1",
        "2001:db8::9",
    ]
    packed = [ipaddress.ip_address(text).packed for text in texts]
    return [b"".join(bytes((len(a) == 16,)) + a + b"\x01\xbb" for a in packed)]


@target(_candidate_seeds)
def candidate_list(data: bytes) -> None:
    """Of what a peer offers, nothing is tried that is no single host elsewhere; 16 at most."""
    reader, offered = Reader(data), []
    while reader.left and len(offered) < 40:
        flags = reader.number()
        address = reader.take(16 if flags & 1 else 4)
        port = reader.number(2)
        if len(address) in {4, 16} and port:
            offered.append(Candidate(CandidateKind(flags >> 1 & 1), address, port))
    tried = candidates.acceptable(offered, _INTERFACES, tuple(CandidateKind))
    check(len(tried) <= 16 and set(tried) <= set(offered), "what was not offered is tried")
    for place in tried:
        _check_host(ipaddress.ip_address(place.address))


def _check_host(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    check(
        not (ip.is_loopback or ip.is_multicast or ip.is_unspecified or ip.is_link_local),
        f"{ip} is no single host elsewhere",
    )
    check(str(ip) not in {"255.255.255.255", "10.1.2.255"}, f"{ip} is everybody")
    check(getattr(ip, "ipv4_mapped", None) is None, f"{ip} is an IPv4 address in disguise")


def _mdns_seeds() -> list[bytes]:
    from zeroconf import DNSAddress, DNSOutgoing, DNSService  # type: ignore[attr-defined]  # not in __all__

    instance = f"{_NAME}.{SERVICE}"
    packets = []
    for address in (bytes((10, 1, 2, 9)), bytes((127, 0, 0, 1)), ipaddress.ip_address("2001:db8::9").packed):
        out = DNSOutgoing(0x8400)
        out.add_answer_at_time(DNSService(instance, 33, 1, 120, 0, 0, 4433, "host.local."), 0)
        out.add_answer_at_time(DNSAddress("host.local.", 1 if len(address) == 4 else 28, 1, 120, address), 0)
        packets += out.packets()
    return packets


@target(_mdns_seeds)
def mdns(data: bytes) -> None:
    """Whatever arrives on the multicast port: sixteen places at most, each one host that may be dialled."""
    from zeroconf import DNSIncoming, RecordUpdate  # type: ignore[attr-defined]  # not in __all__

    if not 0 < len(data) <= 9000:
        return
    search = Search(_NAME)
    search._places = Places(_NETWORKS)
    packet = DNSIncoming(data)
    if not packet.valid:
        return
    for record in packet.answers():
        search._take(RecordUpdate(record, None))
    places = []
    while not search._found.empty():
        places.append(search._found.get_nowait())
    check(len(places) <= 16, "more than sixteen places")
    for host, port in places:
        check(0 < port < 65536, "no port")
        ip = ipaddress.ip_address(host)
        if not ip.is_link_local:
            _check_host(ip)


# --- what a person types ------------------------------------------------------------------------------------------

_ENTRIES = [
    OfferedEntry(PeerText(path), kind, 5, 0o644, None)
    for path, kind in [("d", OfferedKind.FOLDER), ("d/a", OfferedKind.FILE), ("b", OfferedKind.FILE)]
]


@target(lambda: [b"1 2", b"1-2", b"10M", b"90s", b"d/*", b"[!a]*", b"99999999"])
def typed(data: bytes) -> None:
    """Rates, times, globs and answers to the selection: a value in its range, or a documented error."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        check(bytes_per_second(text) >= 1000, "a rate below the least")
    except UsageError as error:
        check(error.hints, "an error without a next step")
    try:
        check(0 <= seconds_of(text, "--rejoin", most_s=86400) <= 86400, "a time out of its range")
    except UsageError as error:
        check(error.hints, "an error without a next step")
    chosen = by_numbers(_ENTRIES, text)
    check(chosen is None or chosen <= {0, 1, 2}, "entries that are not there were chosen")
    check(by_patterns(_ENTRIES, [text]) <= {0, 1, 2}, "entries that are not there were chosen")


def every_seed() -> Iterator[tuple[str, bytes]]:
    """Yield each target's name with each of its seeds, and with what stands in its corpus."""
    for name, found in TARGETS.items():
        for seed in found.seeds():
            yield name, seed
        for path in corpus(name):
            yield name, path.read_bytes()


CORPUS = Path(__file__).parent / "corpus"


def corpus(name: str) -> list[Path]:
    """Return the files of a target's corpus: small inputs that were found, and every past finding."""
    folder = CORPUS / name
    return sorted(folder.iterdir()) if folder.is_dir() else []

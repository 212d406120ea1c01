"""Bombs, each in a process of its own: `python -m tests.hostile.bombs NAME` prints by how many KiB memory grew at its peak."""

from __future__ import annotations

import contextlib
import struct
import sys
from pathlib import Path

import zstandard
from tallow_crypto import chunk_digest
from tallow_net.errors import FrameTooLargeError, MalformedMessageError
from tallow_net.framing import FrameDecoder
from tallow_net.signaling import decode as decode_signaling
from tallow_protocol.core import control, receiving
from tallow_protocol.core.compression import Compressor, Decompressor
from tallow_protocol.core.journal import decode_journal
from tallow_protocol.core.messages import Offer, TallowCodec
from tallow_protocol.core.records import ChunkHeader, PackHeader, iter_pack
from tallow_protocol.errors import MessageError, ProtocolError, RecordError, ViolationError
from tallow_protocol.limits import OFFER_ENTRIES, OFFER_PARTS
from tallow_protocol.testing import MemoryFolder

from tests.hostile.peer import CHUNK, HostilePeer, file_entry, hostile_sender

MIB = 1024 * 1024
SHARE = OFFER_ENTRIES // OFFER_PARTS


def in_offer() -> HostilePeer:
    peer = hostile_sender(MemoryFolder())
    peer.says_yes = False
    peer.authenticate()
    return peer


def prepare() -> None:
    """Load everything that a bomb needs, so that what is measured is the bomb."""
    peer = in_offer()
    peer.offer(*(file_entry(f"{n}", 1) for n in range(2000)))
    Decompressor().decompress(memoryview(zstandard.ZstdCompressor().compress(b"a" * 100)), 100)
    Compressor()


def decompression_declared() -> None:
    """256 MiB in a few kilobytes, honestly declared: refused before anything is taken for it."""
    context = zstandard.ZstdCompressor(level=1)
    writer = context.compressobj(size=256 * MIB)
    body = b"".join(writer.compress(bytes(MIB)) for _ in range(256)) + writer.flush()
    assert len(body) < 128 * 1024
    try:
        Decompressor().decompress(memoryview(body), 4 * MIB)
    except ViolationError:
        return
    raise AssertionError("it was opened")


def decompression_that_lies() -> None:
    """The same, in a frame that declares 4 MiB: cut there."""
    writer = zstandard.ZstdCompressor(level=1).compressobj()
    body = b"".join(writer.compress(bytes(MIB)) for _ in range(256)) + writer.flush()
    parameters = zstandard.get_frame_parameters(body)
    lying = body[:4] + bytes((0xA0,)) + struct.pack("<I", 4 * MIB) + body[6:]
    for frame in (body, lying):
        try:
            Decompressor().decompress(memoryview(frame), 4 * MIB)
        except ViolationError:
            continue
        raise AssertionError(f"it was opened: {parameters}")


def compressed_records() -> None:
    """Records of 4 MiB of zeros in a few hundred bytes, one after another, to a session: one at a time is held."""
    peer = in_offer()
    peer.says_yes = True
    peer.offer(file_entry("zeros", 200 * 4 * MIB))
    body = zstandard.ZstdCompressor().compress(bytes(4 * MIB))
    digest = chunk_digest(bytes(4 * MIB))

    class Nowhere:
        def write_at(self, offset: int, data: memoryview) -> None: ...
        def sync(self, first: int, digests: bytes) -> None: ...
        def commit(self, mode: int, mtime_ns: int) -> None: ...
        def abandon(self) -> None: ...

    pipeline = peer.session.role._pipeline
    pipeline._sink.begin_file = lambda *_args, **_named: Nowhere()
    for index in range(200):
        peer.record(ChunkHeader(0, index, 4 * MIB, 22, compressed=True, last=index == 199), digest + body)
    assert peer.session.error is None
    assert pipeline.stored_bytes == 200 * 4 * MIB


def lengths() -> None:
    """Everything that has a length says the largest that it can, with next to nothing behind it."""
    for limit in (4096, 4 * MIB + 8192):
        try:
            FrameDecoder(limit).feed(b"\xff\xff\xff\xff" + bytes(100))
        except FrameTooLargeError:
            continue
        raise AssertionError
    FrameDecoder(4 * MIB + 8192).feed(struct.pack(">I", 4 * MIB + 8192) + bytes(100))
    heads = [b"\x9a\xff\xff\xff\xff", b"\x9b" + b"\x7f" + b"\xff" * 7, b"\x5b" + b"\x7f" + b"\xff" * 7]
    heads += [b"\x7b" + b"\x7f" + b"\xff" * 7, b"\xba\xff\xff\xff\xff", b"\xbb" + b"\x00\x7f" + b"\xff" * 6]
    for head in heads:
        for prefix in (b"", b"\xa3\x01\x00\x02\xf5\x03", b"\xa1\x01"):
            for kind in range(1, 15):
                try:
                    TallowCodec.decode(kind.to_bytes(2, "big") + prefix + head + bytes(200))
                except MessageError:
                    pass
                else:
                    raise AssertionError
                with contextlib.suppress(MalformedMessageError):
                    decode_signaling(kind.to_bytes(2, "big") + prefix + head + bytes(200))
    with contextlib.suppress(RecordError):
        list(iter_pack(struct.pack(">II32s", 0, 2**32 - 1, bytes(32)) + bytes(10), 1))
    with contextlib.suppress(RecordError):
        list(iter_pack(bytes(40), 2**32 - 1))
    assert (
        decode_journal(b"TLWJ\x00\x01\x16\x00" + b"\x7f" + b"\xff" * 7 + bytes(32) + b"\xff\xff" + bytes(100))
        is None
    )
    assert PackHeader(1, 45).entries == 1


def offer_parts(peer: HostilePeer, entries_of) -> None:
    for part in range(OFFER_PARTS):
        if peer.session.error is not None:
            return
        entries = entries_of(part)
        peer.say(Offer(part, part == OFFER_PARTS - 1, entries))


def entries() -> None:
    """As many entries as an offer may have, each as short as can be."""
    peer = in_offer()
    offer_parts(peer, lambda part: tuple(file_entry(f"{part * SHARE + n:x}", 0) for n in range(SHARE)))
    assert peer.session.error is None, peer.session.error
    assert peer.session.role.offer_bytes == 0


def names() -> None:
    """Every part full of names as long as can be, all different."""
    peer = in_offer()

    def of(part: int):
        return tuple(
            file_entry("/".join([f"{part:03}{n:03}", *["x" * 250] * 16]), 0)
            for n in range((MIB - 64) // 4070)
        )

    offer_parts(peer, of)
    assert isinstance(peer.session.error, ProtocolError | None)


def messages_ahead_of_their_turn() -> None:
    """Control messages of a mebibyte each whose first is missing: kept for their turn, as many as may be."""
    peer = in_offer()
    base = peer.next_number
    body = b"\x00\x02" + bytes(MIB)
    for ahead in range(1, 600):
        if peer.session.error is not None:
            break
        peer.raw(body, number=base + ahead)
    assert isinstance(peer.session.error, ViolationError)


def chunks_out_of_order() -> None:
    """The first chunk of a long file is left out: digests are kept for those that come, and not without end."""
    peer = in_offer()
    peer.says_yes = True
    peer.offer(file_entry("f", 10_000 * CHUNK))

    class Nowhere:
        def write_at(self, offset: int, data: memoryview) -> None: ...
        def abandon(self) -> None: ...

    peer.session.role._pipeline._sink.begin_file = lambda *_args, **_named: Nowhere()
    data = bytes(CHUNK)
    for index in range(1, 9_000):
        peer.chunk(0, index, data)
        if peer.session.error is not None:
            break
    assert isinstance(peer.session.error, ViolationError)


BOMBS = {
    "decompression_declared": (decompression_declared, 24),
    "decompression_that_lies": (decompression_that_lies, 24),
    "compressed_records": (compressed_records, 48),
    "lengths": (lengths, 8),
    "entries": (entries, 200),
    "names": (names, 400),
    "messages_ahead_of_their_turn": (messages_ahead_of_their_turn, 112),
    "chunks_out_of_order": (chunks_out_of_order, 24),
}
"""Each with the MiB by which it may raise the peak of the process's memory."""


def naive_decompression(self: Decompressor, body: memoryview, raw_length: int) -> memoryview:
    """Open what there is, and look at its length afterwards."""
    try:
        raw = zstandard.ZstdDecompressor().decompressobj().decompress(bytes(body))
    except zstandard.ZstdError:
        raise ViolationError from None
    if len(raw) != raw_length:
        raise ViolationError
    return memoryview(raw)


def forget_limits(name: str) -> None:
    """Put the naive implementation in place of what keeps a bomb small."""
    if name.startswith("decompression"):
        Decompressor.decompress = naive_decompression
    elif name == "messages_ahead_of_their_turn":
        control.EARLY_MESSAGE_BYTES = control.UNACKNOWLEDGED_MESSAGES = 1 << 40
    elif name == "chunks_out_of_order":
        receiving.OUT_OF_ORDER_CHUNKS = 1 << 40
    else:
        raise SystemExit(f"there is no naive form of {name}")


def peak_kib() -> int:
    """Return this process's peak of resident memory; what getrusage tells begins with the peak of the one that started it."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def main() -> None:
    name = sys.argv[1]
    prepare()
    if "--naive" in sys.argv:
        forget_limits(name)
    before = peak_kib()
    try:
        BOMBS[name][0]()
    except AssertionError as error:
        print(f"not refused {error}", file=sys.stderr)
    else:
        print("refused", file=sys.stderr)
    print(peak_kib() - before)


if __name__ == "__main__":
    main()

"""What is sent: files and folders, one text, or a stream, whose bytes come from their names.

Also what stands in the output folder before, and what a person does about it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from blake3 import blake3
from tallow_crypto import DIGEST_BYTES, chunk_digest
from tallow_protocol.aio.inputs import StreamSources, TextSources
from tallow_protocol.aio.streambuffer import StreamBuffer
from tallow_protocol.core.messages import Entry, EntryKind
from tallow_protocol.core.streams import STREAM_CHUNK_BYTES
from tallow_protocol.errors import UnreadableError
from tallow_protocol.limits import TEXT_MODE

from tests.sim.stretches import Made, Stretches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tallow_protocol.core.filling import SourcePort
    from tallow_protocol.core.resuming import Learned

    from tests.sim.disk import SimDisk
    from tests.sim.tape import Tape
    from tests.sim.world import World

SIZES = (5, 0, 1, 300_000, 64 * 1024, 64 * 1024 + 1, 256 * 1024 + 1, 600_000, 1_000_000)
STREAM_SIZES = (300_000, 0, 1, STREAM_CHUNK_BYTES, STREAM_CHUNK_BYTES + 1, 2 * STREAM_CHUNK_BYTES)
EVIL_NAMES = (
    "../secretfile",
    "/etc/secretfile",
    "secretfile\x00",
    "con",
    "a/../b",
    "x" * 300,
    ".tallow-partial",
    "e\u0301",
)
KINDS = ("", "", "text", "zeros", "gaps")
TEXT = b"".join(b"%d bottles of beer on the wall\n" % number for number in range(99, 0, -1))
MESSAGE = b"secrettext: " + TEXT[:700]
GAP_BYTES = 96 * 1024
ROUND_BYTES = 61 * 4 * 1024 * 1024
"""After so much a "round" file comes again: no two chunks side by side are the same, and yet few have to be hashed."""

LARGE_NAME = "secretfile-round.bin"
PAGE_BYTES = 64 * 1024
LARGE_BYTES = 16 * 1024 * 1024
"""What is received of a larger file is not kept, and is compared by what is known of it, not by its hash."""

OLDER_NS, SENT_NS, NEWER_NS = 10**17, 10**18, 2 * 10**18
_NUMBER = re.compile(r" \(\d+\)")


def offered(path: str) -> str:
    """Return the path in the offer of what may have been given a free name."""
    return _NUMBER.sub("", path)


class Contents:
    """Source files whose bytes come from their names: no byte is kept, whatever their size."""

    def __init__(self, files: Sequence[tuple[str, int]]) -> None:
        self._files = files
        self.changed_after: float | None = None
        self.now: Callable[[], float] = lambda: 0.0
        self.opened = 0
        self.others: dict[str, int] = {}
        """How often a file was replaced by another of its size."""

    def piece(self, path: str, offset: int, length: int) -> bytes:
        """Return bytes of a file as it is now: noise, or what its name promises."""
        return self.piece_of(path, self.others.get(path, 0), offset, length)

    def piece_of(self, path: str, other: int, offset: int, length: int) -> bytes:
        """Return bytes of the file that stood there after it was replaced `other` times."""
        if not length:
            return b""
        if "text" in path:
            start = (offset + other) % len(TEXT)
            return (TEXT * (length // len(TEXT) + 2))[start : start + length]
        if "zeros" in path:
            return bytes([other]) * length
        source = blake3(path.encode() + bytes(other))
        if "round" in path:
            first = offset % ROUND_BYTES
            if first + length > ROUND_BYTES:
                middle = ROUND_BYTES - first
                return self.piece_of(path, other, first, middle) + self.piece_of(
                    path, other, 0, length - middle
                )
            return source.digest(length=length, seek=first)
        noise = source.digest(length=length, seek=offset)
        return _gaps(noise, offset) if "gaps" in path else noise

    def open(self, file: int) -> _Source:
        """Open entry `file`."""
        self.opened += 1
        return _Source(self, *self._files[file])


def _gaps(noise: bytes, offset: int) -> bytes:
    """Make every second stretch of a file zeros."""
    data = bytearray(noise)
    at = 0
    while at < len(data):
        number, into = divmod(offset + at, GAP_BYTES)
        end = min(at + GAP_BYTES - into, len(data))
        if number % 2:
            data[at:end] = bytes(end - at)
        at = end
    return bytes(data)


class _Source:
    def __init__(self, contents: Contents, path: str, size: int) -> None:
        self._contents = contents
        self._path = path
        self._size = size
        self._closed = False

    def read_into(self, offset: int, buffer: memoryview) -> int:
        length = max(min(len(buffer), self._size - offset), 0)
        buffer[:length] = self._contents.piece(self._path, offset, length)
        return length

    def changed(self) -> bool:
        at = self._contents.changed_after
        return at is not None and self._contents.now() >= at

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._contents.opened -= 1


class Remembered:
    """A sender's memory of digests, as the store keeps them."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int], bytes] = {}

    def known(self, file: int, chunk_size: int) -> bytes:
        return self._kept.get((file, chunk_size), b"")

    def learn(self, learned: Sequence[Learned]) -> None:
        for piece in learned:
            before = self.known(piece.file, piece.chunk_size)
            if len(before) == piece.first * 32:
                self._kept[piece.file, piece.chunk_size] = before + piece.digests

    def forget(self) -> None:
        """Forget all: a file is another one now."""
        self._kept.clear()


class SimWriter:
    """Standard output: keeps what it is given."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> None:
        self.data += data

    def drain(self) -> None:
        """Be done: nothing waits."""

    def close(self) -> None:
        """Be closed."""


class Offer:
    """One world's offer, the same in each attempt."""

    def __init__(self, tape: Tape, large_bytes: int = 0) -> None:
        """`large_bytes`: one file of so many is sent, whatever the tape would say."""
        self.form = tape.pick(("files", "files", "files", "files", "files", "text", "stream", "stream"))
        if self.form == "text":
            self.entries = [Entry("text.txt", EntryKind.FILE, len(MESSAGE), 0o644 | TEXT_MODE, SENT_NS)]
        elif self.form == "stream":
            self.entries = [Entry("secretfile-stream", EntryKind.FILE, None, 0o644, SENT_NS)]
        else:
            self.entries = _files(tape)
        if large_bytes:
            self.form = "files"
            self.entries = [Entry(LARGE_NAME, EntryKind.FILE, large_bytes, 0o640, SENT_NS)]
        self.stream_bytes = tape.pick(STREAM_SIZES) if self.form == "stream" else 0
        self.stream_pause_s = tape.pick((0.0, 0.05, 3.0)) if self.form == "stream" else 0.0
        self.files = {
            entry.path: self.stream_bytes if entry.size is None else entry.size
            for entry in self.entries
            if entry.kind is EntryKind.FILE
        }
        self.total_bytes = sum(self.files.values())
        self.contents = Contents([(entry.path, entry.size or 0) for entry in self.entries])
        self.has_links = any(entry.kind is EntryKind.LINK for entry in self.entries)
        self._digests: dict[tuple[str, int], bytes] = {}
        self._chunks: dict[tuple[str, int, int, int], bytes] = {}
        self._joined: dict[tuple[str, int, int], bytearray] = {}

    def piece(self, path: str, offset: int, length: int) -> bytes:
        """Return bytes of a file as it is now."""
        return (
            MESSAGE[offset : offset + length]
            if self.form == "text"
            else self.contents.piece(path, offset, length)
        )

    def digest(self, path: str, other: int | None = None) -> bytes:
        """Return the hash of a whole file, now or after it was replaced `other` times."""
        key = path, self.contents.others.get(path, 0) if other is None else other
        if key not in self._digests:
            size = self.files[path]
            whole = MESSAGE if self.form == "text" else self.contents.piece_of(*key, 0, size)
            self._digests[key] = blake3(whole).digest()
        return self._digests[key]

    def made(self, path: str, other: int | None = None) -> Made:
        """Return a file as it is now, or was after it was replaced `other` times."""
        return Made(self.contents, path, self.contents.others.get(path, 0) if other is None else other)

    def ways(self, path: str) -> range:
        """Return how often a file had been replaced, for all that it ever was."""
        return range(self.contents.others.get(path, 0) + 1)

    def is_now(self, path: str, data: Stretches) -> bool:
        """Return whether these bytes are the file's as it is now."""
        return self._is(path, self.contents.others.get(path, 0), data)

    def was(self, path: str, data: Stretches) -> bool:
        """Return whether these bytes are the file's, as it is or as it was in an earlier attempt."""
        return any(self._is(path, other, data) for other in self.ways(path))

    def _is(self, path: str, other: int, data: Stretches) -> bool:
        size = self.files[path]
        if len(data) != size:
            return False
        if size > LARGE_BYTES:
            return not data.differs(self.made(path, other), 0, size)
        return blake3(bytes(data)).digest() == self.digest(path, other)

    def chunk_digest(self, path: str, other: int, chunk_size: int, index: int) -> bytes:
        """Return the digest of a chunk; where a file comes round again, that of the first which is the same."""
        at, size = index * chunk_size, self.files[path]
        length = min(chunk_size, size - at)
        if "round" in path and length == chunk_size:
            at %= ROUND_BYTES
        key = path, other, chunk_size, at
        if key not in self._chunks:
            self._chunks[key] = chunk_digest(self.contents.piece_of(path, other, at, length))
        return self._chunks[key]

    def digests(self, path: str, other: int, chunk_size: int, count: int) -> bytes:
        """Return the digests of the first `count` chunks, joined."""
        key = path, other, chunk_size
        joined = self._joined.setdefault(key, bytearray())
        for index in range(len(joined) // DIGEST_BYTES, count):
            joined += self.chunk_digest(path, other, chunk_size, index)
        return bytes(joined[: count * DIGEST_BYTES])

    def recognise(self, offset: int, piece: bytes) -> Made | None:
        """Return of which large file these bytes are, each at its own place."""
        if len(piece) < PAGE_BYTES or self.total_bytes < LARGE_BYTES:
            return None
        large = (path for path, size in self.files.items() if size > LARGE_BYTES)
        ways = [self.made(path, other) for path in large for other in self.ways(path)]
        return next((made for made in ways if made.holds(offset, piece)), None)

    def sources(self, buffer: StreamBuffer | None) -> SourcePort:
        """Return what opens the files."""
        if buffer is not None:
            return StreamSources(buffer)
        return TextSources(MESSAGE) if self.form == "text" else self.contents

    def stream(self, world: World, moved: Callable[[], None]) -> StreamBuffer | None:
        """Return the input of a stream, begun anew: it is read as it comes, as far as there is room."""
        if self.form != "stream":
            return None
        buffer = StreamBuffer(kept_bytes=2 * STREAM_CHUNK_BYTES)
        path, size = self.entries[0].path, self.stream_bytes
        at, waits = 0, False
        release = buffer.release

        def released(index: int) -> None:
            nonlocal waits
            release(index)
            if waits:
                waits = False
                world.after(0.0, more)

        def more() -> None:
            nonlocal at, waits
            if len(buffer._chunks) >= buffer._most:
                waits = True
            elif at < size:
                length = min(STREAM_CHUNK_BYTES, size - at)
                if buffer.put(self.contents.piece(path, at, length)):
                    at += length
                    world.after(self.stream_pause_s, more)
            else:
                buffer.end()

        buffer.moved, buffer.release = moved, released
        world.after(self.stream_pause_s, more)
        return buffer


def break_stream(buffer: StreamBuffer | None) -> None:
    """Let the input end with an error."""
    if buffer is not None:
        buffer.end(UnreadableError("cannot read the input: it broke"))


def _files(tape: Tape) -> list[Entry]:
    entries: list[Entry] = []
    folder = ""
    if tape.below(3) == 2:
        folder = "plainfolder-Name/"
        entries.append(Entry("plainfolder-Name", EntryKind.FOLDER, None, 0o750, 1_700_000_000_000_000_000))
    for number in range(1 + tape.below(4)):
        size, kind = tape.pick(SIZES), tape.pick(KINDS)
        path = f"{folder}secretfile-{number}{kind}.bin"
        entries.append(Entry(path, EntryKind.FILE, size, 0o640, SENT_NS + number))
    if folder and tape.below(3) == 2:
        target = entries[-1].path.partition("/")[2]
        entries.append(Entry(f"{folder}secretlink", EntryKind.LINK, None, 0o777, SENT_NS, target))
    return entries


def place_others(tape: Tape, disk: SimDisk, offer: Offer) -> set[str]:
    """Let things stand in the output folder already; return their paths."""
    placed: set[str] = set()
    for path, size in offer.files.items():
        what = tape.below(6)
        if what in {1, 2}:
            disk.place(path, b"older" * 9, OLDER_NS if what == 1 else NEWER_NS)
        elif what == 3:
            disk.place(path, offer.piece(path, 0, size), SENT_NS)
        elif what == 4 and not offer.has_links:
            disk.place_link(path, "somewhere")
        else:
            continue
        placed.add(path)
    if not placed and tape.below(2) == 1:
        path = next(iter(offer.files))
        disk.place(f"{path}/inside", b"kept", OLDER_NS)
        placed |= {path, f"{path}/inside"}
    return placed

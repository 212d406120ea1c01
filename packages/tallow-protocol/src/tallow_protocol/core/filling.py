"""What goes into one record, and the Filler that makes its plaintext: reads, hashes, compresses.

A Filler belongs to one link and is used by one thread at a time; links share nothing here, so that any number of
threads may fill at once. A plan is made for one sending on one link: what is sent again gets a new one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tallow_crypto import DIGEST_BYTES, TAG_BYTES, chunk_digest

from tallow_protocol.core.chunking import packed_root
from tallow_protocol.core.compression import Compressor
from tallow_protocol.core.records import (
    RECORD_HEADER_BYTES,
    ChunkHeader,
    PackHeader,
    RecordKind,
    pack_entry_header,
    pack_header,
    padded_length,
    write_padding,
)
from tallow_protocol.errors import SourceChangedError
from tallow_protocol.limits import PACK_ENTRY_HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallow_protocol.core.window import Mark

__all__ = [
    "LENGTH_BYTES",
    "ChunkPlan",
    "Filled",
    "Filler",
    "PackPlan",
    "Plan",
    "Sending",
    "Source",
    "SourcePort",
    "frame_length",
]

LENGTH_BYTES = 4
OPEN_SOURCES = 4
"""A link works on one file, and on those of which a chunk goes again."""


def frame_length(body_bytes: int) -> int:
    """Return the bytes of a bulk record's frame: length, header, body, padding and tag."""
    return LENGTH_BYTES + padded_length(RecordKind.CHUNK, body_bytes) + TAG_BYTES


class Source(Protocol):
    """One open file that is being sent."""

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill the buffer from `offset`, up to the offered size; return how many bytes that was."""

    def changed(self) -> bool:
        """Return whether the file is not what was offered any more."""

    def close(self) -> None:
        """Close it."""


class SourcePort(Protocol):
    """Where the files of an offer are opened; any number of threads may call at once."""

    def open(self, file: int) -> Source:
        """Open the entry with this number; raises FileError."""


@dataclass(slots=True, eq=False)
class Sending:
    """What a plan gets when it is given to a link: `counted_bytes` of the window until it is settled.

    `made_bytes` is the frame's length, written by the thread that filled it.
    """

    connection: int
    filler: Filler
    mark: Mark
    counted_bytes: int
    acknowledged_bytes: int
    window_bytes: int
    made_bytes: int | None = None
    settled: bool = False


@dataclass(slots=True, eq=False)
class ChunkPlan:
    """One chunk to send. `digest` is known from its second sending on.

    `arrived` says, of one that waits to be sent again, that it turned out to have been delivered.
    """

    file: int
    index: int
    length: int
    chunk_size: int
    last: bool
    digest: bytes | None = None
    arrived: bool = False
    order: int = 0
    sending: Sending | None = None

    @property
    def frame_bytes(self) -> int:
        """Return the bytes of the whole frame at most, its length in front and its tag included."""
        return frame_length(DIGEST_BYTES + self.length)


@dataclass(slots=True, eq=False)
class PackPlan:
    """Several whole small files to send in one record."""

    files: tuple[int, ...]
    sizes: tuple[int, ...]
    roots: tuple[bytes, ...] | None = None
    waiting: set[int] = field(default_factory=set)
    order: int = 0
    sending: Sending | None = None
    body_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        """Add up its body: what is compressed together."""
        self.body_bytes = sum(self.sizes) + len(self.sizes) * PACK_ENTRY_HEADER_BYTES

    @property
    def frame_bytes(self) -> int:
        """Return the bytes of the whole frame at most, its length in front and its tag included."""
        return frame_length(self.body_bytes)


Plan = ChunkPlan | PackPlan


@dataclass(frozen=True, slots=True)
class Filled:
    """A record ready to be sealed: the frame's first `frame_bytes` bytes of the caller's buffer."""

    plan: Plan
    frame_bytes: int
    digests: tuple[bytes, ...]


class Filler:
    """Makes the records of one link. One caller at a time."""

    def __init__(self, sources: SourcePort, *, compress: bool, clock: Callable[[], float] | None) -> None:
        self._sources = sources
        self._compressor = Compressor(enabled=compress, clock=clock)
        self._compressing: int | None = None
        self._open: dict[int, Source] = {}
        self._scratch = memoryview(bytearray())
        self._key = [None]  # whoever pops it may use `_open`; a list's pop is atomic
        self._retired = False

    def fill(self, plan: Plan, buffer: memoryview) -> Filled:
        """Make the plaintext of the plan's record in `buffer`, behind its four length bytes.

        `buffer` has at least `plan.frame_bytes` bytes. Raises FileError where the source cannot be read
        or is not what it was when it was offered.
        """
        if not self._take():  # the link is lost already, and what was open for it closed
            held: dict[int, Source] = {}
            try:
                return self._fill(plan, buffer, held)
            finally:
                _close_all(held)
        try:
            return self._fill(plan, buffer, self._open)
        finally:
            self._key.append(None)
            if self._retired and self._take():
                _close_all(self._open)

    def _fill(self, plan: Plan, buffer: memoryview, held: dict[int, Source]) -> Filled:
        if isinstance(plan, PackPlan):
            return self._fill_pack(plan, buffer)
        return self._fill_chunk(plan, buffer, held)

    def _take(self) -> bool:
        try:
            self._key.pop()
        except IndexError:
            return False
        return True

    def _fill_chunk(self, plan: ChunkPlan, buffer: memoryview, held: dict[int, Source]) -> Filled:
        start = LENGTH_BYTES + RECORD_HEADER_BYTES + DIGEST_BYTES
        length = plan.length
        if self._compressing != plan.file:
            self._compressing = plan.file
            self._compressor.new_file()
        tries = self._compressor.begin(length, *_progress(plan))
        place = buffer[start : start + length]
        raw = self._scratch_of(length) if tries else place
        source = self._source(plan.file, held)
        if source.read_into(plan.index * plan.chunk_size, raw) != length or (plan.last and source.changed()):
            raise SourceChangedError
        digest = chunk_digest(raw)
        if plan.digest is not None and digest != plan.digest:
            raise SourceChangedError
        shrunk = self._shrink(raw, place) if tries else None
        buffer[start - DIGEST_BYTES : start] = digest
        header = ChunkHeader(
            file=plan.file,
            index=plan.index,
            raw_length=length,
            log2_chunk_size=plan.chunk_size.bit_length() - 1,
            compressed=shrunk is not None,
            last=plan.last,
        )
        if plan.last:
            held.pop(plan.file).close()
        body_bytes = DIGEST_BYTES + (length if shrunk is None else shrunk)
        return Filled(plan, self._finish(plan, buffer, header, body_bytes), (digest,))

    def _fill_pack(self, plan: PackPlan, buffer: memoryview) -> Filled:
        raw_length = plan.body_bytes
        self._compressing = None
        self._compressor.new_file()
        tries = self._compressor.begin(raw_length, *_progress(plan))
        start = LENGTH_BYTES + RECORD_HEADER_BYTES
        place = buffer[start : start + raw_length]
        body = self._scratch_of(raw_length) if tries else place
        roots = self._read_pack(plan, body)
        shrunk = self._shrink(body, place) if tries else None
        header = PackHeader(entries=len(plan.files), raw_length=raw_length, compressed=shrunk is not None)
        body_bytes = raw_length if shrunk is None else shrunk
        return Filled(plan, self._finish(plan, buffer, header, body_bytes), roots)

    def _read_pack(self, plan: PackPlan, body: memoryview) -> tuple[bytes, ...]:
        open_source = self._sources.open
        roots: list[bytes] = []
        at = 0
        for file, size in zip(plan.files, plan.sizes, strict=True):
            begin = at + PACK_ENTRY_HEADER_BYTES
            end = begin + size
            raw = body[begin:end]
            source = open_source(file)
            try:
                if source.read_into(0, raw) != size or source.changed():
                    raise SourceChangedError
            finally:
                source.close()
            root = packed_root(raw)
            body[at:begin] = pack_entry_header(file, size, root)
            roots.append(root)
            at = end
        made = tuple(roots)
        if plan.roots is not None and made != plan.roots:
            raise SourceChangedError
        return made

    def _scratch_of(self, length: int) -> memoryview:
        if len(self._scratch) < length:
            self._scratch = memoryview(bytearray(length))
        return self._scratch[:length]

    def _shrink(self, raw: memoryview, place: memoryview) -> int | None:
        shrunk = self._compressor.compress(raw, place)
        if shrunk is None:
            place[:] = raw  # one copy where a try failed, which comes ever more seldom
        return shrunk

    def _finish(
        self, plan: Plan, buffer: memoryview, header: ChunkHeader | PackHeader, body_bytes: int
    ) -> int:
        plaintext = buffer[LENGTH_BYTES:]
        pack_header(plaintext, header, body_bytes)
        frame_bytes = frame_length(body_bytes)
        padded = frame_bytes - LENGTH_BYTES - TAG_BYTES
        write_padding(plaintext, RECORD_HEADER_BYTES + body_bytes, padded)
        self._compressor.end(header.raw_length, frame_bytes)
        if plan.sending is not None:
            plan.sending.made_bytes = frame_bytes
        return frame_bytes

    def _source(self, file: int, held: dict[int, Source]) -> Source:
        source = held.get(file)
        if source is None:
            while len(held) >= OPEN_SOURCES:
                held.pop(next(iter(held))).close()
            source = held[file] = self._sources.open(file)
        return source

    def retire(self) -> None:
        """Close the sources once no `fill` runs, now or when it ends; the link is lost. Any thread may call."""
        self._retired = True
        if self._take():
            _close_all(self._open)


def _progress(plan: Plan) -> tuple[int, int]:
    sending = plan.sending
    return (0, 0) if sending is None else (sending.acknowledged_bytes, sending.window_bytes)


def _close_all(held: dict[int, Source]) -> None:
    while held:
        held.popitem()[1].close()

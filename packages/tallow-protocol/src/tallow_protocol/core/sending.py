"""SendPipeline: which bytes go next, and the record that carries them.

Two kinds of calls. Bookkeeping (`accept`, `plan`, `filled`, `acknowledged`, `lost`) is cheap and belongs to the
session's owner. `fill` reads, hashes and compresses: a worker thread calls it, one call at a time, in the order of
the plans. The two share nothing but the plan.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tallow_crypto import DIGEST_BYTES, TAG_BYTES, FileRoot, chunk_digest

from tallow_protocol.core.chunking import PACK_FILE_BYTES, ChunkConfig, chunk_count, packed_root
from tallow_protocol.core.compression import Compressor
from tallow_protocol.core.messages import EntryKind, FileDone
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
from tallow_protocol.errors import SourceChangedError, ViolationError
from tallow_protocol.limits import PACK_ENTRY_HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tallow_protocol.core.messages import Entry
    from tallow_protocol.core.window import Window

__all__ = ["ChunkPlan", "Filled", "PackPlan", "Plan", "SendPipeline", "Source", "SourcePort"]

LENGTH_BYTES = 4
PACK_BYTES = 1024 * 1024
"""Raw bytes of a pack: the largest that was measured to gain."""

PACK_ENTRIES = 1024
"""Files in a pack: its acknowledgement names each, 8 KiB in all."""

OPEN_SOURCES = 8


class Source(Protocol):
    """One open file that is being sent."""

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill the buffer from `offset`, up to the offered size; return how many bytes that was."""

    def changed(self) -> bool:
        """Return whether the file is not what was offered any more."""

    def close(self) -> None:
        """Close it."""


class SourcePort(Protocol):
    """Where the files of an offer are opened."""

    def open(self, file: int) -> Source:
        """Open the entry with this number; raises FileError."""


@dataclass(slots=True, eq=False)
class ChunkPlan:
    """One chunk to send. `digest` is known from its second sending on."""

    file: int
    index: int
    length: int
    chunk_size: int
    last: bool
    digest: bytes | None = None
    connection: int | None = None
    sent_at: float = 0.0
    mark: int = 0
    settled: bool = False

    @property
    def raw_bytes(self) -> int:
        """Return the bytes of the file that it carries."""
        return self.length


@dataclass(slots=True, eq=False)
class PackPlan:
    """Several whole small files to send in one record."""

    files: tuple[int, ...]
    sizes: tuple[int, ...]
    roots: tuple[bytes, ...] | None = None
    waiting: set[int] = field(default_factory=set)
    connection: int | None = None
    sent_at: float = 0.0
    mark: int = 0
    settled: bool = False

    @property
    def raw_bytes(self) -> int:
        """Return the bytes of all its files."""
        return sum(self.sizes)


Plan = ChunkPlan | PackPlan


@dataclass(frozen=True, slots=True)
class Filled:
    """A record ready to be sealed: the frame's first `frame_bytes` bytes of the caller's buffer."""

    plan: Plan
    frame_bytes: int
    digests: tuple[bytes, ...]


@dataclass(slots=True)
class _Progress:
    """One chunked file on its way."""

    size: int
    chunk_size: int
    count: int
    root: FileRoot
    planned: int = 0
    hashed: int = 0
    early: dict[int, bytes] = field(default_factory=dict)
    acknowledged: int = 0


class SendPipeline:
    """What is still to send of an offer, under one window, over any number of connections."""

    def __init__(
        self,
        entries: Sequence[Entry],
        sources: SourcePort,
        *,
        window: Window,
        chunks: ChunkConfig | None = None,
        compress: bool = True,
    ) -> None:
        self._entries = entries
        self._sources = sources
        self._chunks = chunks or ChunkConfig()
        self._compressor = Compressor(enabled=compress)
        self._compressing: int | None = None
        self.window = window
        self._open: dict[int, Source] = {}
        self._small: deque[int] = deque()
        self._large: deque[int] = deque()
        self._again: deque[Plan] = deque()
        self._current: int | None = None
        self._progress: dict[int, _Progress] = {}
        self._packs: dict[int, PackPlan] = {}
        self._flying: dict[tuple[int, int], ChunkPlan] = {}
        self._done: deque[FileDone] = deque()
        self._by_age: deque[Plan] = deque()
        self.roots: dict[int, bytes] = {}
        self._wanted = 0
        self.hold_new_files = False
        self.files = 0
        self.files_done = 0
        self.total_bytes = 0
        self.acknowledged_bytes = 0

    # -- bookkeeping ---------------------------------------------------------------------------------------

    def accept(self, ranges: Iterable[tuple[int, int]] | None) -> None:
        """Begin: send the files in these (first, count) ranges of entry numbers, or all of them."""
        chosen = range(len(self._entries)) if ranges is None else self._chosen(ranges)
        for number in chosen:
            entry = self._entries[number]
            if entry.kind is not EntryKind.FILE:
                continue
            size = entry.size or 0
            self.files += 1
            self.total_bytes += size
            (self._small if size <= PACK_FILE_BYTES else self._large).append(number)
        self._wanted = self.files

    def _chosen(self, ranges: Iterable[tuple[int, int]]) -> list[int]:
        chosen: list[int] = []
        for first, count in ranges:
            if count < 1 or first + count > len(self._entries) or (chosen and first <= chosen[-1]):
                raise ViolationError("The peer accepted entries that were not offered.")
            chosen.extend(range(first, first + count))
        return chosen

    @property
    def all_hashed(self) -> bool:
        """Return whether every file's root is known, so that the manifest can be made."""
        return len(self.roots) == self._wanted

    def plan(self, connection: int, now: float) -> Plan | None:
        """Return what goes next on `connection`, counted as on its way; None when the window or the work is used up."""
        plan = self._next_plan()
        if plan is None:
            return None
        plan.connection, plan.sent_at = connection, now
        plan.settled = False
        plan.mark = self.window.sent(plan.raw_bytes)
        self._by_age.append(plan)
        if isinstance(plan, ChunkPlan):
            self._flying[plan.file, plan.index] = plan
        else:
            plan.waiting.update(plan.files)
            self._packs.update(dict.fromkeys(plan.files, plan))
        return plan

    def _next_plan(self) -> Plan | None:
        if self._again:
            return self._again.popleft() if self.window.has_room(self._again[0].raw_bytes) else None
        if self._small:
            return self._next_pack()
        if self._current is None:
            if not self._large or self.hold_new_files:
                return None
            self._current = self._large.popleft()
            size = self._entries[self._current].size or 0
            chunk_size = self._chunks.chunk_size(size, self.window.rate_bytes_per_s)
            self._progress[self._current] = _Progress(
                size, chunk_size, chunk_count(size, chunk_size), FileRoot(size, chunk_size)
            )
        file = self._current
        progress = self._progress[file]
        index = progress.planned
        length = min(progress.chunk_size, progress.size - index * progress.chunk_size)
        if not self.window.has_room(length):
            return None
        progress.planned += 1
        if progress.planned == progress.count:
            self._current = None
        return ChunkPlan(file, index, length, progress.chunk_size, last=index == progress.count - 1)

    def _next_pack(self) -> PackPlan | None:
        files: list[int] = []
        sizes: list[int] = []
        total = 0
        for number in self._small:
            size = self._entries[number].size or 0
            if files and total + size + (len(files) + 1) * PACK_ENTRY_HEADER_BYTES > PACK_BYTES:
                break
            files.append(number)
            sizes.append(size)
            total += size
            if len(files) == PACK_ENTRIES:
                break
        if not self.window.has_room(total):
            return None
        for _ in files:
            self._small.popleft()
        return PackPlan(tuple(files), tuple(sizes))

    def filled(self, filled: Filled) -> None:
        """Take the digests of a record that `fill` made; a file whose last digest came gets its root."""
        plan = filled.plan
        if isinstance(plan, PackPlan):
            plan.roots = filled.digests
            self.roots.update(zip(plan.files, filled.digests, strict=True))
            return
        (plan.digest,) = filled.digests
        progress = self._progress.get(plan.file)
        if progress is None or plan.index < progress.hashed or plan.index in progress.early:
            return
        progress.early[plan.index] = plan.digest
        while progress.hashed in progress.early:
            progress.root.update(progress.early.pop(progress.hashed))
            progress.hashed += 1
        if progress.hashed == progress.count:
            root = progress.root.digest()
            self.roots[plan.file] = root
            self._done.append(FileDone(plan.file, progress.size, progress.count, root))

    def file_done(self) -> FileDone | None:
        """Return the next FileDone that is owed to the receiver."""
        return self._done.popleft() if self._done else None

    @property
    def owes_file_done(self) -> bool:
        """Return whether a FileDone waits to be sent."""
        return bool(self._done)

    def acknowledged(self, ranges: Iterable[tuple[int, int, int]], now: float) -> None:
        """Take the receiver's (file, first chunk, count) ranges. What was not on its way is ignored."""
        for file, first, count in ranges:
            pack = self._packs.pop(file, None)
            if pack is not None:
                pack.waiting.discard(file)
                pack.settled = not pack.waiting
                size = self._entries[file].size or 0
                self.files_done += 1
                self.acknowledged_bytes += size
                self.window.acknowledged(size, sent_at=pack.sent_at, mark=pack.mark, now=now)
                continue
            progress = self._progress.get(file)
            if progress is None or first + count > progress.count:
                continue
            for index in range(first, first + count):
                plan = self._flying.pop((file, index), None)
                if plan is None:
                    continue
                plan.settled = True
                self.window.acknowledged(plan.length, sent_at=plan.sent_at, mark=plan.mark, now=now)
                self.acknowledged_bytes += plan.length
                progress.acknowledged += 1
            if progress.acknowledged == progress.count and file in self.roots:
                del self._progress[file]
                self.files_done += 1

    def lost(self, connection: int) -> None:
        """Queue again what was on its way on `connection`."""
        again: list[Plan] = []
        for key, chunk in list(self._flying.items()):
            if chunk.connection == connection:
                del self._flying[key]
                self.window.lost(chunk.length)
                chunk.connection = None
                again.append(chunk)
        for pack in {id(p): p for p in self._packs.values()}.values():
            if pack.connection != connection:
                continue
            pack.settled = True
            left = [(f, s) for f, s in zip(pack.files, pack.sizes, strict=True) if f in pack.waiting]
            for file, size in left:
                del self._packs[file]
                self.window.lost(size)
            files = tuple(f for f, _ in left)
            known = tuple(self.roots[f] for f in files if f in self.roots)
            again.append(
                PackPlan(files, tuple(s for _, s in left), known if len(known) == len(files) else None)
            )
        self._again.extend(again)

    def oldest_sent_at(self, connection: int) -> float | None:
        """Return when the oldest unacknowledged record on `connection` was planned."""
        while self._by_age and self._by_age[0].settled:
            self._by_age.popleft()
        return next((p.sent_at for p in self._by_age if not p.settled and p.connection == connection), None)

    # -- work ----------------------------------------------------------------------------------------------

    def fill(self, plan: Plan, buffer: memoryview) -> Filled:
        """Make the plaintext of the plan's record in `buffer`, behind its four length bytes.

        `buffer` has at least `frame_capacity(plan)` bytes. Raises FileError where the source cannot be read
        or is not what it was when it was offered.
        """
        if isinstance(plan, PackPlan):
            return self._fill_pack(plan, buffer)
        return self._fill_chunk(plan, buffer)

    @staticmethod
    def frame_capacity(plan: Plan) -> int:
        """Return the bytes that `fill` may need for this plan."""
        if isinstance(plan, PackPlan):
            body = plan.raw_bytes + len(plan.files) * PACK_ENTRY_HEADER_BYTES
        else:
            body = DIGEST_BYTES + plan.length
        return LENGTH_BYTES + padded_length(RecordKind.CHUNK, body) + TAG_BYTES

    def _fill_chunk(self, plan: ChunkPlan, buffer: memoryview) -> Filled:
        start = LENGTH_BYTES + RECORD_HEADER_BYTES + DIGEST_BYTES
        raw = buffer[start : start + plan.length]
        source = self._source(plan.file)
        if source.read_into(plan.index * plan.chunk_size, raw) != plan.length or (
            plan.last and source.changed()
        ):
            raise SourceChangedError
        digest = chunk_digest(raw)
        if plan.digest is not None and digest != plan.digest:
            raise SourceChangedError
        if self._compressing != plan.file:
            self._compressing = plan.file
            self._compressor.new_file()
        shrunk = self._compressor.compress(raw)
        if shrunk is not None:
            raw[: len(shrunk)] = shrunk
        buffer[start - DIGEST_BYTES : start] = digest
        header = ChunkHeader(
            file=plan.file,
            index=plan.index,
            raw_length=plan.length,
            log2_chunk_size=plan.chunk_size.bit_length() - 1,
            compressed=shrunk is not None,
            last=plan.last,
        )
        body_bytes = DIGEST_BYTES + (plan.length if shrunk is None else len(shrunk))
        if plan.last:
            self._close(plan.file)
        return Filled(plan, self._finish(buffer, header, body_bytes), (digest,))

    def _fill_pack(self, plan: PackPlan, buffer: memoryview) -> Filled:
        start = at = LENGTH_BYTES + RECORD_HEADER_BYTES
        roots: list[bytes] = []
        for file, size in zip(plan.files, plan.sizes, strict=True):
            raw = buffer[at + PACK_ENTRY_HEADER_BYTES : at + PACK_ENTRY_HEADER_BYTES + size]
            source = self._sources.open(file)
            try:
                if source.read_into(0, raw) != size or source.changed():
                    raise SourceChangedError
            finally:
                source.close()
            root = packed_root(raw)
            buffer[at : at + PACK_ENTRY_HEADER_BYTES] = pack_entry_header(file, size, root)
            roots.append(root)
            at += PACK_ENTRY_HEADER_BYTES + size
        if plan.roots is not None and tuple(roots) != plan.roots:
            raise SourceChangedError
        raw_length = at - start
        self._compressing = None
        self._compressor.new_file()
        shrunk = self._compressor.compress(buffer[start:at])
        if shrunk is not None:
            buffer[start : start + len(shrunk)] = shrunk
        header = PackHeader(entries=len(plan.files), raw_length=raw_length, compressed=shrunk is not None)
        return Filled(
            plan, self._finish(buffer, header, raw_length if shrunk is None else len(shrunk)), tuple(roots)
        )

    @staticmethod
    def _finish(buffer: memoryview, header: ChunkHeader | PackHeader, body_bytes: int) -> int:
        padded = padded_length(RecordKind.CHUNK, body_bytes)
        plaintext = buffer[LENGTH_BYTES:]
        pack_header(plaintext, header, body_bytes)
        write_padding(plaintext, RECORD_HEADER_BYTES + body_bytes, padded)
        return LENGTH_BYTES + padded + TAG_BYTES

    def _source(self, file: int) -> Source:
        source = self._open.get(file)
        if source is None:
            while len(self._open) >= OPEN_SOURCES:
                self._close(next(iter(self._open)))
            source = self._open[file] = self._sources.open(file)
        return source

    def _close(self, file: int) -> None:
        source = self._open.pop(file, None)
        if source is not None:
            source.close()

    def close(self) -> None:
        """Close every open source. Called by the worker's owner once no `fill` runs any more."""
        for file in list(self._open):
            self._close(file)

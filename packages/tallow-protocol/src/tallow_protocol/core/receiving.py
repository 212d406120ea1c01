"""ReceivePipeline: what arrives, verified, to the place where it belongs.

Synchronous; one caller at a time (a worker thread, or a simulation). It trusts nothing: a chunk is compared
with its digest before it is written, a file with its root before it gets its final name, and what a peer
could make us keep is bounded whatever it sends.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tallow_crypto import DIGEST_BYTES, FileRoot, chunk_digest, equal

from tallow_protocol.core.chunking import chunk_count, packed_root
from tallow_protocol.core.compression import Decompressor
from tallow_protocol.core.messages import EntryKind
from tallow_protocol.core.records import ChunkHeader, PackHeader, iter_pack
from tallow_protocol.errors import IntegrityError, ViolationError
from tallow_protocol.limits import FILE_SIZE_MAX, PACK_RAW_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tallow_protocol.core.messages import Entry, FileDone

__all__ = ["ReceivePipeline", "Sink", "StagedPlace", "Stored"]

OUT_OF_ORDER_CHUNKS = 4096
"""Digests kept for chunks ahead of their turn: 16 MiB in flight are 256 chunks of 64 KiB, so this is never met."""

OPEN_FILES = 256
"""Files received at the same time, an open handle each; a sender begins no file while 128 wait for their end."""


class StagedPlace(Protocol):
    """One file being received, not yet under its final name."""

    def write_at(self, offset: int, data: memoryview) -> None:
        """Write all of `data` at `offset`; raises NoSpaceError or NotWritableError."""

    def commit(self, mode: int, mtime_ns: int) -> None:
        """Give it its mode, time and final name; raises ConflictError where that name is taken."""

    def abandon(self) -> None:
        """Remove it."""


class Sink(Protocol):
    """The gate to the disk, as this pipeline uses it; paths are the offer's own."""

    def begin_offer(self, entries: Sequence[Entry]) -> None:
        """Check every name, then that nothing of them exists; raises BadNameError, ConflictError."""

    def make_folder(self, path: str) -> None:
        """Create a folder, private to us until `finish_folders`."""

    def make_link(self, path: str, target: str, mtime_ns: int) -> None:
        """Create a symbolic link that stays inside the offer."""

    def begin_file(self, path: str, size_bytes: int) -> StagedPlace:
        """Open a file for receiving."""

    def write_small(self, path: str, data: memoryview, mode: int, mtime_ns: int) -> None:
        """Write a whole small file and give it its final name."""

    def finish_folders(self, folders: Sequence[tuple[str, int, int]]) -> None:
        """Give folders (path, mode, mtime_ns) their modes and times, deepest first, after everything else."""

    def discard(self) -> None:
        """Remove what is staged and not committed."""

    def close(self) -> None:
        """Release every handle."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What one record brought: ranges (file, first chunk, count) to acknowledge, new verified bytes."""

    ranges: tuple[tuple[int, int, int], ...]
    new_bytes: int


@dataclass(slots=True)
class _Arriving:
    """One chunked file on its way in."""

    entry: Entry
    size: int
    chunk_size: int
    count: int
    place: StagedPlace
    root: FileRoot
    hashed: int = 0
    early: dict[int, bytes] = field(default_factory=dict)
    done: FileDone | None = None


class ReceivePipeline:
    """Takes records and FileDone messages of one accepted offer, in any order, any of them repeatedly."""

    def __init__(self, entries: Sequence[Entry], sink: Sink) -> None:
        self._entries = entries
        self._sink = sink
        self._decompressor = Decompressor()
        self._arriving: dict[int, _Arriving] = {}
        self._early_done: dict[int, FileDone] = {}
        self.roots: dict[int, bytes] = {}
        self.files = sum(entry.kind is EntryKind.FILE for entry in entries)
        self.total_bytes = sum(entry.size or 0 for entry in entries)
        self.stored_bytes = 0

    @property
    def files_done(self) -> int:
        """Return how many files have their final name."""
        return len(self.roots)

    @property
    def complete(self) -> bool:
        """Return whether every file has its final name."""
        return len(self.roots) == self.files

    def begin(self) -> None:
        """Check names and conflicts of the whole offer, then create its folders. Nothing is written before."""
        self._sink.begin_offer(self._entries)
        for entry in self._entries:
            if entry.kind is EntryKind.FOLDER:
                self._sink.make_folder(entry.path)

    def store(self, header: ChunkHeader | PackHeader, body: memoryview) -> Stored:
        """Verify and write one record's contents; `body` may be reused once this returns.

        Raises ViolationError or IntegrityError for what cannot be true, and the sink's errors.
        """
        if isinstance(header, PackHeader):
            return self._store_pack(header, body)
        return self._store_chunk(header, body)

    # -- chunks --------------------------------------------------------------------------------------------

    def _store_chunk(self, header: ChunkHeader, body: memoryview) -> Stored:
        acknowledge = ((header.file, header.index, 1),)
        entry = self._file(header.file)
        if header.file in self.roots:
            return Stored(acknowledge, 0)
        arriving = self._arriving.get(header.file) or self._begin(header, entry)
        self._check_place(header, arriving)
        if header.index < arriving.hashed or header.index in arriving.early:
            return Stored(acknowledge, 0)
        if len(body) < DIGEST_BYTES:
            raise ViolationError
        digest = bytes(body[:DIGEST_BYTES])
        data = body[DIGEST_BYTES:]
        if header.compressed:
            data = self._decompressor.decompress(data, header.raw_length)
        if len(data) != header.raw_length:
            raise ViolationError
        if not equal(chunk_digest(data), digest):
            raise IntegrityError
        arriving.place.write_at(header.index * arriving.chunk_size, data)
        self.stored_bytes += header.raw_length
        if len(arriving.early) >= OUT_OF_ORDER_CHUNKS:
            raise ViolationError("The peer sent chunks too far out of their order.")
        arriving.early[header.index] = digest
        while arriving.hashed in arriving.early:
            arriving.root.update(arriving.early.pop(arriving.hashed))
            arriving.hashed += 1
        self._release(header.file, arriving)
        return Stored(acknowledge, header.raw_length)

    def _begin(self, header: ChunkHeader, entry: Entry) -> _Arriving:
        chunk_size = 1 << header.log2_chunk_size
        size = entry.size
        if size is None or size > FILE_SIZE_MAX:
            raise ViolationError
        if len(self._arriving) >= OPEN_FILES:
            raise ViolationError("The peer sends too many files at the same time.")
        count = chunk_count(size, chunk_size)
        if header.index >= count:
            raise ViolationError
        place = self._sink.begin_file(entry.path, size)
        arriving = _Arriving(entry, size, chunk_size, count, place, FileRoot(size, chunk_size))
        arriving.done = self._early_done.pop(header.file, None)
        self._arriving[header.file] = arriving
        return arriving

    @staticmethod
    def _check_place(header: ChunkHeader, arriving: _Arriving) -> None:
        last = header.index == arriving.count - 1
        length = arriving.size - header.index * arriving.chunk_size if last else arriving.chunk_size
        if (
            1 << header.log2_chunk_size != arriving.chunk_size
            or header.index >= arriving.count
            or header.last is not last
            or header.raw_length != length
        ):
            raise ViolationError("The peer sent a chunk that does not fit its file.")

    def file_done(self, message: FileDone) -> None:
        """Take the sender's word on a file; once all its chunks are here too, it gets its final name."""
        entry = self._file(message.file)
        if message.size != entry.size:
            raise IntegrityError
        if message.file in self.roots:
            if not equal(self.roots[message.file], message.root):
                raise IntegrityError
            return
        arriving = self._arriving.get(message.file)
        if arriving is not None:
            arriving.done = message
            self._release(message.file, arriving)
            return
        if message.size == 0:  # a sender packs empty files, but one that does not is understood
            self._place_empty(message, entry)
            return
        if len(self._early_done) >= OPEN_FILES * 2:
            raise ViolationError("The peer finishes files that it has not sent.")
        self._early_done[message.file] = message

    def _place_empty(self, message: FileDone, entry: Entry) -> None:
        root = packed_root(memoryview(b""))
        if not equal(message.root, root):
            raise IntegrityError
        self._sink.write_small(entry.path, memoryview(b""), entry.mode, entry.mtime_ns)
        self.roots[message.file] = root

    def _release(self, file: int, arriving: _Arriving) -> None:
        done = arriving.done
        if done is None or arriving.hashed < arriving.count:
            return
        root = arriving.root.digest()
        if done.count != arriving.count or not equal(done.root, root):
            raise IntegrityError
        arriving.place.commit(arriving.entry.mode, arriving.entry.mtime_ns)
        del self._arriving[file]
        self.roots[file] = root

    # -- packs ---------------------------------------------------------------------------------------------

    def _store_pack(self, header: PackHeader, body: memoryview) -> Stored:
        if header.raw_length > PACK_RAW_BYTES:
            raise ViolationError
        if header.compressed:
            body = self._decompressor.decompress(body, header.raw_length)
        if len(body) != header.raw_length:
            raise ViolationError
        ranges: list[tuple[int, int, int]] = []
        new_bytes = 0
        roots, arriving, write_small = self.roots, self._arriving, self._sink.write_small
        for file, root, data in iter_pack(body, header.entries):
            entry = self._file(file)
            if len(data) != entry.size or file in arriving:
                raise ViolationError("The peer packed a file that does not fit its offer.")
            ranges.append((file, 0, 1))
            if file in roots:
                continue
            if not equal(packed_root(data), root):
                raise IntegrityError
            write_small(entry.path, data, entry.mode, entry.mtime_ns)
            roots[file] = root
            new_bytes += len(data)
        self.stored_bytes += new_bytes
        return Stored(tuple(ranges), new_bytes)

    # -- the end -------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Create the links, then give the folders their modes and times, deepest first."""
        for entry in self._entries:
            if entry.kind is EntryKind.LINK:
                self._sink.make_link(entry.path, entry.target or "", entry.mtime_ns)
        folders = [(e.path, e.mode, e.mtime_ns) for e in self._entries if e.kind is EntryKind.FOLDER]
        self._sink.finish_folders(folders)

    def close(self) -> None:
        """Remove what is unfinished and release every handle; whole files stay."""
        for arriving in self._arriving.values():
            arriving.place.abandon()
        self._arriving.clear()
        self._sink.discard()
        self._sink.close()

    def _file(self, number: int) -> Entry:
        if number >= len(self._entries) or self._entries[number].kind is not EntryKind.FILE:
            raise ViolationError("The peer sent a file that it did not offer.")
        return self._entries[number]

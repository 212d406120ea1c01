"""ReceivePipeline: what arrives, verified, to the place where it belongs.

Synchronous; one caller at a time (a worker thread, or a simulation). It trusts nothing: a chunk is compared
with its digest before it is written, a file with its root before it gets its final name, and what a peer
could make us keep is bounded whatever it sends.

What an earlier session left of a file goes on where it stopped (`haves`, `hear_from`): its digests enter the root like
those of chunks that arrive, so the file's end is verified over all of it. `sync` is the one call that another thread may
make beside everything else.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tallow_crypto import DIGEST_BYTES, FileRoot, chunk_digest, equal

from tallow_protocol.core.chunking import chunk_count, packed_root
from tallow_protocol.core.compression import Decompressor
from tallow_protocol.core.messages import EntryKind, Have
from tallow_protocol.core.records import ChunkHeader, PackHeader, iter_pack
from tallow_protocol.core.roots import Roots
from tallow_protocol.core.selection import accepted_ranges, expanded
from tallow_protocol.core.streams import STREAM_ROOT_SIZE
from tallow_protocol.errors import IntegrityError, ProtocolError, RecordError, ViolationError
from tallow_protocol.limits import FILE_SIZE_MAX, PACK_RAW_BYTES

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from tallow_protocol.core.messages import Entry, FileDone, From

__all__ = ["Existing", "ReceivePipeline", "Sink", "StagedPlace", "Stored", "is_whole"]

OUT_OF_ORDER_CHUNKS = 4096
"""Digests kept for chunks ahead of their turn: 16 MiB in flight are 256 chunks of 64 KiB, so this is never met."""

OPEN_FILES = 256
"""Files received at the same time, an open handle each; a sender begins no file while 128 wait for their end."""


SYNC_BYTES = 64 * 1024 * 1024
SYNC_AT_MOST_S = 3.0
SYNC_AT_LEAST_S = 5.0
"""What was written is made durable and journalled after 64 MiB, but not within three seconds of the last time, so that a
file that is whole by then waits for no disk; and after five seconds in any case. So much is sent again after a crash."""


@dataclass(frozen=True, slots=True)
class Existing:
    """What stands of an offered file already: the digests of its first chunks, 32 bytes each, joined, at least one.

    `partial` says that it is what an earlier session left, not a file under its final name.
    """

    chunk_size: int
    digests: bytes
    partial: bool = True

    @property
    def count(self) -> int:
        """Return how many chunks it has."""
        return len(self.digests) // DIGEST_BYTES


class StagedPlace(Protocol):
    """One file being received, not yet under its final name. `sync` may be called beside the other calls."""

    def write_at(self, offset: int, data: memoryview) -> None:
        """Write all of `data` at `offset`; raises NoSpaceError or NotWritableError."""

    def commit(self, mode: int, mtime_ns: int) -> None:
        """Give it its mode, time and final name; raises ConflictError where that name is taken."""

    def sync(self, first: int, digests: bytes) -> None:
        """Make what was written durable, then note these digests of chunks from `first` on; known ones are skipped.

        After `commit` or `abandon` it does nothing. Raises NoSpaceError or NotWritableError.
        """

    def abandon(self) -> None:
        """Close it; what was synced stays, to be resumed. A second call does nothing. Never raises."""


class Sink(Protocol):
    """The gate to the disk, as this pipeline uses it; paths are the offer's own."""

    @property
    def left_out(self) -> frozenset[int]:
        """Numbers of the entries that are not written, after `begin_offer`: not chosen, or left as they stand."""

    def begin_offer(self, entries: Sequence[Entry], chosen: Container[int] | None = None) -> None:
        """Check every name, then what stands there of the `chosen` entries; raises BadNameError, ConflictError.

        What is left out may be given to the other methods all the same: nothing comes of it.
        """

    def check_space(self, size_bytes: int) -> None:
        """Raise NoSpaceError where so many bytes have no room."""

    def make_folder(self, path: str) -> None:
        """Create a folder, private to us until `finish_folders`."""

    def make_link(self, path: str, target: str, mtime_ns: int) -> None:
        """Create a symbolic link that stays inside the offer."""

    def have(self, number: int, entry: Entry) -> Existing | None:
        """Return what stands of a file already; asked once for each file, after `begin_offer`."""

    def begin_file(
        self, path: str, size_bytes: int | None, chunk_size: int, *, resume: Existing | None = None
    ) -> StagedPlace:
        """Open a file for receiving: anew, or after the chunks of `resume`, which `have` gave for it.

        A size of None is a stream's, whose end is not known; it is never resumed.
        """

    def write_small(self, path: str, data: memoryview, mode: int, mtime_ns: int) -> None:
        """Write a whole small file and give it its final name."""

    def finish_folders(self, folders: Sequence[tuple[str, int, int]]) -> None:
        """Give folders (path, mode, mtime_ns) their modes and times, deepest first, after everything else."""

    def discard(self) -> None:
        """End a transfer that failed: what is staged goes, what can be resumed stays."""

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
    known: bool = True
    """Whether `size` and `count` are: those of a stream are the highest possible until its last chunk came."""

    hashed: int = 0
    early: dict[int, bytes] = field(default_factory=dict)
    done: FileDone | None = None
    synced: int = 0
    unsynced: bytearray = field(default_factory=bytearray)
    """Digests from chunk `synced` on. `_store_chunk` appends, `sync` alone takes away, each in one step."""


def is_whole(header: ChunkHeader, body: memoryview) -> bool:
    """Compare a chunk's bytes with the digest before them; False for a compressed one, which nobody has opened yet.

    Raises IntegrityError where they differ. It touches nothing else, so any thread may call it.
    """
    if header.compressed:
        return False
    if not equal(chunk_digest(body[DIGEST_BYTES:]), bytes(body[:DIGEST_BYTES])):
        raise IntegrityError
    return True


class ReceivePipeline:
    """Takes records and FileDone messages of one accepted offer, in any order, any of them repeatedly."""

    def __init__(self, entries: Sequence[Entry], sink: Sink, chosen: Container[int] | None = None) -> None:
        """`chosen` has the numbers of the entries that the user wants, None for all."""
        self._entries = entries
        self._chosen = chosen
        self._accepted: frozenset[int] | None = None
        self.ranges: tuple[tuple[int, int], ...] | None = None
        self._sink = sink
        self._decompressor = Decompressor()
        self._arriving: dict[int, _Arriving] = {}
        self._early_done: dict[int, FileDone] = {}
        self.roots = Roots(len(entries))
        self._streams = sum(entry.is_stream for entry in entries)
        self.files = sum(entry.kind is EntryKind.FILE for entry in entries)
        self.total_bytes = sum(entry.size or 0 for entry in entries)
        self.stored_bytes = 0
        self.resumed_bytes = 0
        self._asked: dict[int, Existing] = {}
        self._heard: deque[From] = deque()
        self._anew: list[Entry] = []
        self._resumed: dict[int, Existing] = {}
        self._synced_at: float | None = None
        self._unsynced_bytes = 0
        self._syncing = False

    @property
    def total(self) -> int | None:
        """Return the bytes of all files, None while the end of a stream is not known."""
        return None if self._streams else self.total_bytes

    @property
    def files_done(self) -> int:
        """Return how many files have their final name."""
        return len(self.roots)

    @property
    def complete(self) -> bool:
        """Return whether every file has its final name."""
        return len(self.roots) == self.files

    def begin(self) -> None:
        """Check names, conflicts and space for the whole offer, then create its folders. Nothing is written before."""
        self._sink.begin_offer(self._entries, self._chosen)
        self._choose(self._sink.left_out)
        there = 0
        for number, entry in enumerate(self._entries):
            if entry.kind is EntryKind.FILE and entry.size and number not in self._sink.left_out:
                existing = self._sink.have(number, entry)
                if existing is not None:
                    self._asked[number] = existing
                    there += min(existing.count * existing.chunk_size, entry.size)
        self._sink.check_space(self.total_bytes - there)
        for entry in self._entries:
            if entry.kind is EntryKind.FOLDER:
                self._sink.make_folder(entry.path)

    def _choose(self, left_out: frozenset[int]) -> None:
        """Count what will be sent, and nothing else."""
        if not left_out:
            return
        self.ranges = accepted_ranges(self._entries, left_out)
        self._accepted = expanded(self.ranges, len(self._entries))
        if self._accepted is not None:
            files = [self._entries[number] for number in self._accepted]
            files = [entry for entry in files if entry.kind is EntryKind.FILE]
            self.files = len(files)
            self._streams = sum(entry.is_stream for entry in files)
            self.total_bytes = sum(entry.size or 0 for entry in files)

    # -- what stands already -------------------------------------------------------------------------------

    def haves(self) -> list[Have]:
        """Return what to tell the sender of what stands already, after `begin`."""
        return [self._have(number, existing) for number, existing in self._asked.items()]

    def _have(self, number: int, existing: Existing) -> Have:
        root = FileRoot(self._entries[number].size or 0, existing.chunk_size)
        root.update_all(existing.digests)
        return Have(number, existing.chunk_size, existing.count, root.digest())

    @property
    def awaits_from(self) -> bool:
        """Return whether the sender has yet to say of a file where it goes on."""
        return bool(self._asked)

    def hear_from(self, message: From) -> None:
        """Note the sender's word on where a file goes on: on the loop, before the acknowledgement that lets chunks follow.

        A thread that stores these may come before the job that calls `take_heard`; whoever comes first acts on it.
        """
        self._heard.append(message)

    def take_heard(self) -> list[Entry]:
        """Return the partial files that are received anew after all, since the sender has others now, each once.

        Raises ViolationError for an answer to what was not asked.
        """
        self._settle_heard()
        anew, self._anew = self._anew, []
        return anew

    def _settle_heard(self) -> None:
        while self._heard:
            message = self._heard.popleft()
            existing = self._asked.pop(message.file, None)
            if existing is None or message.first not in {0, existing.count}:
                raise ViolationError("The peer answered what it was not asked.")
            entry = self._entries[message.file]
            if message.first:
                self._resumed[message.file] = existing
                there = min(existing.count * existing.chunk_size, entry.size or 0)
                self.resumed_bytes += there
                self.stored_bytes += there
            elif existing.partial:
                self._anew.append(entry)

    # -- durability ----------------------------------------------------------------------------------------

    def sync_due(self, now: float) -> bool:
        """Return whether `sync` should be called now, in a thread of its own; it then counts as called."""
        if self._synced_at is None:
            self._synced_at = now
        since = now - self._synced_at
        if self._syncing or not self._unsynced_bytes or since < SYNC_AT_MOST_S:
            return False
        if self._unsynced_bytes < SYNC_BYTES and since < SYNC_AT_LEAST_S:
            return False
        return self.sync_now(now)

    def sync_now(self, now: float) -> bool:
        """Return whether there is anything to `sync`, whatever time has passed; it then counts as called."""
        if self._syncing or not self._unsynced_bytes:
            return False
        self._syncing = True
        self._unsynced_bytes, self._synced_at = 0, now
        return True

    def sync(self) -> None:
        """Make what was written durable, and only then note it in the journals. Any thread, one at a time."""
        try:
            for arriving in tuple(self._arriving.values()):
                self._sync_file(arriving)
        finally:
            self._syncing = False

    @staticmethod
    def _sync_file(arriving: _Arriving) -> None:
        digests = bytes(arriving.unsynced)
        if digests:
            arriving.place.sync(arriving.synced, digests)
            arriving.synced += len(digests) // DIGEST_BYTES
            del arriving.unsynced[: len(digests)]

    # -- records -------------------------------------------------------------------------------------------

    def store(self, header: ChunkHeader | PackHeader, body: memoryview, *, verified: bool = False) -> Stored:
        """Verify and write one record's contents; `body` may be reused once this returns.

        `verified` is what `is_whole` said of it. Raises ViolationError or IntegrityError for what cannot be true, and the
        sink's errors.
        """
        if not isinstance(header, PackHeader):
            return self._store_chunk(header, body, verified=verified)
        try:
            return self._store_pack(header, body)
        except RecordError as error:
            # It was sealed like this, so no other connection would mend it.
            raise ViolationError(str(error)) from None

    # -- chunks --------------------------------------------------------------------------------------------

    def _store_chunk(self, header: ChunkHeader, body: memoryview, *, verified: bool) -> Stored:
        acknowledge = ((header.file, header.index, 1),)
        entry = self._file(header.file)
        if header.file in self.roots:
            return Stored(acknowledge, 0)
        arriving = self._arriving.get(header.file) or self._begin(header, entry)
        if header.last and not arriving.known:
            self._learn_end(header, arriving)
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
        if not verified and not equal(chunk_digest(data), digest):
            raise IntegrityError
        arriving.place.write_at(header.index * arriving.chunk_size, data)
        self.stored_bytes += header.raw_length
        self._unsynced_bytes += header.raw_length
        if len(arriving.early) >= OUT_OF_ORDER_CHUNKS:
            raise ViolationError("The peer sent chunks too far out of their order.")
        arriving.early[header.index] = digest
        while arriving.hashed in arriving.early:
            in_order = arriving.early.pop(arriving.hashed)
            arriving.root.update(in_order)
            arriving.hashed += 1
            arriving.unsynced += in_order
        self._release(header.file, arriving)
        return Stored(acknowledge, header.raw_length)

    def _begin(self, header: ChunkHeader, entry: Entry) -> _Arriving:
        chunk_size = 1 << header.log2_chunk_size
        size = entry.size
        if len(self._arriving) >= OPEN_FILES:
            raise ViolationError("The peer sends too many files at the same time.")
        if size is not None and header.index >= chunk_count(size, chunk_size):
            raise ViolationError
        existing = self._resumed.get(header.file)
        if existing is not None and existing.chunk_size != chunk_size:
            raise ViolationError("The peer cut a resumed file in another way.")
        arriving = self._arriving[header.file] = self._open(entry, size, chunk_size, existing)
        self._resumed.pop(header.file, None)
        arriving.done = self._early_done.pop(header.file, None)
        return arriving

    def _open(self, entry: Entry, size: int | None, chunk_size: int, existing: Existing | None) -> _Arriving:
        place = self._sink.begin_file(entry.path, size, chunk_size, resume=existing)
        if size is None:
            most, root = FILE_SIZE_MAX, FileRoot(STREAM_ROOT_SIZE, chunk_size)
            return _Arriving(entry, most, chunk_size, most // chunk_size, place, root, known=False)
        arriving = _Arriving(
            entry, size, chunk_size, chunk_count(size, chunk_size), place, FileRoot(size, chunk_size)
        )
        if existing is not None:
            arriving.root.update_all(existing.digests)
            arriving.hashed = arriving.synced = existing.count
        return arriving

    def _learn_end(self, header: ChunkHeader, arriving: _Arriving) -> None:
        """Take the size of a stream from its last chunk."""
        beyond = max(arriving.early, default=-1)
        if (
            not 0 < header.raw_length <= arriving.chunk_size
            or max(beyond, arriving.hashed - 1) >= header.index
        ):
            raise ViolationError("The peer ended a stream before what it had sent of it.")
        arriving.size = header.index * arriving.chunk_size + header.raw_length
        if arriving.size + self.total_bytes > FILE_SIZE_MAX:
            raise ViolationError("The files of the offer have more bytes together than any disk.")
        arriving.count, arriving.known = header.index + 1, True
        self._end_stream(arriving.size)

    def _end_stream(self, size: int) -> None:
        self.total_bytes += size
        self._streams -= 1

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
        if message.size != entry.size and not entry.is_stream:
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
        if (
            message.size == 0
        ):  # an empty stream; a sender packs empty files, but one that does not is understood
            if entry.is_stream:
                self._end_stream(0)
            self._place_empty(message, entry)
            return
        existing = self._resumed.get(message.file)
        if existing is not None and existing.count == chunk_count(message.size, existing.chunk_size):
            arriving = self._open(entry, message.size, existing.chunk_size, existing)
            arriving.done = message
            del self._resumed[message.file]
            self._arriving[message.file] = arriving
            self._release(message.file, arriving)
            return
        if len(self._early_done) >= OPEN_FILES * 2:
            raise ViolationError("The peer finishes files that it has not sent.")
        self._early_done[message.file] = message

    def _place_empty(self, message: FileDone, entry: Entry) -> None:
        root = packed_root(memoryview(b""))
        if not equal(message.root, root):
            raise IntegrityError
        self._sink.write_small(entry.path, memoryview(b""), entry.permissions, entry.mtime_ns)
        self.roots.put(message.file, root)

    def _release(self, file: int, arriving: _Arriving) -> None:
        done = arriving.done
        if done is None or arriving.hashed < arriving.count:
            return
        root = arriving.root.digest()
        if (done.count, done.size) != (arriving.count, arriving.size) or not equal(done.root, root):
            raise IntegrityError
        arriving.place.commit(arriving.entry.permissions, arriving.entry.mtime_ns)
        del self._arriving[file]
        self.roots.put(file, root)

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
            if len(data) != entry.size or file in arriving or file in self._resumed:
                raise ViolationError("The peer packed a file that does not fit its offer.")
            ranges.append((file, 0, 1))
            if file in roots:
                continue
            if not equal(packed_root(data), root):
                raise IntegrityError
            write_small(entry.path, data, entry.permissions, entry.mtime_ns)
            roots.put(file, root)
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
        """Sync what is unfinished, so that it can be resumed, and release every handle; whole files stay."""
        for arriving in self._arriving.values():
            with suppress(ProtocolError):  # a full or failing disk: what was synced before is still there
                self._sync_file(arriving)
            arriving.place.abandon()
        self._arriving.clear()
        self._sink.discard()
        self._sink.close()

    def _file(self, number: int) -> Entry:
        if number >= len(self._entries) or self._entries[number].kind is not EntryKind.FILE:
            raise ViolationError("The peer sent a file that it did not offer.")
        if self._accepted is not None and number not in self._accepted:
            raise ViolationError("The peer sent a file that was not accepted.")
        if self._heard:
            self._settle_heard()
        if number in self._asked:
            raise ViolationError("The peer sent a file before it said where that goes on.")
        return self._entries[number]

"""SendPipeline: which bytes go next, over up to four links at once, under one window.

Two kinds of calls. Bookkeeping (`accept`, `plan`, `filled`, `acknowledged`, `lost`) is cheap and belongs to the
session's owner. `fill` reads, hashes and compresses: each link's thread calls it with that link's plans, one call at a
time. The two share nothing but the plan.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tallow_crypto import DIGEST_BYTES, FileRoot

from tallow_protocol.core.chunking import PACK_FILE_BYTES, ChunkConfig, chunk_count, packed_root
from tallow_protocol.core.filling import (
    ChunkPlan,
    Filled,
    Filler,
    PackPlan,
    Plan,
    Sending,
    Source,
    SourcePort,
    frame_length,
)
from tallow_protocol.core.messages import EntryKind, FileDone, From, Have
from tallow_protocol.core.resuming import (
    LEARNED_FILE_BYTES,
    CheckedHave,
    DigestPort,
    Learned,
    Learning,
    NoDigests,
    check_have,
)
from tallow_protocol.core.roots import Roots
from tallow_protocol.core.streams import STREAM_CHUNK_BYTES, STREAM_ROOT_SIZE
from tallow_protocol.core.window import Steady, Tuning
from tallow_protocol.errors import MisuseError, ViolationError
from tallow_protocol.limits import CHUNK_COUNT_MAX, FILE_SIZE_MAX, PACK_ENTRY_HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tallow_protocol.core.messages import Entry
    from tallow_protocol.core.streams import Stream
    from tallow_protocol.core.window import Mark, Window

__all__ = ["ChunkPlan", "Filled", "PackPlan", "Plan", "SendPipeline", "Source", "SourcePort"]

PACK_BYTES = 1024 * 1024
"""Raw bytes of a pack: the largest that was measured to gain."""

NEAR_BYTES_PER_S = 1e9
"""What a short path is taken for until it is measured: records of 1 MiB cost 0.1 s of CPU a GiB less than of 512 KiB."""

PACK_ENTRIES = 1024
"""Files in a pack: its acknowledgement names each, 8 KiB in all."""


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
    learning: Learning | None = None
    stream: Stream | None = None
    """What is read of a file whose size and count are not known yet."""

    @classmethod
    def of_stream(cls, stream: Stream) -> _Progress:
        """Return that of a stream, of which nothing is known but how it is cut."""
        root = FileRoot(STREAM_ROOT_SIZE, STREAM_CHUNK_BYTES)
        return cls(0, STREAM_CHUNK_BYTES, CHUNK_COUNT_MAX, root, stream=stream)

    @classmethod
    def of(cls, file: int, size: int, chunk_size: int, digests: bytes = b"") -> _Progress:
        """Return a file's, of whose first chunks the receiver has the ones with these digests."""
        made = cls(size, chunk_size, chunk_count(size, chunk_size), FileRoot(size, chunk_size))
        made.root.update_all(digests)
        made.planned = made.hashed = made.acknowledged = len(digests) // DIGEST_BYTES
        if size >= LEARNED_FILE_BYTES:
            made.learning = Learning(file, chunk_size, made.hashed)
        return made


@dataclass(slots=True)
class _Lane:
    """One link: its records on their way, oldest first, and what makes them."""

    filler: Filler
    records: deque[tuple[Plan, Sending]] = field(default_factory=deque)
    acknowledged_bytes: int = 0

    def oldest(self) -> Sending | None:
        """Return the oldest sending that is not acknowledged."""
        while self.records and self.records[0][1].settled:
            self.records.popleft()
        return self.records[0][1] if self.records else None


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
        clock: Callable[[], float] | None = None,
        digests: DigestPort | None = None,
        record_bytes: int | None = None,
        streams: Mapping[int, Stream] | None = None,
    ) -> None:
        """`streams` has what is read of the entries without a size; `sources` opens the same as those files.

        `record_bytes` bounds what one record holds, where that can be.

        `digests` remembers what files were hashed to; without it a file that goes on is read again up to there.

        `clock` gives monotonic seconds to the threads that fill: compressing is then measured against the link.
        """
        self._entries = entries
        self._sources = sources
        self._chunks = chunks or ChunkConfig()
        self._compress = compress
        self._clock = clock
        self.window = window
        self._steady_rate, self._steady_window = Steady(), Steady()
        self._lanes: dict[int, _Lane] = {}
        self._small: deque[int] = deque()
        self._large: deque[int] = deque()
        self._again: list[tuple[int, Plan]] = []
        self._buffers = streams or {}
        self._streams: set[int] = set()
        self._record_bytes = record_bytes
        self._pack_bytes = PACK_BYTES if record_bytes is None else min(PACK_BYTES, record_bytes)
        self._planned = 0
        self._pack: PackPlan | None = None
        self._current: int | None = None
        self._progress: dict[int, _Progress] = {}
        self._packs: dict[int, PackPlan] = {}
        self._flying: dict[tuple[int, int], ChunkPlan] = {}
        self._returned: dict[tuple[int, int], ChunkPlan] = {}
        self._done: deque[FileDone] = deque()
        self.roots = Roots(len(entries))
        self._wanted = 0
        self.hold_new_files = False
        self._digests = digests or NoDigests()
        self._asked: dict[int, Have] = {}
        self._checked: dict[int, CheckedHave] = {}
        self._free: deque[int] = deque()
        self._accepted = False
        self._learned: list[Learned] = []
        self.resumed_bytes = 0
        self.files = 0
        self.files_done = 0
        self.total_bytes = 0
        self.acknowledged_bytes = 0

    # -- bookkeeping ---------------------------------------------------------------------------------------

    def accept(self, ranges: Iterable[tuple[int, int]] | None) -> None:
        """Begin: send the files in these (first, count) ranges of entry numbers, or all of them."""
        chosen = range(len(self._entries)) if ranges is None else self._chosen(ranges)
        held = {*self._asked, *self._checked}
        for number in chosen:
            entry = self._entries[number]
            if entry.kind is not EntryKind.FILE:
                continue
            size = entry.size or 0
            self.files += 1
            self.total_bytes += size
            if number in self._asked or number in self._checked:
                held.discard(number)
            else:
                self._queue(number)
        if held:
            raise ViolationError("The peer has something of a file that it did not accept.")
        self._wanted = self.files
        self._accepted = True
        self._begin_free()

    def _queue(self, number: int) -> None:
        size = self._entries[number].size
        if size is None:
            self._streams.add(number)
        (self._small if size is not None and size <= PACK_FILE_BYTES else self._large).append(number)

    @property
    def streaming(self) -> bool:
        """Return whether the end of a stream is not known yet, so that no total is either."""
        return bool(self._streams)

    def end_empty_streams(self) -> None:
        """End the streams that turned out to have no byte: there is no chunk to say so."""
        for file in tuple(self._streams):
            if not self._buffers[file].empty:
                continue
            self._streams.discard(file)
            if self._current == file:
                self._current = None
            else:
                self._large.remove(file)
            self._progress.pop(file, None)
            root = packed_root(memoryview(b""))
            self.roots.put(file, root)
            self._done.append(FileDone(file, 0, 0, root))
            self.files_done += 1

    def _chosen(self, ranges: Iterable[tuple[int, int]]) -> list[int]:
        chosen: list[int] = []
        for first, count in ranges:
            if count < 1 or first + count > len(self._entries) or (chosen and first <= chosen[-1]):
                raise ViolationError("The peer accepted entries that were not offered.")
            chosen.extend(range(first, first + count))
        return chosen

    # -- what the receiver has already ---------------------------------------------------------------------

    def take_have(self, have: Have) -> None:
        """Take the receiver's word, before its Accept, on what it has of a file; that file waits for `release`."""
        entry = self._entries[have.file] if have.file < len(self._entries) else None
        if (
            entry is None
            or entry.kind is not EntryKind.FILE
            or have.file in self._asked
            or have.file in self._checked
            or have.count > chunk_count(entry.size or 0, have.chunk_size)
        ):
            raise ViolationError("The peer has what was not offered.")
        self._asked[have.file] = have

    @property
    def awaits_check(self) -> bool:
        """Return whether a Have is not answered yet."""
        return bool(self._asked)

    def check_have(self, have: Have, stopped: Callable[[], bool]) -> CheckedHave:
        """Compare a Have with our file, reading what is not remembered: work for a thread of its own."""
        return check_have(have, self._entries[have.file].size or 0, self._sources, self._digests, stopped)

    def answer(self, checked: CheckedHave) -> From:
        """Return the answer to a Have that was checked."""
        have = checked.have
        del self._asked[have.file]
        self._checked[have.file] = checked
        if checked.learned is not None:
            self._learned.append(checked.learned)
        if checked.digests is None:
            return From(have.file, 0)
        self.resumed_bytes += min(have.count * have.chunk_size, self._entries[have.file].size or 0)
        return From(have.file, have.count)

    def release(self, file: int) -> None:
        """Let a file go: the receiver knows where it goes on, so that its chunks cannot overtake that any more."""
        self._free.append(file)
        if self._accepted:
            self._begin_free()

    def _begin_free(self) -> None:
        while self._free:
            file = self._free.popleft()
            checked = self._checked.pop(file)
            have, size = checked.have, self._entries[file].size or 0
            if checked.digests is None:
                self._queue(file)
                continue
            progress = self._progress[file] = _Progress.of(file, size, have.chunk_size, checked.digests)
            self.acknowledged_bytes += min(have.count * have.chunk_size, size)
            if progress.hashed == progress.count:
                self._hashed(file, progress)
            else:
                self._large.appendleft(file)

    # -- what is worth remembering -------------------------------------------------------------------------

    @property
    def learned(self) -> bool:
        """Return whether there is something for `learn`."""
        return bool(self._learned)

    def learn(self) -> None:
        """Hand over digests to be remembered; in a thread of its own."""
        learned, self._learned = self._learned, []
        self._digests.learn(learned)

    @property
    def all_hashed(self) -> bool:
        """Return whether every file's root is known, so that the manifest can be made."""
        return len(self.roots) == self._wanted

    def plan(self, connection: int, now: float, *, near: bool = False) -> Plan | None:
        """Return what goes next on `connection`, counted as on its way; None when the window or the work is used up.

        `near` says that it is a short path: a file that is begun is cut for a fast one where nothing was measured yet.

        The caller asks for few records ahead of each link's thread: what a link has been given goes nowhere else until
        `lost`.
        """
        plan = self._next_plan(connection, now, near=near)
        if plan is None:
            return None
        lane = self._lane(connection)
        size_bytes = plan.frame_bytes
        mark = self.window.sent(connection, size_bytes, now)
        plan.sending = Sending(
            connection, lane.filler, mark, size_bytes, lane.acknowledged_bytes, self.window.bytes
        )
        lane.oldest()
        lane.records.append((plan, plan.sending))
        if isinstance(plan, ChunkPlan):
            self._flying[plan.file, plan.index] = plan
            self._returned.pop((plan.file, plan.index), None)
        else:
            plan.waiting.update(plan.files)
            self._packs.update(dict.fromkeys(plan.files, plan))
        return plan

    def _lane(self, connection: int) -> _Lane:
        lane = self._lanes.get(connection)
        if lane is None:
            filler = Filler(self._sources, compress=self._compress, clock=self._clock)
            lane = self._lanes[connection] = _Lane(filler)
        return lane

    def _next_plan(self, connection: int, now: float, *, near: bool) -> Plan | None:
        while self._again and isinstance(again := self._again[0][1], ChunkPlan) and again.arrived:
            heapq.heappop(self._again)
        if self._again:
            if not self.window.has_room(connection, self._again[0][1].frame_bytes):
                return None
            return heapq.heappop(self._again)[1]
        if self._small or self._pack is not None:
            return self._next_pack(connection)
        if self._current is None:
            if not self._large or self.hold_new_files:
                return None
            self._current = self._large.popleft()
            if self._current not in self._progress:
                self._progress[self._current] = self._begin(self._current, now, near=near)
        return self._next_chunk(connection, self._current)

    def _next_chunk(self, connection: int, file: int) -> ChunkPlan | None:
        progress = self._progress[file]
        if progress.stream is not None:
            return self._next_piece(connection, file, progress, progress.stream)
        index = progress.planned
        length = min(progress.chunk_size, progress.size - index * progress.chunk_size)
        if not self.window.has_room(connection, frame_length(DIGEST_BYTES + length)):
            return None
        progress.planned += 1
        if progress.planned == progress.count:
            self._current = None
        last = index == progress.count - 1
        self._planned += 1
        return ChunkPlan(file, index, length, progress.chunk_size, last=last, order=self._planned)

    def _begin(self, file: int, now: float, *, near: bool) -> _Progress:
        size = self._entries[file].size
        if size is None:
            return _Progress.of_stream(self._buffers[file])
        rate = self._expected_rate(now, near=near)
        if self._record_bytes is not None:  # a chunk has a quarter of a second's bytes at most
            rate = min(rate or math.inf, 4.0 * self._record_bytes)
        return _Progress.of(file, size, self._chunks.chunk_size(size, rate))

    def _next_piece(
        self, connection: int, file: int, progress: _Progress, stream: Stream
    ) -> ChunkPlan | None:
        index = progress.planned
        piece = stream.piece(index)
        if piece is None or not self.window.has_room(connection, frame_length(DIGEST_BYTES + piece.length)):
            return None
        progress.planned += 1
        if piece.last:
            self._current = None
            self._streams.discard(file)
            progress.count = index + 1
            progress.size = index * STREAM_CHUNK_BYTES + piece.length
            self.total_bytes += progress.size
        self._planned += 1
        return ChunkPlan(file, index, piece.length, STREAM_CHUNK_BYTES, last=piece.last, order=self._planned)

    def _next_pack(self, connection: int) -> PackPlan | None:
        plan = self._pack or self._make_pack()
        if not self.window.has_room(connection, plan.frame_bytes):
            self._pack = plan
            return None
        self._pack = None
        return plan

    def _make_pack(self) -> PackPlan:
        files: list[int] = []
        sizes: list[int] = []
        body_bytes = 0
        while self._small and len(files) < PACK_ENTRIES:
            size = self._entries[self._small[0]].size or 0
            body_bytes += size + PACK_ENTRY_HEADER_BYTES
            if files and body_bytes > self._pack_bytes:
                break
            files.append(self._small.popleft())
            sizes.append(size)
        self._planned += 1
        return PackPlan(tuple(files), tuple(sizes), order=self._planned)

    def filled(self, filled: Filled) -> None:
        """Take the digests of a record that `fill` made; a file whose last digest came gets its root."""
        plan, sending = filled.plan, filled.plan.sending
        if sending is not None and not sending.settled:
            self._recount(sending)
        if isinstance(plan, PackPlan):
            plan.roots = filled.digests
            self.roots.put_all(plan.files, filled.digests)
            return
        (plan.digest,) = filled.digests
        progress = self._progress.get(plan.file)
        if progress is not None and progress.stream is not None and self._arrived(plan, progress):
            progress.stream.release(plan.index)
        if progress is None or plan.index < progress.hashed or plan.index in progress.early:
            return
        progress.early[plan.index] = plan.digest
        while progress.hashed in progress.early:
            digest = progress.early.pop(progress.hashed)
            progress.root.update(digest)
            progress.hashed += 1
            if progress.learning is not None:
                piece = progress.learning.add(digest, last=progress.hashed == progress.count)
                if piece is not None:
                    self._learned.append(piece)
        if progress.hashed == progress.count:
            self._hashed(plan.file, progress)

    def _arrived(self, plan: ChunkPlan, progress: _Progress) -> bool:
        """Return whether a chunk that was just read has been acknowledged meanwhile: an earlier sending had arrived."""
        key = plan.file, plan.index
        return plan.index < progress.planned and key not in self._flying and key not in self._returned

    def _hashed(self, file: int, progress: _Progress) -> None:
        root = progress.root.digest()
        self.roots.put(file, root)
        self._done.append(FileDone(file, progress.size, progress.count, root))
        self._end_of(file, progress)

    def file_done(self) -> FileDone | None:
        """Return the next FileDone that is owed to the receiver."""
        return self._done.popleft() if self._done else None

    @property
    def owes_file_done(self) -> bool:
        """Return whether a FileDone waits to be sent."""
        return bool(self._done)

    def acknowledged(self, ranges: Iterable[tuple[int, int, int]], now: float) -> None:
        """Take the receiver's (file, first chunk, count) ranges. What was not on its way is ignored."""
        newest: dict[int, Mark] = {}
        arrived: dict[int, int] = {}
        for file, first, count in ranges:
            pack = self._packs.pop(file, None)
            if pack is not None:
                pack.waiting.discard(file)
                self.files_done += 1
                self.acknowledged_bytes += self._entries[file].size or 0
                if not pack.waiting:
                    self._settle(pack, newest, arrived)
                continue
            progress = self._progress.get(file)
            if progress is None or first + count > progress.count:
                continue
            for index in self._indices(file, first, count):
                plan = self._flying.pop((file, index), None) or self._returned_late(progress, file, index)
                if plan is None:
                    continue
                self.acknowledged_bytes += plan.length
                progress.acknowledged += 1
                if progress.stream is not None and plan.sending is not None and plan.sending.made_bytes:
                    progress.stream.release(
                        index
                    )  # else a thread has yet to read it, for nothing: `filled` does it
                self._settle(plan, newest, arrived)
            self._end_of(file, progress)
        for link, size_bytes in arrived.items():
            self._lanes[link].acknowledged_bytes += size_bytes
            self.window.acknowledged(link, size_bytes, newest[link], now)

    def _returned_late(self, progress: _Progress, file: int, index: int) -> ChunkPlan | None:
        """Return a chunk that waits to be sent again though its first sending arrived, and spare the second."""
        plan = self._returned.get((file, index))
        if plan is None or not (index < progress.hashed or index in progress.early):
            return None  # without its digest there is no root: it has to be read once more
        del self._returned[file, index]
        plan.arrived = True
        return plan

    def _indices(self, file: int, first: int, count: int) -> Iterable[int]:
        if count <= len(self._flying) + len(self._returned):
            return range(first, first + count)
        # A range far longer than what is on its way costs no more than that.
        known = (*self._flying, *self._returned)
        return [index for f, index in known if f == file and first <= index < first + count]

    def _recount(self, sending: Sending) -> None:
        """Count what was made in place of what it may have become; its acknowledgement may come before `filled`."""
        if sending.made_bytes is not None and sending.made_bytes != sending.counted_bytes:
            self.window.resized(sending.connection, sending.made_bytes - sending.counted_bytes)
            sending.counted_bytes = sending.made_bytes

    def _settle(self, plan: Plan, newest: dict[int, Mark], arrived: dict[int, int]) -> None:
        sending = plan.sending
        if sending is None:
            return
        self._recount(sending)
        sending.settled = True
        link, mark = sending.connection, sending.mark
        arrived[link] = arrived.get(link, 0) + sending.counted_bytes
        if link not in newest or newest[link].sent_at <= mark.sent_at:
            newest[link] = mark

    def _end_of(self, file: int, progress: _Progress) -> None:
        if progress.acknowledged == progress.count and progress.hashed == progress.count:
            del self._progress[file]
            self.files_done += 1

    def lost(self, connection: int) -> None:
        """Queue again, in their first order and before anything new, what was on its way on `connection`."""
        lane = self._lanes.pop(connection, None)
        if lane is None:
            return
        self.window.lost(connection)
        lane.filler.retire()
        for plan, sending in lane.records:
            if not sending.settled:
                sending.settled = True
                heapq.heappush(self._again, (plan.order, self._anew(plan)))

    def _anew(self, plan: Plan) -> Plan:
        """Return a plan for what a lost one had not delivered: a thread may still work on that one."""
        if isinstance(plan, ChunkPlan):
            del self._flying[plan.file, plan.index]
            again = self._returned[plan.file, plan.index] = ChunkPlan(
                plan.file,
                plan.index,
                plan.length,
                plan.chunk_size,
                last=plan.last,
                digest=plan.digest,
                order=plan.order,
            )
            return again
        left = [(f, s) for f, s in zip(plan.files, plan.sizes, strict=True) if f in plan.waiting]
        for file, _ in left:
            del self._packs[file]
        files, sizes = tuple(f for f, _ in left), tuple(s for _, s in left)
        known = tuple(self.roots[f] for f in files if f in self.roots)
        roots = known if len(known) == len(files) else None
        return PackPlan(files, sizes, roots, order=plan.order)

    def oldest_sent_at(self, connection: int) -> float | None:
        """Return when the oldest unacknowledged record on `connection` was planned."""
        lane = self._lanes.get(connection)
        oldest = lane.oldest() if lane is not None else None
        return oldest.mark.sent_at if oldest is not None else None

    def tuning(self, now: float, *, near: bool = False) -> Tuning | None:
        """Return what the window chose, None before anything was acknowledged; `near` as for `plan`."""
        rate, round_trip_s = self.window.rate_bytes_per_s, self.window.round_trip_s
        if rate is None or round_trip_s is None:
            return None
        window_bytes = self._steady_window.look(self.window.bytes, now) or self.window.bytes
        chunk_bytes = self._chunks.chunk_size(FILE_SIZE_MAX, self._expected_rate(now, near=near))
        return Tuning(int(window_bytes), chunk_bytes, int(rate), round_trip_s)

    def _link_rate(self, now: float) -> float | None:
        """Return the rate of one link by which files are cut, without the noise of single acknowledgements."""
        rate = self.window.link_rate_bytes_per_s
        return None if rate is None else self._steady_rate.look(rate, now)

    def _expected_rate(self, now: float, *, near: bool) -> float | None:
        return self._link_rate(now) or (NEAR_BYTES_PER_S if near else None)

    # -- work ----------------------------------------------------------------------------------------------

    def fill(self, plan: Plan, buffer: memoryview) -> Filled:
        """Make the plaintext of the plan's record in `buffer`, behind its four length bytes.

        `buffer` has at least `plan.frame_bytes` bytes. Raises FileError where the source cannot be read
        or is not what it was when it was offered.
        """
        if plan.sending is None:
            raise MisuseError("a plan is filled for the link that it was given to")
        return plan.sending.filler.fill(plan, buffer)

    @staticmethod
    def frame_capacity(plan: Plan) -> int:
        """Return the bytes that `fill` may need for this plan."""
        return plan.frame_bytes

    def close(self) -> None:
        """Close every open source. Called once no `fill` runs any more."""
        for lane in self._lanes.values():
            lane.filler.retire()

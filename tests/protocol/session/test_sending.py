"""The send pipeline over up to four links that are lost and come back: every byte once, within the window."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tallow_protocol.core.chunking import ChunkConfig
from tallow_protocol.core.filling import LENGTH_BYTES, OPEN_SOURCES
from tallow_protocol.core.messages import Entry, EntryKind
from tallow_protocol.core.receiving import ReceivePipeline
from tallow_protocol.core.records import ControlHeader, parse_record
from tallow_protocol.core.sending import Filled, Plan, SendPipeline
from tallow_protocol.core.window import Window
from tallow_protocol.errors import MisuseError, SourceChangedError
from tallow_protocol.testing import MemoryFolder, MemorySources

if TYPE_CHECKING:
    from collections.abc import Sequence

KIB = 1024
TAG_BYTES = 16
SMALL_CHUNKS = ChunkConfig(usual_bytes=64 * KIB, largest_bytes=64 * KIB)
WINDOW = 600 * KIB


def content(size: int, salt: int) -> bytes:
    """Return bytes of which one half shrinks and the other does not."""
    noise = bytes((salt * 7919 + n * n * 31 + n // 7) % 251 for n in range(min(size, 5000)))
    return (noise * (size // max(len(noise), 1) + 1))[:size]


def files(*sizes: int) -> tuple[list[Entry], list[bytes]]:
    contents = [content(size, number) for number, size in enumerate(sizes)]
    entries = [Entry(f"f{number}", EntryKind.FILE, size, 0o644, 1) for number, size in enumerate(sizes)]
    return entries, contents


def sending(*sizes: int, window_bytes: int = WINDOW, **options: object) -> SendPipeline:
    entries, contents = files(*sizes)
    pipeline = SendPipeline(
        entries,
        MemorySources(contents),
        window=Window(limit_bytes=window_bytes),
        chunks=SMALL_CHUNKS,
        **options,  # type: ignore[arg-type]  # whatever a test changes
    )
    pipeline.accept(None)
    return pipeline


def fill(pipeline: SendPipeline, plan: Plan) -> tuple[Filled, memoryview]:
    buffer = memoryview(bytearray(SendPipeline.frame_capacity(plan)))
    filled = pipeline.fill(plan, buffer)
    return filled, buffer[LENGTH_BYTES : filled.frame_bytes - TAG_BYTES]


def names(plan: Plan) -> list[tuple[int, int, int]]:
    """Return the ranges that acknowledge a plan."""
    if hasattr(plan, "files"):
        return [(file, 0, 1) for file in plan.files]
    return [(plan.file, plan.index, 1)]


class Transfer(RuleBasedStateMachine):
    """Any order of plan, fill, delivery, acknowledgement and loss over four links."""

    def __init__(self) -> None:
        super().__init__()
        self.entries, self.contents = files(0, 5, 3000, 300 * KIB, 90_000, 700 * KIB, 1, 262_144, 262_145)
        self.window = Window(limit_bytes=WINDOW)
        self.sender = SendPipeline(
            self.entries, MemorySources(self.contents), window=self.window, chunks=SMALL_CHUNKS
        )
        self.sender.accept(None)
        self.folder = MemoryFolder()
        self.receiver = ReceivePipeline(self.entries, self.folder)
        self.receiver.begin()
        self.planned: dict[int, list[Plan]] = {link: [] for link in range(4)}
        self.on_the_wire: dict[int, list[memoryview]] = {link: [] for link in range(4)}
        self.owed: list[tuple[int, int, int]] = []
        self.unheard: list[Filled] = []
        self.new_bytes = 0
        self.now = 0.0

    @rule(link=st.integers(0, 3))
    def plan(self, link: int) -> None:
        plan = self.sender.plan(link, self.now)
        if plan is not None:
            self.planned[link].append(plan)

    @rule(link=st.integers(0, 3), heard=st.booleans())
    def fill_and_send(self, link: int, heard: bool) -> None:
        if self.planned[link]:
            filled, plaintext = fill(self.sender, self.planned[link].pop(0))
            self.on_the_wire[link].append(plaintext)
            self.unheard.append(filled)
        if heard:
            self.hear()

    @rule()
    def hear(self) -> None:
        while self.unheard:
            self.sender.filled(self.unheard.pop(0))
        while (done := self.sender.file_done()) is not None:
            self.receiver.file_done(done)

    @rule(link=st.integers(0, 3))
    def arrive(self, link: int) -> None:
        if self.on_the_wire[link]:
            header, body = parse_record(self.on_the_wire[link].pop(0))
            assert not isinstance(header, ControlHeader)
            stored = self.receiver.store(header, body)
            self.new_bytes += stored.new_bytes
            self.owed.extend(stored.ranges)

    @precondition(lambda self: self.owed)
    @rule(count=st.integers(1, 10))
    def acknowledge(self, count: int) -> None:
        self.now += 0.01
        self.sender.acknowledged(self.owed[:count], self.now)
        del self.owed[:count]

    @rule(link=st.integers(0, 3), arrived=st.booleans())
    def lose(self, link: int, arrived: bool) -> None:
        while arrived and self.on_the_wire[link]:
            self.arrive(link)
        self.on_the_wire[link].clear()
        self.sender.lost(link)
        for plan in self.planned[link][:1]:  # its thread was at work when the link was lost
            self.unheard.append(fill(self.sender, plan)[0])
        self.planned[link].clear()

    @invariant()
    def the_window_is_kept(self) -> None:
        largest = 300 * KIB  # a record may go alone, however large
        assert 0 <= self.window.in_flight_bytes <= WINDOW + largest

    def teardown(self) -> None:
        """From wherever it stopped, one link brings it to its end."""
        for _ in range(2000):
            if self.receiver.complete and self.sender.files_done == len(self.entries):
                break
            for link in range(4):
                self.plan(link)
                self.fill_and_send(link, heard=True)
                self.arrive(link)
            if self.owed:
                self.acknowledge(len(self.owed))
        assert self.receiver.complete
        assert self.folder.files == {e.path: c for e, c in zip(self.entries, self.contents, strict=True)}
        assert self.new_bytes == sum(map(len, self.contents)) == self.sender.acknowledged_bytes
        assert self.sender.files_done == len(self.entries)
        assert self.sender.roots == self.receiver.roots
        assert self.window.in_flight_bytes == 0
        self.sender.close()


TestTransfer = Transfer.TestCase
TestTransfer.settings = settings(max_examples=40, stateful_step_count=60, deadline=None)


def test_what_a_lost_link_had_goes_again_in_its_first_order_before_anything_new() -> None:
    pipeline = sending(2000 * KIB, window_bytes=4096 * KIB)
    first = [pipeline.plan(link, 0.0) for link in (0, 1, 0, 1)]
    assert [plan.index for plan in first if plan] == [0, 1, 2, 3]
    pipeline.lost(1)
    pipeline.lost(0)
    again = [pipeline.plan(2, 1.0) for _ in range(5)]
    assert [plan.index for plan in again if plan] == [0, 1, 2, 3, 4]


def test_the_loss_of_one_link_leaves_the_others_records_where_they_are() -> None:
    pipeline = sending(2000 * KIB)
    for link in (0, 1, 0, 1):
        pipeline.plan(link, 0.0)
    before = pipeline.window.in_flight_bytes
    pipeline.lost(0)
    assert pipeline.window.in_flight_bytes == before // 2
    assert pipeline.oldest_sent_at(0) is None
    assert pipeline.oldest_sent_at(1) == 0.0


def test_a_chunk_whose_acknowledgement_comes_after_the_loss_is_not_sent_again() -> None:
    pipeline = sending(2000 * KIB)
    first = [pipeline.plan(0, 0.0) for _ in range(3)]
    for plan in first[:2]:
        assert plan is not None
        pipeline.filled(fill(pipeline, plan)[0])
    pipeline.lost(0)
    pipeline.acknowledged([(0, 1, 1)], 1.0)
    again = [pipeline.plan(1, 1.0) for _ in range(3)]
    assert [plan.index for plan in again if plan] == [0, 2, 3]
    assert pipeline.acknowledged_bytes == 64 * KIB


def test_a_half_acknowledged_pack_goes_again_without_what_arrived() -> None:
    pipeline = sending(10, 20, 30)
    plan = pipeline.plan(0, 0.0)
    assert plan is not None
    pipeline.filled(fill(pipeline, plan)[0])
    pipeline.acknowledged([(1, 0, 1)], 1.0)
    pipeline.lost(0)
    again = pipeline.plan(1, 2.0)
    assert names(again) == [(0, 0, 1), (2, 0, 1)]
    pipeline.filled(fill(pipeline, again)[0])
    pipeline.acknowledged([(0, 0, 1), (2, 0, 1), (1, 0, 1)], 3.0)
    assert (pipeline.files_done, pipeline.acknowledged_bytes) == (3, 60)
    assert pipeline.window.in_flight_bytes == 0


def test_a_record_that_shrank_leaves_its_room_to_others() -> None:
    pipeline = sending(300 * KIB)
    plan = pipeline.plan(0, 0.0)
    assert plan is not None
    before = pipeline.window.in_flight_bytes
    filled, _ = fill(pipeline, plan)
    pipeline.filled(filled)
    assert pipeline.window.in_flight_bytes == filled.frame_bytes < before


def test_an_acknowledgement_of_the_whole_world_costs_no_more_than_what_is_on_its_way() -> None:
    pipeline = sending(2**20)
    pipeline.plan(0, 0.0)
    pipeline.acknowledged([(0, 0, 16)], 1.0)
    pipeline.acknowledged([(0, 0, 2**48)], 1.0)
    assert pipeline.acknowledged_bytes == 64 * KIB


def test_a_plan_that_was_given_to_no_link_cannot_be_filled() -> None:
    pipeline = sending(300 * KIB)
    plan = pipeline.plan(0, 0.0)
    assert plan is not None
    plan.sending = None
    with pytest.raises(MisuseError):
        fill(pipeline, plan)


class CountingSources(MemorySources):
    """Counts what is open, and lets a test stand inside a read."""

    def __init__(self, contents: Sequence[bytes | None]) -> None:
        super().__init__(contents)
        self.open_now = 0
        self.most = 0
        self.inside: threading.Event | None = None
        self.go_on = threading.Event()

    def open(self, file: int) -> object:  # type: ignore[override]  # a source all the same
        source, counting = super().open(file), self
        self.open_now += 1
        self.most = max(self.most, self.open_now)

        class Counted:
            closed = False

            def read_into(self, offset: int, buffer: memoryview) -> int:
                if counting.inside is not None:
                    counting.inside.set()
                    assert counting.go_on.wait(10)
                assert not self.closed
                return source.read_into(offset, buffer)

            def changed(self) -> bool:
                return source.changed()

            def close(self) -> None:
                assert not self.closed
                self.closed = True
                counting.open_now -= 1

        return Counted()


def counted(*sizes: int) -> tuple[SendPipeline, CountingSources]:
    entries, contents = files(*sizes)
    sources = CountingSources(contents)
    pipeline = SendPipeline(
        entries, sources, window=Window(limit_bytes=2**24), chunks=SMALL_CHUNKS, compress=False
    )
    pipeline.accept(None)
    return pipeline, sources


def test_a_link_holds_few_files_open_and_none_once_it_is_lost() -> None:
    pipeline, sources = counted(*[300 * KIB] * 9)
    plans = [pipeline.plan(0, 0.0) for _ in range(45)]
    for plan in plans:
        assert plan is not None
        if not plan.last:  # type: ignore[union-attr]  # all are chunks here
            fill(pipeline, plan)
    assert sources.most <= OPEN_SOURCES
    pipeline.lost(0)
    assert sources.open_now == 0
    late = plans[0]
    assert late is not None
    fill(pipeline, late)
    assert sources.open_now == 0


def test_a_link_that_is_lost_in_the_middle_of_a_read_closes_when_that_ends() -> None:
    pipeline, sources = counted(300 * KIB)
    plan = pipeline.plan(0, 0.0)
    assert plan is not None
    sources.inside = threading.Event()
    thread = threading.Thread(target=fill, args=(pipeline, plan))
    thread.start()
    assert sources.inside.wait(10)
    pipeline.lost(0)
    assert sources.open_now == 1
    sources.go_on.set()
    thread.join(10)
    assert sources.open_now == 0


def test_a_chunk_that_reads_differently_the_second_time_ends_the_transfer() -> None:
    entries, contents = files(300 * KIB)
    pipeline = SendPipeline(
        entries, MemorySources(contents), window=Window(limit_bytes=2**24), chunks=SMALL_CHUNKS
    )
    pipeline.accept(None)
    plan = pipeline.plan(0, 0.0)
    assert plan is not None
    pipeline.filled(fill(pipeline, plan)[0])
    contents[0] = b"x" + contents[0][1:]
    pipeline.lost(0)
    again = pipeline.plan(1, 1.0)
    assert again is not None
    with pytest.raises(SourceChangedError):
        fill(pipeline, again)


def test_nothing_is_tuned_before_an_acknowledgement_and_rates_are_named_after_it() -> None:
    pipeline = sending(2000 * KIB)
    plan = pipeline.plan(0, 0.0)
    assert plan is not None
    assert pipeline.tuning(0.0) is None
    filled, _ = fill(pipeline, plan)
    pipeline.filled(filled)
    pipeline.acknowledged(names(plan), 0.5)
    tuning = pipeline.tuning(0.5)
    assert tuning is not None
    assert tuning.round_trip_s == 0.5
    assert tuning.rate_bytes_per_s == 2 * filled.frame_bytes
    assert tuning.chunk_bytes == 64 * KIB
    assert tuning.window_bytes == pipeline.window.bytes

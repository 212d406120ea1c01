"""The window follows bandwidth times delay of the links in use, over a simulated network in virtual time."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_protocol.core.chunking import ChunkConfig
from tallow_protocol.core.window import FLOOR_BYTES, INITIAL_BYTES, SLACK_BYTES, Mark, Steady, Tuning, Window

KIB = 1024
MIB = 1024 * KIB
CHUNK = 512 * KIB
LIMIT = 16 * MIB
BATCH = 2 * MIB


@dataclass
class Link:
    """A link of a rate and a round trip, and the receiver behind it: batches of 2 MiB, at once when it runs dry."""

    ident: int
    rate: float
    round_trip_s: float
    free_at: float = 0.0
    arrivals: list[tuple[float, float, int, Mark]] = field(default_factory=list)
    queue_most: float = 0.0

    def send(self, size: int, mark: Mark, now: float) -> None:
        self.free_at = max(self.free_at, now) + size / self.rate
        self.queue_most = max(self.queue_most, (self.free_at - now) * self.rate)
        self.arrivals.append((self.free_at + self.round_trip_s / 2, self.free_at, size, mark))

    def acknowledgement(self) -> tuple[float, int, int, Mark] | None:
        """Return when the next batch is known to the sender, how many records it is, its bytes and its last mark."""
        size = 0
        for count, (arrival, _, record, mark) in enumerate(self.arrivals, 1):
            size += record
            following = self.arrivals[count][0] if count < len(self.arrivals) else None
            dry = following is None or following > arrival + 0.001
            if size >= BATCH or dry:
                return arrival + self.round_trip_s / 2, count, size, mark
        return None


def run(
    window: Window, *links: Link, seconds: float, start: float = 0.0, until: float = 0.0
) -> dict[int, int]:
    """Send over these links for so long, in turn; return the bytes acknowledged on each (after `until`)."""
    now, delivered = start, dict.fromkeys((link.ident for link in links), 0)
    while now < start + seconds:
        sent = True
        while sent:
            sent = False
            for link in links:
                if window.has_room(link.ident, CHUNK):
                    link.send(CHUNK, window.sent(link.ident, CHUNK, now), now)
                    sent = True
                assert window.in_flight_bytes <= max(window.limit_bytes, CHUNK)
        known = [(answer, link) for link in links if (answer := link.acknowledgement())]
        (now, count, size, mark), link = min(known, key=lambda item: item[0][0])
        del link.arrivals[:count]
        window.acknowledged(link.ident, size, mark, now)
        if now >= until:
            delivered[link.ident] += size
    return delivered


def tuned(rate: float, round_trip_s: float) -> tuple[Window, Link]:
    window, link = Window(limit_bytes=LIMIT), Link(0, rate, round_trip_s)
    run(window, link, seconds=20 * CHUNK / rate + 50 * round_trip_s)
    return window, link


def test_a_record_always_has_room_in_an_empty_window() -> None:
    window = Window(limit_bytes=1000, initial_bytes=1000)
    assert window.has_room(0, 10_000)
    window.sent(0, 10_000, 0.0)
    assert not window.has_room(0, 1)


def test_a_lost_links_bytes_make_room_again() -> None:
    window = Window(limit_bytes=1000, initial_bytes=1000)
    window.sent(0, 600, 0.0)
    window.sent(1, 400, 0.0)
    window.lost(0)
    assert window.in_flight_bytes == 400
    window.lost(1)
    assert window.in_flight_bytes == 0


def test_a_record_that_became_smaller_counts_as_that() -> None:
    window = Window(limit_bytes=1000, initial_bytes=1000)
    mark = window.sent(0, 600, 0.0)
    window.resized(0, -400)
    assert window.in_flight_bytes == 200
    window.acknowledged(0, 200, mark, 1.0)
    assert window.in_flight_bytes == 0


def test_links_of_1_and_of_1000_megabytes_a_second_get_other_windows_and_chunks() -> None:
    slow, _ = tuned(1e6, 0.02)
    fast, _ = tuned(1e9, 0.0003)
    assert slow.bytes <= 1.5 * FLOOR_BYTES
    assert INITIAL_BYTES <= fast.bytes <= INITIAL_BYTES + SLACK_BYTES
    chunks = ChunkConfig()
    assert chunks.chunk_size(2**40, slow.link_rate_bytes_per_s) == 128 * KIB
    assert chunks.chunk_size(2**40, fast.link_rate_bytes_per_s) == 1 * MIB


@pytest.mark.parametrize("round_trip_s", [0.05, 0.1, 0.2])
def test_a_link_of_200_mbit_is_kept_full_and_its_queue_stays_bounded(round_trip_s: float) -> None:
    rate = 25e6
    window, link = Window(limit_bytes=LIMIT), Link(0, rate, round_trip_s)
    first = sum(run(window, link, seconds=2.0).values())
    assert first >= 0.75 * rate * (2.0 - 1.5 * round_trip_s)
    later = run(window, link, seconds=10.0, start=2.0)[0]
    assert later >= 0.97 * rate * 10
    assert link.queue_most <= rate * round_trip_s + INITIAL_BYTES + BATCH + CHUNK


def test_a_slow_start_is_not_held_back_by_the_window() -> None:
    window, link = Window(limit_bytes=LIMIT), Link(0, 0.1e6, 0.2)
    now = 0.0
    for rate in (0.1e6, 0.4e6, 1.6e6, 6.4e6):
        link.rate = rate
        run(window, link, seconds=0.4, start=now)
        now += 0.4
        assert window.bytes >= INITIAL_BYTES


def test_a_fast_long_link_grows_the_window_to_its_limit_and_no_further() -> None:
    window, _ = tuned(1e9, 0.1)
    assert window.bytes == LIMIT


def test_a_limit_below_the_first_size_is_kept() -> None:
    window = Window(limit_bytes=CHUNK)
    run(window, Link(0, 1e9, 0.05), seconds=1)
    assert window.bytes == CHUNK


def test_a_move_from_a_long_path_to_a_short_one_brings_its_own_estimate() -> None:
    window = Window(limit_bytes=LIMIT)
    relay, direct = Link(0, 50e6, 0.08), Link(1, 1e9, 0.0003)
    run(window, relay, seconds=2)
    assert window.round_trip_s == pytest.approx(0.08, abs=0.02)
    run(window, direct, seconds=0.2, start=3)
    assert window.round_trip_s is not None
    assert window.round_trip_s < 0.003
    window.lost(0)
    assert window.rate_bytes_per_s == pytest.approx(1e9, rel=0.1)


def test_a_move_from_a_short_path_to_a_long_one_does_not_starve_it() -> None:
    window = Window(limit_bytes=LIMIT)
    direct, relay = Link(0, 1e9, 0.0003), Link(1, 50e6, 0.08)
    run(window, direct, seconds=0.5)
    window.lost(0)
    assert run(window, relay, seconds=4, start=1, until=2)[1] >= 0.95 * 50e6 * 3


def test_a_slow_link_does_not_hold_the_window_from_a_fast_one() -> None:
    window = Window(limit_bytes=LIMIT)
    slow, fast = Link(0, 1e6, 0.05), Link(1, 500e6, 0.001)
    delivered = run(window, slow, fast, seconds=5)
    assert delivered[1] >= 0.9 * 500e6 * 5
    run(window, slow, fast, seconds=5, start=5)
    slow.queue_most = 0.0
    delivered = run(window, slow, fast, seconds=5, start=10)
    assert delivered[1] >= 0.9 * 500e6 * 5
    assert slow.queue_most <= 2.5 * MIB
    assert delivered[0] >= 0.5 * 1e6 * 5


def test_four_links_share_a_long_path_and_keep_it_full() -> None:
    window = Window(limit_bytes=LIMIT)
    links = [Link(ident, 6e6, 0.1) for ident in range(4)]
    delivered = run(window, *links, seconds=6, until=2)
    assert sum(delivered.values()) >= 0.9 * 24e6 * 4


def test_a_pause_of_the_user_or_of_a_disk_leaves_the_estimate_alone() -> None:
    window, link = tuned(25e6, 0.1)
    before = window.bytes, window.rate_bytes_per_s
    while answer := link.acknowledgement():
        now, count, size, mark = answer
        del link.arrivals[:count]
        window.acknowledged(0, size, mark, now)
    mark = window.sent(0, CHUNK, 1000.0)
    window.acknowledged(0, CHUNK, mark, 1010.0)
    assert (window.bytes, window.rate_bytes_per_s) == before


def test_a_receiver_that_stops_is_sent_one_window_and_no_more() -> None:
    window = Window(limit_bytes=LIMIT)
    run(window, Link(0, 1e9, 0.1), seconds=3)
    for _ in range(1000):
        if window.has_room(0, CHUNK):
            window.sent(0, CHUNK, 10.0)
    assert window.bytes - CHUNK < window.in_flight_bytes <= LIMIT


@given(
    st.lists(
        st.tuples(st.sampled_from("sal"), st.integers(0, 3), st.integers(1, 2 * MIB), st.floats(0, 0.5)),
        max_size=80,
    ),
    st.integers(64 * KIB, 16 * MIB),
)
def test_whatever_happens_the_count_is_right_and_the_window_within_its_bounds(
    steps: list[tuple[str, int, int, float]], limit: int
) -> None:
    window, now = Window(limit_bytes=limit), 0.0
    flying: dict[int, list[tuple[int, Mark]]] = {link: [] for link in range(4)}
    for step, link, size, passed in steps:
        now += passed
        if step == "s" and window.has_room(link, size):
            flying[link].append((size, window.sent(link, size, now)))
        elif step == "a" and flying[link]:
            window.acknowledged(link, *flying[link].pop(0), now)
        elif step == "l":
            window.lost(link)
            flying[link].clear()
        counted = sum(size for records in flying.values() for size, _ in records)
        assert window.in_flight_bytes == counted
        assert counted <= max(limit, 2 * MIB)
        assert min(limit, FLOOR_BYTES) <= window.bytes <= limit


@pytest.mark.parametrize(
    ("window_bytes", "chunk_bytes", "differs"),
    [
        (4 * MIB, CHUNK, False),
        (5 * MIB, CHUNK, False),
        (6 * MIB, CHUNK, True),
        (2 * MIB, CHUNK, True),
        (4 * MIB, MIB, True),
    ],
)
def test_a_tuning_differs_when_a_choice_changes_by_half(
    window_bytes: int, chunk_bytes: int, differs: bool
) -> None:
    before = Tuning(4 * MIB, CHUNK, 1_000_000, 0.1)
    assert Tuning(window_bytes, chunk_bytes, 9_000_000, 0.2).differs(before) is differs
    assert before.differs(None)


def test_a_measure_that_swings_changes_nothing_and_one_that_stays_does() -> None:
    steady = Steady()
    assert [steady.look(value, now) for now, value in ((0.0, 10), (0.5, 100), (0.9, 90))] == [None] * 3
    assert steady.look(90, 1.0) == 90
    swings = [steady.look(200 if step % 2 else 95, 1.0 + step / 4) for step in range(21)]
    assert set(swings) == {90}
    assert [steady.look(200, now) for now in (6.0, 6.9, 7.0)] == [90, 90, 200]

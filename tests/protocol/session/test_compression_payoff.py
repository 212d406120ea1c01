"""Compressing is decided by measured time, simulated here for links and compressors of many speeds."""

from __future__ import annotations

import hashlib
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallow_protocol.core.compression import FAST_LEVEL, LONGEST_PAUSE, SMALL_LEVEL, Compressor, Payoff

MIB = 1024 * 1024
CHUNK = 512 * 1024
BUFFERS = 3 * MIB
"""What sockets swallow before a thread is held up."""

WINDOW = 4 * MIB
BATCH = 2 * MIB


class Run:
    """One thread that makes records and sends them over a link, in virtual time."""

    def __init__(
        self,
        *,
        link: float,
        compressor: float = 350e6,
        ratio: float = 0.3,
        reader: float = 2e9,
        round_trip_s: float = 0.001,
        payoff: Payoff | None = None,
        way: bool | None = None,
    ) -> None:
        self.link, self.compressor, self.ratio, self.reader = link, compressor, ratio, reader
        self.round_trip_s = round_trip_s
        self.payoff = payoff or Payoff()
        self.way = way
        self.now = self.free_at = 0.0
        self.made = self.acknowledged = 0
        self.arrivals: deque[tuple[float, int]] = deque()
        self.changes = 0
        self.compressed = 0

    def send(self, raw_bytes: int) -> float:
        """Send so many raw bytes more; return the seconds until all of them arrived."""
        start = self.now
        for _ in range(raw_bytes // CHUNK):
            self._record()
        self.now = max(self.now, self.free_at)
        return self.now - start

    def _record(self) -> None:
        begun = self.now
        compresses = self.payoff.compresses if self.way is None else self.way
        speed = self.compressor * (0.75 if self.payoff.level == SMALL_LEVEL else 1)
        compress_s = CHUNK / speed if compresses else None
        busy_s = CHUNK / self.reader + (compress_s or 0.0)
        self.now += busy_s
        wire = int(CHUNK * self.ratio) if compresses else CHUNK
        self.compressed += compresses
        self.free_at = max(self.free_at, self.now) + wire / self.link
        self.arrivals.append((self.free_at + self.round_trip_s, wire))
        self.made += wire
        self.now = max(self.now, self.free_at - BUFFERS / self.link)  # the socket is full
        while self.arrivals and self.arrivals[0][0] <= self.now:
            self.acknowledged += self.arrivals.popleft()[1]
        before = self.payoff.compresses
        self.payoff.record(
            raw_bytes=CHUNK,
            wire_bytes=wire,
            busy_s=busy_s,
            compress_s=compress_s,
            cycle_s=self.now - begun,
            behind_bytes=self.made - self.acknowledged,
            window_bytes=WINDOW,
        )
        self.changes += before is not self.payoff.compresses


SIZE = 1024 * MIB


@pytest.mark.parametrize("link", [1e6, 20e6, 60e6, 100e6])
def test_a_slow_link_gets_compressed_data_nearly_as_fast_as_if_nothing_were_asked(link: float) -> None:
    always = Run(link=link, way=True).send(SIZE)
    never = Run(link=link, way=False).send(SIZE)
    measured = Run(link=link)
    seconds = measured.send(SIZE)
    assert seconds <= 1.15 * always
    assert seconds <= 0.5 * never


@pytest.mark.parametrize("link", [350e6, 500e6, 1e9, 3e9])
def test_a_fast_link_is_never_more_than_a_twentieth_slower_than_without(link: float) -> None:
    never = Run(link=link, way=False).send(SIZE)
    measured = Run(link=link)
    assert measured.send(SIZE) <= 1.05 * never
    assert measured.compressed * CHUNK <= 40 * MIB


@given(
    link=st.floats(1e6, 4e9),
    compressor=st.floats(150e6, 1e9),
    ratio=st.floats(0.05, 0.9),
    reader=st.floats(200e6, 3e9),
    round_trip_s=st.floats(0.0001, 0.2),
)
@settings(max_examples=40, deadline=None)
def test_no_link_and_no_machine_makes_it_a_twentieth_and_30_ms_slower_than_without(
    link: float, compressor: float, ratio: float, reader: float, round_trip_s: float
) -> None:
    round_trip_s = min(round_trip_s, 16 * MIB / link)  # the window lets no path take more
    machine = {"link": link, "compressor": compressor, "ratio": ratio, "reader": reader}
    never = Run(**machine, round_trip_s=round_trip_s, way=False).send(SIZE)
    measured = Run(**machine, round_trip_s=round_trip_s)
    assert measured.send(SIZE) <= max(1.05 * never, never + 0.03)


@pytest.mark.parametrize("link", [50e6, 150e6, 250e6, 300e6, 320e6, 350e6, 700e6])
def test_the_choice_does_not_flap(link: float) -> None:
    measured = Run(link=link)
    measured.send(4 * SIZE)
    assert measured.changes <= 24


def test_a_link_that_becomes_slow_is_compressed_for_and_one_that_becomes_fast_is_not() -> None:
    measured = Run(link=1e9)
    measured.send(256 * MIB)
    assert not measured.payoff.compresses
    measured.link = 30e6
    measured.send(512 * MIB)
    assert measured.payoff.compresses
    measured.link = 2e9
    measured.send(2048 * MIB)
    before = measured.compressed
    measured.send(512 * MIB)
    assert (measured.compressed - before) * CHUNK <= 64 * MIB


def test_a_link_that_leaves_the_compressor_idle_gets_the_smaller_level() -> None:
    slow, fast = Run(link=5e6), Run(link=60e6, compressor=250e6)
    slow.send(64 * MIB)
    fast.send(64 * MIB)
    assert slow.payoff.level == SMALL_LEVEL
    assert fast.payoff.level == FAST_LEVEL


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Timed(Compressor):
    """Takes 1.5 ms a record, whatever this machine does."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock)
        self._test_clock = clock

    def _write(self, level: int, raw: memoryview, target: memoryview) -> int:
        self._test_clock.now += 0.0015
        return super()._write(level, raw, target)


def test_a_compressor_that_nobody_holds_up_tries_without_and_stays_so() -> None:
    clock = Clock()
    compressor = Timed(clock)
    raw = memoryview(b"all work and no play makes a dull file\n" * (CHUNK // 39))
    target = memoryview(bytearray(len(raw)))
    tried = []
    made = 0
    for _ in range(200):
        tries = compressor.begin(len(raw), made, WINDOW)
        clock.now += 0.0002
        if tries:
            length = compressor.compress(raw, target)
        wire = length if tries and length is not None else len(raw)
        compressor.end(len(raw), wire)
        made += wire
        clock.now += 0.0001
        tried.append(tries)
    assert tried[0]
    assert not any(tried[40:])


def test_a_compressor_that_the_link_holds_up_goes_on() -> None:
    clock = Clock()
    compressor = Timed(clock)
    raw = memoryview(b"all work and no play makes a dull file\n" * (CHUNK // 39))
    target = memoryview(bytearray(len(raw)))
    for _ in range(100):
        assert compressor.begin(len(raw), 0, WINDOW)
        length = compressor.compress(raw, target)
        assert length is not None
        compressor.end(len(raw), length)
        clock.now += 0.02


def test_noise_is_sampled_seldom_however_slow_the_link_is() -> None:
    clock = Clock()
    compressor = Compressor(clock=clock)
    noise = memoryview(hashlib.shake_128(b"noise").digest(80_000))
    target = memoryview(bytearray(len(noise)))
    tries = 0
    for _ in range(3 * LONGEST_PAUSE):
        if compressor.begin(len(noise), 0, WINDOW):
            tries += 1
            assert compressor.compress(noise, target) is None
        compressor.end(len(noise), len(noise))
        clock.now += 1.0
    assert tries <= 10

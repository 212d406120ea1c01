"""The window follows bandwidth times delay, between its first size and its limit."""

from __future__ import annotations

from tallow_protocol.core.window import INITIAL_BYTES, Window

CHUNK = 512 * 1024
LIMIT = 16 * 1024 * 1024


def drive(window: Window, *, rate_bytes_per_s: float, round_trip_s: float, seconds: float) -> None:
    """Send through a link of this rate and delay, in order, for this long."""
    now, free_at = 0.0, 0.0
    flying: list[tuple[float, float, int]] = []
    while now < seconds:
        while window.has_room(CHUNK):
            mark = window.sent(CHUNK)
            free_at = max(free_at, now) + CHUNK / rate_bytes_per_s
            flying.append((free_at + round_trip_s, now, mark))
        arrival, sent_at, mark = flying.pop(0)
        now = max(now, arrival)
        window.acknowledged(CHUNK, sent_at=sent_at, mark=mark, now=now)


def test_a_record_always_has_room_in_an_empty_window() -> None:
    window = Window(limit_bytes=1000, initial_bytes=1000)
    assert window.has_room(10_000)
    window.sent(10_000)
    assert not window.has_room(1)


def test_lost_bytes_make_room_again() -> None:
    window = Window(limit_bytes=1000, initial_bytes=1000)
    window.sent(1000)
    window.lost(1000)
    assert window.in_flight_bytes == 0


def test_a_slow_link_keeps_the_first_size() -> None:
    window = Window(limit_bytes=LIMIT)
    drive(window, rate_bytes_per_s=1e6, round_trip_s=0.01, seconds=60)
    assert window.bytes == INITIAL_BYTES


def test_a_fast_long_link_grows_the_window_to_its_limit_and_no_further() -> None:
    window = Window(limit_bytes=LIMIT)
    drive(window, rate_bytes_per_s=1e9, round_trip_s=0.1, seconds=5)
    assert window.bytes == LIMIT


def test_the_window_lets_a_long_link_run_at_nine_tenths_of_its_rate() -> None:
    window = Window(limit_bytes=LIMIT)
    drive(window, rate_bytes_per_s=60e6, round_trip_s=0.1, seconds=5)
    assert window.rate_bytes_per_s is not None
    assert window.rate_bytes_per_s > 0.9 * 60e6
    assert 60e6 * 0.1 <= window.bytes <= LIMIT


def test_a_limit_below_the_first_size_is_kept() -> None:
    window = Window(limit_bytes=CHUNK)
    drive(window, rate_bytes_per_s=1e9, round_trip_s=0.05, seconds=1)
    assert window.bytes == CHUNK

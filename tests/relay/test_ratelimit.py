"""Token buckets on both sides of every limit, and the sum that passes them."""

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_relay import ratelimit
from tallow_relay.ratelimit import RateLimiter, RateLimits, TokenBucket, address_key

HERE = "198.51.100.7"
THERE = "203.0.113.9"
MIB = 1 << 20


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("not an address", "not an address"),
    ],
)
def test_an_address_counts_as_its_ipv4_form_or_its_ipv6_network(host: str, key: str) -> None:
    assert address_key(host) == key


def test_joins_are_granted_up_to_the_burst_and_refused_after_it() -> None:
    limiter = RateLimiter(RateLimits(joins_per_minute=60, joins_burst=3))
    assert [limiter.join(HERE, 1, now=0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert limiter.join(HERE, 1, now=0.0) == pytest.approx(1.0)
    assert limiter.join(HERE, 1, now=0.99) > 0
    assert limiter.join(HERE, 1, now=1.0) == 0.0


def test_a_refused_join_costs_nothing() -> None:
    limiter = RateLimiter(RateLimits(joins_per_minute=60, joins_burst=1))
    limiter.join(HERE, 1, now=0.0)
    for _ in range(10):
        limiter.join(HERE, 1, now=0.5)
    assert limiter.join(HERE, 1, now=1.0) == 0.0


def test_a_join_for_many_rooms_costs_a_token_a_room() -> None:
    limiter = RateLimiter(RateLimits(joins_per_minute=60, joins_burst=64))
    assert limiter.join(HERE, 64, now=0.0) == 0.0
    assert limiter.join(HERE, 1, now=0.0) > 0


def test_one_address_s_joins_do_not_hold_up_another() -> None:
    limiter = RateLimiter(RateLimits(joins_per_minute=1, joins_burst=1))
    limiter.join(HERE, 1, now=0.0)
    assert limiter.join(HERE, 1, now=0.0) > 0
    assert limiter.join(THERE, 1, now=0.0) == 0.0


def test_a_bucket_that_is_full_again_is_forgotten() -> None:
    limiter = RateLimiter(RateLimits(joins_per_minute=60, joins_burst=10, address_bytes_per_s=100_000))
    limiter.join(HERE, 10, now=0.0)
    limiter.charge(1, frozenset({HERE}), 100_000, now=0.0)
    limiter.forget(now=9.9)
    assert limiter.tracked == 1
    limiter.forget(now=10.0)
    assert (limiter.tracked, limiter.next_deadline()) == (0, None)


def test_no_more_addresses_are_tracked_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratelimit, "TRACKED_ADDRESSES", 2)
    limiter = RateLimiter(RateLimits(joins_per_minute=60, joins_burst=10))
    assert [limiter.join(name, 10, now=0.0) for name in ("a", "b")] == [0.0, 0.0]
    assert limiter.join("c", 1, now=1.0) > 0
    assert limiter.join("c", 1, now=11.0) == 0.0


@pytest.mark.parametrize("limit", ["room_bytes_per_s", "address_bytes_per_s", "total_bytes_per_s"])
def test_bytes_pause_only_above_the_rate(limit: str) -> None:
    limiter = RateLimiter(RateLimits(**{limit: MIB}))
    assert limiter.limits_bytes
    assert limiter.charge(1, frozenset({HERE}), MIB, now=0.0) == 0.0
    assert limiter.charge(1, frozenset({HERE}), MIB // 2, now=0.0) == pytest.approx(0.5)
    assert limiter.charge(1, frozenset({HERE}), 0, now=0.5) == 0.0


def test_nothing_is_charged_where_no_rate_is_limited() -> None:
    limiter = RateLimiter(RateLimits())
    assert not limiter.limits_bytes
    assert limiter.charge(1, frozenset({HERE, THERE}), 1 << 40, now=0.0) == 0.0


def test_a_room_s_rate_is_its_own_and_goes_with_it() -> None:
    limiter = RateLimiter(RateLimits(room_bytes_per_s=MIB))
    limiter.charge(1, frozenset({HERE}), 3 * MIB, now=0.0)
    assert limiter.charge(2, frozenset({HERE}), MIB, now=0.0) == 0.0
    limiter.pair_ended(1)
    assert limiter.charge(1, frozenset({HERE}), MIB, now=0.0) == 0.0


def test_two_sides_at_one_address_are_charged_once() -> None:
    limiter = RateLimiter(RateLimits(address_bytes_per_s=MIB))
    assert limiter.charge(1, frozenset({HERE, HERE}), MIB, now=0.0) == 0.0


def test_the_rooms_of_an_address_share_its_rate() -> None:
    limiter = RateLimiter(RateLimits(address_bytes_per_s=MIB))
    limiter.charge(1, frozenset({HERE, THERE}), MIB, now=0.0)
    assert limiter.charge(2, frozenset({HERE, "192.0.2.1"}), MIB, now=0.0) == pytest.approx(1.0)
    assert limiter.charge(3, frozenset({"192.0.2.2"}), MIB, now=0.0) == 0.0


@given(
    rates=st.tuples(*[st.sampled_from([0, 100_000, 250_000, 1_000_000])] * 3),
    sizes=st.lists(st.integers(1, 65_536), min_size=1, max_size=200),
)
def test_no_more_than_burst_and_rate_passes_any_bucket(rates: tuple[int, int, int], sizes: list[int]) -> None:
    room, address, total = rates
    limiter = RateLimiter(
        RateLimits(room_bytes_per_s=room, address_bytes_per_s=address, total_bytes_per_s=total)
    )
    waiting = [(0.0, pair) for pair in range(1, 5)]
    moved = dict.fromkeys(range(1, 5), 0)
    last = 0.0
    for size in sizes:
        # The pair that may send first does so the moment it may: the most that four greedy pairs can get.
        now, pair = heapq.heappop(waiting)
        pause_s = limiter.charge(pair, frozenset({HERE}), size, now=now)
        heapq.heappush(waiting, (now + pause_s, pair))
        moved[pair] += size
        last = now
    pieces = 4 * max(sizes)  # each pair may have one piece on the debt of its bucket
    for count in moved.values():
        assert not room or count <= room * (1 + last) + max(sizes)
    assert not address or sum(moved.values()) <= address * (1 + last) + pieces
    assert not total or sum(moved.values()) <= total * (1 + last) + pieces


def test_a_clock_that_stands_still_gives_no_tokens() -> None:
    bucket = TokenBucket.full(10, 10, now=5.0)
    assert bucket.take(10, now=5.0) == 0.0
    assert bucket.take(1, now=4.0) > 0

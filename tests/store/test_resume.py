"""What makes a transfer go on: digests of files that were sent, and where partial files lie."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallow_store import Database, MisuseError, PartialPlace, PartialPlaceStore, SourceDigestStore, digests
from tallow_store.database import packaged_migrations

VERSION = (2**64 - 1, 2**63, 10**12, 1_700_000_000_000_000_000, 1_700_000_000_000_000_001)
CHUNK = 524_288
DAY = 24 * 3600


def chain(first, count):
    return b"".join(bytes([number % 256]) * 32 for number in range(first, first + count))


@pytest.fixture
def cache(database):
    return SourceDigestStore(database)


def test_pieces_are_put_together(cache):
    cache.remember([(VERSION, CHUNK, 0, chain(0, 128))])
    cache.remember([(VERSION, CHUNK, 128, chain(128, 128)), (VERSION, CHUNK, 256, chain(256, 3))])
    assert cache.digests(VERSION, CHUNK) == chain(0, 259)


def test_what_comes_after_a_gap_is_left_out(cache):
    cache.remember([(VERSION, CHUNK, 0, chain(0, 128)), (VERSION, CHUNK, 129, chain(129, 128))])
    assert cache.digests(VERSION, CHUNK) == chain(0, 128)


def test_pieces_that_overlap_are_put_together(cache):
    cache.remember([(VERSION, CHUNK, 0, chain(0, 100)), (VERSION, CHUNK, 60, chain(60, 100))])
    assert cache.digests(VERSION, CHUNK) == chain(0, 160)


@pytest.mark.parametrize("field", range(5))
def test_another_version_of_the_file_is_not_known(cache, field):
    cache.remember([(VERSION, CHUNK, 0, chain(0, 1))])
    other = tuple(value - (1 if at == field else 0) for at, value in enumerate(VERSION))
    assert cache.digests(other, CHUNK) == b""
    assert cache.digests(VERSION, CHUNK // 2) == b""


def test_what_is_not_used_for_thirty_days_goes_and_a_use_renews_it(cache):
    other = (1, *VERSION[1:])
    cache.remember([(VERSION, CHUNK, 0, chain(0, 1)), (other, CHUNK, 0, chain(0, 1))], now_s=0)
    assert cache.digests(VERSION, CHUNK, now_s=20 * DAY)
    cache.remember([((2, *VERSION[1:]), CHUNK, 0, chain(0, 1))], now_s=31 * DAY)
    assert cache.digests(VERSION, CHUNK) == chain(0, 1)
    assert cache.digests(other, CHUNK) == b""


def test_the_longest_unused_goes_when_there_is_too_much(cache, monkeypatch):
    monkeypatch.setattr(digests, "ROWS", 3)
    for number in range(6):
        cache.remember([((number, 0, 0, 0, 0), CHUNK, 0, chain(number, 1))], now_s=number)
    known = [number for number in range(6) if cache.digests((number, 0, 0, 0, 0), CHUNK)]
    assert known == [3, 4, 5]


@pytest.mark.parametrize(("first", "said"), [(0, b""), (0, bytes(31)), (-1, bytes(32))])
def test_what_is_no_digest_is_refused_whole(cache, first, said):
    with pytest.raises(MisuseError):
        cache.remember([(VERSION, CHUNK, 0, chain(0, 1)), (VERSION, CHUNK, first, said)])
    assert cache.digests(VERSION, CHUNK) == b""


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 6)), max_size=12))
@settings(max_examples=60, deadline=None)
def test_what_is_read_is_always_a_beginning_of_the_truth(tmp_path_factory, pieces):
    with Database.open(tmp_path_factory.mktemp("store") / "tallow.db") as database:
        cache = SourceDigestStore(database)
        cache.remember([(VERSION, CHUNK, first, chain(first, count)) for first, count in pieces])
        found = cache.digests(VERSION, CHUNK)
    assert found == chain(0, len(found) // 32)


def test_places_are_remembered_once_and_forgotten(database):
    places = PartialPlaceStore(database)
    one, two = bytes(32), b"\1" * 32
    places.remember(one, "/home/a", now_s=1)
    places.remember(two, "/home/a", now_s=2)
    places.remember(one, "/home/a", now_s=3)
    assert places.all() == (PartialPlace(two, "/home/a", 2), PartialPlace(one, "/home/a", 3))
    places.forget(one, "/home/a")
    assert places.all() == (PartialPlace(two, "/home/a", 2),)
    places.forget(None, "/home/a")
    assert places.all() == ()


@pytest.mark.parametrize(("sender", "place"), [(bytes(31), "/a"), (bytes(32), "")])
def test_a_place_has_a_sender_and_a_name(database, sender, place):
    with pytest.raises(MisuseError):
        PartialPlaceStore(database).remember(sender, place)


def test_a_database_of_the_first_schema_is_brought_up_with_what_is_in_it(locations):
    with Database.open(locations.database_file, packaged_migrations()[:1]) as first:
        first.execute("INSERT INTO sealed_value VALUES ('a', x'00')")
    with Database.open(locations.database_file) as database:
        assert database.execute("SELECT name FROM sealed_value") == [("a",)]
        PartialPlaceStore(database).remember(bytes(32), "/a")

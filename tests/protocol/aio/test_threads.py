"""The bounded supply of data threads."""

import threading

from tallow_protocol.aio.threads import DataThreads, data_threads
from tallow_protocol.limits import DATA_THREADS

WITHIN_S = 10.0


def test_no_more_places_are_given_than_the_limit() -> None:
    supply = DataThreads(2)
    assert [supply.acquire() for _ in range(3)] == [True, True, False]
    supply.release()
    assert supply.acquire()
    assert not supply.acquire()


def test_a_second_thread_of_one_connection_takes_no_place_of_the_last_half() -> None:
    supply = DataThreads(4)
    assert [supply.acquire(second=True) for _ in range(3)] == [True, True, False]
    assert [supply.acquire() for _ in range(3)] == [True, True, False]
    supply.release()
    assert not supply.acquire(second=True)


def test_a_thread_gives_its_place_back_when_it_ends() -> None:
    supply = DataThreads(1)
    release = threading.Event()
    assert supply.acquire()
    thread = supply.start("tallow-data-0", lambda: release.wait(WITHIN_S) and None)
    assert thread is not None
    assert thread.daemon
    assert not supply.acquire()
    release.set()
    thread.join(WITHIN_S)
    assert supply.taken == 0


def test_a_thread_that_cannot_be_started_gives_its_place_back(monkeypatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    supply = DataThreads(1)
    assert supply.acquire()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert supply.start("tallow-data-0", lambda: None) is None
    assert supply.taken == 0


def test_the_process_has_one_supply_with_the_documented_limit() -> None:
    assert data_threads() is data_threads()
    assert data_threads()._limit == DATA_THREADS

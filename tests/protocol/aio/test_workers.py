"""Workers: jobs of one in order, never two at once, on a bounded number of threads for all."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable

import pytest
from tallow_protocol.aio.workers import Worker, WorkerPool, worker_pool
from tallow_protocol.core.jobs import Job
from tallow_protocol.limits import WORKER_THREADS

WITHIN_S = 20.0


def job(work: Callable[[], object]) -> Job:
    return Job(work, lambda _job, _now: None)


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not reached():  # noqa: ASYNC110  (what a thread did has no event)
            await asyncio.sleep(0.001)


def worker(pool: WorkerPool, finished: Callable[[Job], None], name: str = "one") -> Worker:
    return Worker(asyncio.get_running_loop(), finished, name=name, pool=pool)


async def test_two_hundred_workers_share_the_threads_of_the_pool_and_keep_their_order() -> None:
    pool = WorkerPool(4)
    results: list[list[int]] = [[] for _ in range(200)]
    threads: set[int] = set()
    inside = [0] * 200
    overlaps: list[int] = []

    def work(which: int, number: int) -> int:
        threads.add(threading.get_ident())
        inside[which] += 1
        if inside[which] != 1:
            overlaps.append(which)
        time.sleep(0)
        inside[which] -= 1
        return number

    workers = [
        worker(pool, lambda done, which=which: results[which].append(done.result)) for which in range(200)
    ]
    for number in range(20):
        for which, one in enumerate(workers):
            one.submit(job(lambda which=which, number=number: work(which, number)))
    await until(lambda: all(len(found) == 20 for found in results))
    assert results == [list(range(20))] * 200
    assert len(threads) <= 4
    assert pool.threads <= 4
    assert not overlaps
    assert all(one.pending == 0 for one in workers)
    for one in workers:
        await one.close()


async def test_a_job_on_a_slow_disk_holds_up_no_other_worker() -> None:
    pool = WorkerPool(2)
    release = threading.Event()
    done: list[str] = []
    slow = worker(pool, lambda _: done.append("slow"))
    slow.submit(job(lambda: release.wait(WITHIN_S)))
    others = [worker(pool, lambda _: done.append("other")) for _ in range(10)]
    for one in others:
        one.submit(job(lambda: None))
    await until(lambda: done.count("other") == 10)
    assert "slow" not in done
    release.set()
    await until(lambda: "slow" in done)
    for one in (slow, *others):
        await one.close()


async def test_workers_take_turns_where_threads_are_few() -> None:
    pool = WorkerPool(1)
    gate = threading.Event()
    order: list[str] = []
    workers = {name: worker(pool, lambda _: None, name) for name in "abc"}
    workers["a"].submit(job(lambda: gate.wait(WITHIN_S)))
    for name, one in workers.items():
        for _ in range(3):
            one.submit(job(lambda name=name: order.append(name)))
    gate.set()
    await until(lambda: len(order) == 9)
    assert "".join(order) in {"bcabcabca", "abcabcabc"}
    for one in workers.values():
        await one.close()


async def test_the_lock_is_held_while_a_job_runs_and_not_between_jobs() -> None:
    lock = threading.Lock()
    held: list[bool] = []
    done: list[Job] = []
    one = Worker(asyncio.get_running_loop(), done.append, name="one", lock=lock, pool=WorkerPool(2))
    one.submit(job(lambda: held.append(lock.locked())))
    await until(lambda: len(done) == 1)
    with lock:
        one.submit(job(lambda: held.append(lock.locked())))
        await asyncio.sleep(0)
        assert len(done) == 1
    await until(lambda: len(done) == 2)
    assert held == [True, True]
    await one.close()


async def test_a_failed_job_is_delivered_and_the_next_one_runs() -> None:
    def broken() -> None:
        raise ZeroDivisionError

    done: list[Job] = []
    one = worker(WorkerPool(1), done.append)
    one.submit(job(broken))
    one.submit(job(lambda: 2))
    await until(lambda: len(done) == 2)
    assert done[0].error is not None
    assert done[1].result == 2
    await one.close()


async def test_many_finished_jobs_leave_the_loop_time_for_others() -> None:
    pool = WorkerPool(1)
    gate = threading.Event()
    finished: list[int] = []
    between: list[int] = []

    def slowly(done: Job) -> None:
        time.sleep(0.004)
        finished.append(done.result)

    blocked = worker(pool, lambda _: None)
    one = worker(pool, slowly)
    for number in range(10):
        one.submit(job(lambda number=number: number))
    blocked.submit(job(lambda: gate.set() or 0))
    gate.wait(WITHIN_S)  # all ten have run, and the loop has not been free to take any of them
    async with asyncio.timeout(WITHIN_S):
        while len(finished) < 10:
            await asyncio.sleep(0)
            between.append(len(finished))
    assert finished == list(range(10))
    assert len(set(between)) > 2
    await one.close()
    await blocked.close()


async def test_closing_under_load_ends_the_job_in_hand_and_drops_the_rest() -> None:
    pool = WorkerPool(2)
    started, release = threading.Event(), threading.Event()
    ran: list[int] = []
    done: list[Job] = []

    def first() -> None:
        started.set()
        release.wait(WITHIN_S)
        ran.append(0)

    one = worker(pool, done.append)
    one.submit(job(first))
    for number in range(1, 50):
        one.submit(job(lambda number=number: ran.append(number)))
    await until(started.is_set)
    closing = asyncio.create_task(one.close())
    await asyncio.sleep(0)
    assert not closing.done()
    release.set()
    async with asyncio.timeout(WITHIN_S):
        await closing
    one.submit(job(lambda: ran.append(99)))
    await until(lambda: one.pending <= 49)
    assert ran == [0]
    assert not done


async def test_closing_a_worker_that_waits_for_a_thread_takes_it_from_the_ring() -> None:
    pool = WorkerPool(1)
    release = threading.Event()
    blocked = worker(pool, lambda _: None)
    blocked.submit(job(lambda: release.wait(WITHIN_S)))
    waiting = worker(pool, lambda _: None)
    ran: list[int] = []
    waiting.submit(job(lambda: ran.append(1)))
    assert pool.crowded
    await waiting.close()
    assert not pool.crowded
    release.set()
    await blocked.close()
    assert not ran


async def test_a_closed_worker_is_kept_alive_by_nothing() -> None:
    pool = WorkerPool(2)
    done: list[Job] = []
    one = worker(pool, done.append)
    one.submit(job(lambda: None))
    await until(lambda: len(done) == 1)
    await one.close()
    kept = weakref.ref(one)
    done.clear()
    del one
    await asyncio.sleep(0)
    gc.collect()
    assert kept() is None


def test_jobs_of_a_closed_loop_are_dropped_and_its_thread_serves_others() -> None:
    pool = WorkerPool(1)
    started, release = threading.Event(), threading.Event()
    ran: list[int] = []

    async def abandon() -> None:
        one = worker(pool, lambda _: None)
        one.submit(job(lambda: (started.set(), release.wait(WITHIN_S))))
        for number in range(5):
            one.submit(job(lambda number=number: ran.append(number)))
        await until(started.is_set)

    async def go_on() -> None:
        done: list[Job] = []
        one = worker(pool, done.append)
        one.submit(job(lambda: 1))
        await until(lambda: len(done) == 1)
        await one.close()

    asyncio.run(abandon())
    release.set()
    asyncio.run(go_on())
    assert not ran


async def test_idle_threads_end_and_come_back_when_needed() -> None:
    pool = WorkerPool(3, idle_s=0.01)
    done: list[Job] = []
    one = worker(pool, done.append)
    one.submit(job(lambda: None))
    await until(lambda: len(done) == 1 and pool.threads == 0)
    for count in range(2, 200):  # each near the moment when the thread gives up
        one.submit(job(lambda: None))
        await until(lambda count=count: len(done) == count)
        await asyncio.sleep(0.01)
    await one.close()


@pytest.mark.parametrize("limit", [1, 5])
async def test_a_pool_never_has_more_threads_than_its_limit(limit: int) -> None:
    pool = WorkerPool(limit)
    barrier = threading.Semaphore(0)
    done: list[Job] = []
    workers = [worker(pool, done.append) for _ in range(limit + 1)]
    for one in workers:
        one.submit(job(lambda: barrier.acquire(timeout=WITHIN_S)))
    assert pool.threads == limit
    assert pool.crowded
    barrier.release(limit + 1)
    await until(lambda: len(done) == limit + 1)
    for one in workers:
        await one.close()


async def test_workers_share_the_pool_of_the_process() -> None:
    one = Worker(asyncio.get_running_loop(), lambda _: None, name="one")
    assert one._pool is worker_pool()
    assert worker_pool() is worker_pool()
    assert worker_pool()._limit <= WORKER_THREADS
    await one.close()

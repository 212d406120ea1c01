"""A transfer's heavy work, in order: disk, hashing, compression, opening records.

No executor call and no task per chunk: the loop puts jobs into a transfer's own queue, a thread runs them one
after the other and hands finished ones back in batches, one wake-up of the loop for all that are ready.

All transfers of a process share one bounded pool of threads, since a program may embed hundreds of them. A
transfer has at most one thread at a time; where several wait for one, each gets a turn of one job, in a ring.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from tallow_protocol.limits import WORKER_THREADS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallow_protocol.core.jobs import Job

__all__ = ["Worker", "WorkerPool", "worker_pool"]

JOIN_S = 10.0
"""How long closing waits for a job that is inside a system call on a slow disk."""

DELIVER_S = 0.005
"""The loop is held no longer than this by finished jobs in a row; the rest come when it has looked around."""

IDLE_S = 5.0
"""A thread without work ends after this long: longer than the pauses of a transfer, too short to be noticed."""


class _Seat:
    """Where one idle thread waits to be handed a worker. The last to sit down is the first to be called."""

    __slots__ = ("called", "worker")

    def __init__(self) -> None:
        self.called = threading.Lock()  # released by whoever calls
        self.called.acquire()
        self.worker: Worker | None = None


class WorkerPool:
    """At most `limit` daemon threads that run workers' jobs; made when needed, gone after `idle_s` without work.

    Methods may be called from any thread.
    """

    def __init__(self, limit: int, *, idle_s: float = IDLE_S) -> None:
        self._limit = limit
        self._idle_s = idle_s
        self._guard = threading.Lock()
        self._ring: deque[Worker] = deque()
        self._seats: list[_Seat] = []
        self._threads = 0

    @property
    def threads(self) -> int:
        """Return how many threads the pool has now."""
        return self._threads

    @property
    def busy(self) -> int:
        """Return how many of them have work."""
        return self._threads - len(self._seats)

    @property
    def crowded(self) -> bool:
        """Return whether a worker waits for a thread."""
        return bool(self._ring)

    def call(self, worker: Worker) -> None:
        """Give `worker` a thread, now or as soon as one is free. It must not have one, nor wait for one."""
        with self._guard:
            if self._seats:
                seat = self._seats.pop()
                seat.worker = worker
                seat.called.release()
                return
            self._ring.append(worker)
            if self._threads >= self._limit:
                return
            self._threads += 1
        try:
            threading.Thread(target=self._serve, name="tallow-worker", daemon=True).start()
        except RuntimeError:  # the system gives no further thread; those that run take the ring in turn
            with self._guard:
                self._threads -= 1
                if self._threads:
                    return
                with contextlib.suppress(ValueError):
                    self._ring.remove(worker)
            raise

    def drop(self, worker: Worker) -> bool:
        """Take a waiting worker out of the ring; return whether it was there."""
        with self._guard:
            try:
                self._ring.remove(worker)
            except ValueError:
                return False
            return True

    def _serve(self) -> None:
        seat = _Seat()
        while (worker := self._next(seat)) is not None:
            if worker.turn():
                with self._guard:
                    self._ring.append(worker)
            del worker  # an idle thread keeps no transfer alive

    def _next(self, seat: _Seat) -> Worker | None:
        """Return the worker whose turn is next, once there is one; None when this thread shall end."""
        with self._guard:
            if self._ring:
                return self._ring.popleft()
            self._seats.append(seat)
        if not seat.called.acquire(timeout=self._idle_s):
            with self._guard:
                if seat in self._seats:
                    self._seats.remove(seat)
                    self._threads -= 1
                    return None
            seat.called.acquire()  # called in the moment between
        worker, seat.worker = seat.worker, None
        return worker


_pools: dict[int, WorkerPool] = {}
_pools_guard = threading.Lock()


def worker_pool() -> WorkerPool:
    """Return the pool of this process. A forked child has its own: no thread of its parent is in it."""
    process = os.getpid()
    with _pools_guard:
        if process not in _pools:
            _pools[process] = WorkerPool(min(WORKER_THREADS, (os.cpu_count() or 1) + 4))
        return _pools[process]


class Worker:
    """Runs jobs in the order they were submitted, never two at once. Owned by one loop; methods are called there.

    `lock` is held while a job runs, so that another thread can share what the jobs touch; a holder must not keep
    it while it waits for anything but such work. `finished` is called on the loop with each job that has run.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        finished: Callable[[Job], None],
        *,
        name: str,
        lock: threading.Lock | None = None,
        pool: WorkerPool | None = None,
    ) -> None:
        self._loop = loop
        self._finished = finished
        self._name = name
        self._lock = threading.Lock() if lock is None else lock
        self._pool = worker_pool() if pool is None else pool
        self._guard = threading.Lock()
        # Under the guard:
        self._jobs: deque[Job] = deque()
        self._ready: deque[Job] = deque()
        self._called = False  # has a thread, or waits for one
        self._woken = False
        self._idle: asyncio.Event | None = None
        # Of the loop:
        self._finishing: deque[Job] = deque()
        self._closed = False
        self.pending = 0

    def __repr__(self) -> str:
        return f"Worker({self._name}, {self.pending} pending)"

    def submit(self, job: Job) -> None:
        """Queue one job; `finished` is called with it on the loop, in order. After `close` it does nothing."""
        if self._closed:
            return
        self.pending += 1
        with self._guard:
            self._jobs.append(job)
            if self._called:
                return
            self._called = True
        self._pool.call(self)

    def turn(self) -> bool:
        """Run one job, or all while nobody else waits; return whether more is to be done. For the pool's threads."""
        while True:
            with self._guard:
                if self._loop.is_closed():  # nobody is left to be told
                    self._jobs.clear()
                    self._ready.clear()
                if not self._jobs:
                    self._rest()
                    return False
                job = self._jobs.popleft()
            with self._lock:
                job.run()
            with self._guard:
                self._ready.append(job)
                wake, self._woken = not self._woken, True
            if wake:
                self._tell(self._deliver)
            if self._pool.crowded:
                with self._guard:
                    if self._jobs:
                        return True
                    self._rest()
                    return False

    def _rest(self) -> None:
        """Need no thread any more. Called under the guard."""
        self._called = False
        if self._idle is not None:
            self._tell(self._idle.set)

    def _tell(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, which the next look at the jobs finds
            self._loop.call_soon_threadsafe(call)

    def _deliver(self) -> None:
        with self._guard:
            self._finishing.extend(self._ready)
            self._ready.clear()
            self._woken = False
        until = time.perf_counter() + DELIVER_S
        while self._finishing:
            job = self._finishing.popleft()
            self.pending -= 1
            if not self._closed:
                self._finished(job)
            if self._finishing and time.perf_counter() >= until:
                with self._guard:
                    wake, self._woken = not self._woken, True
                if wake:
                    self._loop.call_soon(self._deliver)
                return

    async def close(self) -> None:
        """Stop after the job in hand; queued ones are dropped. Waits for that job, within a bound."""
        if self._closed:
            return
        self._closed = True
        with self._guard:
            self._jobs.clear()
            if not self._called:
                return
        if self._pool.drop(self):
            self._called = False
            return
        idle = asyncio.Event()
        with self._guard:
            if not self._called:
                return
            self._idle = idle
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(JOIN_S):
                await idle.wait()

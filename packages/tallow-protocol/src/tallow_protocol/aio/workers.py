"""One OS thread that does a transfer's heavy work, in order: disk, hashing, compression, opening records.

No executor call and no task per chunk: the loop puts jobs into a queue, the thread runs them one after the other and
hands finished ones back in batches, one wake-up of the loop for all that are ready.
"""

from __future__ import annotations

import threading
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from tallow_protocol.core.jobs import Job

__all__ = ["Worker"]

JOIN_S = 10.0
"""How long closing waits for a job that is inside a system call on a slow disk."""


class Worker:
    """Runs jobs in the order they were submitted. Owned by one loop; all methods are called there."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, finished: Callable[[Job], None], *, name: str
    ) -> None:
        self._loop = loop
        self._finished = finished
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._ready: deque[Job] = deque()
        self._lock = threading.Lock()
        self._woken = False
        self._closed = False
        self.pending = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue one job; `finished` is called with it on the loop, in order."""
        if self._closed:
            return
        self.pending += 1
        self._queue.put(job)

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            job.run()
            with self._lock:
                self._ready.append(job)
                wake, self._woken = not self._woken, True
            if wake and not self._wake():
                return

    def _wake(self) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:  # the loop is closed: nobody is left to be told
            return False
        return True

    def _deliver(self) -> None:
        with self._lock:
            ready, self._ready = self._ready, deque()
            self._woken = False
        for job in ready:
            self.pending -= 1
            if not self._closed:
                self._finished(job)

    async def close(self) -> None:
        """Stop after the job in hand; queued ones are dropped. Waits for the thread, within a bound."""
        if self._closed:
            return
        self._closed = True
        while not self._queue.empty():
            self._queue.get()
        self._queue.put(None)
        if self._thread.is_alive():
            await self._loop.run_in_executor(None, self._thread.join, JOIN_S)

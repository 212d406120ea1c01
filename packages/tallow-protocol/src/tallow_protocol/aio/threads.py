"""Threads that own a data socket: a bounded supply for the whole process.

One blocking thread a side is the fastest way to move bulk and right for one transfer. A program that embeds
hundreds would drown in threads, so those beyond the bound are served by the event loop and the worker pool.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from tallow_protocol.limits import DATA_THREADS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DataThreads", "data_threads"]


class DataThreads:
    """A number of places, one for each data thread. Methods may be called from any thread.

    A place is taken by `acquire`. Whoever then starts no thread gives it back by `release`; a thread started by
    `start` gives it back itself when it ends.
    """

    def __init__(self, limit: int = DATA_THREADS) -> None:
        self._limit = limit
        self._taken = 0
        self._guard = threading.Lock()

    @property
    def taken(self) -> int:
        """Return how many places are taken."""
        return self._taken

    def acquire(self, *, second: bool = False) -> bool:
        """Take a place; return whether there was one. Never waits.

        A `second` thread for what has one already gets no place of the last half: those are for others.
        """
        with self._guard:
            if self._taken >= (self._limit // 2 if second else self._limit):
                return False
            self._taken += 1
            return True

    def release(self) -> None:
        """Give back a place that was taken and not used for a thread."""
        with self._guard:
            self._taken -= 1

    def start(self, name: str, run: Callable[[], None]) -> threading.Thread | None:
        """Run `run` in a daemon thread on a place that was taken before; the place is free once it returns.

        Returns None, with the place given back, where the system gives no further thread.
        """
        thread = threading.Thread(target=self._run, args=(run,), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self.release()
            return None
        return thread

    def _run(self, run: Callable[[], None]) -> None:
        try:
            run()
        finally:
            self.release()


_supplies: dict[int, DataThreads] = {}
_supplies_guard = threading.Lock()


def data_threads() -> DataThreads:
    """Return the supply of this process. A forked child has its own: no thread of its parent is in it."""
    with _supplies_guard:
        return _supplies.setdefault(os.getpid(), DataThreads())

"""SessionShell: runs one `Session` over real time, threads and transports. It holds no rule."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from tallow_protocol.aio.links import LinkRunner
from tallow_protocol.aio.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallow_net import FrameStream

    from tallow_protocol.core.jobs import Job
    from tallow_protocol.core.session import Link, Session
    from tallow_protocol.events import Event

__all__ = ["SessionShell"]

CLOSE_S = 8.0
"""Closing a connection may take this long in all: five seconds for QUIC's acknowledgements, two to drain TCP."""


class SessionShell:
    """Owns the worker thread, the tasks of every connection, and the clock."""

    def __init__(
        self,
        session: Session,
        on_event: Callable[[Event], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.session = session
        self._on_event = on_event
        self._clock = clock
        self._changed = asyncio.Event()
        self._runners: dict[int, LinkRunner] = {}
        self._worker = Worker(asyncio.get_running_loop(), self._finished, name="tallow-transfer")

    def add(self, link: Link, frames: FrameStream) -> None:
        """Run a connection of the session; the shell closes it."""
        self._runners[link.ident] = LinkRunner(
            self.session,
            link,
            frames,
            submit=self._worker.submit,
            finished=self._finished,
            changed=self.poke,
            clock=self._clock,
        )

    def poke(self) -> None:
        """Look at the session again: the application told it something."""
        self._changed.set()

    def _finished(self, job: Job) -> None:
        job.finish(self._clock())
        self._pump()

    def _pump(self) -> None:
        for job in self.session.take_jobs():
            self._worker.submit(job)
        for event in self.session.take_events():
            self._on_event(event)
        for runner in self._runners.values():
            runner.wake()
        self._changed.set()

    async def run(self) -> None:
        """Run until the session has finished, then close everything. Raises the session's error."""
        session = self.session
        try:
            while not session.finished:
                self._changed.clear()
                now = self._clock()
                session.tick(now)
                self._pump_quietly()
                if session.finished:
                    break
                if not session.links:
                    session.stranded(now)
                    break
                deadline = session.next_deadline()
                wait_s = None if deadline is None else max(deadline - now, 0.0)
                try:
                    async with asyncio.timeout(wait_s):
                        await self._changed.wait()
                except TimeoutError:
                    pass  # the deadline came: tick looks at it
            self._pump_quietly()
        finally:
            await self._close()
        if session.error is not None:
            raise session.error

    def _pump_quietly(self) -> None:
        self._pump()
        self._changed.clear()

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_S):
                await asyncio.gather(*(runner.close() for runner in self._runners.values()))
        except TimeoutError:
            for runner in self._runners.values():
                runner.frames.transport.abort()
        await self._worker.close()
        await asyncio.get_running_loop().run_in_executor(None, self.session.role.close)

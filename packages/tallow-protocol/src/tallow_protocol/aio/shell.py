"""SessionShell: runs one `Session` over real time, threads and transports. It holds no rule."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

from tallow_protocol.aio.datalinks import DataLink, data_link
from tallow_protocol.aio.links import LinkRunner
from tallow_protocol.aio.workers import Worker

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from tallow_net import FrameStream

    from tallow_protocol.core.jobs import Job
    from tallow_protocol.core.links import Link
    from tallow_protocol.core.session import Session
    from tallow_protocol.events import Event

__all__ = ["SessionShell"]

CLOSE_S = 8.0
"""Closing a connection may take this long in all: five seconds for QUIC's acknowledgements, two to drain TCP."""


class SessionShell:
    """Owns the worker, the tasks and threads of every connection, and the clock.

    `on_look` is called on the loop whenever the session may have changed.
    """

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
        self.on_look: Callable[[], None] | None = None
        self._runners: dict[int, LinkRunner | DataLink] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._pump_due = False
        self._mark: object = None
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._worker = Worker(self._loop, self._finished, name="tallow-transfer", lock=self._lock)
        self._aside = Worker(self._loop, self._finished, name="tallow-aside")

    def add(self, link: Link, frames: FrameStream) -> None:
        """Run a connection of the session over a transport; the shell closes it."""
        self._runners[link.ident] = LinkRunner(
            self.session,
            link,
            frames,
            lock=self._lock,
            submit=self._worker.submit,
            finished=self._finished,
            changed=self.poke,
            clock=self._clock,
        )
        self.poke()

    def add_socket(self, link: Link, sock: socket.socket) -> None:
        """Run a dedicated connection of the session over a connected TCP socket that stands between two frames.

        The shell owns and closes it. Where no further thread is to be had the event loop serves it.
        """
        runner = data_link(
            self.session,
            link,
            sock,
            lock=self._lock,
            finished=self._finished,
            changed=self.poke,
            clock=self._clock,
        )
        if runner is None:
            self._add_served(link, sock)
            return
        self._runners[link.ident] = runner
        self.poke()

    def _add_served(self, link: Link, sock: socket.socket) -> None:
        from tallow_net.limits import SEALED_FRAME_BYTES
        from tallow_net.transport.frames import FrameStream
        from tallow_net.transport.tcp import TcpTransport

        sock.setblocking(False)
        self.session.serve(link)
        self.add(link, FrameStream(TcpTransport(sock, "the other side"), limit=SEALED_FRAME_BYTES))

    def poke(self) -> None:
        """Look at the session again: the application told it something, or a connection changed."""
        self._changed.set()

    def _finished(self, job: Job) -> None:
        job.finish(self._clock())
        if not self._pump_due:
            self._pump_due = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_due = False
        for job in self.session.take_jobs():
            (self._aside if job.apart else self._worker).submit(job)
        for event in self.session.take_events():
            self._on_event(event)
        for ident, runner in list(self._runners.items()):
            if runner.link.lost:
                del self._runners[ident]
                task = self._loop.create_task(runner.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
            else:
                runner.wake()
        if self.on_look is not None:
            self.on_look()
        if self.session.ending or self.session.mark != self._mark:
            self._mark = self.session.mark
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
                if not session.links and not session.gone:
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
        self.on_look = None
        runners, self._runners = self._runners, {}  # one that is lost meanwhile is not closed a second time
        tasks = [self._loop.create_task(runner.close()) for runner in runners.values()]
        tasks += self._closing
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=CLOSE_S)
            for task in late:
                task.cancel()
        await asyncio.gather(self._worker.close(), self._aside.close())
        await self._loop.run_in_executor(None, self.session.role.close)

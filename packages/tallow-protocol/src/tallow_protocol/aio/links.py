"""LinkRunner: moves one connection's frames between a transport and a session. It decides nothing."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from tallow_crypto import CryptoError
from tallow_net import ConnectionLostError, NetError
from tallow_net.framing import frame_header
from tallow_net.limits import SEALED_FRAME_BYTES
from tallow_net.transport.tcp import TcpTransport

from tallow_protocol.aio.buffers import frame_buffer
from tallow_protocol.core.jobs import no_silent_faults
from tallow_protocol.core.sending import SendPipeline
from tallow_protocol.errors import PeerLeftError, ProtocolError, ViolationError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Coroutine

    from tallow_net import FrameStream

    from tallow_protocol.core.jobs import Job
    from tallow_protocol.core.links import Link
    from tallow_protocol.core.sending import Filled, Plan
    from tallow_protocol.core.session import Session

__all__ = ["LinkRunner"]

READ_BUFFERS = 3
"""Frames received and not yet stored: one being received, one being stored, one between. 4 MiB each at most, and
nothing until a frame that long arrives."""

WRITE_BUFFERS = 3
"""Chunks read ahead of sending: one being sent, one being filled, one between."""

INLINE_BYTES = 16 * 1024
"""A record this short is opened where it arrives; a thread's wake-up costs more."""


class LinkRunner:
    """Two tasks, one each way, and the buffers between them and the worker."""

    def __init__(
        self,
        session: Session,
        link: Link,
        frames: FrameStream,
        *,
        lock: threading.Lock,
        submit: Callable[[Job], None],
        finished: Callable[[Job], None],
        changed: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self.link = link
        self.frames = frames
        self._session = session
        self._lock = lock
        self._submit = submit
        self._finished = finished
        self._changed = changed
        self._clock = clock
        self._wake = asyncio.Event()
        self._idle = False
        self._control: bytearray | None = None
        self._free: list[bytearray] = [bytearray() for _ in range(WRITE_BUFFERS)]
        self._ready: deque[tuple[Filled, bytearray]] = deque()
        self._spare = [frame_buffer() for _ in range(READ_BUFFERS)]
        self._spare_back = asyncio.Event()
        self._opening = 0
        frames.limit = SEALED_FRAME_BYTES
        frames.heard = self._heard
        if (
            isinstance(frames.transport, TcpTransport)
            and (measured := frames.transport.measured()) is not None
        ):
            link.round_trip_s = measured.round_trip_s
        self._tasks = [
            asyncio.create_task(self._guard(self._read()), name=f"tallow-read-{link.number}"),
            asyncio.create_task(self._guard(self._write()), name=f"tallow-write-{link.number}"),
        ]

    def wake(self) -> None:
        """Look again for something to send; the writer gets a turn only where there is something."""
        if self._idle:
            self._control = self._session.control_frame(self.link, self._clock())
            if self._control is None:
                self._plan()
                if not self._ready:
                    return
            self._idle = False
        self._wake.set()

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        """Run one direction; its end, however it comes, is the end of the connection for the session."""
        cause: PeerLeftError | ViolationError
        try:
            with no_silent_faults(NetError):
                await work
            cause = PeerLeftError(by="peer")
        except ConnectionLostError as error:
            cause = PeerLeftError(by=error.by)
        except NetError as error:
            cause = ViolationError(f"the connection ended: {error}")
        except (ProtocolError, CryptoError) as error:
            self._session.fail(error, self._clock())
            self._changed()
            return
        self._session.lost(self.link, self._clock(), cause)
        self._changed()

    # -- receiving -----------------------------------------------------------------------------------------

    def _heard(self) -> None:
        self.link.last_received = self._clock()

    async def _read(self) -> None:
        while True:
            while not self._spare:
                self.link.hearing = False
                self._spare_back.clear()
                await self._spare_back.wait()
            self.link.hearing = True
            buffer = self._spare.pop()
            length = await self.frames.read_into(buffer)
            if length is None:
                self._spare.append(buffer)
                await self._caught_up()
                return
            job = self._session.incoming(self.link, buffer[:length], frame_header(length))
            job.after = lambda buffer=buffer: self._opened(buffer)
            self._opening += 1
            if length <= INLINE_BYTES and self._opening == 1 and self._lock.acquire(blocking=False):
                try:
                    job.run()
                finally:
                    self._lock.release()
                self._finished(job)
            else:
                self._submit(job)

    async def _caught_up(self) -> None:
        """Wait for what came before the end: the last of it may say why the other side ends, and a loss drops it."""
        while self._opening:
            self._spare_back.clear()
            await self._spare_back.wait()

    def _opened(self, buffer: memoryview) -> None:
        self._opening -= 1
        self._spare.append(buffer)
        self._spare_back.set()

    # -- sending -------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        session, link = self._session, self.link
        while True:
            control, self._control = self._control, None
            if control is None:
                control = session.control_frame(link, self._clock())
            if control is not None:
                await self.frames.write_raw(control)
                continue
            self._plan()
            if self._ready:
                filled, buffer = self._ready.popleft()
                frame = session.bulk_frame(link, filled, memoryview(buffer), self._clock())
                if frame is not None:
                    await self.frames.write_raw(frame)
                self._free.append(buffer)
                continue
            self._wake.clear()
            self._idle = True
            await self._wake.wait()

    def _plan(self) -> None:
        while self._free:
            plan = self._session.plan(self.link, self._clock())
            if plan is None:
                return
            buffer = self._buffer_for(plan)
            job = self._session.fill_job(plan, memoryview(buffer))
            job.after = lambda job=job, buffer=buffer: self._filled(job, buffer)
            self._submit(job)

    def _buffer_for(self, plan: Plan) -> bytearray:
        buffer = self._free.pop()
        capacity = SendPipeline.frame_capacity(plan)
        return buffer if len(buffer) >= capacity else bytearray(capacity)

    def _filled(self, job: Job, buffer: bytearray) -> None:
        if job.error is not None:
            self._free.append(buffer)
            return
        self._ready.append((job.result, buffer))
        self.wake()

    # -- the end -------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Stop both tasks, deliver what the transport accepted within its bound, close it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            if not self.link.lost:
                await self.frames.transport.finish()
            await self.frames.transport.close()
        except NetError:
            self.frames.transport.abort()

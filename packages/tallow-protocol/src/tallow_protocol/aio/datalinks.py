"""DataLink: a connection of a session whose socket belongs, in the direction of the bulk, to one blocking thread.

The loop decides, the thread moves bytes. Side A's loop plans a few records ahead; its thread reads, hashes, seals and
sends each in one reused buffer. Side B's thread receives into one reused buffer, opens in place, verifies and writes.
What a thread has done goes back to the loop in batches. Control frames of the other direction are few and small: the
loop sends and receives them without a wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from abc import ABC, abstractmethod
from collections import deque
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from tallow_crypto import CryptoError
from tallow_net import ConnectionLostError, NetError, Side
from tallow_net.framing import HEADER_BYTES, FrameDecoder, frame_header, parse_header
from tallow_net.limits import CLOSE_TCP_S, SEALED_FRAME_BYTES
from tallow_net.transport.blocking import BLOCKING_STREAMS, BlockingStream

from tallow_protocol.aio.buffers import frame_buffer
from tallow_protocol.aio.threads import data_threads
from tallow_protocol.core.jobs import no_silent_faults
from tallow_protocol.core.spread import LONGER_S
from tallow_protocol.errors import PeerLeftError, ProtocolError, ViolationError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from tallow_protocol.core.jobs import Job
    from tallow_protocol.core.links import Link
    from tallow_protocol.core.session import Session

__all__ = ["DataLink", "data_link"]

TOLD_BYTES = 8 * 1024 * 1024
"""A busy receiver tells the loop after so many bytes: each turn of the loop costs what a few chunks cost."""

TOLD_S = 0.010
"""A busy receiver tells the loop so often at least: below 800 MB/s it is this that decides."""

QUIET_S = 0.001
"""A receiver that finds nothing more tells what it has after this long: mostly the next bytes are quicker."""

APART_BYTES = 512 * 1024
"""From here on a record is written by a second thread, while the first receives and opens the next one."""

BUFFERS = 3
"""For one record that is received, one that is written, and one between them."""

LOW_BYTES = 1024 * 1024
"""A sender tells the loop when no more than this is planned; mostly an acknowledgement makes it plan before that."""

AHEAD_BYTES = 6 * 1024 * 1024
"""Planned and not yet sent, over all connections: a thread has work while the loop takes a turn, and a better path waits for little."""

LONG_AHEAD_BYTES = 600 * 1024
"""The same for each connection of a long path, which is to have one record ready: in its slow start it would keep what
is planned for it for seconds, out of reach of another that could send it."""

LONG_UNSENT_BYTES = 256 * 1024
"""And so much of that in its socket at most, whose buffer would hold 4 MiB: the last of a slow one came 0.6 s later."""

BUFFER_BYTES = 1024 * 1024 + 64 * 1024
"""One record of the largest chunk or pack that is sent, in its frame."""

CONTROL_TURN_BYTES = 64 * 1024

MEASURE_S = 0.25
"""The kernel is asked about the path this often: a rise in loss is seen within a second."""


def data_link(
    session: Session,
    link: Link,
    sock: socket.socket,
    *,
    lock: threading.Lock,
    finished: Callable[[Job], None],
    changed: Callable[[], None],
    clock: Callable[[], float],
) -> DataLink | None:
    """Return the running DataLink of a connected socket, or None where no thread can be had for it."""
    if not BLOCKING_STREAMS or not data_threads().acquire():
        return None
    kind = _SendingLink if session.side is Side.A else _ReceivingLink
    made = kind(session, link, sock, lock=lock, finished=finished, changed=changed, clock=clock)
    return made if made.start() else None


class DataLink(ABC):
    """What both sides share: the thread, its way back to the loop, the end. Methods belong to the loop."""

    def __init__(
        self,
        session: Session,
        link: Link,
        sock: socket.socket,
        *,
        lock: threading.Lock,
        finished: Callable[[Job], None],
        changed: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self.link = link
        self._session = session
        self._sock = sock
        self._lock = lock
        self._finished = finished
        self._changed = changed
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._guard = threading.Lock()
        self._ready: deque[Job] = deque()
        self._woken = False
        self._untold = 0
        self._left_to_thread = False
        self._closing = False

    def start(self) -> bool:
        """Start the thread; False where the system gives none: the socket is then as it was."""
        self._stream = BlockingStream(self._sock)
        self._prepare()
        if data_threads().start(f"tallow-data-{self.link.number}", self._run) is None:
            self._sock.setblocking(False)
            return False
        self._loop.add_reader(self._stream.fileno(), self._on_ready)
        return True

    @abstractmethod
    def _prepare(self) -> None:
        """Make what the thread and the loop share."""

    # -- the thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        cause: ProtocolError | CryptoError | NetError | None = None
        try:
            with no_silent_faults(NetError):
                self._work()
        except (ProtocolError, CryptoError, NetError) as error:
            cause = error
        self._tell(self._thread_ended, cause)
        with self._guard:
            if self._left_to_thread:
                self._stream.close()
            self._left_to_thread = True

    @abstractmethod
    def _work(self) -> None:
        """Move the bulk until the end of the stream, or of the work."""

    def _done(self, job: Job, size_bytes: int) -> None:
        """Hand a job back; the loop is woken for it once enough has come together."""
        with self._guard:
            self._ready.append(job)
            self._untold += size_bytes
        if job.error is not None or self._enough():
            self._wake_loop()

    @abstractmethod
    def _enough(self) -> bool:
        """Return whether the loop should be told, though more is to be done."""

    def _wake_loop(self) -> None:
        with self._guard:
            if self._woken or not self._ready:
                return
            self._woken = True
        self._tell(self._deliver)

    def _tell(self, call: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(call, *arguments)

    # -- the loop ------------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        with self._guard:
            ready, self._ready = self._ready, deque()
            self._woken = False
            self._untold = 0
        for job in ready:
            self._finished(job)

    def _thread_ended(self, cause: Exception | None) -> None:
        self._deliver()
        self._ended.set()
        if isinstance(cause, NetError):
            self._lose(cause)
        elif isinstance(cause, ProtocolError | CryptoError):
            self._session.fail(cause, self._clock())
            self._changed()
        elif not self._closing:
            self._lose(ConnectionLostError("The peer ended the connection.", by="peer"))

    def _lose(self, error: NetError) -> None:
        if isinstance(error, ConnectionLostError):
            cause: ProtocolError = PeerLeftError(by=error.by)
        else:
            cause = ViolationError(f"the connection ended: {error}")
        self._session.lost(self.link, self._clock(), cause)
        self._changed()

    @abstractmethod
    def wake(self) -> None:
        """Look again for something to send."""

    @abstractmethod
    def _on_ready(self) -> None:
        """Take what the loop's direction waits for."""

    async def close(self) -> None:
        """End in order where the connection still stands, within a bound; at once where it is lost."""
        self._closing = True
        if not self.link.lost:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TCP_S):
                    await self._close_in_order()
        self._stream.stop()
        self._stop_thread()
        self._loop.remove_reader(self._stream.fileno())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TCP_S):
                await self._ended.wait()
        with self._guard:
            if self._left_to_thread:
                self._stream.close()
            self._left_to_thread = True

    @abstractmethod
    def _stop_thread(self) -> None:
        """Wake the thread where it waits for something else than the socket."""

    @abstractmethod
    async def _close_in_order(self) -> None:
        """Let what was accepted arrive, and see the peer's end."""


class _SendingLink(DataLink):
    """Side A: the thread sends file data, and control frames before it; the loop receives control frames."""

    def _prepare(self) -> None:
        self._queue: SimpleQueue[tuple[Job, bytearray, int] | bytearray | None] = SimpleQueue()
        self._urgent: deque[bytearray] = deque()
        self._ahead = 0
        self._buffer = bytearray(BUFFER_BYTES)
        self._decoder = FrameDecoder(SEALED_FRAME_BYTES)
        self._scratch = memoryview(bytearray(CONTROL_TURN_BYTES))
        self._peer_finished = asyncio.Event()
        self._measured_at = 0.0
        measured = self._stream.measured()
        self._is_long = measured is not None and measured.round_trip_s >= LONGER_S
        if self._is_long:
            self._stream.bound_unsent(LONG_UNSENT_BYTES)
        self._stream.watch(readable=True)

    # -- the thread ----------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            self._send_urgent()
            if isinstance(item, tuple):
                self._send_record(*item)
            if self._queue.empty():
                self._wake_loop()

    def _send_urgent(self) -> None:
        while self._urgent and not self.link.lost:
            frame = self._session.sealed_frame(self.link, self._urgent.popleft())
            self._stream.send(memoryview(frame))

    def _enough(self) -> bool:
        return self._ahead - self._untold <= LOW_BYTES

    def _send_record(self, job: Job, buffer: bytearray, capacity: int) -> None:
        if self.link.lost:
            return
        view = memoryview(buffer)
        job.run()  # without the lock: each link fills its own records
        if job.error is None:
            frame = self._session.bulk_frame(self.link, job.result, view, self._clock())
            if frame is not None:
                self._stream.send(frame)
        self._done(job, capacity)

    # -- the loop ------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """See DataLink."""
        session, link = self._session, self.link
        self._measure(self._clock())
        while not self._closing and (record := session.control_record(link, self._clock())) is not None:
            self._urgent.append(record)
            self._queue.put(record)
        ahead_bytes = LONG_AHEAD_BYTES if self._is_long else AHEAD_BYTES // max(len(session.carriers), 1)
        while self._ahead < ahead_bytes and not self._closing:
            plan = session.plan(link, self._clock())
            if plan is None:
                return
            capacity = plan.frame_bytes
            if capacity > len(self._buffer):
                self._buffer = bytearray(capacity)
            job = session.fill_job(plan, memoryview(self._buffer))
            self._ahead += capacity
            job.after = lambda capacity=capacity: self._sent(capacity)
            self._queue.put((job, self._buffer, capacity))

    def _measure(self, now: float) -> None:
        if now - self._measured_at >= MEASURE_S and (measured := self._stream.measured()) is not None:
            self._measured_at = now
            self.link.round_trip_s, self.link.lost_share = measured.round_trip_s, measured.lost_share

    def _sent(self, size_bytes: int) -> None:
        self._ahead -= size_bytes

    def _on_ready(self) -> None:
        self._deliver()  # what was sent before this answer, in the same turn of the loop
        try:
            while (count := self._stream.try_receive(self._scratch)) is not None:
                if count == 0:
                    self._loop.remove_reader(self._stream.fileno())
                    self._peer_finished.set()
                    if not self._closing:
                        self._lose(ConnectionLostError("The peer ended the connection.", by="peer"))
                    return
                self._decoder.push(bytes(self._scratch[:count]))
                while (body := self._decoder.pop()) is not None:
                    job = self._session.incoming(
                        self.link, memoryview(bytearray(body)), frame_header(len(body))
                    )
                    job.run()
                    self._finished(job)
        except NetError as error:
            self._loop.remove_reader(self._stream.fileno())
            self._peer_finished.set()
            self._lose(error)

    async def _close_in_order(self) -> None:
        self._queue.put(None)
        await self._ended.wait()
        self._stream.finish()
        await self._peer_finished.wait()

    def _stop_thread(self) -> None:
        self._queue.put(None)


class _ReceivingLink(DataLink):
    """Side B: a thread receives and opens, a second one writes large records meanwhile; the loop sends control frames."""

    def _prepare(self) -> None:
        self._outbox: deque[memoryview] = deque()
        self._flushed = asyncio.Event()
        self._untold_since = 0.0
        self._storing: threading.Thread | None = None
        self._may_store_apart = True
        self._to_store: SimpleQueue[tuple[Job, int, memoryview] | None] = SimpleQueue()
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        self._given = self._stored = 0

    # -- the threads ---------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._receive()
        finally:
            if self._storing is not None:
                self._to_store.put(None)
                self._storing.join()

    def _receive(self) -> None:
        link, stream = self.link, self._stream
        buffer = frame_buffer()
        header = memoryview(bytearray(HEADER_BYTES))
        while not link.lost:
            if self._untold and not stream.arrives(QUIET_S):
                self._wake_loop()
            link.hearing = True
            if not stream.receive(header, self._heard):
                return
            length_header = bytes(header)
            body = buffer[: parse_header(length_header, SEALED_FRAME_BYTES)]
            if not stream.receive(body, self._heard):
                return
            link.hearing = False
            job = self._session.incoming(link, body, length_header)
            job.begin()
            if self._stores_apart(len(body)):
                self._given += 1
                self._to_store.put((job, len(body), buffer))
                buffer = self._free.get()
            else:
                self._store(job, len(body))

    def _stores_apart(self, size_bytes: int) -> bool:
        """Return whether the other thread takes a record: a large one, or one behind such."""
        if size_bytes < APART_BYTES:
            return self._given != self._stored
        if self._storing is None and self._may_store_apart:
            self._may_store_apart = data_threads().acquire(second=True)
            if self._may_store_apart:
                name = f"tallow-data-{self.link.number}-storing"
                self._storing = data_threads().start(name, self._store_all)
                self._may_store_apart = self._storing is not None
            for _ in range(BUFFERS - 1 if self._may_store_apart else 0):
                self._free.put(frame_buffer())
        return self._may_store_apart

    def _store_all(self) -> None:
        while True:
            try:
                item = self._to_store.get(timeout=QUIET_S if self._untold else None)
            except Empty:
                self._wake_loop()
                continue
            if item is None:
                return
            job, size_bytes, buffer = item
            self._store(job, size_bytes)
            self._free.put(buffer)
            self._stored += 1

    def _store(self, job: Job, size_bytes: int) -> None:
        with self._lock:
            job.run()
        now = self._clock()
        if not self._untold:
            self._untold_since = now
        self._done(job, size_bytes)
        if now - self._untold_since > TOLD_S:
            self._wake_loop()

    def _enough(self) -> bool:
        return self._untold >= TOLD_BYTES

    def _heard(self) -> None:
        self.link.last_received = self._clock()

    # -- the loop ------------------------------------------------------------------------------------------

    def _stop_thread(self) -> None:
        """See DataLink: it waits for nothing else."""

    def wake(self) -> None:
        """See DataLink."""
        while not self._outbox and not self._closing:
            frame = self._session.control_frame(self.link, self._clock())
            if frame is None:
                return
            self._outbox.append(memoryview(frame))
            self._flush()

    def _flush(self) -> None:
        try:
            while self._outbox:
                frame = self._outbox[0]
                sent = self._stream.try_send(frame)
                if sent < len(frame):
                    self._outbox[0] = frame[sent:]
                    self._stream.watch(writable=True)
                    return
                self._outbox.popleft()
        except NetError as error:
            self._outbox.clear()
            self._lose(error)
        self._stream.watch()
        self._flushed.set()

    def _on_ready(self) -> None:
        self._flush()
        self.wake()

    async def _close_in_order(self) -> None:
        while self._outbox:
            self._flushed.clear()
            await self._flushed.wait()
        self._stream.finish()
        await self._ended.wait()

"""What the shell does, without threads and sockets: lines before a session, workers, connections of a session."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from tallow_crypto import TAG_BYTES
from tallow_net import NetError
from tallow_net.framing import FrameDecoder, encode_frame, frame_header
from tallow_net.limits import PLAIN_FRAME_BYTES, SEALED_FRAME_BYTES
from tallow_net.signaling import Side
from tallow_protocol.core.records import RECORD_HEADER_BYTES
from tallow_protocol.core.sending import SendPipeline
from tallow_protocol.errors import (
    PeerLeftError,
    ViolationError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallow_protocol.core.jobs import Job
    from tallow_protocol.core.links import Link

    from tests.sim.peer import Peer
    from tests.sim.wire import End
    from tests.sim.world import World


READ_AHEAD = 3
FILL_AHEAD = 3
INLINE_BYTES = 16 * 1024
"""As in `aio.links`: so short a record is opened where it arrives, unless others wait before it."""

RETIRE_S = 2.0
JOB_TIMES = (1.0, 1.0, 0.1, 8.0)
"""What a thread's turn may take, in parts of a world's usual time."""


class Line:
    """A wire before its session: frames of at most 4 KiB, one expected at a time."""

    def __init__(self, end: End, on_body: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        self.end = end
        self.decoder = FrameDecoder(PLAIN_FRAME_BYTES)
        self.on_body: Callable[[bytes], None] | None = on_body
        self.on_lost = on_end
        end.on_data = self._data
        end.on_end = lambda cut: self._ended()

    def _data(self, data: bytes) -> None:
        self.decoder.push(data)
        self.look()

    def look(self) -> None:
        """Hand over whole frames while somebody wants them."""
        try:
            while (
                self.on_body is not None and not self.end.closed and (body := self.decoder.pop()) is not None
            ):
                self.on_body(body)
        except NetError:
            self.end.abort()
            self._ended()

    def _ended(self) -> None:
        if self.on_body is not None:
            self.on_body = None
            self.end.close()
            self.on_lost()

    def write(self, body: bytes) -> None:
        """Send one frame."""
        self.end.write(encode_frame(body))

    def retire(self, world: World, body: bytes | None = None) -> None:
        """End it so that what was said arrives."""
        if body is not None:
            self.write(body)
        self.on_body = None
        self.end.finish()
        world.after(RETIRE_S, self.end.close)


class Worker:
    """A thread of a peer's: jobs in order, each taking its time, and told of a little later.

    Between two threads nothing is ordered: each job's time is drawn, so that one asked for later may run before.
    """

    def __init__(self, peer: Peer, cost_s: float) -> None:
        self._peer = peer
        self._cost_s = cost_s
        self._jobs: deque[Job] = deque()
        self._busy = False
        self._told_at = 0.0

    def _time_s(self) -> float:
        return self._cost_s * self._peer.world.tape.pick(JOB_TIMES)

    def submit(self, job: Job) -> None:
        """Run it when those before it have run."""
        if not self._cost_s:
            job.run()
            job.finish(self._peer.world.now)
            return
        self._jobs.append(job)
        if not self._busy:
            self._busy = True
            self._peer.world.after(self._time_s(), self._turn)

    def close(self) -> None:
        """Drop what waits, as the shell's worker does."""
        self._jobs.clear()

    def _turn(self) -> None:
        if not self._peer.alive or not self._jobs:
            return
        job = self._jobs.popleft()
        job.run()
        if self._jobs:
            self._peer.world.after(self._time_s(), self._turn)
        else:
            self._busy = False
        self._told_at = max(self._told_at, self._peer.world.now + self._time_s() / 4)
        self._peer.world.at(self._told_at, lambda: self._tell(job))

    def _tell(self, job: Job) -> None:
        if self._peer.alive and not self._peer.ended:
            job.finish(self._peer.world.now)
            self._peer.settle()


class Runner:
    """Moves one connection's frames between its wire and the session, as `aio.links.LinkRunner` does."""

    def __init__(self, peer: Peer, link: Link, end: End, rest: bytes = b"") -> None:
        self.peer = peer
        self.link = link
        self.end = end
        self._decoder = FrameDecoder(SEALED_FRAME_BYTES)
        self._bodies: deque[bytes] = deque()
        self._opening = 0
        self._at_end = False
        self._filling = 0
        self._ready: deque[tuple[object, bytearray]] = deque()
        # A dedicated connection has a thread of its own, which opens what comes to the receiver, and fills at the sender.
        self._thread = Worker(peer, peer.cost_s) if link.dedicated else peer.worker
        self._never_inline = link.dedicated and peer.side is Side.B
        self._always_inline = link.dedicated and peer.side is Side.A
        end.on_data = self._data
        end.on_end = self._ended
        end.on_room = peer.settle
        if rest:
            self._decoder.push(rest)
            peer.world.after(0.0, lambda: self._data(b""))

    def _data(self, data: bytes) -> None:
        if not self.peer.alive or self.link.lost or self.peer.ended:
            return
        try:
            self._bodies.extend(self._decoder.feed(data))
        except NetError as error:
            self.peer.session.lost(self.link, self.peer.world.now, ViolationError(str(error)))
        self._open()
        self.peer.settle()

    def _open(self) -> None:
        session = self.peer.session
        while self._bodies and self._opening < READ_AHEAD and not session.finished:
            body = self._bodies.popleft()
            self._opening += 1
            job = session.incoming(self.link, memoryview(bytearray(body)), frame_header(len(body)))
            job.after = self._opened
            inline = len(body) <= INLINE_BYTES and self._opening == 1 and not self._never_inline
            if inline or self._always_inline:
                job.run()
                job.finish(self.peer.world.now)
            else:
                self._thread.submit(job)
        if len(self._bodies) > READ_AHEAD:
            self.link.hearing = False
            self.end.pause()

    def _opened(self) -> None:
        self._opening -= 1
        if len(self._bodies) <= READ_AHEAD and not self.end.reading and not self.end.closed:
            self.link.hearing = True
            self.end.resume()
        if self._bodies and self.peer.alive and not self.link.lost:
            self._open()
        if self._at_end and not self._opening and not self._bodies:
            self._ended(cut=False)

    def _ended(self, cut: bool) -> None:
        if not cut and (self._opening or self._bodies):
            self._at_end = True  # what came before the end is looked at before it
            return
        if self.peer.alive and not self.link.lost and not self.peer.ended:
            self.peer.session.lost(
                self.link, self.peer.world.now, PeerLeftError(by="network" if cut else "peer")
            )
            self.peer.settle()

    def pump(self) -> bool:
        """Write what the session has for this wire; return whether something moved."""
        session, now = self.peer.session, self.peer.world.now
        moved = False
        while self.end.room and not self.link.lost and not session.finished:
            record = session.control_record(self.link, now)
            if record is not None:
                self.peer.spoil(memoryview(record)[:-TAG_BYTES], RECORD_HEADER_BYTES)
                self.end.write(bytes(session.sealed_frame(self.link, record)))
                moved = True
                continue
            while self._filling + len(self._ready) < FILL_AHEAD:
                plan = session.plan(self.link, now)
                if plan is None:
                    break
                moved = True
                buffer = bytearray(SendPipeline.frame_capacity(plan))
                job = session.fill_job(plan, memoryview(buffer))
                self._filling += 1
                job.after = lambda job=job, buffer=buffer: self._filled(job, buffer)
                self._thread.submit(job)
            if not self._ready:
                break
            filled, buffer = self._ready.popleft()
            self.peer.spoil(memoryview(buffer)[4 : filled.frame_bytes - TAG_BYTES], 0)
            frame = session.bulk_frame(self.link, filled, memoryview(buffer), now)
            if frame is not None:
                self.peer.count_bulk(len(frame))
                self.end.write(bytes(frame))
            moved = True
        return moved

    def _filled(self, job: Job, buffer: bytearray) -> None:
        self._filling -= 1
        if job.error is None:
            self._ready.append((job.result, buffer))

    def close(self) -> None:
        """End the wire as the shell does."""
        if self._thread is not self.peer.worker:
            self._thread.close()
        if self.link.lost:
            self.end.abort()
        else:
            self.end.close()

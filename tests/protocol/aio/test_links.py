"""What a connection on the event loop does at its end."""

import asyncio
import threading
from types import SimpleNamespace

from tallow_net.testing import faulty_pair
from tallow_net.transport.frames import FrameStream
from tallow_protocol.aio.links import LinkRunner
from tallow_protocol.core.jobs import Job


async def test_what_waits_for_the_worker_is_looked_at_before_the_end_that_came_behind_it() -> None:
    pair = faulty_pair()
    happened: list[str] = []
    submitted: asyncio.Queue[Job] = asyncio.Queue()
    session = SimpleNamespace(
        incoming=lambda link, sealed, header: Job(lambda: None, lambda job, now: happened.append("record")),
        lost=lambda link, now, cause: happened.append("lost"),
        control_frame=lambda link, now: None,
        plan=lambda link, now: None,
    )
    changed = asyncio.Event()
    lock = threading.Lock()
    lock.acquire()  # the worker is busy: nothing is opened where it arrives
    runner = LinkRunner(
        session,
        SimpleNamespace(number=0, lost=False),
        FrameStream(pair.b, limit=4096),
        lock=lock,
        submit=submitted.put_nowait,
        finished=lambda job: job.finish(0.0),
        changed=changed.set,
        clock=lambda: 0.0,
    )
    async with asyncio.timeout(30):
        sender = FrameStream(pair.a, limit=4096)
        await sender.write(b"the reason")
        await pair.a.finish()
        job = await submitted.get()
        for _ in range(20):
            await asyncio.sleep(0)
        assert happened == []
        job.run()
        job.finish(0.0)
        await changed.wait()
        assert happened == ["record", "lost"]
        await runner.close()
        await pair.a.close()

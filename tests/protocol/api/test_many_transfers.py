"""A program that embeds many transfers: a bounded number of threads, and all of them arrive."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from tallow_protocol import CodeReady, OfferReceived, Receiver, Sender, TransferDone
from tallow_protocol.aio.workers import worker_pool
from tallow_protocol.limits import DATA_THREADS, WORKER_THREADS

from tests.protocol.api.running import DIRECT

if TYPE_CHECKING:
    from pathlib import Path

TRANSFERS = 100
AT_ONCE_EXECUTOR = 40
"""Threads of asyncio's own executor: at most 32, and some of the test runner."""

WITHIN_S = 50.0


async def _send(path: Path, ready: asyncio.Future[CodeReady]) -> None:
    async with Sender([path], options=DIRECT) as sender:
        async for event in sender:
            if isinstance(event, CodeReady):
                ready.set_result(event)


async def _receive(ready: asyncio.Future[CodeReady], into: Path, offered: asyncio.Barrier) -> TransferDone:
    told = await ready
    async with Receiver(told.code.reveal(), into, peer=told.peer, options=DIRECT) as receiver:
        async for event in receiver:
            if isinstance(event, OfferReceived):
                await offered.wait()  # so all of them are running when the first file moves
                receiver.accept()
            elif isinstance(event, TransferDone):
                return event
    raise AssertionError("a transfer ended without its last event")


async def test_a_hundred_transfers_at_once_arrive_on_a_bounded_number_of_threads(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    most = 0
    over = asyncio.Event()

    async def count() -> None:
        nonlocal most
        while not over.is_set():
            most = max(most, sum(thread.name.startswith("tallow") for thread in threading.enumerate()))
            await asyncio.sleep(0.002)

    paths = []
    for number in range(TRANSFERS):
        path = tmp_path / f"file-{number}.bin"
        large = number % 4 == 0  # large enough for data connections of its own
        path.write_bytes(number.to_bytes(2, "big") * (800_000 if large else 40_000))
        paths.append(path)
    offered = asyncio.Barrier(TRANSFERS)
    async with asyncio.timeout(WITHIN_S), asyncio.TaskGroup() as group:
        counting = group.create_task(count())
        readies = [loop.create_future() for _ in paths]
        for path, ready in zip(paths, readies, strict=True):
            group.create_task(_send(path, ready))
        receiving = [
            group.create_task(_receive(ready, tmp_path / f"out-{number}", offered))
            for number, ready in enumerate(readies)
        ]
        await asyncio.gather(*receiving)
        over.set()
        await counting
    assert [task.result().files for task in receiving] == [1] * TRANSFERS
    for number, path in enumerate(paths):
        assert (tmp_path / f"out-{number}" / path.name).read_bytes() == path.read_bytes()
    assert 0 < most <= WORKER_THREADS + DATA_THREADS
    assert worker_pool().threads <= WORKER_THREADS
    assert threading.active_count() <= WORKER_THREADS + DATA_THREADS + AT_ONCE_EXECUTOR

"""One side of a transfer by the API, with a task beside it that notes how late the event loop wakes it.

python ticking.py send FILE          writes {"code", "peer"} and then {"late_ms"}
python ticking.py receive CODE PEER DIRECTORY
"""

import asyncio
import json
import sys
import time

from tallow_protocol import CodeReady, OfferReceived, Receiver, Sender, TransferOptions, TransferStarted

TICK_S = 0.005


class Ticking:
    """A task that sleeps five milliseconds at a time; what counts is noted from the yes to the end."""

    def __init__(self) -> None:
        self.late_ms: list[float] = []
        self._counts = False

    def begin(self) -> None:
        self._counts = True

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            if self._counts:
                self.late_ms.append((loop.time() - due) * 1000)


def report(ticking: Ticking, began: float) -> None:
    late = sorted(ticking.late_ms)
    p99 = late[min(len(late) - 1, round(len(late) * 0.99))]
    print(
        json.dumps(
            {"p99_ms": p99, "max_ms": late[-1], "ticks": len(late), "seconds": time.monotonic() - began}
        )
    )


async def send(path: str) -> None:
    ticking = Ticking()
    task = asyncio.create_task(ticking.run())
    began = time.monotonic()
    async with Sender([path], options=TransferOptions(listen_host="127.0.0.1")) as sender:
        async for event in sender:
            if isinstance(event, CodeReady):
                print(json.dumps({"code": event.code.reveal(), "peer": event.peer}), flush=True)
            elif isinstance(event, TransferStarted):
                ticking.begin()
                began = time.monotonic()
    report(ticking, began)
    task.cancel()


async def receive(code: str, peer: str, into: str) -> None:
    ticking = Ticking()
    task = asyncio.create_task(ticking.run())
    began = time.monotonic()
    async with Receiver(code, into, peer=peer) as receiver:
        async for event in receiver:
            if isinstance(event, OfferReceived):
                receiver.accept()
                ticking.begin()
                began = time.monotonic()
    report(ticking, began)
    task.cancel()


if __name__ == "__main__":
    asyncio.run(send(*sys.argv[2:]) if sys.argv[1] == "send" else receive(*sys.argv[2:]))

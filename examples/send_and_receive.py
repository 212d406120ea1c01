"""Send a file from one coroutine to another, as a program that embeds Tallow would: python send_and_receive.py FILE DIR."""

import asyncio
import sys

from tallow_protocol import CodeReady, OfferReceived, Receiver, Sender, TransferDone, TransferOptions


async def receive(code: str, peer: str, into: str) -> None:
    async with Receiver(code, into, peer=peer) as receiver:
        async for event in receiver:
            if isinstance(event, OfferReceived):
                print("offered:", ", ".join(str(entry.path) for entry in event.entries))
                receiver.accept()
            elif isinstance(event, TransferDone):
                print(f"received {event.files} file, {event.bytes} bytes")


async def send(path: str, into: str) -> None:
    async with asyncio.TaskGroup() as tasks:
        async with Sender([path], options=TransferOptions(listen_host="127.0.0.1")) as sender:
            async for event in sender:
                if isinstance(event, CodeReady) and event.peer is not None:
                    tasks.create_task(receive(event.code.reveal(), event.peer, into))


if __name__ == "__main__":
    asyncio.run(send(*sys.argv[1:]))

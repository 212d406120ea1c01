"""The API: `Sender` and `Receiver`, each an async context manager and an async iterator of events.

    async with Sender([path], options=options) as sender:
        async for event in sender:
            ...

Entering checks the arguments and starts; iterating gives events until the last, `TransferDone`, or raises one
error of this package; leaving ends everything (tasks, threads, sockets, staged files) within ten seconds. Nothing
happens at import or in a constructor. All calls belong to one event loop.
"""

from tallow_protocol.api.options import TransferOptions
from tallow_protocol.api.receiver import Receiver
from tallow_protocol.api.sender import Sender

__all__ = ["Receiver", "Sender", "TransferOptions"]

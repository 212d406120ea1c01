"""A Sender and a Receiver in this process, over real sockets on 127.0.0.1."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tallow_net import TransportChoice
from tallow_protocol import (
    CodeReady,
    Event,
    OfferReceived,
    ProtocolError,
    Receiver,
    Sender,
    TransferOptions,
)

DEADLINE_S = 40.0
DIRECT = TransferOptions(listen_host="127.0.0.1", transport=TransportChoice.TCP)

Reaction = Callable[["Side", Event], None]


@dataclass
class Side:
    """One transfer, everything it told, and the error that it ended with."""

    transfer: Sender | Receiver
    events: list[Event] = field(default_factory=list)
    error: ProtocolError | None = None

    def all(self, kind: type) -> list[Event]:
        """The events of one type."""
        return [event for event in self.events if isinstance(event, kind)]

    def kinds(self) -> list[str]:
        """The names of the events, repetitions in a row once."""
        names = [type(event).__name__ for event in self.events]
        return [name for index, name in enumerate(names) if index == 0 or names[index - 1] != name]

    @property
    def outcome(self) -> str:
        """The stable code of the error, or "done"."""
        return "done" if self.error is None else self.error.code

    async def follow(self, react: Reaction) -> None:
        """Take every event until the end."""
        try:
            async for event in self.transfer:
                self.events.append(event)
                react(self, event)
        except ProtocolError as error:
            self.error = error


def accepting(side: Side, event: Event) -> None:
    """Say yes to every offer."""
    if isinstance(event, OfferReceived) and isinstance(side.transfer, Receiver):
        side.transfer.accept()


def watching(side: Side, event: Event) -> None:
    """Only look."""


@asynccontextmanager
async def sender(
    *paths: Path, options: TransferOptions = DIRECT, code: str | None = None, react: Reaction = watching
) -> AsyncIterator[tuple[Side, CodeReady, asyncio.Task[None]]]:
    """A sender that waits, what it said of its code, and the task that follows it."""
    async with asyncio.timeout(DEADLINE_S), Sender(paths, code=code, options=options) as transfer:
        side = Side(transfer)
        ready: asyncio.Future[CodeReady] = asyncio.get_running_loop().create_future()

        def take(side: Side, event: Event) -> None:
            if isinstance(event, CodeReady) and not ready.done():
                ready.set_result(event)
            react(side, event)

        task = asyncio.create_task(side.follow(take))
        try:
            await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                raise AssertionError(f"the sender never waited: {side.error!r}")
            yield side, ready.result(), task
        finally:
            if task.done():
                await task
            else:
                transfer.cancel()
                await asyncio.wait([task])


async def receive(
    ready: CodeReady,
    into: Path,
    *,
    code: str | None = None,
    options: TransferOptions = DIRECT,
    react: Reaction = accepting,
) -> Side:
    """Run a receiver to its end."""
    chosen = replace(options, relays=options.relays if ready.peer is None else ())
    words = ready.code.reveal() if code is None else code
    async with (
        asyncio.timeout(DEADLINE_S),
        Receiver(words, into, peer=ready.peer, options=chosen) as transfer,
    ):
        side = Side(transfer)
        await side.follow(react)
        return side


async def both(
    *paths: Path,
    into: Path,
    of_sender: Reaction = watching,
    of_receiver: Reaction = accepting,
    options: TransferOptions = DIRECT,
    receiver_options: TransferOptions | None = None,
    code: str | None = None,
) -> tuple[Side, Side]:
    """Run a whole transfer; both sides, at their ends."""
    async with sender(*paths, options=options, code=code, react=of_sender) as (a, ready, task):
        b = await receive(ready, into, options=receiver_options or options, react=of_receiver)
        await task
        return a, b

"""Pair: two clients from Ready to the end of their bytes."""

import asyncio
from collections.abc import Callable

from tallow_net.limits import READY_ANSWER_S
from tallow_net.signaling import Side

from tallow_relay.connection import ConnectionHandler
from tallow_relay.datapair import DataPair
from tallow_relay.forward import DataForwarder, ForwardTimes, Leg, Outcome


class Pair:
    """Waits until both sides answered Ready, then forwards.

    `room` is the random number for the log, `charge` and `on_ending` are the forwarder's, `data` are its data
    connections. The pair lasts until the last connection of both kinds has ended.
    """

    def __init__(
        self,
        number: int,
        room: int,
        handlers: dict[Side, ConnectionHandler],
        data: DataPair,
        *,
        charge: Callable[[int], float] | None,
        on_ending: Callable[[], None],
        times: ForwardTimes | None = None,
        ready_answer_s: float = READY_ANSWER_S,
    ) -> None:
        self.number = number
        self.room = room
        self.data = data
        self._handlers = handlers
        self._charge = charge
        self._on_ending = on_ending
        self._times = times
        self._ready_answer_s = ready_answer_s
        self._legs: dict[Side, Leg] = {}
        self._failed: Outcome | None = None
        self._changed = asyncio.Event()
        self._forwarder: DataForwarder | None = None

    @property
    def bytes_moved(self) -> int:
        """The bytes that were forwarded so far, over all its connections."""
        return self.data.bytes_moved + (0 if self._forwarder is None else self._forwarder.bytes_moved)

    def ready(self, handler: ConnectionHandler, leg: Leg) -> None:
        """Take the transport of a side that answered Ready."""
        self._legs[self._side(handler)] = leg
        self._changed.set()

    def failed(self, outcome: Outcome) -> None:
        """End it before it began: a side is gone."""
        self._failed = self._failed or outcome
        self._changed.set()

    def supersede(self, side: Side) -> None:
        """Note that this side came back on a new connection."""
        if self._forwarder is not None:
            self._forwarder.supersede(side)
        else:
            self.failed(Outcome.SUPERSEDED)

    def stop(self) -> None:
        """End it: the relay shuts down."""
        self.data.abort()
        if self._forwarder is not None:
            self._forwarder.stop()
        else:
            self.failed(Outcome.SHUTDOWN)

    async def run(self) -> Outcome:
        """Return how it ended; all connections are closed, or are being closed by their handlers."""
        try:
            outcome = await self._run_encrypted()
            if outcome not in (Outcome.IDLE, Outcome.NOT_READY, Outcome.SHUTDOWN):
                await self.data.over()
            return outcome
        finally:
            self.data.abort()

    async def _run_encrypted(self) -> Outcome:
        try:
            async with asyncio.timeout(self._ready_answer_s):
                while len(self._legs) < len(Side) and self._failed is None:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            self._failed = Outcome.NOT_READY
        except asyncio.CancelledError:
            self._abort()
            raise
        if self._failed is not None:
            await self._give_up()
            return self._failed
        self._forwarder = DataForwarder(
            self._legs[Side.A],
            self._legs[Side.B],
            charge=self._charge,
            on_ending=self._on_ending,
            times=self._times,
            activity=self.data.activity,
        )
        return await self._forwarder.run()

    async def _give_up(self) -> None:
        self._on_ending()
        for side, handler in self._handlers.items():
            if side not in self._legs:
                handler.hang_up()
        await asyncio.gather(*(leg.transport.close() for leg in self._legs.values()))

    def _abort(self) -> None:
        for leg in self._legs.values():
            leg.transport.abort()

    def _side(self, handler: ConnectionHandler) -> Side:
        return Side.A if self._handlers[Side.A] is handler else Side.B

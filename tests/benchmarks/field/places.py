"""Where a case runs: both sides on loopback, or in two namespaces with an emulated link between them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from tests.netns.kit import Conditions, Namespace, Network, network, why_not

if TYPE_CHECKING:
    from types import TracebackType

SENDER_ADDRESS, RECEIVER_ADDRESS = "10.78.0.1", "10.78.0.2"
PACKET_BYTES = 1500


class Place(Protocol):
    """A context manager around the network of one case. Servers of all kinds stand at the sender."""

    sender_address: str

    def missing(self) -> str | None:
        """Say why the place cannot be had."""

    def describe(self) -> str:
        """Say in half a sentence what it is."""

    def closed(self) -> Place:
        """Return this place, or one like it, from which no way leads outside."""

    def at_sender(self, *words: object) -> list[str]:
        """Return the command that runs `words` on the sender's machine."""

    def at_receiver(self, *words: object) -> list[str]:
        """Return the command that runs `words` on the receiver's machine."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Loopback:
    """This machine itself."""

    sender_address = "127.0.0.1"

    def missing(self) -> str | None:
        """Nothing is missing."""
        return None

    def describe(self) -> str:
        """Name it with its congestion control."""
        control = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
        return f"loopback, congestion control {control}"

    def closed(self) -> Place:
        """Return a namespace with nothing but loopback."""
        return Closed()

    def at_sender(self, *words: object) -> list[str]:
        """Run it as it is."""
        return [str(word) for word in words]

    at_receiver = at_sender

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class Closed(Loopback):
    """A namespace with nothing but loopback, made when it is first used; it ends with this process."""

    def missing(self) -> str | None:
        """Say why no namespace can be made."""
        return why_not()

    @cached_property
    def _namespace(self) -> Namespace:
        return Namespace("closed")

    def closed(self) -> Place:
        """Return itself."""
        return self

    def at_sender(self, *words: object) -> list[str]:
        """Run it in the namespace."""
        return self._namespace.command(*words)

    at_receiver = at_sender


class Emulated:
    """Two namespaces and a link with these conditions; congestion control is cubic in both."""

    sender_address = SENDER_ADDRESS
    control = "cubic"

    def __init__(self, round_trip_ms: float, *, rate_mbit: float = 0.0, loss: float = 0.0) -> None:
        self.round_trip_ms = round_trip_ms
        self.rate_mbit = rate_mbit
        self.loss = loss
        # A queue of one product of rate and round trip, as routers are advised to have.
        self.queue = (
            max(100, round(rate_mbit * 1e6 * round_trip_ms / 1e3 / 8 / PACKET_BYTES)) if rate_mbit else 0
        )
        self._runner: asyncio.Runner | None = None
        self._stack: AsyncExitStack | None = None
        self._net: Network | None = None

    def missing(self) -> str | None:
        """Say why no namespaces can be made."""
        return why_not()

    def describe(self) -> str:
        """Name the link's conditions."""
        words = [f"{self.round_trip_ms:.0f} ms round trip"]
        if self.rate_mbit:
            words.append(f"{self.rate_mbit:.0f} Mbit/s with a queue of {self.queue} packets")
        if self.loss:
            words.append(f"{self.loss * 100:g} % of the packets lost each way")
        return f"emulated link: {', '.join(words)}, MTU 1500, congestion control {self.control}"

    def closed(self) -> Place:
        """Return itself: its namespaces have no way outside."""
        return self

    def at_sender(self, *words: object) -> list[str]:
        """Run it in the sender's namespace."""
        assert self._net is not None
        return self._net.namespaces[0].command(*words)

    def at_receiver(self, *words: object) -> list[str]:
        """Run it in the receiver's namespace."""
        assert self._net is not None
        return self._net.namespaces[1].command(*words)

    def __enter__(self) -> Self:
        self._runner = asyncio.Runner()
        self._runner.run(self._open())
        return self

    async def _open(self) -> None:
        self._stack = AsyncExitStack()
        net = await self._stack.enter_async_context(network())
        a, b = net.namespace("sender"), net.namespace("receiver")
        a.congestion_control(self.control)
        b.congestion_control(self.control)
        conditions = Conditions(
            delay_s=self.round_trip_ms / 2000,
            rate_bits=self.rate_mbit * 1e6,
            queue_packets=self.queue,
            loss=self.loss,
        )
        await net.emulate((a, f"{SENDER_ADDRESS}/24"), (b, f"{RECEIVER_ADDRESS}/24"), conditions)
        self._net = net

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        assert self._stack is not None
        self._runner.run(self._stack.aclose())
        self._runner.close()

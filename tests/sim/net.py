"""Where wires come from: to the relay and between the peers, with the natures and troubles that a world has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallow_protocol.events import PathKind

from tests.sim.relaynode import RelayNode
from tests.sim.wire import Nature, Wire
from tests.sim.world import BrokenRuleError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.sim.peer import Peer
    from tests.sim.standins import Cryptography
    from tests.sim.wire import End
    from tests.sim.world import World

LOOKED_AT_BYTES = 512 * 1024
"""So much of what is written at once is searched for secrets; only a large file's chunks are longer."""


class Net:
    """Everything between two peers, and what the peers of a world have in common."""

    def __init__(self, world: World, crypto: Cryptography, nature: Nature, *, in_flight_bytes: int) -> None:
        self.world = world
        self.crypto = crypto
        self.nature = nature
        self.in_flight_bytes = in_flight_bytes
        self.relay = RelayNode(world, in_flight_bytes=in_flight_bytes)
        self.wires: list[Wire] = []
        self.chunk_bytes = 64 * 1024
        self.usual_bytes = 64 * 1024
        self.largest_record = 2 * 1024 * 1024
        self.compress = False
        self.epoch_shift = 14
        self.answer_s = 0.0
        self.secrets: Sequence[bytes] = ()
        self.code_told: Callable[[Peer], None] = lambda peer: None
        self.find_other: Callable[[Peer], Peer | None] = lambda peer: None
        self.tamper: Callable[[bytes], list[bytes]] | None = None
        self.down_until = 0.0
        self.direct = False

    def wire(self, name: str) -> Wire:
        """Return a new wire, watched for what must not be on it."""
        wire = Wire(self.world, self.nature, name)
        self.wires.append(wire)
        for direction in wire.directions:
            direction.tamper = self._pass
        return wire

    def _pass(self, data: bytes) -> list[bytes]:
        looked_at = data[:LOOKED_AT_BYTES]
        for secret in self.secrets:
            if secret in looked_at:
                raise BrokenRuleError("no code word or file name on the wire", secret.decode())
        return [data] if self.tamper is None else self.tamper(data)

    def dial_relay(self, peer: Peer, opened: Callable[[End], None], failed: Callable[[], None]) -> None:
        """Connect to the relay; it takes a round trip."""
        round_trip_s = 2 * self.nature.delay_s

        def arrive() -> None:
            if not self.relay.up or self.world.now < self.down_until:
                failed()
                return
            wire = self.wire(f"{peer.name}-relay")
            self.relay.connect(wire.ends[1])
            opened(wire.ends[0])

        self.world.after(round_trip_s, arrive)

    def dial_data(self, token: bytes) -> End:
        """Connect to the relay with a token for plain data; a wrong one is closed without an answer."""
        wire = self.wire("data")
        self.relay.join_data(wire.ends[1], token)
        return wire.ends[0]

    def dial_peer(
        self,
        peer: Peer,
        opened: Callable[[End], None],
        failed: Callable[[], None] = lambda: None,
        path: PathKind = PathKind.DIRECT_TCP,
    ) -> None:
        """Connect to the other side, which answers an Attach."""

        def arrive() -> None:
            other = self.find_other(peer)
            if other is None or not other.alive or other.session is None or self.world.now < self.down_until:
                failed()
                return
            wire = self.wire(f"{peer.name}-direct")
            other.accept(wire.ends[1], path, dedicated=False)
            opened(wire.ends[0])

        self.world.after(2 * self.nature.delay_s, arrive)

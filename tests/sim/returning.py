"""One try to come back to the other side of a session, of which no connection is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallow_net.errors import RelayUnreachableError
from tallow_net.relay.session import Paired, Refused, SignalingClient
from tallow_net.signaling import Side
from tallow_protocol.core.rejoining import Way
from tallow_protocol.errors import (
    AttachError,
)
from tallow_protocol.events import (
    PathKind,
)

from tests.sim.shell import Line, Runner

if TYPE_CHECKING:
    from tests.sim.peer import Peer
    from tests.sim.wire import End


RETURN_S = 20.0
"""So long one try to meet again may take."""


class Return:
    """One try to meet again: in the session's rejoin room, or at the other side's address."""

    def __init__(self, peer: Peer, way: Way) -> None:
        self.peer = peer
        self.way = way
        self.session = peer.session
        self.over = False

    def start(self) -> None:
        """Dial."""
        if self.way is Way.DIRECT:
            self.peer.net.dial_peer(self.peer, self.attach, self.end)
        else:
            self.peer.net.dial_relay(self.peer, self.join, self.end)
        self.peer.world.after(RETURN_S, self.end)

    @property
    def wanted(self) -> bool:
        """Return whether the session still waits."""
        peer = self.peer
        return not self.over and peer.alive and not peer.ended and self.session.gone

    def end(self) -> None:
        """Give up, or stop after success."""
        if self.over:
            return
        self.over = True
        self.peer._returning.ended(self.way, self.peer.world.now)
        self.peer.settle()

    def join(self, end: End) -> None:
        """Stand in the rejoin room."""
        peer, world = self.peer, self.peer.world
        if not self.wanted:
            end.abort()
            self.end()
            return
        signal = SignalingClient()

        def body(data: bytes) -> None:
            event = signal.receive(data, world.now)
            say()
            if isinstance(event, Paired):
                if peer.side is Side.A:
                    self.attach(end, line)
                else:
                    line.on_body = lambda attach: self.accepted(end, line, attach)
            elif isinstance(event, Refused):
                end.abort()
                self.end()

        def say() -> None:
            for frame in signal.frames_to_send():
                line.write(frame)

        line = Line(end, body, self.end)
        signal.join(
            [self.session.keys.rejoin_room], peer.side, world.fresh(16), world.now, wait=peer.side is Side.B
        )
        say()
        world.after(RETURN_S, lambda: line.on_body is None or end.abort())

    def attach(self, end: End, line: Line | None = None) -> None:
        """Attach over the new connection."""
        peer, session = self.peer, self.session
        if not self.wanted:
            end.abort()
            self.end()
            return
        opener = session.open_link(session.next_number(), peer.world.fresh(32))

        def answered(body: bytes) -> None:
            line.on_body = None
            if self.wanted:
                try:
                    link = session.opened_link(opener, body, peer.world.now, path=self.path)
                except AttachError:
                    end.abort()
                else:
                    peer.runners[link.ident] = Runner(peer, link, end, line.decoder.pending)
            else:
                end.abort()
            self.end()

        if line is None:
            line = Line(end, answered, self.end)
        line.on_body = answered
        line.write(opener.attach)
        line.look()

    def accepted(self, end: End, line: Line, body: bytes) -> None:
        """Answer an Attach that came over the new connection."""
        line.on_body = None
        if self.peer.alive and not self.peer.ended:
            self.peer.attached(end, line, body, self.path, dedicated=False)
        else:
            end.abort()
        self.end()

    @property
    def path(self) -> PathKind:
        """Return what kind of connection it makes."""
        return PathKind.DIRECT_TCP if self.way is Way.DIRECT else PathKind.RELAY_TCP


class PeerLostNetError(RelayUnreachableError):
    """A wire to the relay ended."""

    def __init__(self) -> None:
        super().__init__("the connection to the relay ended")

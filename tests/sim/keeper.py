"""Which connections one side's session has: `core/keeping.py` decides, the net of the world says what comes of it.

As `aio/paths.py` does with sockets: steps are started, their ends are told, what attached is the session's.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from tallow_net.paths.candidates import CandidateKind, acceptable, gather
from tallow_net.relay.session import Paired, Refused, SignalingClient
from tallow_net.signaling import Side
from tallow_protocol.core.keeping import (
    ATTACH_WAIT_S,
    HALF_OPEN_LINKS,
    Dial,
    Keeping,
    Listen,
    Return,
    Sight,
    Situation,
    UseToken,
)
from tallow_protocol.core.messages import Paths
from tallow_protocol.core.rejoining import Way
from tallow_protocol.errors import AttachError
from tallow_protocol.events import PathKind

from tests.sim.shell import Line, Runner

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallow_net.paths.candidates import Candidate
    from tallow_protocol.core.keeping import Step
    from tallow_protocol.core.links import Link

    from tests.sim.peer import Peer
    from tests.sim.wire import End

STAND_S = 30.0
"""How long one try stands in the rejoin room, as `aio/rejoin.py` says."""

QUIC_AFTER_S = 0.3
"""As in `aio/dialling.py`: QUIC is tried so much after TCP."""

PORTS = {CandidateKind.TCP: 4433, CandidateKind.QUIC: 4434}
DIRECT = {CandidateKind.TCP: (PathKind.DIRECT_TCP, True), CandidateKind.QUIC: (PathKind.DIRECT_QUIC, False)}
"""The path that a place leads to, and whether a thread owns its socket."""


class Try:
    """A step under way, until it made a connection, failed, or took too long."""

    def __init__(self, keeper: Keeper, step: UseToken | Dial | Return, limit_s: float) -> None:
        self.keeper = keeper
        self.step = step
        self.over = False
        self.timer = keeper.peer.world.after(limit_s, self.fail)
        self._ends: list[End] = []

    def holds(self, end: End) -> bool:
        """Take a connection that came up; return whether it is still wanted."""
        wanted = not self.over and self.keeper.wanted
        if wanted:
            self._ends.append(end)
        else:
            end.abort()
        return wanted

    def fail(self) -> None:
        """End without a connection."""
        if self._close(None):
            self.keeper.ended(self.step)

    def made(self, link: Link, end: End) -> None:
        """End with one."""
        if self._close(end):
            self.keeper.made(self.step, link)

    def _close(self, kept: End | None) -> bool:
        if self.over:
            return False
        self.over = True
        self.timer.cancel()
        for end in self._ends:
            if end is not kept:
                end.abort()
        return True


class Keeper:
    """One side's, for one session."""

    def __init__(self, peer: Peer, tokens: tuple[bytes, ...]) -> None:
        net = peer.net
        self.peer = peer
        self.session = peer.session
        self.listening: frozenset[CandidateKind] = frozenset()
        self._kinds = net.kinds
        self._keeping = Keeping(
            Situation(
                side=peer.side,
                relayed=True,
                limit=peer.limit,
                tokens=len(tokens),
                tcp=CandidateKind.TCP in net.kinds,
                quic=CandidateKind.QUIC in net.kinds,
                room=True,
            ),
            lambda: peer.world.tape.below(16) / 16,
        )
        self._own = tuple(map(ipaddress.ip_interface, net.interfaces[peer.side]))
        self._observed = ipaddress.ip_address(net.observed[peer.side])
        self._tokens = list(tokens)
        self._lease = peer.world.fresh(16)
        self._candidates: tuple[Candidate, ...] = ()
        self._judged: Paths | None = None
        self._returns: dict[Way, Try] = {}
        self._open: dict[Link, Step] = {}
        self._accepted: dict[Link, float] = {}
        self._answered: dict[Link, Return] = {}
        self._spare: list[int] = []
        self._half_open = 0

    @property
    def wanted(self) -> bool:
        """Return whether the session may still take a connection."""
        peer = self.peer
        return peer.alive and not peer.ended and peer.session is self.session and not self.session.over

    # -- looking -------------------------------------------------------------------------------------------

    def look(self) -> bool:
        """Do what the core wants now; return whether that was anything."""
        now = self.peer.world.now
        self._notice_ends(now)
        sight = self._sight()
        steps = self._keeping.look(sight, now)
        for step in steps:
            self._start(step)
        if sight.gone_since is None:
            self._stop_returning(now)
        return bool(steps)

    def next_deadline(self) -> float | None:
        """Return when there is something to do though nothing happened."""
        times = [self._keeping.next_deadline, *(at + ATTACH_WAIT_S for at in self._accepted.values())]
        return min((at for at in times if at is not None), default=None)

    def network_changed(self) -> None:
        """Take note that this machine has another network, while the other side is away."""
        if self.session.gone:
            self._end_returns(self.peer.world.now)
            self._keeping.network_changed(self.peer.world.now)

    def _notice_ends(self, now: float) -> None:
        for link in [link for link in self._open if link.lost]:
            self._keeping.ended(self._open.pop(link), now)
        for link, since in list(self._accepted.items()):
            if link.proven or link.lost:
                del self._accepted[link]
            elif now >= since + ATTACH_WAIT_S:
                del self._accepted[link]
                self.session.lost(link, now)
        for link in [link for link in self._answered if link.proven or link.lost]:
            self._keeping.ended(self._answered.pop(link), now)

    def _sight(self) -> Sight:
        session = self.session
        ready = session.begun and not session.over and not session.awaits_confirmation
        offered = session.agreement.theirs
        if ready and offered is not None and offered is not self._judged and offered.candidates:
            self._judged = offered
            self._candidates = acceptable(offered.candidates, self._own, self._kinds)
        direct = [link for link in session.links if link.path.direct and link.proven and link.number]
        return Sight(
            ready=ready,
            state=session.machine.state,
            offer_bytes=session.offer_bytes,
            allowed=session.agreement.allowed,
            wanted=session.connections_wanted,
            direct=len(direct),
            dedicated=sum(link.dedicated for link in direct),
            places=len(self._candidates),
            gone_since=session.gone_since if session.gone else None,
        )

    def _stop_returning(self, now: float) -> None:
        if self._returns:
            self._end_returns(now)

    def _end_returns(self, now: float) -> None:
        for tried in self._returns.values():
            if tried._close(None):
                self._keeping.ended(tried.step, now)
        self._returns.clear()
        for step in self._answered.values():
            self._keeping.ended(step, now)
        self._answered.clear()
        self._judged = None

    # -- steps ---------------------------------------------------------------------------------------------

    def _start(self, step: Step) -> None:
        peer, net = self.peer, self.peer.net
        match step:
            case Listen():
                peer.world.note(f"{peer.name} listens: tcp {step.tcp}, quic {step.quic}")
                self._listen(step)
            case UseToken():
                peer.world.note(f"{peer.name} uses token {step.index}")
                tried = Try(self, step, step.wait_s)
                net.dial_data(self._tokens[step.index], lambda end: self._data_open(tried, end), tried.fail)
            case Dial():
                peer.world.note(f"{peer.name} dials directly")
                self._dial(Try(self, step, ATTACH_WAIT_S))
            case Return():
                peer.world.note(f"{peer.name} returns by {step.way.value}")
                tried = self._returns[step.way] = Try(self, step, STAND_S + ATTACH_WAIT_S)
                if step.way is Way.ROOM:
                    net.dial_relay(peer, lambda end: self._stand(tried, end), tried.fail)
                else:
                    self._dial(tried)

    def _listen(self, step: Listen) -> None:
        kinds = {CandidateKind.TCP: step.tcp, CandidateKind.QUIC: step.quic}
        self.listening = frozenset(kind for kind, wanted in kinds.items() if wanted)
        if step.any:
            ports = {kind: PORTS[kind] for kind in self._kinds if kind in self.listening}
            offered = gather(self._own, ports, observed=self._observed)
            self.session.send(Paths(self.peer.limit, offered))

    def _data_open(self, tried: Try, end: End) -> None:
        """Say Attach on a data connection through the relay, or wait for it."""
        if not tried.holds(end):
            return
        if self.peer.side is Side.A:
            self._ask(tried, end, PathKind.RELAY_TCP, dedicated=True, number=self._number())
        else:
            line = Line(end, lambda body: None, tried.fail)
            line.on_body = lambda body: self._answer(
                tried, end, line, body, PathKind.RELAY_TCP, dedicated=True
            )
            line.look()

    def _dial(self, tried: Try) -> None:
        """Try every place of the other side's, under one number; the first that attaches stays."""
        number, left = self._number(), 0

        def failed() -> None:
            nonlocal left
            left -= 1
            if not left:
                tried.fail()

        kinds = list(dict.fromkeys(candidate.kind for candidate in self._candidates))
        left = len(kinds)
        for kind in kinds:
            path, dedicated = DIRECT[kind]
            hosts = [candidate.ip for candidate in self._candidates if candidate.kind is kind]

            def opened(end: End, path: PathKind = path, dedicated: bool = dedicated) -> None:
                if tried.holds(end):
                    self._ask(tried, end, path, dedicated=dedicated, number=number, failed=failed)

            def dial(
                kind: CandidateKind = kind, hosts: list = hosts, opened: Callable[[End], None] = opened
            ) -> None:
                self.peer.net.dial_peer(self.peer, kind, hosts, opened, failed)

            later = kind is CandidateKind.QUIC and len(kinds) > 1
            self.peer.world.after(QUIC_AFTER_S if later else 0.0, dial)
        if not kinds:
            left = 1
            self.peer.world.after(0.0, failed)

    def _stand(self, tried: Try, end: End) -> None:
        """Stand in the session's rejoin room until the other side is there."""
        peer, world = self.peer, self.peer.world
        if not tried.holds(end):
            return
        signal = SignalingClient()

        def body(data: bytes) -> None:
            event = signal.receive(data, world.now)
            say()
            if isinstance(event, Refused):
                tried.fail()
            elif isinstance(event, Paired):
                self._keeping.new_tokens(len(self._tokens), len(event.tokens))
                self._tokens += event.tokens
                if peer.side is Side.A:
                    self._ask(
                        tried, end, PathKind.RELAY_TCP, dedicated=False, number=self._number(), line=line
                    )
                else:
                    line.on_body = lambda attach: self._answer(
                        tried, end, line, attach, PathKind.RELAY_TCP, dedicated=False
                    )

        def say() -> None:
            for frame in signal.frames_to_send():
                line.write(frame)

        line = Line(end, body, tried.fail)
        signal.join([self.session.keys.rejoin_room], peer.side, self._lease, world.now, wait=True)
        say()

    # -- attaching -----------------------------------------------------------------------------------------

    def _number(self) -> int:
        """Return a connection number of ours; one whose try failed comes again."""
        return self._spare.pop(0) if self._spare else self.session.next_number()

    def _ask(
        self,
        tried: Try,
        end: End,
        path: PathKind,
        *,
        dedicated: bool,
        number: int,
        line: Line | None = None,
        failed: Callable[[], None] | None = None,
    ) -> None:
        """Say Attach."""
        opener = self.session.open_link(number, self.peer.world.fresh(32))

        def lost() -> None:
            if number not in self._spare:
                self._spare = sorted([*self._spare, number])
            (failed or tried.fail)()

        def answered(body: bytes) -> None:
            line.on_body = None
            if tried.over or not self.wanted:
                end.abort()
                return
            try:
                link = self.session.opened_link(
                    opener, body, self.peer.world.now, path=path, dedicated=dedicated
                )
            except AttachError:
                end.abort()
                lost()
                return
            self.peer.runners[link.ident] = Runner(self.peer, link, end, line.decoder.pending)
            tried.made(link, end)

        if line is None:
            line = Line(end, answered, lost)
        line.on_body, line.on_lost = answered, lost
        line.write(opener.attach)
        line.look()

    def _answer(
        self, tried: Try, end: End, line: Line, body: bytes, path: PathKind, *, dedicated: bool
    ) -> None:
        """Answer an Attach that comes over a connection of a step of ours."""
        line.on_body = None
        if tried.over or not self.wanted:
            end.abort()
            return
        link = self._accept(end, line, body, path, dedicated=dedicated)
        if link is None:
            tried.fail()
        else:
            tried.made(link, end)

    def knock(self, end: End, kind: CandidateKind) -> None:
        """Take a connection that the other side opened to where we listen."""
        path, dedicated = DIRECT[kind]
        if self._half_open + len(self._accepted) >= HALF_OPEN_LINKS:
            end.abort()
            return
        self._half_open += 1

        def gone() -> None:
            self._half_open -= 1
            end.close()

        def first(body: bytes) -> None:
            self._half_open -= 1
            line.on_body = None
            link = self._accept(end, line, body, path, dedicated=dedicated) if self.wanted else None
            if link is None:
                end.abort()
            else:
                self._accepted[link] = self.peer.world.now
                self.peer.settle()

        line = Line(end, first, gone)

    def _accept(self, end: End, line: Line, body: bytes, path: PathKind, *, dedicated: bool) -> Link | None:
        session, peer = self.session, self.peer
        if not session.begun:
            return None
        try:
            link, ack = session.accept_link(
                body, peer.world.fresh(32), peer.world.now, path=path, dedicated=dedicated
            )
        except AttachError:
            return None
        line.write(ack)
        peer.runners[link.ident] = Runner(peer, link, end, line.decoder.pending)
        return link

    # -- the ends of steps ---------------------------------------------------------------------------------

    def made(self, step: Step, link: Link) -> None:
        """Take note of a connection that attached, or was answered and has yet to be proven."""
        now = self.peer.world.now
        if not link.proven:
            self._accepted[link] = now
        if not isinstance(step, Return):
            self._open[link] = step
        elif not link.proven:
            self._answered[link] = step
            self.peer.settle()
            return
        self._keeping.opened(step, now)
        self.peer.settle()

    def ended(self, step: Step) -> None:
        """Take note that a step failed."""
        if self.wanted:
            self._keeping.ended(step, self.peer.world.now)
            self.peer.settle()

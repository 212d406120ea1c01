"""PathKeeper: opens and accepts further connections of a running session. `core/keeping.py` decides which.

It owns a listener, the tries under way and the connections that were accepted and have not attached. A connection
that attached is the shell's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import secrets
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tallow_net import (
    CertificateChangedError,
    CertificateRefusedError,
    FrameStream,
    NetError,
    PeerText,
    Side,
)
from tallow_net.paths.candidates import Candidate, CandidateKind, acceptable, gather
from tallow_net.relay.data import open_data_connection
from tallow_net.transport.interface import TransportChoice, TransportKind
from tallow_net.transport.tcp import TcpTransport

from tallow_protocol.aio.doors import DirectDoor
from tallow_protocol.aio.rejoin import Rejoin, RejoinRoom, found_on_lan, relay_path
from tallow_protocol.core.attach import ATTACH_TYPE
from tallow_protocol.core.jobs import no_silent_faults
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
from tallow_protocol.core.spread import PathSample, connections_worth
from tallow_protocol.core.state import TransferState
from tallow_protocol.errors import AttachError, ProtocolError
from tallow_protocol.events import PathKind, PathLimit, Rejoining, Warned
from tallow_protocol.limits import ATTACH_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from tallow_net import Transport
    from tallow_net.paths.candidates import IpAddress, IpInterface

    from tallow_protocol.aio.routes import Met
    from tallow_protocol.aio.shell import SessionShell
    from tallow_protocol.core.keeping import Step
    from tallow_protocol.core.links import Link
    from tallow_protocol.core.session import Session

__all__ = ["Allowed", "PathKeeper", "own_interfaces"]

BETWEEN_CANDIDATES_S = 0.05
"""The next candidate is tried this much later: the nearest first, and none waits for one that swallows packets."""

QUIC_AFTER_S = 0.3
"""QUIC candidates are tried this long after the first of TCP."""

CLOSE_S = 3.0
"""Everything of the keeper's ends within this."""

_DIRECT = {TransportKind.QUIC: PathKind.DIRECT_QUIC, TransportKind.TCP: PathKind.DIRECT_TCP}
_CHOICES = {CandidateKind.TCP: TransportChoice.TCP, CandidateKind.QUIC: TransportChoice.QUIC}


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the user allows; see TransferOptions."""

    transport: TransportChoice = TransportChoice.AUTO
    paths: PathLimit = PathLimit.ANY
    plain_data: bool = True
    listen_host: str = ""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where to dial; `host` is a literal address, with its zone where it has one."""

    kind: CandidateKind
    host: str
    port: int


def own_interfaces() -> tuple[IpInterface, ...]:
    """Return this machine's addresses with their networks, those of containers and tunnels left out."""
    from tallow_net.interfaces import own_networks

    return tuple(ipaddress.ip_interface((n.address, n.prefix)) for n in own_networks())


class PathKeeper:
    """Keeps the connections of one session that `Keeping` wants. `start` begins, `close` ends everything."""

    def __init__(
        self,
        shell: SessionShell,
        session: Session,
        met: Met,
        allowed: Allowed,
        *,
        clock: Callable[[], float] = time.monotonic,
        interfaces: Callable[[], Sequence[IpInterface]] = own_interfaces,
        rejoin: Rejoin | None = None,
    ) -> None:
        self._shell = shell
        self._session = session
        self._met = met
        self._allowed = allowed
        self._clock = clock
        self._interfaces = interfaces
        self._place = _place(met.frames.transport.remote)
        self._one_host = self._place[0].is_loopback if self._place else False
        tcp = allowed.transport is not TransportChoice.QUIC
        quic = allowed.transport is not TransportChoice.TCP
        self._kinds = [CandidateKind.TCP] * tcp + [CandidateKind.QUIC] * quic
        relayed = not met.path.direct
        self._keeping = Keeping(
            Situation(
                side=session.side,
                relayed=relayed,
                limit=allowed.paths,
                tokens=len(met.tokens) if allowed.plain_data and self._place else 0,
                tcp=tcp and self._place is not None,
                quic=quic,
                room=relayed and rejoin is not None and bool(rejoin.relays),
            ),
            secrets.SystemRandom().random,
        )
        self._rejoin = rejoin or Rejoin()
        self._room = RejoinRoom(self._rejoin, session.keys, session.side)
        self._tokens = list(met.tokens)
        self._observed = met.observed
        self._returns: dict[Way, asyncio.Task[None]] = {}
        self._told_retry: tuple[float | None, float | None] | None = None
        self._distrusted = False
        self._own: Sequence[IpInterface] = ()
        self._candidates: tuple[Candidate, ...] = ()
        self._judged: Paths | None = None
        self._good: _Place | None = None
        self._spare_numbers: list[int] = []
        self._used_numbers: set[int] = set()
        self._open: dict[Link, Step] = {}
        self._accepted: dict[Link, float] = {}
        self._answering = 0
        self._door = DirectDoor(allowed.listen_host, self.attach)
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._mark: object = None
        self._runner: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look at the session."""
        self._judge_length()
        self._shell.on_look = self._look
        self._runner = asyncio.create_task(self._guarded(self._run), name="tallow-paths")

    def _judge_length(self) -> None:
        """Have more than one data connection from the start where the path is long: each grows by itself.

        Through a relay the kernel knows one half of the way alone; there the sender decides, once it has measured.
        """
        transport = self._met.frames.transport
        if self._met.path.direct and isinstance(transport, TcpTransport):
            measured = transport.measured()
            if measured is not None:
                self._session.connections_wanted = connections_worth(PathSample(measured.round_trip_s, 0.0))

    async def close(self) -> None:
        """End every try and stop listening, within a bound; what attached is the shell's and stays. Idempotent."""
        self._shell.on_look = None
        tasks = [*self._tasks, *([self._runner] if self._runner is not None else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_S)
        await self._door.close()

    async def attach(self, frames: FrameStream, body: bytes) -> None:
        """Take an accepted connection whose first frame is `body`; it is closed without an answer if it is no Attach.

        The connection is the keeper's from here on.
        """
        path = _DIRECT.get(frames.transport.kind)
        if path is None or self._half_open() >= HALF_OPEN_LINKS:
            frames.transport.abort()
            return
        self._answering += 1
        try:
            link = await self._answer(frames, body, path)
            self._accepted[link] = self._clock()
            self._changed.set()
        except (NetError, ProtocolError):
            frames.transport.abort()
        except BaseException:
            frames.transport.abort()
            raise
        finally:
            self._answering -= 1

    # -- looking -------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Wake the keeper where something changed that it goes by. Called often."""
        session = self._session
        links = tuple((link.ident, link.proven) for link in session.links)
        mark = (
            session.begun,
            session.over,
            session.awaits_confirmation,
            session.machine.state,
            session.offer_bytes,
            session.allowed,
            session.connections_wanted,
            session.peer_paths,
            session.gone,
            links,
        )
        if mark != self._mark:
            self._mark = mark
            self._changed.set()

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            now = self._clock()
            self._notice_ends(now)
            sight = await self._sight()
            for step in self._keeping.look(sight, self._clock()):
                task = self._spawn(partial(self._step, step))
                if isinstance(step, Return):
                    self._returns[step.way] = task
            now = self._clock()
            if sight.gone_since is not None:
                self._tell_retry(sight, now)
            else:
                self._stop_returning(now)
            times = [self._keeping.next_deadline, *(at + ATTACH_WAIT_S for at in self._accepted.values())]
            deadline = min((at for at in times if at is not None), default=None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if deadline is None else max(deadline - now, 0.0)):
                    await self._changed.wait()

    def _notice_ends(self, now: float) -> None:
        for link in [link for link in self._open if link.lost]:
            self._keeping.ended(self._open.pop(link), now)
        for link, since in list(self._accepted.items()):
            if link.proven or link.lost:
                del self._accepted[link]
            elif now >= since + ATTACH_WAIT_S:
                del self._accepted[link]
                self._session.lost(link, now)
                self._shell.poke()

    def _tell_retry(self, sight: Sight, now: float) -> None:
        """Tell the user of a loss, and of each wait after it."""
        session = self._session
        if session.machine.state is TransferState.COMPLETED or session.over:
            return  # all is there, and told: only the other side has yet to hear it
        at = self._keeping.retry_at(sight, now)
        mark = sight.gone_since, None if at is None or at <= now else at
        if self._told_retry is None or (mark[1] is not None and mark != self._told_retry):
            self._emit_retry(None if at is None else max(at - now, 0.0))
            self._told_retry = mark

    def _emit_retry(self, retry_in_s: float | None) -> None:
        session = self._session
        session.emit(Rejoining(retry_in_s, session.rejoin_left_s(self._clock()), session.loss))
        self._shell.poke()

    def _stop_returning(self, now: float) -> None:
        """Give up the tries to come back: the other side is there, by whatever way."""
        self._told_retry = None
        for way, task in self._returns.items():
            if not task.done():
                task.cancel()
                self._keeping.ended(Return(way), now)
        if self._returns:
            self._own = ()  # another network, perhaps
        self._returns.clear()

    async def _sight(self) -> Sight:
        session = self._session
        ready = session.begun and not session.over and not session.awaits_confirmation
        offered = session.peer_paths
        if ready and offered is not self._judged and offered is not None and offered.candidates:
            await self._know_interfaces()
            self._judged = offered
            self._candidates = acceptable(offered.candidates, self._own, self._kinds, one_host=self._one_host)
        direct = [link for link in session.links if link.path.direct and link.proven and link.number]
        return Sight(
            ready=ready,
            state=session.machine.state,
            offer_bytes=session.offer_bytes,
            allowed=session.allowed,
            wanted=session.connections_wanted,
            direct=len(direct),
            dedicated=sum(link.dedicated for link in direct),
            places=len(self._candidates),
            gone_since=session.gone_since if session.gone else None,
        )

    async def _know_interfaces(self) -> None:
        if not self._own:
            self._own = await asyncio.to_thread(self._interfaces)

    # -- steps ---------------------------------------------------------------------------------------------

    def _spawn(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run one task; a fault of our own ends the session rather than leave it waiting."""
        try:
            with no_silent_faults():
                await work()
        except ProtocolError as error:
            self._session.fail(error, self._clock())
            self._shell.poke()

    async def _step(self, step: Step) -> None:
        if isinstance(step, Listen):
            await self._listen(step)
            return
        link: Link | None = None
        try:
            if isinstance(step, UseToken):
                link = await self._use_token(step)
            elif isinstance(step, Dial):
                link = await self._dial(step)
            elif step.way is Way.ROOM:
                link = await self._meet_again()
            else:
                link = await self._dial_again()
        except (CertificateChangedError, CertificateRefusedError) as error:
            self._distrust(error)
        except (NetError, ProtocolError, TimeoutError, OSError):
            pass  # a try that failed: the session goes on where it is
        now = self._clock()
        if link is None:
            self._keeping.ended(step, now)
        else:
            self._keeping.opened(step, now)
            if not isinstance(step, Return):
                self._open[link] = step
            if not link.proven:
                self._accepted[link] = now
        self._changed.set()

    async def _use_token(self, step: UseToken) -> Link:
        """Open a data connection through the relay: A says Attach on it, B answers."""
        address, port = self._relay_or_sender()
        token = self._tokens[step.index]
        async with asyncio.timeout(step.wait_s):
            transport = await open_data_connection(str(address), port, token, step.wait_s)
            try:
                frames = FrameStream(transport, limit=ATTACH_BYTES)
                if self._session.side is Side.A:
                    with self._number() as number:
                        return await self._ask(frames, number, PathKind.RELAY_TCP)
                return await self._answer(frames, await frames.read(), PathKind.RELAY_TCP)
            except BaseException:
                transport.abort()
                raise

    def _relay_or_sender(self) -> tuple[IpAddress, int]:
        if self._place is None:
            raise AttachError("the address of the first connection is not known")
        return self._place

    async def _meet_again(self) -> Link:
        """Meet in the relay's rejoin room: A says Attach there, B answers."""
        met = await self._room.meet(self._emit_retry)
        frames, path = met.leg.frames, relay_path(met.leg.kind)
        try:
            async with asyncio.timeout(ATTACH_WAIT_S):
                if self._session.side is Side.A:
                    with self._number() as number:
                        link = await self._ask(frames, number, path)
                else:
                    link = await self._answer(frames, await frames.read(), path)
        except BaseException:
            met.leg.transport.abort()
            raise
        self._place = _place(met.leg.transport.remote) or self._place
        self._observed = met.observed
        usable = self._allowed.plain_data and self._place is not None
        self._keeping.new_tokens(len(self._tokens), len(met.leg.tokens) if usable else 0)
        self._tokens += met.leg.tokens
        return link

    def _distrust(self, error: NetError) -> None:
        """Warn, once, of a relay that shows another key than before: it is not asked, and what else there is goes on."""
        if not self._distrusted:
            self._distrusted = True
            self._session.emit(Warned(PeerText(str(error))))

    async def _dial_again(self) -> Link:
        """Dial what was dialled before; then whoever answers under the sender's name on this network."""
        if not self._met.path.direct:
            places = [_Place(c.kind, str(c.ip), c.port) for c in self._candidates]
            return await self._dial_places(places)
        address, port = self._relay_or_sender()
        try:
            return await self._dial_places([_Place(kind, str(address), port) for kind in self._kinds])
        except (NetError, ProtocolError, TimeoutError, OSError):
            if self._rejoin.lan_name is None:
                raise
        places = [
            _Place(kind, host, port)
            for host, port in await found_on_lan(self._rejoin.lan_name)
            for kind in self._kinds
        ]
        return await self._dial_places(places)

    async def _dial(self, step: Dial) -> Link:
        """Open a direct connection to the first of the peer's places that answers an Attach."""
        if self._met.path.direct:
            address, port = self._relay_or_sender()
            places: Sequence[_Place] = (_Place(CandidateKind.TCP, str(address), port),)
        elif step.further and self._good is not None:
            places = (self._good,)
        else:
            places = [_Place(c.kind, str(c.ip), c.port) for c in self._candidates]
        return await self._dial_places(places)

    async def _dial_places(self, places: Sequence[_Place]) -> Link:
        with self._number() as number:
            async with asyncio.timeout(ATTACH_WAIT_S):
                return await self._race(places, number)

    async def _race(self, places: Sequence[_Place], number: int) -> Link:
        """Try all of `places` under one number, one a little after the other; keep the first that attaches."""
        links: list[Link] = []

        async def attempt(place: _Place, wait_s: float) -> None:
            await asyncio.sleep(wait_s)
            frames = await self._reach(place)
            try:
                link = await self._ask(frames, number, _DIRECT[frames.transport.kind], lambda: not links)
            except BaseException:
                frames.transport.abort()
                raise
            self._good = place
            links.append(link)

        waits = {CandidateKind.TCP: 0.0, CandidateKind.QUIC: QUIC_AFTER_S}
        if all(place.kind is CandidateKind.QUIC for place in places):
            waits[CandidateKind.QUIC] = 0.0
        tasks = []
        for place in places:
            tasks.append(asyncio.create_task(attempt(place, waits[place.kind])))
            waits[place.kind] += BETWEEN_CANDIDATES_S
        pending = set(tasks)
        try:
            while pending and not links:
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in pending:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        if links:
            return links[0]
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(
                outcome, NetError | ProtocolError | OSError | TimeoutError | asyncio.CancelledError
            ):
                raise outcome
        raise AttachError("no place that the other side offered answered")

    async def _reach(self, place: _Place) -> FrameStream:
        """Return a connection to `place` on which nothing was said."""
        from tallow_net.transport.negotiate import connect_direct

        if place.kind is CandidateKind.QUIC:
            await asyncio.to_thread(_import_quic)
        transport = await connect_direct(
            place.host, place.port, choice=_CHOICES[place.kind], timeout_s=ATTACH_WAIT_S
        )
        return FrameStream(transport, limit=ATTACH_BYTES)

    @contextlib.contextmanager
    def _number(self) -> Iterator[int]:
        """Give a connection number of ours; one whose try failed is given again, unless its Ack verified."""
        number = self._spare_numbers.pop(0) if self._spare_numbers else self._session.next_number()
        try:
            yield number
        except BaseException:
            if number not in self._used_numbers:
                self._spare_numbers.append(number)
                self._spare_numbers.sort()
            raise
        finally:
            self._used_numbers.discard(number)

    # -- attaching -----------------------------------------------------------------------------------------

    async def _ask(
        self, frames: FrameStream, number: int, path: PathKind, wanted: Callable[[], bool] = lambda: True
    ) -> Link:
        """Say Attach, and nothing else before the Ack verifies."""
        session = self._session
        opener = session.open_link(number, secrets.token_bytes(32))
        await frames.write(opener.attach)
        ack = await frames.read()
        if ack is None or not wanted() or session.over:
            raise AttachError("a connection ended before it was attached")
        give = self._ready(frames)
        link = session.opened_link(
            opener, ack, self._clock(), path=path, dedicated=frames.transport.kind is TransportKind.TCP
        )
        self._used_numbers.add(number)
        with self._lost_on_error(link):
            give(link)
        return link

    async def _answer(self, frames: FrameStream, attach: bytes | None, path: PathKind) -> Link:
        """Answer an Attach; the link is proven once a record of the peer opens on it."""
        session = self._session
        if not attach or attach[0] != ATTACH_TYPE or not session.begun or session.over:
            raise AttachError("a connection did not begin with an Attach")
        link, ack = session.accept_link(
            attach,
            secrets.token_bytes(32),
            self._clock(),
            path=path,
            dedicated=frames.transport.kind is TransportKind.TCP,
        )
        with self._lost_on_error(link):
            try:
                async with asyncio.timeout(ATTACH_WAIT_S):
                    await frames.write(ack)
            except TimeoutError:
                raise AttachError("a connection took no answer to its Attach") from None
            self._ready(frames)(link)
        return link

    @contextlib.contextmanager
    def _lost_on_error(self, link: Link) -> Iterator[None]:
        """Leave no link in the session whose connection the shell did not get."""
        try:
            yield
        except BaseException:
            self._session.lost(link, self._clock())
            self._shell.poke()
            raise

    def _ready(self, frames: FrameStream) -> Callable[[Link], None]:
        """Return what gives a link to the shell. Raises AttachError where the peer spoke out of turn."""
        transport: Transport = frames.transport
        if not isinstance(transport, TcpTransport) or transport.kind is not TransportKind.TCP:
            return partial(self._shell.add, frames=frames)
        _, early = frames.detach()
        if early:
            raise AttachError("the other side spoke before its turn")
        return lambda link: self._shell.add_socket(link, transport.take_socket())

    # -- listening -----------------------------------------------------------------------------------------

    def _half_open(self) -> int:
        return self._answering + len(self._accepted)

    async def _listen(self, step: Listen) -> None:
        """Listen as `step` says, then tell the peer of everything that listens."""
        if not step.any:
            await self._door.close()
            return
        await self._door.open(tcp=step.tcp, quic=step.quic)
        await self._know_interfaces()
        if self._session.over:
            return
        offered = gather(
            self._own, self._door.ports, observed=_address(self._observed), one_host=self._one_host
        )
        self._session.send(Paths(self._allowed.paths, offered))
        self._shell.poke()


def _place(remote: str) -> tuple[IpAddress, int] | None:
    """Return the address and port of "host:port" or "[host]:port"; None for a name or none at all."""
    host, colon, port = remote.rpartition(":")
    try:
        return (ipaddress.ip_address(host.strip("[]")), int(port)) if colon else None
    except ValueError:
        return None


def _address(text: str | None) -> IpAddress | None:
    """Return the address in what a relay says of us, with or without a port."""
    if not text:
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        place = _place(text)
        return None if place is None else place[0]


def _import_quic() -> None:
    """Import the engine, which takes a tenth of a second, away from the loop."""
    import tallow_net.transport.quic  # noqa: F401 - loaded in a thread, used by whoever dials

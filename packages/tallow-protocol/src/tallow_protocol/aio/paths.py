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
from tallow_net.transport.interface import TransportChoice
from tallow_net.transport.tcp import TcpTransport

from tallow_protocol.aio.attaching import Attaching
from tallow_protocol.aio.dialling import (
    DIRECT_PATHS,
    FAILED_TRY,
    Dialler,
    Place,
    address_and_port,
    first_that_attaches,
)
from tallow_protocol.aio.doors import DirectDoor
from tallow_protocol.aio.network import AddressWatch
from tallow_protocol.aio.rejoin import Rejoin, RejoinRoom, found_on_lan, relay_path
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
from tallow_protocol.errors import AttachError, PeerLeftError, ProtocolError
from tallow_protocol.events import PathKind, PathLimit, Rejoining, Warned
from tallow_protocol.limits import ATTACH_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tallow_net.paths.candidates import IpAddress, IpInterface

    from tallow_protocol.aio.routes import Met
    from tallow_protocol.aio.shell import SessionShell
    from tallow_protocol.core.keeping import Step
    from tallow_protocol.core.links import Link
    from tallow_protocol.core.session import Session

__all__ = ["Allowed", "PathKeeper", "own_interfaces"]

CLOSE_S = 3.0
"""Everything of the keeper's ends within this."""

LOOK_AT_NETWORK_S = 1.0
"""How often this machine's own addresses are looked at: no message tells of them on every system."""

PLACES_WATCHED = 4
"""So many of the other side's addresses tell whether the network is another."""

SEARCH_AFTER_S = 0.3
"""The local network is searched this much after the known address was dialled, which nearly always answers."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the user allows; see TransferOptions."""

    transport: TransportChoice = TransportChoice.AUTO
    paths: PathLimit = PathLimit.ANY
    plain_data: bool = True
    listen_host: str = ""


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
        watch: AddressWatch | None = None,
    ) -> None:
        self._shell = shell
        self._session = session
        self._met = met
        self._allowed = allowed
        self._clock = clock
        self._interfaces = interfaces
        self._place = address_and_port(met.frames.transport.remote)
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
        self._answered: dict[Link, Return] = {}
        self._told_retry: tuple[float | None, float | None] | None = None
        self._distrusted = False
        self._own: Sequence[IpInterface] = ()
        self._candidates: tuple[Candidate, ...] = ()
        self._judged: Paths | None = None
        self._watch = watch or AddressWatch()
        self._looked_at = clock()
        self._attaching = Attaching(shell, session, self._watch, clock)
        self._dialler = Dialler(self._attaching)
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
        for link in self._session.links:
            self._watch.bound(link, self._met.frames.transport.local)
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
        path = DIRECT_PATHS.get(frames.transport.kind)
        if path is None or self._half_open() >= HALF_OPEN_LINKS:
            frames.transport.abort()
            return
        self._answering += 1
        try:
            link = await self._attaching.answer(frames, body, path)
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
            session.agreement.allowed,
            session.connections_wanted,
            session.agreement.theirs,
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
            self._look_at_network(now)
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
            if self._session.begun and not self._session.over:
                times.append(self._looked_at + LOOK_AT_NETWORK_S)
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
        for link in [link for link in self._answered if link.proven or link.lost]:
            self._keeping.ended(self._answered.pop(link), now)

    def _look_at_network(self, now: float) -> None:
        """Give up what is bound to an address that is gone; come back anew where the network is another."""
        if now - self._looked_at < LOOK_AT_NETWORK_S:
            return
        self._looked_at = now
        for link in self._watch.orphans():
            cause = PeerLeftError("this machine's address is another now", by="network")
            self._session.lost(link, now, cause)
            self._shell.poke()
        if not self._session.gone:
            self._watch.forget()
        elif self._watch.changed(self._hosts()):
            self._end_returns(now)
            self._keeping.network_changed(now)
            self._told_retry = None

    def _hosts(self) -> list[str]:
        """Return the addresses that lead back to the other side, as far as they are known."""
        known = [] if self._place is None else [str(self._place[0])]
        return known + [str(candidate.ip) for candidate in self._candidates[:PLACES_WATCHED]]

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
        if self._returns:
            self._end_returns(now)

    def _end_returns(self, now: float) -> None:
        for way, task in self._returns.items():
            if not task.done():
                task.cancel()
                self._keeping.ended(Return(way), now)
        self._returns.clear()
        for step in self._answered.values():
            self._keeping.ended(step, now)
        self._answered.clear()
        self._own, self._judged = (), None  # another network, perhaps

    async def _sight(self) -> Sight:
        session = self._session
        ready = session.begun and not session.over and not session.awaits_confirmation
        offered = session.agreement.theirs
        if ready and offered is not self._judged and offered is not None and offered.candidates:
            await self._know_interfaces()
            self._judged = offered
            self._candidates = acceptable(offered.candidates, self._own, self._kinds, one_host=self._one_host)
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
            link = await self._opened(step)
        except (CertificateChangedError, CertificateRefusedError) as error:
            self._distrust(error)
        except FAILED_TRY:
            pass  # a try that failed: the session goes on where it is
        now = self._clock()
        if link is None:
            self._keeping.ended(step, now)
        else:
            self._note(step, link, now)
        self._changed.set()

    async def _opened(self, step: UseToken | Dial | Return) -> Link:
        if isinstance(step, UseToken):
            return await self._use_token(step)
        if isinstance(step, Dial):
            return await self._dial(step)
        return await (self._meet_again() if step.way is Way.ROOM else self._dial_again())

    def _note(self, step: Step, link: Link, now: float) -> None:
        """Take note of a connection that attached, or was answered and has yet to be proven."""
        if not link.proven:
            self._accepted[link] = now
        if not isinstance(step, Return):
            self._open[link] = step
        elif not link.proven:
            # The next try would end this one: at a relay whoever comes again takes its own place.
            self._answered[link] = step
            return
        self._keeping.opened(step, now)

    async def _use_token(self, step: UseToken) -> Link:
        """Open a data connection through the relay: A says Attach on it, B answers."""
        address, port = self._relay_or_sender()
        token = self._tokens[step.index]
        async with asyncio.timeout(step.wait_s):
            transport = await open_data_connection(
                str(address), port, token, step.wait_s, small_segments=self._attaching.small_segments
            )
            try:
                frames = FrameStream(transport, limit=ATTACH_BYTES)
                if self._session.side is Side.A:
                    with self._attaching.number() as number:
                        return await self._attaching.ask(frames, number, PathKind.RELAY_TCP)
                return await self._attaching.answer(frames, await frames.read(), PathKind.RELAY_TCP)
            except BaseException:
                transport.abort()
                raise

    def _relay_or_sender(self) -> tuple[IpAddress, int]:
        if self._place is None:
            raise AttachError("the address of the first connection is not known")
        return self._place

    async def _meet_again(self) -> Link:
        """Meet in the relay's rejoin room: A says Attach there, B answers."""
        met = await self._room.meet(stalled=self._session.stalled)
        frames, path = met.leg.frames, relay_path(met.leg.kind)
        try:
            async with asyncio.timeout(ATTACH_WAIT_S):
                if self._session.side is Side.A:
                    with self._attaching.number() as number:
                        link = await self._attaching.ask(frames, number, path)
                else:
                    link = await self._attaching.answer(frames, await frames.read(), path)
        except BaseException:
            met.leg.transport.abort()
            raise
        self._place = address_and_port(met.leg.transport.remote) or self._place
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
        """Dial what was dialled before; beside it, whoever answers under the sender's name on this network."""
        if not self._met.path.direct:
            return await self._dialler.dial([Place.of(candidate) for candidate in self._candidates])
        address, port = self._relay_or_sender()
        tries = [self._dialler.dial([Place(kind, str(address), port) for kind in self._kinds])]
        if self._rejoin.lan_name is not None:
            tries.append(self._find_again(self._rejoin.lan_name))
        link = await first_that_attaches(tries)
        if self._dialler.good is not None:
            self._place = ipaddress.ip_address(self._dialler.good.host), self._dialler.good.port
        return link

    async def _find_again(self, lan_name: str) -> Link:
        await asyncio.sleep(SEARCH_AFTER_S)
        found = await found_on_lan(lan_name)
        return await self._dialler.dial([Place(kind, *place) for place in found for kind in self._kinds])

    async def _dial(self, step: Dial) -> Link:
        """Open a direct connection to the first of the peer's places that answers an Attach."""
        if self._met.path.direct:
            address, port = self._relay_or_sender()
            places = [Place(CandidateKind.TCP, str(address), port)]
        elif step.further and self._dialler.good is not None:
            places = [self._dialler.good]
        else:
            places = [Place.of(candidate) for candidate in self._candidates]
        return await self._dialler.dial(places)

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


def _address(text: str | None) -> IpAddress | None:
    """Return the address in what a relay says of us, with or without a port."""
    if not text:
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        place = address_and_port(text)
        return None if place is None else place[0]

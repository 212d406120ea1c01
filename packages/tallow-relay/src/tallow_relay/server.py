"""RelayServer: listens, keeps the rooms, and owns every task.

It carries out what the rooms say and holds no rule of theirs. It never dials out: every connection that it has came
in through its listener.
"""

import asyncio
import secrets
import socket
from collections.abc import Callable, Coroutine, Iterable
from typing import Self
from weakref import WeakSet

from tallow_net.errors import ConnectionLostError
from tallow_net.limits import READY_ANSWER_S, TOKEN_BYTES, TOKENS_PER_READY
from tallow_net.relay.data import DATA_PREAMBLE
from tallow_net.signaling import (
    SIGNALING_VERSION,
    Allocate,
    Call,
    Join,
    Leave,
    Restarting,
    Side,
    Welcome,
    WelcomeLimits,
)
from tallow_net.transport.certificates import Certificate
from tallow_net.transport.door import PlainDoor
from tallow_net.transport.interface import Transport, TransportKind
from tallow_net.transport.listener import Listener, listen
from tallow_net.untrusted import PeerText

from tallow_relay import logs
from tallow_relay.caps import ConnectionCaps
from tallow_relay.carriers import Engine, best_engine
from tallow_relay.config import RelayConfig
from tallow_relay.connection import ConnectionHandler
from tallow_relay.datajoin import DataSocket
from tallow_relay.datapair import DataPair, HalfOpen, HalfOpenLimits
from tallow_relay.datatokens import DataTokens
from tallow_relay.effects import (
    Called,
    Dismissed,
    Effect,
    Paired,
    RoomClosed,
    RoomCreated,
    Seated,
    Superseded,
)
from tallow_relay.errors import ListenError, RelayError, RoomRefusedError
from tallow_relay.forward import ForwardTimes, Leg, Outcome
from tallow_relay.pair import Pair
from tallow_relay.ratelimit import RateLimiter, address_key
from tallow_relay.rooms import RoomRegistry

# The clock of the rooms is looked at this often at the latest; their times are tens of seconds.
QUIC_WINDOW_BYTES = 8 * 1024 * 1024
"""What a QUIC client may have under way before the relay reads: with what is unacknowledged on the other leg, and the
engine's own copies, a pair whose receiver has stopped stays under 32 MB. Enough for 80 MB/s at 100 ms."""

TICK_S = 1.0
# Clients of a relay that restarts come back spread over this time, and try for two minutes.
RECONNECT_FIRST_MS = 500
RECONNECT_SPREAD_MS = 4_000
TRY_FOR_MS = 120_000


class SystemRandomness:
    """The operating system's random source, for the rooms."""

    def randbelow(self, bound: int, /) -> int:
        """Return a number from 0 to bound - 1."""
        return secrets.randbelow(bound)

    def token(self) -> bytes:
        """Return 16 random bytes."""
        return secrets.token_bytes(16)


class _Gate:
    """The listener's view of the caps."""

    def __init__(self, caps: ConnectionCaps) -> None:
        self._caps = caps

    def admit(self, address: str) -> bool:
        return self._caps.admit(address_key(address))

    def established(self, address: str) -> None:
        self._caps.established(address_key(address))

    def gone(self, address: str) -> None:
        self._caps.gone(address_key(address))


class RelayServer:
    """One relay. `async with` starts it and ends it within a bound; `drain` ends it politely before that.

    `times`, `ready_answer_s` and `half_open` are the wire's deadlines and limits; tests shorten them. `engine` moves
    the bytes of data connections; without one it is the system's best.
    """

    def __init__(
        self,
        config: RelayConfig,
        certificate: Certificate,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        times: ForwardTimes | None = None,
        ready_answer_s: float = READY_ANSWER_S,
        half_open: HalfOpenLimits | None = None,
        engine: Engine | None = None,
    ) -> None:
        self._config = config
        self._certificate = certificate
        self._place = (host, port)
        self._times = times
        self._ready_answer_s = ready_answer_s
        self._registry = RoomRegistry(config.room_limits, SystemRandomness())
        self._limiter = RateLimiter(config.rate_limits)
        self._caps = ConnectionCaps(config.cap_limits)
        self._tokens = DataTokens()
        self._half_open = HalfOpen(half_open or HalfOpenLimits())
        self._engine = engine or best_engine()
        self._listener: Listener | None = None
        self._handlers: dict[int, ConnectionHandler] = {}
        self._pairs: dict[int, Pair] = {}
        self._pair_of: dict[int, Pair] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._transports: WeakSet[Transport] = WeakSet()
        self._next_number = 1
        self._wake = asyncio.Event()
        self._draining = False

    # -- life ---------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        host, port = self._place
        try:
            self._listener = await listen(
                host,
                port,
                tcp=TransportKind.TLS,
                quic=True,
                certificate=self._certificate,
                gate=_Gate(self._caps),
                quic_window=QUIC_WINDOW_BYTES,
                door=PlainDoor(DATA_PREAMBLE, TOKEN_BYTES, self._enter),
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise ListenError(
                f"{host}:{port} cannot be listened on: {reason}",
                hints=(
                    "another program may use the port (TCP and UDP are both needed)",
                    "ports under 1024 need CAP_NET_BIND_SERVICE",
                ),
            ) from None
        self._spawn(self._accept(self._listener))
        self._spawn(self._keep_time())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._draining = True
        if self._listener is not None:
            await self._listener.close()
        for task in list(self._tasks):
            task.cancel()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        # A task that was cancelled before its first step has closed nothing.
        for transport in list(self._transports):
            transport.abort()
        for pair in list(self._pairs.values()):
            pair.data.abort()
        self._engine.close()

    async def drain(self, grace_s: float) -> None:
        """Take no newcomer, send who waits away, and let the pairs end within `grace_s`."""
        self._draining = True
        if self._listener is not None:
            await self._listener.close()
        for handler in list(self._handlers.values()):
            # A client that was told Ready takes whatever comes for its peer's.
            if handler.number not in self._pair_of:
                delay_ms = RECONNECT_FIRST_MS + secrets.randbelow(RECONNECT_SPREAD_MS)
                handler.post(Restarting(delay_ms, TRY_FOR_MS))
                handler.hang_up()
        try:
            async with asyncio.timeout(grace_s):
                await self._idle()
        except TimeoutError:
            for pair in list(self._pairs.values()):
                pair.stop()
        await self._idle()

    async def _idle(self) -> None:
        while self._pairs or self._handlers:
            self._wake.clear()
            await self._wake.wait()

    @property
    def port(self) -> int:
        """The port number of TCP and UDP."""
        if self._listener is None:
            raise RelayError("the relay does not listen yet")
        return self._listener.port

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """What it listens on."""
        return () if self._listener is None else self._listener.addresses

    @property
    def connections(self) -> int:
        """The connections that stand now, handshakes included."""
        return self._caps.connections

    @property
    def pairs(self) -> int:
        """The pairs that stand now."""
        return len(self._pairs)

    @property
    def half_open(self) -> int:
        """The data connections that wait for their other half now."""
        return self._half_open.count

    @property
    def waiting(self) -> int:
        """The connections that wait now."""
        return len(self._registry.waiting)

    # -- tasks --------------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logs.internal_error(error)

    async def _accept(self, listener: Listener) -> None:
        while True:
            try:
                transport = await listener.accept()
            except ConnectionLostError:
                return
            self._transports.add(transport)
            self._spawn(self._serve(transport))

    async def _serve(self, transport: Transport) -> None:
        number, self._next_number = self._next_number, self._next_number + 1
        key = address_key(_host_of(transport.remote))
        handler = ConnectionHandler(
            number, transport, self, key=key, first_frame_s=self._config.first_frame_s
        )
        refusal: RoomRefusedError | None = None
        try:
            self._caps.check(key)
        except RoomRefusedError as error:
            refusal = error
            logs.event("connection_refused", reason=error.code)
        self._handlers[number] = handler
        try:
            await handler.run(refusal)
        except BaseException:
            transport.abort()
            raise
        finally:
            self._handlers.pop(number, None)
            self._wake.set()

    def _enter(self, sock: socket.socket, host: str, token: bytes, gone: Callable[[], None]) -> None:
        """Take a data connection: join it, let it wait for its other half, or close it without a word."""
        key = address_key(host)
        end = DataSocket(sock, key, gone)
        try:
            self._caps.check(key)
        except RoomRefusedError as error:
            logs.event("connection_refused", reason=error.code)
            end.close()
            return
        place = self._tokens.take(token)
        pair = self._pairs.get(place.pair) if place is not None else None
        if place is None or pair is None:
            end.close()
        else:
            pair.data.enter(place.side, place.index, end)

    async def _keep_time(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(self._until_next(clock()))
            self._carry_out(self._registry.expire(now=clock()))
            self._limiter.forget(now=clock())

    def _until_next(self, now: float) -> float:
        due = self._registry.next_deadline()
        return TICK_S if due is None else min(TICK_S, max(0.01, due - now))

    async def _run_pair(self, pair: Pair, numbers: tuple[int, int]) -> None:
        outcome = Outcome.INTERNAL
        try:
            outcome = await pair.run()
        except asyncio.CancelledError:
            outcome = Outcome.SHUTDOWN
            raise
        finally:
            for number in numbers:
                self._pair_of.pop(number, None)
            self._pairs.pop(pair.number, None)
            self._limiter.pair_ended(pair.number)
            self._pair_ending(pair.number)
            logs.event("room_closed", room=pair.room, bytes=pair.bytes_moved, outcome=outcome.value)
            self._wake.set()

    # -- what handlers ask (Hub) --------------------------------------------------------------------------

    def welcome(self, remote: str) -> Welcome:
        """Return the first message for a client at `remote`."""
        config = self._config
        limits = WelcomeLimits(config.in_flight_bytes, config.max_wait_s, config.rooms_per_connection)
        return Welcome((SIGNALING_VERSION,), limits, PeerText(config.notice), PeerText(remote))

    def join(self, handler: ConnectionHandler, message: Join) -> None:
        """Let it wait or be joined; raises RoomRefusedError."""
        self._admit(handler, len(message.room_ids))
        if message.lease is None:
            raise RoomRefusedError("bad_request", "a Join to a relay shows a lease")
        effects = self._registry.join(
            handler.number,
            message.room_ids,
            message.side,
            message.lease,
            wait=message.wait,
            now=self._now(),
        )
        self._carry_out(effects)

    def allocate(self, handler: ConnectionHandler, message: Allocate) -> str:
        """Return a nameplate; raises RoomRefusedError."""
        self._admit(handler, 1)
        nameplate, effects = self._registry.allocate(message.lease, now=self._now())
        self._carry_out(effects)
        return nameplate

    def leave(self, handler: ConnectionHandler, message: Leave) -> None:
        """Give up a side of a room."""
        effects = self._registry.leave(
            handler.number, message.room_id, message.lease, message.reason, now=self._now()
        )
        self._carry_out(effects)
        if self._registry.rooms_of(handler.number) == 0:
            handler.left_room()

    def keep_alive(self, handler: ConnectionHandler) -> None:
        """Note that it was heard of."""
        self._registry.keep_alive(handler.number, now=self._now())

    def ready(self, handler: ConnectionHandler, leg: Leg) -> None:
        """Take the transport of a client that answered Ready."""
        pair = self._pair_of.get(handler.number)
        if pair is None:
            leg.transport.abort()
        else:
            pair.ready(handler, leg)

    def disconnected(self, handler: ConnectionHandler) -> None:
        """Take it out of its rooms, or out of its pair."""
        self._carry_out(self._registry.disconnected(handler.number, now=self._now()))
        pair = self._pair_of.get(handler.number)
        if pair is not None:
            pair.failed(Outcome.LOST)

    # -- what the rooms say -------------------------------------------------------------------------------

    def _admit(self, handler: ConnectionHandler, rooms: int) -> None:
        if self._draining:
            raise RoomRefusedError("relay_closing", "the relay is going down", retry_after_s=5)
        wait_s = self._limiter.join(handler.key, rooms, now=self._now())
        if wait_s > 0:
            logs.event("join_refused", reason="rate_limited")
            retry_after_s = int(wait_s) + 1
            raise RoomRefusedError("rate_limited", "too many joins from here", retry_after_s=retry_after_s)

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Paired():
                    self._start_pair(effect)
                case Superseded(number, side):
                    if (pair := self._pairs.get(number)) is not None:
                        pair.supersede(side)
                case RoomCreated(room):
                    logs.event("room_created", room=room)
                case RoomClosed(room, outcome):
                    logs.event("room_closed", room=room, bytes=0, outcome=outcome)
                case _:
                    self._tell(effect)

    def _tell(self, effect: Seated | Called | Dismissed) -> None:
        handler = self._handlers.get(effect.connection)
        if handler is None:
            return
        match effect:
            case Seated():
                handler.seated()
            case Called(_, room_id, token):
                handler.post(Call(room_id, token))
            case Dismissed(_, code):
                handler.end(code)

    def _start_pair(self, effect: Paired) -> None:
        number, a, b = effect.pair, effect.a, effect.b
        handlers = {Side.A: self._handlers[a], Side.B: self._handlers[b]}
        keys = frozenset(handler.key for handler in handlers.values())
        data = DataPair(
            self._engine,
            self._half_open,
            charger=lambda others: self._charger(number, keys | others),
            on_sealed=lambda: self._tokens.forget(number),
            times=self._times,
            turn_bytes=self._config.turn_bytes,
        )
        pair = Pair(
            number,
            effect.room,
            handlers,
            data,
            charge=self._charger(number, keys),
            on_ending=lambda: self._pair_ending(number),
            times=self._times,
            ready_answer_s=self._ready_answer_s,
        )
        self._pairs[number] = self._pair_of[a] = self._pair_of[b] = pair
        logs.event("room_paired", room=effect.room)
        tokens = self._draw_tokens(number)
        for side, handler in handlers.items():
            handler.ready(tokens[side])
        self._spawn(self._run_pair(pair, (a, b)))

    def _draw_tokens(self, number: int) -> dict[Side, tuple[bytes, ...]]:
        if not self._config.data_connections:
            return dict.fromkeys(Side, ())
        tokens = {
            side: tuple(secrets.token_bytes(TOKEN_BYTES) for _ in range(TOKENS_PER_READY)) for side in Side
        }
        self._tokens.add(number, tokens)
        return tokens

    def _charger(self, number: int, keys: frozenset[str]) -> "_Charger | None":
        return _Charger(self._limiter, number, keys) if self._limiter.limits_bytes else None

    def _pair_ending(self, number: int) -> None:
        self._carry_out(self._registry.pair_ended(number, now=self._now()))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


class _Charger:
    """Charges the bytes of one pair to the limiter."""

    def __init__(self, limiter: RateLimiter, number: int, keys: frozenset[str]) -> None:
        self._limiter = limiter
        self._number = number
        self._keys = keys

    def __call__(self, count: int) -> float:
        now = asyncio.get_running_loop().time()
        return self._limiter.charge(self._number, self._keys, count, now=now)


def _host_of(remote: str) -> str:
    """Return the host of "host:port" or "[host]:port"."""
    return remote.rpartition(":")[0].strip("[]")

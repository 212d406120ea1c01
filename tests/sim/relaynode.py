"""A relay: the rooms that the real one runs, one connection after the other, and bytes passed on with bounded buffers."""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING

from tallow_net.errors import PeerViolationError
from tallow_net.framing import FrameDecoder, encode_frame
from tallow_net.limits import (
    HALF_CLOSE_S,
    PAIR_IDLE_S,
    READY_ANSWER_S,
    SIGNALING_FRAME_BYTES,
    TOKENS_PER_READY,
)
from tallow_net.signaling import (
    Allocate,
    Allocated,
    Call,
    ErrorCode,
    Join,
    KeepAlive,
    Leave,
    Left,
    Ready,
    Side,
    SignalingError,
    Waiting,
    Welcome,
    WelcomeLimits,
    decode,
    encode,
)
from tallow_relay.datatokens import DataTokens, TokenPlace
from tallow_relay.effects import Called, Dismissed, Effect, Paired, Seated, Superseded
from tallow_relay.errors import RoomRefusedError
from tallow_relay.rooms import RoomLimits, RoomRegistry

from tests.sim.wire import CAPACITY
from tests.sim.world import BrokenRuleError

if TYPE_CHECKING:
    from tallow_net.signaling import SignalingMessage

    from tests.sim.wire import End
    from tests.sim.world import World


class _Randomness:
    """The registry's source: seeded by the world's count, not by its tape."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._source = random.Random(7)

    def randbelow(self, bound: int, /) -> int:
        return self._source.randrange(bound)

    def token(self) -> bytes:
        return self._world.fresh(16)


class _Client:
    """One connection, until it is joined with another and after that."""

    def __init__(self, relay: RelayNode, number: int, end: End) -> None:
        self.relay = relay
        self.number = number
        self.end = end
        self.decoder = FrameDecoder(SIGNALING_FRAME_BYTES)
        self.pair: _Pair | None = None
        self.ready = False
        self.waiting: deque[bytes] = deque()
        self.over = False
        end.on_data = self.data
        end.on_end = self.ended
        end.on_room = self.flush
        self.say(Welcome(limits=WelcomeLimits(in_flight_bytes=relay.in_flight_bytes)))

    def say(self, message: SignalingMessage) -> None:
        self.end.write(encode_frame(encode(message)))

    def data(self, data: bytes) -> None:
        if self.over:
            return
        if self.ready:
            self.pair.moved(self, data)
            return
        self.decoder.push(data)
        try:
            while not self.over and not self.ready and (body := self.decoder.pop()) is not None:
                self.relay.take(self, decode(body))
        except RoomRefusedError as error:
            self.refuse(error.code, error.retry_after_s)
        except PeerViolationError:
            self.refuse("bad_request", None)
        if self.ready and not self.over and (rest := self.decoder.pending):
            self.decoder.push(b"")
            self.pair.moved(self, rest)

    def refuse(self, code: str, retry_after_s: int | None) -> None:
        self.say(SignalingError(ErrorCode[code.upper()], retry_after_s))
        self.gone()
        self.end.close()

    def gone(self) -> None:
        if not self.over:
            self.over = True
            self.relay.gone(self)

    def ended(self, cut: bool) -> None:
        if self.pair is not None and self.ready and not self.over:
            self.pair.half_ended(self, cut=cut)
            return
        self.gone()
        self.end.close()

    def pass_on(self, data: bytes) -> None:
        """Send what the other side sent, at the pace of this wire."""
        self.waiting.append(data)
        self.flush()

    @property
    def buffered(self) -> int:
        return sum(map(len, self.waiting))

    def flush(self) -> None:
        while self.waiting and self.end.room:
            self.end.write(self.waiting.popleft())
        if self.pair is not None:
            self.pair.flushed(self)


class _Pair:
    """Two clients, from Ready to the end of their bytes."""

    def __init__(self, relay: RelayNode, number: int, a: _Client, b: _Client) -> None:
        self.relay = relay
        self.number = number
        self.clients = (a, b)
        self.ending: set[_Client] = set()
        self.moved_at = relay.world.now
        for client in self.clients:
            client.pair = self
        tokens = {side: tuple(relay.world.fresh(32) for _ in range(TOKENS_PER_READY)) for side in Side}
        relay.tokens.add(number, tokens)
        a.say(Ready(tokens[Side.A]))
        b.say(Ready(tokens[Side.B]))
        relay.world.after(READY_ANSWER_S, self.unready)
        relay.world.after(PAIR_IDLE_S, self.idle)

    def other(self, client: _Client) -> _Client:
        return self.clients[1] if client is self.clients[0] else self.clients[0]

    def unready(self) -> None:
        if not all(client.ready or client.over for client in self.clients):
            self.end()

    def idle(self) -> None:
        if any(not client.over for client in self.clients):
            left = self.moved_at + PAIR_IDLE_S - self.relay.world.now
            if left <= 0.001:
                self.end()
            else:
                self.relay.world.after(left, self.idle)

    def moved(self, client: _Client, data: bytes) -> None:
        self.moved_at = self.relay.world.now
        other = self.other(client)
        other.pass_on(data)
        if other.buffered >= CAPACITY and not other.over:
            client.end.pause()
        if other.buffered > 2 * CAPACITY + len(data):
            raise BrokenRuleError("a relay's buffers are bounded", f"{other.buffered} bytes")

    def flushed(self, client: _Client) -> None:
        other = self.other(client)
        if client.buffered < CAPACITY:
            other.end.resume()
        if not client.waiting and other in self.ending:
            client.end.finish()
            if client in self.ending:
                self.end()

    def half_ended(self, client: _Client, *, cut: bool) -> None:
        self.ending.add(client)
        self.relay.carry_out(self.relay.rooms.pair_ended(self.number, now=self.relay.world.now))
        self.flushed(self.other(client))
        self.relay.world.after(5.0 if cut else HALF_CLOSE_S, self.end)

    def end(self) -> None:
        self.relay.tokens.forget(self.number)
        for client in self.clients:
            if not client.over:
                client.over = True
                client.end.close()
        self.relay.carry_out(self.relay.rooms.pair_ended(self.number, now=self.relay.world.now))


class RelayNode:
    """Rooms and pairs; a crash forgets all of them and cuts every wire."""

    def __init__(self, world: World, *, in_flight_bytes: int) -> None:
        self.world = world
        self.in_flight_bytes = in_flight_bytes
        self.up = False
        self._numbers = 0
        self.start()

    def start(self) -> None:
        """Come up with empty rooms."""
        self.up = True
        self.rooms = RoomRegistry(RoomLimits(), _Randomness(self.world))
        self._clients: dict[int, _Client] = {}
        self._pairs: dict[int, _Pair] = {}
        self._deadline_at: float | None = None
        self.tokens = DataTokens()
        self._used: set[TokenPlace] = set()
        self._data: dict[tuple[int, int], End] = {}

    def crash(self) -> None:
        """Die: every wire is reset."""
        self.up = False
        for client in list(self._clients.values()):
            client.over = True
            client.end.abort()
        for pair in list(self._pairs.values()):
            for client in pair.clients:
                client.over = True
                client.end.abort()

    def connect(self, end: End) -> None:
        """Serve a new connection."""
        self._numbers += 1
        self._clients[self._numbers] = _Client(self, self._numbers, end)

    def join_data(self, end: End, token: bytes) -> None:
        """Join two data connections whose tokens belong together; nothing is said to either."""
        place = self.tokens.take(token) if self.up else None
        if place is None:
            end.abort()
            return
        if place in self._used:
            raise BrokenRuleError("a token opens one connection", f"{place}")
        self._used.add(place)
        other = self._data.pop((place.pair, place.index), None)
        if other is None:
            self._data[place.pair, place.index] = end
            end.pause()
            return
        for one, two in ((end, other), (other, end)):
            one.on_data = two.write
            one.on_end = lambda cut, two=two: two.close()
            one.resume()

    def take(self, client: _Client, message: SignalingMessage) -> None:
        """Do what a client asks."""
        rooms, now = self.rooms, self.world.now
        match message:
            case Join() if client.pair is None and message.lease is not None:
                effects = rooms.join(
                    client.number, message.room_ids, message.side, message.lease, wait=message.wait, now=now
                )
                self.carry_out(effects)
            case Allocate() if client.pair is None:
                nameplate, effects = rooms.allocate(message.lease, now=now)
                client.say(Allocated(nameplate))
                self.carry_out(effects)
            case Leave():
                effects = rooms.leave(client.number, message.room_id, message.lease, message.reason, now=now)
                # Behind Ready a client takes every byte for its peer's: nothing is answered there.
                if client.pair is None:
                    client.say(Left())
                else:
                    self.world.after(0.0, client.pair.end)
                self.carry_out(effects)
            case KeepAlive() if client.pair is not None:
                pass  # it was under way when Ready was sent
            case KeepAlive():
                rooms.keep_alive(client.number, now=now)
                client.say(KeepAlive())
            case Ready() if client.pair is not None:
                client.ready = True
                self._clients.pop(client.number, None)
            case _:
                raise RoomRefusedError("bad_request", "not here")
        self._rearm()

    def carry_out(self, effects: list[Effect]) -> None:
        """Do what the rooms ask."""
        for effect in effects:
            match effect:
                case Seated():
                    self._clients[effect.connection].say(Waiting())
                case Paired():
                    pair = _Pair(self, effect.pair, self._clients[effect.a], self._clients[effect.b])
                    self._pairs[effect.pair] = pair
                case Called():
                    self._clients[effect.connection].say(Call(effect.room_id, effect.token))
                case Dismissed():
                    client = self._clients.get(effect.connection)
                    if client is not None:
                        client.refuse(effect.code, None)
                case Superseded():
                    self._supersede(effect)
                case _:
                    pass

    def _supersede(self, effect: Superseded) -> None:
        pair = self._pairs.get(effect.pair)
        if pair is not None:
            self.world.after(0.0, pair.end)

    def gone(self, client: _Client) -> None:
        """Take a client out of its rooms or out of its pair."""
        self._clients.pop(client.number, None)
        if client.pair is not None:
            self.world.after(0.0, client.pair.end)
        else:
            self.carry_out(self.rooms.disconnected(client.number, now=self.world.now))
        self._rearm()

    def _rearm(self) -> None:
        deadline = self.rooms.next_deadline()
        if deadline is None or (self._deadline_at is not None and self._deadline_at <= deadline):
            return
        self._deadline_at = deadline
        rooms = self.rooms
        self.world.at(deadline, lambda: self._due(rooms))

    def _due(self, rooms: RoomRegistry) -> None:
        if rooms is not self.rooms or not self.up:
            return
        self._deadline_at = None
        self.carry_out(rooms.expire(now=self.world.now))
        self._rearm()


def other_side(side: Side) -> Side:
    """Return the other one."""
    return Side.B if side is Side.A else Side.A

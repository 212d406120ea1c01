"""ConnectionHandler: one client, from Welcome until it is forwarded, refused or gone.

It reads one frame after the other, checks that the frame has a place here, and asks the rooms. It holds no rule of
the rooms, and after Ready it gives its transport away.

    GREETED   no frame yet: 10 s for the first one
    TALKING   has said something, waits in no room: 60 s for the next frame
    WAITING   waits in one room or more
    READYING  was told Ready and has not answered
    ENDED     refused, left, or handed over
"""

import asyncio
from collections import deque
from enum import Enum
from typing import Protocol

from tallow_net.errors import ConnectionLostError, MalformedMessageError, NetError, PeerViolationError
from tallow_net.limits import ROOM_SILENCE_S, SIGNALING_FRAME_BYTES
from tallow_net.signaling import (
    SIGNALING_VERSION,
    Allocate,
    Allocated,
    ErrorCode,
    Join,
    KeepAlive,
    Leave,
    Left,
    Ready,
    SignalingError,
    SignalingMessage,
    Waiting,
    Welcome,
    decode,
    encode,
)
from tallow_net.transport.frames import FrameStream
from tallow_net.transport.interface import Transport

from tallow_relay.errors import RoomRefusedError
from tallow_relay.forward import Leg
from tallow_relay.ratelimit import TokenBucket

# A client says a handful of things and then a keep-alive every 20 s; a listener says one Join more an hour.
FRAMES_PER_S = 5.0
FRAMES_BURST = 50.0
# A client that does not read for so long what it was told is not there.
WRITE_S = 10.0


class ConnectionState(Enum):
    """Where a client stands; see the module."""

    GREETED = "greeted"
    TALKING = "talking"
    WAITING = "waiting"
    READYING = "readying"
    ENDED = "ended"


_G, _T, _W, _R = (
    ConnectionState.GREETED,
    ConnectionState.TALKING,
    ConnectionState.WAITING,
    ConnectionState.READYING,
)
# Which message has a place in which state; all others end the connection with bad_request. A keep-alive or a Leave
# may be under way when Ready is sent, so READYING takes them too.
PLACES: dict[type[SignalingMessage], frozenset[ConnectionState]] = {
    Join: frozenset({_G, _T, _W}),
    Allocate: frozenset({_G, _T}),
    Leave: frozenset({_G, _T, _W, _R}),
    KeepAlive: frozenset({_G, _T, _W, _R}),
    Ready: frozenset({_R}),
}


class Hub(Protocol):
    """What a handler asks of the server, which owns the rooms."""

    def welcome(self, remote: str) -> Welcome:
        """Return the first message for a client at `remote`."""

    def join(self, handler: "ConnectionHandler", message: Join) -> None:
        """Let it wait or be joined; raises RoomRefusedError."""

    def allocate(self, handler: "ConnectionHandler", message: Allocate) -> str:
        """Return a nameplate; raises RoomRefusedError."""

    def leave(self, handler: "ConnectionHandler", message: Leave) -> None:
        """Give up a side of a room."""

    def keep_alive(self, handler: "ConnectionHandler") -> None:
        """Note that it was heard of."""

    def ready(self, handler: "ConnectionHandler", leg: Leg) -> None:
        """Take the transport of a client that answered Ready."""

    def disconnected(self, handler: "ConnectionHandler") -> None:
        """Take it out of its rooms, or out of its pair."""


class ConnectionHandler:
    """Serves one connection. `number` names it to the rooms; `key` is its address for the limits."""

    def __init__(
        self, number: int, transport: Transport, hub: Hub, *, key: str, first_frame_s: float
    ) -> None:
        self.number = number
        self.key = key
        self.remote = transport.remote
        self.state = ConnectionState.GREETED
        self._transport = transport
        self._frames = FrameStream(transport, limit=SIGNALING_FRAME_BYTES)
        self._hub = hub
        self._first_frame_s = first_frame_s
        self._outbox: deque[bytes] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._deadline: asyncio.Timeout | None = None

    async def run(self, refusal: RoomRefusedError | None = None) -> None:
        """Serve until the client is handed over or gone; then nothing of it is left here.

        With `refusal` the client hears only Welcome and that.
        """
        now = asyncio.get_running_loop().time()
        try:
            self.post(self._hub.welcome(self.remote))
            if refusal is not None:
                self.end(refusal.code, refusal.retry_after_s)
            else:
                async with asyncio.timeout_at(now + self._first_frame_s) as self._deadline:
                    await self._converse(TokenBucket.full(FRAMES_PER_S, FRAMES_BURST, now=now))
        except (ConnectionLostError, TimeoutError):
            if self._ending is None:
                self._transport.abort()
        except RoomRefusedError as error:
            self.end(error.code, error.retry_after_s)
        except PeerViolationError:
            self.end("bad_request")
        finally:
            await self._leave_the_stage()

    def post(self, message: SignalingMessage) -> None:
        """Send a message soon, after those that were posted before; never waits, never fails."""
        if self._ending is None and self.state is not ConnectionState.ENDED:
            self._outbox.append(encode(message))
            if self._writer is None or self._writer.done():
                self._writer = asyncio.get_running_loop().create_task(self._write())

    def seated(self) -> None:
        """Tell the client that it waits; from here the rooms keep its time."""
        self.state = ConnectionState.WAITING
        self._reschedule(None)
        self.post(Waiting())

    def ready(self, tokens: tuple[bytes, ...]) -> None:
        """Tell the client that both stand in the room; from here the pair keeps its time."""
        self.state = ConnectionState.READYING
        self._reschedule(None)
        self.post(Ready(tokens))

    def end(self, code: str, retry_after_s: int = 0) -> None:
        """Tell the client why, and close; at once after what was posted before."""
        # Behind Ready the client takes every byte for its peer's.
        if self.state is not ConnectionState.READYING:
            self.post(SignalingError(ErrorCode[code.upper()], retry_after_s or None))
        self.hang_up()

    def hang_up(self) -> None:
        """Close after what was posted."""
        if self._ending is None and self.state is not ConnectionState.ENDED:
            self._ending = asyncio.get_running_loop().create_task(self._close())

    async def _converse(self, frames: TokenBucket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            body = await self._frames.read()
            if body is None:
                return
            if frames.take(1, now=loop.time()) > 0:
                raise RoomRefusedError("rate_limited", "too many frames", retry_after_s=60)
            message = decode(body)
            if self.state not in PLACES.get(type(message), ()):
                raise MalformedMessageError("this message has no place here")
            if isinstance(message, Ready):
                await self._hand_over(message)
                return
            self._heard()
            self._answer(message)
            # Who does not read its answers is not heard either.
            await self._written()

    def _heard(self) -> None:
        if self.state in (ConnectionState.GREETED, ConnectionState.TALKING):
            self.state = ConnectionState.TALKING
            self._reschedule(asyncio.get_running_loop().time() + ROOM_SILENCE_S)

    def _answer(self, message: SignalingMessage) -> None:
        readying = self.state is ConnectionState.READYING
        if isinstance(message, Join):
            _check_version(message.version)
            if message.lease is None:
                raise RoomRefusedError("bad_request", "a Join to a relay shows a lease")
            self._hub.join(self, message)
        elif isinstance(message, Allocate):
            _check_version(message.version)
            self.post(Allocated(self._hub.allocate(self, message)))
        elif isinstance(message, Leave):
            self._hub.leave(self, message)
            # Behind Ready the client takes every byte for its peer's: no answer, and the pair is over.
            if readying:
                raise ConnectionLostError("the client left while it was being joined", by="peer")
            self.post(Left())
        elif isinstance(message, KeepAlive) and not readying:
            self._hub.keep_alive(self)
            self.post(KeepAlive())

    async def _hand_over(self, answer: Ready) -> None:
        if answer.tokens is not None:
            raise MalformedMessageError("a client's Ready is empty")
        await self._written()
        transport, leftover = self._frames.detach()
        if self._ending is None:
            self.state = ConnectionState.ENDED
            self._hub.ready(self, Leg(transport, leftover))

    def left_room(self) -> None:
        """Note that the client waits nowhere any more, by its own wish."""
        if self.state is ConnectionState.WAITING:
            self.state = ConnectionState.TALKING
            self._reschedule(asyncio.get_running_loop().time() + ROOM_SILENCE_S)

    def _reschedule(self, when: float | None) -> None:
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(when)

    async def _written(self) -> None:
        if self._writer is not None:
            await asyncio.shield(self._writer)

    async def _write(self) -> None:
        try:
            async with asyncio.timeout(WRITE_S):
                while self._outbox:
                    await self._frames.write(self._outbox.popleft())
        except (NetError, TimeoutError):
            self._outbox.clear()
            self._transport.abort()

    async def _close(self) -> None:
        await self._written()
        await self._transport.close()

    async def _leave_the_stage(self) -> None:
        handed_over = self.state is ConnectionState.ENDED
        self.state = ConnectionState.ENDED
        if handed_over:
            return
        self._hub.disconnected(self)
        try:
            await (self._ending if self._ending is not None else self._close())
        except asyncio.CancelledError:
            self._transport.abort()
            raise


def _check_version(version: int) -> None:
    if version != SIGNALING_VERSION:
        raise RoomRefusedError("version", f"this relay speaks version {SIGNALING_VERSION}, not {version}")

"""A relay in this process and clients that speak signaling by hand, over real sockets."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache

from tallow_net.errors import ConnectionLostError
from tallow_net.limits import SIGNALING_FRAME_BYTES
from tallow_net.signaling import (
    Join,
    Ready,
    Side,
    SignalingError,
    SignalingMessage,
    Waiting,
    Welcome,
    decode,
    encode,
)
from tallow_net.transport.certificates import Certificate, generate_certificate
from tallow_net.transport.frames import FrameStream
from tallow_net.transport.interface import Transport, TransportChoice
from tallow_net.transport.negotiate import connect_encrypted
from tallow_relay.carriers import Engine
from tallow_relay.config import RelayConfig
from tallow_relay.datapair import HalfOpenLimits
from tallow_relay.forward import ForwardTimes
from tallow_relay.server import RelayServer

QUIC = TransportChoice.QUIC
TCP = TransportChoice.TCP
BOTH = (QUIC, TCP)
LEGS = [(a, b) for a in BOTH for b in BOTH]
DEADLINE_S = 20.0
STILL_S = 0.5


@cache
def certificate() -> Certificate:
    return generate_certificate("tallow-relay")


@asynccontextmanager
async def relay(
    *,
    host: str = "127.0.0.1",
    times: ForwardTimes | None = None,
    ready_answer_s: float = 10.0,
    half_open: HalfOpenLimits | None = None,
    engine: Engine | None = None,
    **settings: int | str | bool,
) -> AsyncIterator[RelayServer]:
    config = RelayConfig(**settings)
    server = RelayServer(
        config,
        certificate(),
        host=host,
        times=times,
        ready_answer_s=ready_answer_s,
        half_open=half_open,
        engine=engine,
    )
    async with asyncio.timeout(100), server:
        yield server


class Client:
    """One connection to a relay. `hear` takes the next message but Welcome, which it keeps aside."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.frames = FrameStream(transport, limit=SIGNALING_FRAME_BYTES)
        self.welcome: Welcome | None = None
        self.tokens: tuple[bytes, ...] = ()

    def take_tokens(self, message: SignalingMessage | None) -> None:
        """Check that the message is the relay's Ready, and keep its tokens."""
        assert isinstance(message, Ready)
        assert message.tokens is not None
        self.tokens = message.tokens

    async def say(self, *messages: SignalingMessage) -> None:
        for message in messages:
            await self.frames.write(encode(message))

    async def hear(self) -> SignalingMessage | None:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                body = await self.frames.read()
                message = None if body is None else decode(body)
                if not isinstance(message, Welcome):
                    return message
                self.welcome = message

    async def join(self, room: bytes, side: Side, *, lease: bytes | None = None, wait: bool = False):
        await self.say(Join(1, (room,), side, lease or os.urandom(16), wait))
        return await self.hear()

    async def refusal(self, *messages: SignalingMessage) -> SignalingError:
        """Say the messages, and return the Error that ends the connection."""
        await self.say(*messages)
        answer = await self.hear()
        assert isinstance(answer, SignalingError), answer
        assert await self.hear() is None
        return answer

    async def hear_end(self) -> bool:
        """Wait until the relay ends this connection without another word than Welcome."""
        try:
            return await self.hear() is None
        except ConnectionLostError:
            return True

    async def is_over(self) -> bool:
        """Wait until the relay ends this connection, whatever way."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                return await self.transport.receive_into(memoryview(bytearray(1))) == 0
            except ConnectionLostError:
                return True


@asynccontextmanager
async def client(port: int, choice: TransportChoice = TCP, host: str = "127.0.0.1") -> AsyncIterator[Client]:
    transport = await connect_encrypted(host, port, choice=choice, timeout_s=DEADLINE_S, check=lambda _: None)
    async with transport:
        yield Client(transport)


@asynccontextmanager
async def paired(
    port: int, choices: tuple[TransportChoice, TransportChoice] = (TCP, TCP), *, answer: bool = True
) -> AsyncIterator[tuple[Client, Client]]:
    """Two clients that stand in one room and, with `answer`, have answered Ready."""
    room = os.urandom(32)
    async with client(port, choices[0]) as a, client(port, choices[1]) as b:
        assert await a.join(room, Side.A) == Waiting()
        b.take_tokens(await b.join(room, Side.B))
        a.take_tokens(await a.hear())
        if answer:
            await a.say(Ready())
            await b.say(Ready())
        yield a, b


async def receive_exactly(transport: Transport, size: int) -> bytes:
    data = bytearray(size)
    view = memoryview(data)
    filled = 0
    async with asyncio.timeout(60):
        while filled < size:
            count = await transport.receive_into(view[filled:])
            assert count, f"the stream ended after {filled} of {size} bytes"
            filled += count
    return bytes(data)


async def receive_all(transport: Transport) -> bytes:
    data = bytearray()
    view = memoryview(bytearray(1 << 18))
    async with asyncio.timeout(60):
        while count := await transport.receive_into(view):
            data += view[:count]
    return bytes(data)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a figure of the relay, which runs in this loop, is what is asked for."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110  (a figure has no event)
            await asyncio.sleep(0.005)


async def until_still(figure: Callable[[], int]) -> None:
    """Wait until a figure has not changed for a while: whatever made it grow waits for somebody who does nothing."""
    loop = asyncio.get_running_loop()
    seen, since = figure(), loop.time()
    async with asyncio.timeout(60):
        while loop.time() < since + STILL_S:
            await asyncio.sleep(0.005)
            if (now := figure()) != seen:
                seen, since = now, loop.time()

"""A relay in memory that follows a script, one entry a connection."""

import asyncio

from tallow_net.limits import SIGNALING_FRAME_BYTES
from tallow_net.signaling import Join, KeepAlive, Ready, Waiting, Welcome, decode, encode
from tallow_net.transport.frames import FrameStream
from tallow_net.transport.memory import memory_pair

ROOM = b"r" * 32
LEASE = b"l" * 16


def now():
    return asyncio.get_running_loop().time()


class RelaySide:
    """The relay's end of one connection."""

    def __init__(self, transport):
        self.transport = transport
        self.frames = FrameStream(transport, limit=SIGNALING_FRAME_BYTES)

    async def say(self, *messages):
        for message in messages:
            await self.frames.write(encode(message))

    async def hear(self, kind):
        body = await self.frames.read()
        assert body is not None, "the client ended the connection"
        message = decode(body)
        assert isinstance(message, kind), message
        return message

    async def until_gone(self):
        """Read until the client ends the connection."""
        try:
            while await self.frames.read() is not None:
                pass
        except Exception:  # noqa: BLE001 - however it ended, it ended
            return


class MemoryRelay:
    """Give a RelayClient its connections. A script is an exception (no connection) or a coroutine function."""

    def __init__(self, *scripts, stand_in=None):
        self.scripts = list(scripts)
        self.stand_in = stand_in
        self.dialled = []
        self.tasks = []

    async def connect(self, host, port, *, choice, timeout_s, check, carries_bulk):
        self.dialled.append((now(), host, port))
        script = self.scripts.pop(0)
        if isinstance(script, Exception):
            raise script
        if self.stand_in is not None:
            check(self.stand_in)
        ours, theirs = memory_pair()
        self.tasks.append(asyncio.create_task(self._run(script, theirs)))
        return ours

    async def _run(self, script, transport):
        async with transport:  # what was said still arrives; then the end
            await script(RelaySide(transport))

    async def done(self):
        """Wait for all scripts; raise what one of them raised."""
        assert not self.scripts, "the client made fewer connections than the script has"
        await asyncio.gather(*self.tasks)


async def pair_at_once(relay):
    await relay.say(Welcome())
    await relay.hear(Join)
    await relay.say(Ready(()))
    await relay.hear(Ready)
    await relay.until_gone()


async def wait_then_pair(relay, *, keep_alives=0):
    await relay.say(Welcome())
    await relay.hear(Join)
    await relay.say(Waiting())
    for _ in range(keep_alives):
        await relay.say(await relay.hear(KeepAlive))
    await relay.say(Ready(()))
    await relay.hear(Ready)
    await relay.until_gone()


async def wait_then_vanish(relay):
    await relay.say(Welcome())
    await relay.hear(Join)
    await relay.say(Waiting())

"""Relays, strangers and networks that break the rules: counted, bounded, and told in words."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from tallow_crypto import HybridKem, Secret
from tallow_net import FrameStream, NetError, RelayAddress, Side, TransportChoice
from tallow_net.limits import PLAIN_FRAME_BYTES
from tallow_net.signaling import Join, Ready, Welcome, decode, encode
from tallow_net.transport.interface import Transport, TransportKind
from tallow_net.transport.listener import listen
from tallow_net.transport.negotiate import connect_direct
from tallow_protocol import Event, OfferReceived, TransferOptions
from tallow_protocol.aio import attempt
from tallow_protocol.code import Code
from tallow_protocol.core.handshake import HELLO_TYPE, REPLY_TYPE, HandshakeInputs, SenderStart
from tallow_protocol.events import CodeReady, WrongCode
from tallow_protocol.limits import REPLY_BYTES

from tests.protocol.api.running import DIRECT, accepting, receive, sender
from tests.protocol.api.running import Side as Transfer
from tests.relay.relay_kit import certificate, relay

CODE = "4821-copper-lantern-tidy"
WRONG = "4821-copper-lantern-tiger"
Script = Callable[[FrameStream], Awaitable[None]]


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    path = tmp_path / "letter.txt"
    path.write_bytes(os.urandom(5000))
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def same_bytes(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def made(folder: Path) -> bool:
    return folder.exists() and bool(list(folder.iterdir()))


def explains(side: Transfer) -> bool:
    """The side ended with an error of ours: a sentence and a next step, no number and no class name."""
    return side.error is not None and len(str(side.error).split()) > 3 and bool(side.error.hints)


def inputs(text: str) -> HandshakeInputs:
    code = Code.parse(text)
    return HandshakeInputs(
        password=code.password,
        room_id=code.room_id,
        nonce=secrets.token_bytes(32),
        scalar=Secret(secrets.token_bytes(32)),
        grease=0xF001,
        fast_aes=True,
        kem=HybridKem(),
    )


@asynccontextmanager
async def scripted(script: Script, kind: TransportKind) -> AsyncIterator[int]:
    """A listener that runs `script` on every connection, then closes it; the port."""
    listener = await listen("127.0.0.1", 0, tcp=kind, quic=False, certificate=certificate())
    tasks: set[asyncio.Task[None]] = set()

    async def serve(transport: Transport) -> None:
        try:
            with suppress(NetError):
                await script(FrameStream(transport, limit=PLAIN_FRAME_BYTES))
        finally:
            await transport.close()

    async def accept() -> None:
        with suppress(NetError):
            while True:
                tasks.add(asyncio.create_task(serve(await listener.accept())))

    accepting_task = asyncio.create_task(accept())
    try:
        yield listener.port
    finally:
        await listener.close()
        for task in (accepting_task, *tasks):
            task.cancel()
        await asyncio.gather(accepting_task, *tasks, return_exceptions=True)


async def pair_with_nobody(frames: FrameStream) -> None:
    """Do a relay's part up to the client's Ready, with no other side."""
    await frames.write(encode(Welcome()))
    while not isinstance(decode(await frames.read() or b""), Join):
        pass
    await frames.write(encode(Ready(())))
    while not isinstance(decode(await frames.read() or b""), Ready):
        pass


# --- a relay between that guesses ------------------------------------------------------------------------------------


async def test_a_relay_that_hangs_up_after_each_reply_stops_the_receiver_at_its_third(out: Path) -> None:
    replies: list[bytes] = []

    async def guess(frames: FrameStream) -> None:
        await pair_with_nobody(frames)
        await frames.write(SenderStart(inputs(WRONG), bytes(32)).hello)
        reply = await frames.read()
        assert reply is not None
        replies.append(reply)

    async with scripted(guess, TransportKind.TLS) as port:
        options = TransferOptions(relays=(RelayAddress("127.0.0.1", port),), transport=TransportChoice.TCP)
        ready = CodeReady(Code.parse(CODE), None)
        side = await receive(ready, out, options=options)
    assert side.outcome == "burned"
    assert explains(side)
    assert [(reply[0], len(reply)) for reply in replies] == [(REPLY_TYPE, REPLY_BYTES)] * 3
    assert len({reply[1:] for reply in replies}) == 3
    assert not made(out)


async def test_a_relay_that_says_nothing_after_ready_is_given_up(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "REPLY_WAIT_S", 0.2)
    came = 0

    async def be_silent(frames: FrameStream) -> None:
        nonlocal came
        came += 1
        await pair_with_nobody(frames)
        await frames.read()

    async with scripted(be_silent, TransportKind.TLS) as port:
        options = TransferOptions(relays=(RelayAddress("127.0.0.1", port),), transport=TransportChoice.TCP)
        side = await receive(CodeReady(Code.parse(CODE), None), out, options=options)
    assert side.outcome == "peer_left"
    assert explains(side)
    assert came == 3


# --- strangers at a listening sender ---------------------------------------------------------------------------------


async def test_parallel_wrong_guesses_are_counted_and_the_third_burns(letter: Path, out: Path) -> None:
    async with sender(letter, code=CODE) as (a, ready, task):
        guessers = await asyncio.gather(*(receive(ready, out, code=WRONG) for _ in range(6)))
        await task
    assert a.outcome == "burned"
    assert explains(a)
    assert [event.left for event in a.all(WrongCode)] == [2, 1, 0]
    outcomes = [guesser.outcome for guesser in guessers]
    assert outcomes.count("wrong_code") == 2
    assert "burned" in outcomes
    assert set(outcomes) <= {"wrong_code", "burned", "peer_left", "peer_unreachable", "in_use"}
    assert all(explains(guesser) for guesser in guessers)
    assert not made(out)


async def test_parallel_wrong_guesses_through_a_relay_are_counted_and_the_third_burns(
    letter: Path, out: Path
) -> None:
    async with relay() as server:
        options = TransferOptions(
            relays=(RelayAddress("127.0.0.1", server.port),), transport=TransportChoice.TCP
        )
        async with sender(letter, options=options, code=CODE) as (a, ready, task):
            told: list[str] = []
            async with asyncio.timeout(30):
                while not task.done():
                    wrong = (receive(ready, out, code=WRONG, options=options) for _ in range(2))
                    told += [side.outcome for side in await asyncio.gather(*wrong)]
            await task
            late = await receive(ready, out, options=options)
    assert a.outcome == "burned"
    assert [event.left for event in a.all(WrongCode)] == [2, 1, 0]
    assert told.count("wrong_code") == 2
    assert set(told) <= {"wrong_code", "burned", "in_use", "no_such_code"}
    assert late.outcome == "burned"
    assert explains(late)
    assert not made(out)


@asynccontextmanager
async def strangers(count: int, ready: CodeReady) -> AsyncIterator[list[Transport]]:
    """Connections that ask for the room, take Hello, and say nothing more."""
    host, _, port = str(ready.peer).rpartition(":")
    there: list[Transport] = []
    try:
        for _ in range(count):
            transport = await connect_direct(host, int(port), choice=TransportChoice.TCP, timeout_s=10)
            there.append(transport)
            frames = FrameStream(transport, limit=PLAIN_FRAME_BYTES)
            await frames.write(encode(Join(1, (ready.code.room_id,), Side.B)))
            hello = await frames.read()
            assert hello is not None
            assert hello[0] == HELLO_TYPE
        yield there
    finally:
        for transport in there:
            await transport.close()


async def test_seven_silent_strangers_leave_room_for_the_receiver(letter: Path, out: Path) -> None:
    async with sender(letter, code=CODE) as (a, ready, task), strangers(7, ready):
        b = await receive(ready, out)
        await task
    assert (a.outcome, b.outcome) == ("done", "done")
    assert a.all(WrongCode) == []
    assert same_bytes(out / letter.name, letter)


async def test_eight_silent_strangers_cost_no_guess_and_make_way_in_time(
    letter: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "REPLY_WAIT_S", 1.5)
    async with sender(letter, code=CODE) as (a, ready, task), strangers(8, ready) as there:
        crowded = await receive(ready, out)
        assert crowded.outcome == "in_use"
        assert explains(crowded)
        for transport in there:  # each is dropped when its time is over
            async with asyncio.timeout(10):
                with suppress(NetError):
                    while await transport.receive_into(memoryview(bytearray(4096))):
                        pass
            await transport.close()
        b = await receive(ready, out)
        await task
    assert (a.outcome, b.outcome) == ("done", "done")
    assert a.all(WrongCode) == []
    assert same_bytes(out / letter.name, letter)


OVERSIZED = (0xFFFFFFFF).to_bytes(4, "big") + bytes(100)
JUST_OVER = (PLAIN_FRAME_BYTES + 1).to_bytes(4, "big") + bytes(PLAIN_FRAME_BYTES + 1)
GARBAGE = (100).to_bytes(4, "big") + bytes(range(100))


@pytest.mark.parametrize("noise", [OVERSIZED, JUST_OVER, GARBAGE, b"GET / HTTP/1.1\r\n\r\n", b"\0"])
async def test_noise_at_a_listening_sender_ends_that_connection_only(
    letter: Path, out: Path, noise: bytes
) -> None:
    async with sender(letter, code=CODE) as (a, ready, task):
        host, _, port = str(ready.peer).rpartition(":")
        transport = await connect_direct(host, int(port), choice=TransportChoice.TCP, timeout_s=10)
        async with transport:
            await transport.send(noise)
            await transport.finish()
            async with asyncio.timeout(10):
                with suppress(NetError):
                    assert await transport.receive_into(memoryview(bytearray(4096))) == 0
        b = await receive(ready, out)
        await task
    assert (a.outcome, b.outcome) == ("done", "done")
    assert a.all(WrongCode) == []


@pytest.mark.parametrize("noise", [OVERSIZED, JUST_OVER, GARBAGE])
async def test_a_sender_that_speaks_noise_gives_the_receiver_a_clear_error(out: Path, noise: bytes) -> None:
    came = 0

    async def speak(frames: FrameStream) -> None:
        nonlocal came
        came += 1
        await frames.read()
        await frames.write_raw(noise)
        await frames.read()

    async with scripted(speak, TransportKind.TCP) as port:
        side = await receive(CodeReady(Code.parse(CODE), f"127.0.0.1:{port}"), out)
    assert side.outcome == ("violation" if noise == GARBAGE else "not_tallow")
    assert explains(side)
    assert came == 1
    assert not made(out)


# --- somebody on the wire, after the handshake -----------------------------------------------------------------------


class Wire:
    """A TCP proxy that can put bytes of its own into either direction."""

    def __init__(self, host: str, port: int) -> None:
        self._place = host, port
        self._writers: dict[str, asyncio.StreamWriter] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def inject(self, towards: str, data: bytes) -> None:
        self._writers[towards].write(data)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._place)
        self._writers = {"receiver": writer, "sender": there_writer}
        await asyncio.gather(self._pass(reader, there_writer), self._pass(there_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._tasks.add(asyncio.create_task(self._serve(reader, writer)))

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await server.wait_closed()
            async with asyncio.timeout(10):
                await asyncio.gather(*self._tasks)


@pytest.mark.parametrize("noise", [OVERSIZED, GARBAGE, (3).to_bytes(4, "big") + b"\x13\0\x01"])
@pytest.mark.parametrize("victim", ["sender", "receiver"])
async def test_noise_after_the_handshake_gives_both_sides_a_clear_error(
    letter: Path, out: Path, victim: str, noise: bytes
) -> None:
    once = replace(DIRECT, rejoin_s=0.0)  # they would meet again, and the transfer would go on
    async with sender(letter, options=once, code=CODE) as (a, ready, task):
        host, _, port = str(ready.peer).rpartition(":")
        wire = Wire(host, int(port))

        def disturb(_: Transfer, event: Event) -> None:
            if isinstance(event, OfferReceived):
                wire.inject(victim, noise)

        async with wire.running() as wired:
            b = await receive(replace(ready, peer=f"127.0.0.1:{wired}"), out, options=once, react=disturb)
            if not task.done():
                await asyncio.wait([task], timeout=2)
            if not task.done():  # the attempt ended before the session began: the sender waits on
                a.transfer.cancel()
            await task
    of = {"sender": a, "receiver": b}
    other = "sender" if victim == "receiver" else "receiver"
    assert of[victim].outcome == "violation"
    assert of[other].outcome in {"violation", "peer_left", "interrupted"}
    assert explains(a)
    assert explains(b)
    assert a.all(WrongCode) == []
    assert not made(out)


# --- two who hold the right code -------------------------------------------------------------------------------------


async def race(letter: Path, out: Path, options: TransferOptions) -> tuple[Transfer, list[Transfer]]:
    """Two receivers with the right code at once; whoever sees the offer first says yes once the other has ended."""
    async with sender(letter, options=options, code=CODE) as (a, ready, task):
        ended = asyncio.Event()

        async def run(folder: Path) -> Transfer:
            waiting: set[asyncio.Task[None]] = set()

            def react(side: Transfer, event: Event) -> None:
                async def accept_later() -> None:
                    await ended.wait()
                    accepting(side, event)

                if isinstance(event, OfferReceived):
                    waiting.add(asyncio.create_task(accept_later()))

            side = await receive(ready, folder, options=options, react=react)
            ended.set()
            await asyncio.gather(*waiting)
            return side

        both = await asyncio.gather(run(out / "1"), run(out / "2"))
        await task
        return a, both


@pytest.mark.parametrize("choice", [TransportChoice.TCP, TransportChoice.QUIC])
async def test_of_two_receivers_at_a_relay_one_wins_and_the_other_is_told(
    letter: Path, out: Path, choice: TransportChoice
) -> None:
    async with relay() as server:
        options = TransferOptions(relays=(RelayAddress("127.0.0.1", server.port),), transport=choice)
        a, both = await race(letter, out, options)
    assert a.outcome == "done"
    assert sorted(side.outcome for side in both) == ["done", "in_use"]
    assert all(explains(side) for side in both if side.error is not None)


async def test_of_two_receivers_at_a_listening_sender_one_wins_and_the_other_is_told(
    letter: Path, out: Path
) -> None:
    a, both = await race(letter, out, DIRECT)
    assert a.outcome == "done"
    # One that comes when the session has begun finds that nobody listens any more.
    assert sorted(side.outcome for side in both) in (["done", "in_use"], ["done", "peer_unreachable"])
    assert all(explains(side) for side in both if side.error is not None)

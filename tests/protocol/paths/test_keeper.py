"""PathKeeper over real sockets: what it says to whom, what it bears, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
import secrets
import socket
import time
from types import SimpleNamespace

import pytest
from tallow_net import ConnectionLostError, FrameStream, Side
from tallow_net.paths.candidates import Candidate, CandidateKind
from tallow_net.transport.certificates import generate_certificate
from tallow_net.transport.interface import TransportChoice
from tallow_net.transport.listener import listen
from tallow_protocol.aio import paths as keeping_shell
from tallow_protocol.aio.paths import Allowed, PathKeeper
from tallow_protocol.aio.routes import Met
from tallow_protocol.core.keeping import HALF_OPEN_LINKS
from tallow_protocol.core.messages import Paths
from tallow_protocol.events import OfferReceived, PathInUse, PathKind, PathLimit
from tallow_protocol.limits import ATTACH_BYTES

from tests.protocol.aio.shells import Shells

DEADLINE_S = 30
LOOPBACK = ipaddress.ip_address("127.0.0.1").packed
ATTACH_FRAME_BYTES = 4 + ATTACH_BYTES
MIB = 1 << 20


class Meeting(Shells):
    """Two shells that met through a relay on this machine; the answer to the offer waits until `accept`."""

    def __init__(self, folder):
        (folder / "big").write_bytes(random.Random(1).randbytes(2 * MIB))
        self.source, self.out = folder / "big", folder / "out"
        self.offered = asyncio.Event()
        self.keepers = {}
        self.looked = asyncio.Event()
        super().__init__(self.source, self.out)
        for shell in self.shells.values():
            shell.on_look = self.looked.set

    def _take(self, side, event):
        if isinstance(event, OfferReceived):
            self.events[side].append(event)
            self.offered.set()
        else:
            super()._take(side, event)

    def accept(self):
        self.receiver.accept(self.sessions[Side.B], time.monotonic())
        self.shells[Side.B].poke()

    def keep(self, side, *, allowed=None, interfaces=()):
        session = self.sessions[side]
        frames = SimpleNamespace(transport=SimpleNamespace(remote="127.0.0.1:9", local=None))
        met = Met(frames, PathKind.RELAY_TCP, session.keys, 1 << 24)
        keeper = PathKeeper(
            self.shells[side],
            session,
            met,
            allowed or Allowed(transport=TransportChoice.TCP, listen_host="127.0.0.1"),
            interfaces=lambda: interfaces,
        )
        self.keepers[side] = keeper
        keeper.start()
        look = self.shells[side].on_look

        def looked():
            look()
            self.looked.set()

        self.shells[side].on_look = looked
        return keeper

    async def until(self, holds):
        """Wait until `holds` is true, asked whenever a session may have changed."""
        while not holds():
            self.looked.clear()
            await self.looked.wait()

    async def port_of(self, side):
        """The port at which the keeper of `side` says that it listens."""
        session = self.sessions[Side.B if side is Side.A else Side.A]
        await self.until(lambda: session.agreement.theirs and session.agreement.theirs.candidates)
        return session.agreement.theirs.candidates[0].port

    def direct(self, side):
        return [link for link in self.sessions[side].links if link.path.direct and link.proven]

    def say(self, side, *candidates, limit=PathLimit.ANY):
        """Have `side` say Paths by hand."""
        self.sessions[side].send(Paths(limit, candidates))
        self.shells[side].poke()

    def paths_of(self, side):
        return [(e.path, e.plain) for e in self.events[side] if isinstance(e, PathInUse)]


@contextlib.asynccontextmanager
async def meeting(folder):
    """A meeting whose shells run, and end with the scope."""
    met = Meeting(folder)
    running = asyncio.create_task(met.run())
    try:
        async with asyncio.timeout(DEADLINE_S):
            await met.offered.wait()
            yield met, running
    finally:
        for keeper in met.keepers.values():
            await keeper.close()
        for side, session in met.sessions.items():
            session.cancel(time.monotonic())
            met.shells[side].poke()
        await asyncio.gather(running, return_exceptions=True)


class Stranger:
    """Listens where a peer said that it does, answers with `answer`, and records what it is sent to the end."""

    def __init__(self, answer=b""):
        self.answer = answer
        self.got = []
        self.came = asyncio.Event()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        got = bytearray()
        self.got.append(got)
        with contextlib.suppress(OSError):
            got += await reader.readexactly(ATTACH_FRAME_BYTES)
            if self.answer is None:
                writer.close()
            else:
                writer.write(self.answer)
            self.came.set()
            while piece := await reader.read(65536):
                got += piece
        writer.close()


ACK_SHAPED = (65).to_bytes(4, "big") + b"\x02" + bytes(64)


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize(
    "answer",
    [b"", None, ACK_SHAPED, b"HTTP/1.1 400 Bad Request\r\n\r\n", (5000).to_bytes(4, "big"), b"\0\0\0\0"],
)
async def test_a_candidate_is_sent_an_attach_and_nothing_else(tmp_path, side, answer):
    other = Side.B if side is Side.A else Side.A
    async with meeting(tmp_path) as (met, running), Stranger(answer) as stranger:
        met.keep(side)
        met.say(other, Candidate(CandidateKind.TCP, LOOPBACK, stranger.port))
        await stranger.came.wait()
        met.accept()
        await running
        await met.keepers[side].close()
        assert met.out.joinpath("big").read_bytes() == met.source.read_bytes()
        assert {path for path, _ in met.paths_of(Side.B)} == {PathKind.RELAY_TCP}
    assert stranger.got
    for got in stranger.got:
        assert len(got) == ATTACH_FRAME_BYTES
        assert got[:5] == b"\0\0\0\x51\x01"


@pytest.mark.parametrize("answer", [b"", ACK_SHAPED])
async def test_a_candidate_over_quic_is_sent_an_attach_and_nothing_else(tmp_path, answer):
    quic = Allowed(transport=TransportChoice.QUIC, listen_host="127.0.0.1")
    stranger = await listen("127.0.0.1", 0, tcp=None, quic=True, certificate=generate_certificate())
    async with meeting(tmp_path) as (met, running), stranger:
        met.keep(Side.A, allowed=quic)
        met.say(Side.B, Candidate(CandidateKind.QUIC, LOOPBACK, stranger.port))
        async with await stranger.accept() as transport:
            frames = FrameStream(transport, limit=4096)
            attach = await frames.read()
            await transport.send(answer or b"\0")
            met.accept()
            await running
            await met.keepers[Side.A].close()
            with contextlib.suppress(ConnectionLostError):
                assert await frames.read() is None
        assert attach[:1] == b"\x01"
        assert len(attach) == ATTACH_BYTES
        assert met.out.joinpath("big").read_bytes() == met.source.read_bytes()


async def test_an_address_that_must_not_be_tried_is_not_even_dialled(tmp_path):
    async with meeting(tmp_path) as (met, running), Stranger() as stranger:
        keeper = met.keep(Side.A)
        keeper._one_host = False
        met.say(Side.B, Candidate(CandidateKind.TCP, LOOPBACK, stranger.port))
        met.accept()
        await running
    assert stranger.got == []


@pytest.mark.parametrize("side", list(Side))
async def test_with_the_relay_alone_nothing_is_offered_nothing_tried_and_nobody_listens(tmp_path, side):
    other = Side.B if side is Side.A else Side.A
    async with meeting(tmp_path) as (met, running), Stranger() as stranger:
        met.sessions[side].agreement.ours = PathLimit.RELAY_ONLY
        keeper = met.keep(side, allowed=Allowed(paths=PathLimit.RELAY_ONLY))
        met.say(side, limit=PathLimit.RELAY_ONLY)
        met.keep(other)
        met.say(other, Candidate(CandidateKind.TCP, LOOPBACK, stranger.port))
        met.accept()
        await running
        assert keeper._door.ports == {}
        assert met.sessions[other].agreement.theirs == Paths(PathLimit.RELAY_ONLY, ())
        assert {path for path, _ in met.paths_of(Side.B)} == {PathKind.RELAY_TCP}
    assert stranger.got == []


async def test_a_listener_closes_when_the_other_side_says_that_it_allows_the_relay_alone(tmp_path):
    async with meeting(tmp_path) as (met, running):
        met.keep(Side.A)
        port = await met.port_of(Side.A)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        met.say(Side.B, limit=PathLimit.RELAY_ONLY)
        assert await ended(reader) == b""
        writer.close()
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", port), 5)
        met.accept()
        await running


async def test_nine_silent_strangers_are_one_too_many_and_none_is_answered(tmp_path, monkeypatch):
    monkeypatch.setattr("tallow_protocol.aio.doors.ATTACH_WAIT_S", 0.5)
    async with meeting(tmp_path) as (met, _):
        met.keep(Side.A)
        port = await met.port_of(Side.A)
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(HALF_OPEN_LINKS + 1)]
        reading = [asyncio.create_task(ended(reader)) for reader, _ in opened]
        at_once, waiting = await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
        assert len(at_once) == 1
        assert len(waiting) == HALF_OPEN_LINKS
        assert await asyncio.gather(*reading) == [b""] * len(opened)
        for _, writer in opened:
            writer.close()


async def ended(reader):
    """Everything until the other side's end, in order or not."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize(
    "said", [b"\0\0\0\x51\x01" + bytes(80), b"\0\0\0\x03\x13\0\x01", b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\0"]
)
async def test_what_is_no_attach_of_this_session_is_closed_without_an_answer(tmp_path, said):
    async with meeting(tmp_path) as (met, _):
        met.keep(Side.A)
        port = await met.port_of(Side.A)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        assert await ended(reader) == b""
        writer.close()


async def test_an_attach_whose_maker_says_no_more_is_answered_and_ended_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(keeping_shell, "ATTACH_WAIT_S", 0.3)
    async with meeting(tmp_path) as (met, running):
        met.keep(Side.A)
        port = await met.port_of(Side.A)
        session = met.sessions[Side.B]
        number = session.next_number()
        opened = []
        for _ in range(4):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            attach = session.open_link(number, secrets.token_bytes(32)).attach
            writer.write(len(attach).to_bytes(4, "big") + attach)
            opened.append((reader, writer))
        assert [len(await ended(reader)) for reader, _ in opened] == [4 + 65] * 4
        for _, writer in opened:
            writer.close()
        met.accept()
        await running


@pytest.mark.parametrize("kind", list(CandidateKind))
async def test_a_transfer_takes_the_direct_path_that_the_two_keepers_find(tmp_path, kind):
    choice = TransportChoice.TCP if kind is CandidateKind.TCP else TransportChoice.QUIC
    async with meeting(tmp_path) as (met, running):
        for side in Side:
            met.keep(side, allowed=Allowed(transport=choice, listen_host="127.0.0.1"))
        await met.until(lambda: met.direct(Side.A) and met.direct(Side.B))
        met.accept()
        await running
        direct = PathKind.DIRECT_TCP if kind is CandidateKind.TCP else PathKind.DIRECT_QUIC
        assert met.paths_of(Side.A) == met.paths_of(Side.B) == [(direct, kind is CandidateKind.TCP)]
        assert met.out.joinpath("big").read_bytes() == met.source.read_bytes()


async def test_more_connections_are_opened_when_more_are_wanted(tmp_path):
    async with meeting(tmp_path) as (met, _):
        for side in Side:
            met.keep(side)
        for session in met.sessions.values():
            session.connections_wanted = 3
        for shell in met.shells.values():
            shell.poke()
        await met.until(lambda: len(met.direct(Side.A)) == len(met.direct(Side.B)) == 3)
        assert [len(session.carriers) for session in met.sessions.values()] == [3, 3]


async def test_a_lost_direct_connection_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr("tallow_protocol.core.keeping.RETRY_FIRST_S", 0.2)
    async with meeting(tmp_path) as (met, running):
        for side in Side:
            met.keep(side)
        await met.until(lambda: met.direct(Side.A))
        (first,) = met.direct(Side.A)
        met.sessions[Side.A].lost(first, time.monotonic())
        met.shells[Side.A].poke()
        await met.until(lambda: met.direct(Side.A))
        assert met.direct(Side.A) != [first]
        met.accept()
        await running


async def test_closing_ends_a_dial_under_way_and_stops_listening(tmp_path):
    before = asyncio.all_tasks()
    async with meeting(tmp_path) as (met, running), Stranger() as stranger:
        keeper = met.keep(Side.A)
        port = await met.port_of(Side.A)
        met.say(Side.B, Candidate(CandidateKind.TCP, LOOPBACK, stranger.port))
        await stranger.came.wait()
        async with asyncio.timeout(3):
            await keeper.close()
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", port), 5)
        assert len(stranger.got) == 1
        assert {task.get_name() for task in asyncio.all_tasks() - before} & {"tallow-paths"} == set()
        met.accept()
        await running


async def test_a_keeper_without_a_place_to_dial_keeps_nothing(tmp_path):
    async with meeting(tmp_path) as (met, running):
        session = met.sessions[Side.A]
        frames = SimpleNamespace(transport=SimpleNamespace(remote="memory", local=None))
        keeper = PathKeeper(
            met.shells[Side.A],
            session,
            Met(frames, PathKind.MEMORY, session.keys, 1),
            Allowed(),
            interfaces=tuple,
        )
        met.keepers[Side.A] = keeper
        keeper.start()
        reader, other = memory_streams()
        await keeper.attach(reader, b"\x01" + bytes(80))
        with pytest.raises(ConnectionLostError):
            await other.read()
        met.accept()
        await running


def memory_streams():
    from tallow_net.transport.memory import memory_pair

    ours, theirs = memory_pair()
    return FrameStream(ours, limit=4096), FrameStream(theirs, limit=4096)

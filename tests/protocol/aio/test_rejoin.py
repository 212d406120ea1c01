"""Two sessions that lose every connection and meet again by themselves, over real sockets, with real keepers."""

from __future__ import annotations

import asyncio
import random
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from tallow_net import FrameStream, Side
from tallow_net.paths.candidates import CandidateKind
from tallow_net.transport.interface import TransportChoice
from tallow_net.transport.memory import memory_pair
from tallow_protocol.aio import paths as paths_module
from tallow_protocol.aio.doors import DirectDoor
from tallow_protocol.aio.network import AddressWatch, source_for, still_ours
from tallow_protocol.aio.paths import Allowed, PathKeeper
from tallow_protocol.aio.routes import Met
from tallow_protocol.events import PathKind, Rejoined, Rejoining

from tests.protocol.aio.shells import Shells

if TYPE_CHECKING:
    from pathlib import Path

NOBODYS = "192.0.2.77"
SIZE_BYTES = 24 * 1024 * 1024
LIMIT_S = 600.0
LOCAL = "10.9.8.7"


class Moving(AddressWatch):
    """Of a machine that can lose every address that it has: what is bound then is an orphan, what comes later is not."""

    def __init__(self) -> None:
        super().__init__(lambda _: self.at_home, lambda _: "127.0.0.1")
        self.at_home = True

    def orphans(self):
        found = super().orphans()
        self.at_home = self.at_home or bool(found)
        return found


class Meeting(Shells):
    """A listens, B dials: a direct session, each side with its keeper."""

    def __init__(self, source: Path, into: Path, door: DirectDoor) -> None:
        super().__init__(source, into, rejoin_s=LIMIT_S)
        self._door = door
        self.watches = {side: Moving() for side in Side}
        self.keepers = {side: self._keep(side) for side in Side}

    def _keep(self, side: Side) -> PathKeeper:
        session = self.sessions[side]
        transport = SimpleNamespace(remote=f"127.0.0.1:{self._door.ports[CandidateKind.TCP]}", local=LOCAL)
        met = Met(FrameStream(transport, limit=1), PathKind.DIRECT_TCP, session.keys, 1 << 24)
        allowed = Allowed(transport=TransportChoice.TCP)
        return PathKeeper(self.shells[side], session, met, allowed, watch=self.watches[side])

    async def run(self) -> None:
        for keeper in self.keepers.values():
            keeper.start()
        try:
            await super().run()
        finally:
            for keeper in self.keepers.values():
                await keeper.close()

    def all(self, side: Side, kind: type) -> list:
        return [event for event in self.events[side] if isinstance(event, kind)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "big"
    path.write_bytes(random.Random(3).randbytes(SIZE_BYTES))
    return path


@pytest.fixture
async def meeting(source: Path, tmp_path: Path):
    async def attach(frames: FrameStream, body: bytes) -> None:
        await made.keepers[Side.A].attach(frames, body)

    door = DirectDoor("127.0.0.1", attach)
    await door.open(tcp=True, quic=False)
    made = Meeting(source, tmp_path / "out", door)
    yield made
    await door.close()


def cut_all(meeting: Meeting) -> None:
    for session in meeting.sessions.values():
        for link in session.links:
            session.lost(link, asyncio.get_running_loop().time())
    for shell in meeting.shells.values():
        shell.poke()


async def test_both_sides_meet_again_by_themselves_each_time_that_everything_is_cut(
    source: Path, tmp_path: Path, meeting: Meeting
) -> None:
    cuts = [SIZE_BYTES // 4, SIZE_BYTES // 2]

    def cut(progress) -> None:
        if cuts and progress.bytes >= cuts[0]:
            cuts.pop(0)
            cut_all(meeting)

    meeting.on_progress = cut
    await meeting.run()
    assert (tmp_path / "out" / "big").read_bytes() == source.read_bytes()
    assert not cuts
    for side in Side:
        assert len(meeting.all(side, Rejoined)) == 2
        left = [event.left_s for event in meeting.all(side, Rejoining)]
        assert len(left) >= 2
        assert all(0 < seconds <= LIMIT_S for seconds in left)
    assert {event.retry_in_s for event in meeting.all(Side.A, Rejoining)} == {None}
    assert all(event.retry_in_s is not None for event in meeting.all(Side.B, Rejoining))


@pytest.mark.parametrize("side", list(Side))
async def test_a_side_whose_own_address_is_gone_leaves_what_was_bound_to_it_and_comes_back(
    source: Path, tmp_path: Path, meeting: Meeting, monkeypatch: pytest.MonkeyPatch, side: Side
) -> None:
    monkeypatch.setattr(paths_module, "LOOK_AT_NETWORK_S", 0.02)
    (first,) = meeting.sessions[side].links

    def move(progress) -> None:
        if progress.bytes >= SIZE_BYTES // 8 and not first.lost:
            meeting.watches[side].at_home = False

    meeting.on_progress = move
    await meeting.run()
    assert (tmp_path / "out" / "big").read_bytes() == source.read_bytes()
    assert first.lost
    assert "this machine's address is another now" in str(first.cause)
    assert meeting.all(side, Rejoining)
    assert meeting.all(side, Rejoined)


def test_an_address_of_this_machine_is_told_from_one_that_is_not() -> None:
    assert still_ours("127.0.0.1")
    assert still_ours("::ffff:127.0.0.1")
    assert not still_ours(NOBODYS)
    assert not still_ours("::ffff:192.0.2.77")


@pytest.mark.parametrize("unclear", ["fe80::1", "fe80::1%eth0", "relay.example", ""])
def test_what_the_kernel_cannot_tell_counts_as_ours_and_leads_nowhere(unclear: str) -> None:
    assert still_ours(unclear)
    assert source_for(unclear) is None


def test_the_way_to_an_address_has_a_source() -> None:
    assert source_for("127.0.0.1") == "127.0.0.1"


def test_each_connection_is_an_orphan_once_and_a_lost_one_never() -> None:
    watch = AddressWatch(lambda host: host != NOBODYS)
    links = [mock.Mock(lost=False) for _ in range(4)]
    for link, local in zip(links, (NOBODYS, "10.0.0.1", NOBODYS, None), strict=True):
        watch.bound(link, local)
    links[2].lost = True
    assert watch.orphans() == [links[0]]
    assert watch.orphans() == []


def test_another_source_is_a_change_and_so_is_a_way_that_is_back() -> None:
    sources: list[str | None] = ["10.0.0.1"]
    watch = AddressWatch(lambda _: True, lambda _: sources[0])
    hosts = ["10.0.0.9"]
    assert not watch.changed(hosts)
    assert not watch.changed(hosts)
    sources[0] = None
    assert not watch.changed(hosts)  # no way at all is nothing to try
    sources[0] = "10.0.0.1"
    assert watch.changed(hosts)
    sources[0] = "10.0.0.2"
    assert watch.changed(hosts)
    assert not watch.changed(hosts)
    watch.forget()
    assert not watch.changed(hosts)


async def test_a_frame_that_comes_slowly_is_heard_long_before_it_is_whole() -> None:
    ours, theirs = memory_pair()
    frames, heard = FrameStream(ours, limit=1000), asyncio.Event()
    frames.heard = heard.set
    reading = asyncio.create_task(frames.read())
    async with asyncio.timeout(10):
        for piece in (b"\0\0", b"\0\x04", b"ab"):
            await theirs.send(piece)
            await heard.wait()
            heard.clear()
            assert not reading.done()
        await theirs.send(b"cd")
        assert await reading == b"abcd"
    for end in (ours, theirs):
        end.abort()


def test_a_socket_knows_its_own_address_and_one_that_is_closed_does_not() -> None:
    from tallow_net.transport.tcp import local_host

    with socket.create_server(("127.0.0.1", 0)) as server:
        assert local_host(server) == "127.0.0.1"
    assert local_host(server) is None
    a, b = socket.socketpair()
    with a, b:
        assert local_host(a) is None

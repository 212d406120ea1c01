"""File data over sockets that threads own, beside connection 0, which asyncio runs."""

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tallow_net import Side
from tallow_net.transport.blocking import BLOCKING_STREAMS
from tallow_protocol.aio import datalinks
from tallow_protocol.aio.threads import DataThreads, data_threads
from tallow_protocol.core import links as links_module
from tallow_protocol.errors import PeerLeftError, RecordError
from tallow_protocol.events import PathInUse, PathKind, TransferDone, TransferProgress

from tests.protocol.aio.shells import Middle, Shells

pytestmark = pytest.mark.skipif(not BLOCKING_STREAMS, reason="needs Linux: epoll and MSG_WAITALL")

SIZE_BYTES = 24 * 1024 * 1024


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(os.urandom(SIZE_BYTES))
    return path


@pytest.fixture
async def middle() -> AsyncIterator[Middle]:
    between = Middle()
    yield between
    await between.close()


def paths(shells: Shells, side: Side) -> list[tuple[PathKind, bool, int]]:
    return [(e.path, e.plain, e.connections) for e in shells.events[side] if isinstance(e, PathInUse)]


def assert_arrived(shells: Shells, source: Path, into: Path) -> None:
    assert (into / source.name).read_bytes() == source.read_bytes()
    for side in Side:
        assert isinstance(shells.events[side][-1], TransferDone)


@pytest.mark.parametrize("opener", list(Side))
async def test_data_takes_the_dedicated_connection_whoever_opened_it(
    opener: Side, source: Path, tmp_path: Path
) -> None:
    shells = Shells(source, tmp_path / "out")
    shells.attach(opener)
    await shells.run()
    assert_arrived(shells, source, tmp_path / "out")
    for side in Side:
        assert paths(shells, side)[-1] == (PathKind.DIRECT_TCP, True, 1)


async def test_threads_and_sockets_are_gone_at_the_end(source: Path, tmp_path: Path) -> None:
    shells = Shells(source, tmp_path / "out")
    shells.attach(Side.A)
    await shells.run()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tallow-data")]
    assert data_threads().taken == 0


async def test_two_dedicated_connections_share_the_data(source: Path, tmp_path: Path) -> None:
    shells = Shells(source, tmp_path / "out", window_bytes=16 * 1024 * 1024)
    links = shells.attach(Side.A), shells.attach(Side.B)
    await shells.run()
    assert_arrived(shells, source, tmp_path / "out")
    assert all(pair[Side.B].bulk_arrived for pair in links)
    assert paths(shells, Side.A)[-1] == (PathKind.DIRECT_TCP, True, 2)


async def test_a_cut_dedicated_connection_loses_nothing(source: Path, tmp_path: Path) -> None:
    shells = Shells(source, tmp_path / "out")
    link = shells.attach(Side.B)[Side.B]

    def cut(progress: TransferProgress) -> None:
        if progress.bytes > SIZE_BYTES // 3 and not link.lost:
            shells.sessions[Side.B].lost(link, 0.0, PeerLeftError(by="us"))

    shells.on_progress = cut
    await shells.run()
    assert_arrived(shells, source, tmp_path / "out")
    assert [path for path, _, _ in paths(shells, Side.A)] == [PathKind.DIRECT_TCP, PathKind.RELAY_TCP]


async def test_control_goes_on_where_connection_0_is_cut(source: Path, tmp_path: Path) -> None:
    shells = Shells(source, tmp_path / "out")
    shells.attach(Side.A)

    def cut(progress: TransferProgress) -> None:
        if progress.bytes > SIZE_BYTES // 3 and shells.first[0].fileno() >= 0:
            shells.first[0].shutdown(socket.SHUT_RDWR)

    shells.on_progress = cut
    await shells.run()
    assert_arrived(shells, source, tmp_path / "out")
    assert all(not session.links or session.links[0].number for session in shells.sessions.values())


async def test_a_flipped_byte_ends_the_connection_and_not_the_transfer(
    source: Path, tmp_path: Path, middle: Middle
) -> None:
    shells = Shells(source, tmp_path / "out")
    middle.flip_at = SIZE_BYTES // 3
    links = shells.attach(Side.A, middle.sockets())
    await shells.run()
    assert_arrived(shells, source, tmp_path / "out")
    assert isinstance(links[Side.B].cause, RecordError)
    assert paths(shells, Side.A)[-1] == (PathKind.RELAY_TCP, False, 1)


async def test_a_silent_connection_is_given_up_while_another_stands_by(
    source: Path, tmp_path: Path, middle: Middle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links_module, "PATH_PING_S", 0.2)
    monkeypatch.setattr(links_module, "PATH_SILENCE_DEDICATED_S", 1.5)
    shells = Shells(source, tmp_path / "out")
    links = shells.attach(Side.A, middle.sockets())

    def stall(progress: TransferProgress) -> None:
        middle.stalled = middle.stalled or progress.bytes > SIZE_BYTES // 3

    shells.on_progress = stall
    await shells.run()
    assert_arrived(shells, source, tmp_path / "out")
    assert all(link.lost for link in links.values())
    assert paths(shells, Side.A)[-1] == (PathKind.RELAY_TCP, False, 1)


async def test_the_event_loop_serves_a_connection_for_which_no_thread_is_left(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none_left = DataThreads(0)
    monkeypatch.setattr(datalinks, "data_threads", lambda: none_left)
    shells = Shells(source, tmp_path / "out")
    shells.attach(Side.A)
    await shells.run()
    assert_arrived(shells, source, tmp_path / "out")
    assert paths(shells, Side.B)[-1] == (PathKind.DIRECT_TCP, False, 1)


async def test_a_cancelled_run_leaves_no_thread(source: Path, tmp_path: Path) -> None:
    shells = Shells(source, tmp_path / "out")
    shells.attach(Side.A)
    started = asyncio.Event()
    shells.on_progress = lambda _: started.set()
    running = asyncio.create_task(shells.run())
    async with asyncio.timeout(30):
        await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert data_threads().taken == 0


async def test_a_thread_that_rests_has_told_all_that_it_did(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is told for its amount or the time here, and a ping often follows the last record in the queue.
    monkeypatch.setattr(datalinks, "TOLD_BYTES", 2**40)
    monkeypatch.setattr(datalinks, "TOLD_S", 1e9)
    monkeypatch.setattr(datalinks, "LOW_BYTES", -(2**40))
    monkeypatch.setattr(links_module, "PATH_PING_S", 0.001)
    shells = Shells(source, tmp_path / "out", window_bytes=1024 * 1024)
    shells.attach(Side.A)
    async with asyncio.timeout(20):
        await shells.run()
    assert_arrived(shells, source, tmp_path / "out")

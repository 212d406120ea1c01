"""Large records are written by a second thread while the first receives: order, errors, bounds, and what is told when."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tallow_net import Side
from tallow_net.transport.blocking import BLOCKING_STREAMS
from tallow_protocol.aio import datalinks
from tallow_protocol.aio.datalinks import BUFFERS
from tallow_protocol.aio.threads import DataThreads, data_threads
from tallow_protocol.core.receiver import ReceiverRole
from tallow_protocol.core.records import Header
from tallow_protocol.disk.calls import SYSTEM
from tallow_protocol.errors import NoSpaceError
from tallow_protocol.events import TransferDone, TransferProgress

from tests.protocol.aio.shells import Shells, socket_pair

pytestmark = pytest.mark.skipif(not BLOCKING_STREAMS, reason="needs Linux: epoll and MSG_WAITALL")

SIZE_BYTES = 24 * 1024 * 1024
WINDOW_BYTES = 16 * 1024 * 1024
WAIT_S = 20.0


class Disk:
    """The real calls; `before` is asked before each write of the file, in the thread that writes."""

    def __init__(self, before: Callable[["Disk"], None] = lambda disk: None) -> None:
        self.before = before
        self.chunk_bytes = 0
        self.offsets: list[int] = []
        self.written = 0
        self.threads: set[str] = set()

    def __getattr__(self, name: str) -> object:
        return getattr(SYSTEM, name)

    def pwrite(self, handle: int, data: memoryview, offset: int) -> int:
        if len(data) >= datalinks.APART_BYTES:  # no journal
            self.chunk_bytes = max(self.chunk_bytes, len(data))
            self.before(self)
            self.offsets.append(offset)
            self.written += len(data)
            self.threads.add(threading.current_thread().name)
        return SYSTEM.pwrite(handle, data, offset)


class Begun:
    """Counts the records that were received and opened, and wakes who waits for one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._changed = threading.Condition()
        verify = ReceiverRole.verify

        def counted(role: ReceiverRole, header: Header, body: memoryview) -> bool:
            with self._changed:
                self.count += 1
                self._changed.notify_all()
            return verify(role, header, body)

        monkeypatch.setattr(ReceiverRole, "verify", counted)

    def wait_for(self, count: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.count >= count, WAIT_S)


@pytest.fixture(autouse=True)
def chunks_of_a_path_that_nobody_measured_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datalinks, "APART_BYTES", 64 * 1024)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(os.urandom(SIZE_BYTES))
    return path


def assert_arrived(shells: Shells, source: Path, into: Path) -> None:
    assert (into / source.name).read_bytes() == source.read_bytes()
    for side in Side:
        assert isinstance(shells.events[side][-1], TransferDone)


def storing(threads: set[str]) -> list[str]:
    return [name for name in threads if name.endswith("-storing")]


async def test_records_are_written_in_order_by_a_thread_that_is_gone_at_the_end(
    source: Path, tmp_path: Path
) -> None:
    disk = Disk()
    shells = Shells(source, tmp_path / "out", window_bytes=WINDOW_BYTES, calls=disk)
    shells.attach(Side.A)
    await shells.run()
    assert_arrived(shells, source, tmp_path / "out")
    assert disk.offsets == sorted(disk.offsets)
    assert storing(disk.threads)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tallow-data")]
    assert data_threads().taken == 0


async def test_while_one_is_written_others_are_received_but_no_more_than_there_are_buffers(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = Begun(monkeypatch)
    ahead: list[int] = []

    def wait(disk: Disk) -> None:
        done = len(disk.offsets)
        if done < SIZE_BYTES // disk.chunk_bytes - BUFFERS:
            assert begun.wait_for(done + BUFFERS)
        ahead.append(begun.count - done)

    disk = Disk(wait)
    shells = Shells(source, tmp_path / "out", window_bytes=WINDOW_BYTES, calls=disk)
    shells.attach(Side.A)
    await shells.run()
    assert_arrived(shells, source, tmp_path / "out")
    assert max(ahead) == BUFFERS


async def test_nothing_is_acknowledged_before_it_is_written(source: Path, tmp_path: Path) -> None:
    disk = Disk()
    shells = Shells(source, tmp_path / "out", window_bytes=WINDOW_BYTES, calls=disk)
    shells.attach(Side.A)
    early = []

    def compare(_: TransferProgress) -> None:
        told = [e.bytes for e in shells.events[Side.A] if isinstance(e, TransferProgress)]
        early.append(max(told, default=0) > disk.written)

    shells.on_progress = compare
    await shells.run()
    assert early
    assert not any(early)


async def test_a_full_disk_ends_the_transfer_with_its_own_error(source: Path, tmp_path: Path) -> None:
    def full(disk: Disk) -> None:
        if len(disk.offsets) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    disk = Disk(full)
    shells = Shells(source, tmp_path / "out", window_bytes=WINDOW_BYTES, calls=disk)
    shells.attach(Side.A)
    with pytest.raises(NoSpaceError):
        await shells.run()
    told = [e.bytes for e in shells.events[Side.A] if isinstance(e, TransferProgress)]
    assert max(told, default=0) <= disk.written
    assert data_threads().taken == 0


async def test_where_no_second_thread_is_to_be_had_the_first_writes(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supply = DataThreads(2)
    monkeypatch.setattr(datalinks, "data_threads", lambda: supply)
    disk = Disk()
    shells = Shells(source, tmp_path / "out", window_bytes=WINDOW_BYTES, calls=disk)
    shells.attach(Side.A)
    await shells.run()
    assert_arrived(shells, source, tmp_path / "out")
    assert disk.threads
    assert not storing(disk.threads)
    assert supply.taken == 0


async def test_a_connection_that_is_lost_writes_what_it_had_and_loses_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = Begun(monkeypatch)
    cut: list[bool] = []

    def cut_once(disk: Disk) -> None:
        if len(disk.offsets) == 3 and not cut:
            cut.append(begun.wait_for(3 + BUFFERS))
            ends[Side.A].shutdown(2)

    disk = Disk(cut_once)
    shells = Shells(source, tmp_path / "out", window_bytes=WINDOW_BYTES, calls=disk)
    pair = socket_pair()
    ends = dict(zip((Side.A, Side.B), pair, strict=True))
    shells.attach(Side.A, pair)
    await shells.run()
    assert cut == [True]
    assert_arrived(shells, source, tmp_path / "out")

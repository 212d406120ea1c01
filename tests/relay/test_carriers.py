"""Carriers over socket pairs: what a pull and a push leave, what pipes are held, and what is given back."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tallow_relay.carriers import CAUTIOUS_BYTES, COPY_BYTES, Carrier, CopyEngine, best_engine
from tallow_relay.splicing import PipePool, SpliceCarrier, SpliceEngine, can_splice

MIB = 1 << 20
Ends = tuple[socket.socket, socket.socket, socket.socket, socket.socket]


@pytest.fixture
def lines() -> Iterator[Callable[[], Ends]]:
    """Give the four ends of a way: sender, source, target, receiver."""
    with ExitStack() as stack:

        def line() -> Ends:
            ends = (*socket.socketpair(), *socket.socketpair())
            for end in ends:
                stack.enter_context(end)
                end.setblocking(False)
            return ends

        yield line


def fill(sock: socket.socket) -> int:
    """Send until the kernel takes no more."""
    sent = 0
    try:
        while True:
            sent += sock.send(bytes(64 * 1024))
    except BlockingIOError:
        return sent


def read_all(sock: socket.socket) -> bytes:
    data = b""
    try:
        while piece := sock.recv(MIB):
            data += piece
    except BlockingIOError:
        pass
    return data


@pytest.fixture(params=["splice", "no pipe", "copy"])
def carrier(request: pytest.FixtureRequest) -> Iterator[Carrier]:
    engine = {
        "splice": SpliceEngine,
        "no pipe": lambda: SpliceEngine(PipePool(0)),
        "copy": CopyEngine,
    }[request.param]()
    made = engine.carrier()
    yield made
    made.release()
    engine.close()


def test_a_pull_and_a_push_carry_bytes(carrier: Carrier, lines: Callable[[], Ends]) -> None:
    sender, source, target, receiver = lines()
    sender.send(b"some words")
    assert carrier.pull(source, MIB) == 10
    assert carrier.pending == 10
    carrier.push(target)
    assert carrier.pending == 0
    assert receiver.recv(100) == b"some words"


def test_a_pull_takes_no_more_than_it_may(carrier: Carrier, lines: Callable[[], Ends]) -> None:
    sender, source, target, receiver = lines()
    sender.send(b"some words")
    assert carrier.pull(source, 4) == 4
    carrier.push(target)
    assert receiver.recv(100) == b"some"


def test_a_source_without_bytes_blocks_and_one_at_its_end_gives_zero(
    carrier: Carrier, lines: Callable[[], Ends]
) -> None:
    sender, source, _, _ = lines()
    with pytest.raises(BlockingIOError):
        carrier.pull(source, MIB)
    sender.shutdown(socket.SHUT_WR)
    assert carrier.pull(source, MIB) == 0
    assert carrier.pending == 0


def test_a_push_that_stops_midway_keeps_the_rest(carrier: Carrier, lines: Callable[[], Ends]) -> None:
    sender, source, target, receiver = lines()
    before = fill(target)
    said = os.urandom(10_000)
    sender.send(said)
    assert carrier.pull(source, MIB) == len(said)
    with pytest.raises(BlockingIOError):
        carrier.push(target)
    assert carrier.pending == len(said)
    assert len(read_all(receiver)) == before
    carrier.push(target)
    assert carrier.pending == 0
    assert read_all(receiver) == said


def test_what_one_direction_keeps_is_not_overwritten_by_the_next(lines: Callable[[], Ends]) -> None:
    engine = CopyEngine()
    first, second = engine.carrier(), engine.carrier()
    sender, source, target, receiver = lines()
    other_sender, other_source, other_target, _ = lines()
    fill(target)
    sender.send(b"kept")
    other_sender.send(b"other")
    first.pull(source, MIB)
    with pytest.raises(BlockingIOError):
        first.push(target)
    second.pull(other_source, MIB)
    second.push(other_target)
    read_all(receiver)
    first.push(target)
    assert read_all(receiver) == b"kept"


def test_a_copier_reads_more_while_its_target_takes_all_and_little_once_it_did_not(
    lines: Callable[[], Ends],
) -> None:
    carrier = CopyEngine().carrier()
    sender, source, target, receiver = lines()
    asked: list[int] = []

    class Asking:
        def recv_into(self, buffer: memoryview, most: int) -> int:
            asked.append(most)
            return source.recv_into(buffer, 1)

    for _ in range(5):
        sender.send(b"x")
        carrier.pull(Asking(), MIB)
        carrier.push(target)
    assert asked == [CAUTIOUS_BYTES << step if step < 3 else COPY_BYTES for step in range(5)]
    fill(target)
    sender.send(b"x")
    carrier.pull(Asking(), MIB)
    with pytest.raises(BlockingIOError):
        carrier.push(target)
    read_all(receiver)
    carrier.push(target)
    sender.send(b"x")
    carrier.pull(Asking(), MIB)
    assert asked[-1] == 2 * CAUTIOUS_BYTES


def test_a_pipe_is_held_only_while_bytes_are_in_it(lines: Callable[[], Ends]) -> None:
    engine = SpliceEngine()
    carrier = engine.carrier()
    sender, source, target, receiver = lines()
    with pytest.raises(BlockingIOError):
        carrier.pull(source, MIB)
    assert engine.pool.in_use == 0
    sender.send(b"x")
    carrier.pull(source, MIB)
    assert engine.pool.in_use == 1
    carrier.push(target)
    assert engine.pool.in_use == 0
    assert receiver.recv(1) == b"x"
    engine.close()


def test_the_pipe_that_is_stuck_longest_is_emptied_for_the_next(lines: Callable[[], Ends]) -> None:
    engine = SpliceEngine(PipePool(1))
    stuck, other = engine.carrier(), engine.carrier()
    sender, source, target, receiver = lines()
    other_sender, other_source, other_target, other_receiver = lines()
    before = fill(target)
    sender.send(b"stuck")
    other_sender.send(b"other")
    stuck.pull(source, MIB)
    with pytest.raises(BlockingIOError):
        stuck.push(target)
    assert other.pull(other_source, MIB) == 5
    other.push(other_target)
    assert other_receiver.recv(10) == b"other"
    assert (stuck.pending, engine.pool.in_use) == (5, 0)
    assert len(read_all(receiver)) == before
    stuck.push(target)
    assert (stuck.pending, receiver.recv(10)) == (0, b"stuck")
    engine.close()


def test_a_pipe_with_bytes_in_it_is_closed_and_not_given_to_another(lines: Callable[[], Ends]) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    engine = SpliceEngine(PipePool(1))
    carrier = engine.carrier()
    sender, source, _, _ = lines()
    sender.send(b"secret of one room")
    carrier.pull(source, MIB)
    carrier.release()
    carrier.release()
    assert (engine.pool.in_use, carrier.pending) == (0, 0)
    engine.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before + 4  # the line's


def test_a_kernel_that_grants_no_large_pipe_is_not_asked_again(
    monkeypatch: pytest.MonkeyPatch, lines: Callable[[], Ends]
) -> None:
    asked: list[int] = []

    def refuse(*_: object) -> int:
        asked.append(1)
        raise PermissionError

    monkeypatch.setattr("fcntl.fcntl", refuse)
    engine = SpliceEngine()
    carrier = engine.carrier()
    sender, source, target, receiver = lines()
    for _ in range(3):
        sender.send(b"copied")
        carrier.pull(source, MIB)
        carrier.push(target)
        assert receiver.recv(10) == b"copied"
    assert (len(asked), engine.pool.in_use) == (1, 0)


def test_this_system_splices_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_splice()
    engine = best_engine()
    assert isinstance(engine.carrier(), SpliceCarrier)
    engine.close()

    def refuse(*_: object, **__: object) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr("os.splice", refuse)
    assert isinstance(best_engine(), CopyEngine)

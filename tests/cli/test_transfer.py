"""What goes on beside a session: signals, questions, ticks; and that all of it ends with the session."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest
from tallow_cli.errors import OutputClosedError, StoppedError, UsageError
from tallow_cli.transfer import _Attention
from tallow_protocol import CancelledByUserError, PathInUse, PathKind, TransferStarted

DEADLINE_S = 30

NEVER_ENDS = """
import asyncio, sys
from tallow_cli.errors import StoppedError
from tallow_cli.transfer import _Attention, run

class Silent:
    def waiting(self, for_what, now): print("waiting", for_what, flush=True)
    def tick(self, now): pass
    def close(self, now): print("closed", flush=True)

async def session():
    with _Attention(lambda: print("told to cancel", flush=True), Silent()) as attention:
        if sys.argv[1] == "entered":
            attention.entered()
        print("ready", flush=True)
        await asyncio.Event().wait()

try:
    run(session())
except StoppedError as error:
    print("stopped:", error)
"""


class Output:
    """Keeps what it is told; its ticks do what `on_tick` does."""

    def __init__(self, on_tick=lambda: None):
        self.waits = []
        self.closed = False
        self._on_tick = on_tick

    def waiting(self, for_what, now):
        self.waits.append(for_what)

    def show(self, event, now):
        pass

    def tick(self, now):
        self._on_tick()

    def close(self, now):
        self.closed = True


@pytest.fixture
def stubborn():
    running = []

    def start(state):
        child = subprocess.Popen([sys.executable, "-c", NEVER_ENDS, state], stdout=subprocess.PIPE, text=True)
        running.append(child)
        assert child.stdout.readline() == "ready\n"
        return child

    yield start
    for child in running:
        child.kill()
        child.wait()
        child.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_tells_the_peer_and_the_second_ends_at_once(stubborn, number):
    child = stubborn("entered")
    child.send_signal(number)
    assert child.stdout.readline() == "waiting for the other side to be told; Ctrl-C again ends at once\n"
    assert child.stdout.readline() == "told to cancel\n"
    child.send_signal(number)
    assert child.stdout.read() == "closed\nstopped: interrupted\n"
    assert child.wait(DEADLINE_S) == 0


def test_before_the_session_runs_the_first_signal_ends_at_once(stubborn):
    child = stubborn("not yet")
    child.send_signal(signal.SIGINT)
    assert child.stdout.read() == "closed\nstopped: interrupted\n"
    assert child.wait(DEADLINE_S) == 0


async def ended_by(cancelled):
    """Stand for a session: end as a cancelled one does."""
    async with asyncio.timeout(DEADLINE_S):
        await cancelled.wait()
    raise CancelledByUserError


async def test_a_question_that_fails_ends_the_session_with_its_own_error():
    async def question():
        raise UsageError("no answer")

    async def session():
        with _Attention(cancelled.set, output) as attention:
            attention.ask(question())
            await ended_by(cancelled)

    cancelled, output = asyncio.Event(), Output()
    with pytest.raises(UsageError, match="no answer"):
        await session()
    assert output.closed


async def test_an_output_that_breaks_between_events_ends_the_session_with_its_own_error():
    def broken():
        raise OutputClosedError("gone")

    cancelled = asyncio.Event()
    with pytest.raises(OutputClosedError), _Attention(cancelled.set, Output(broken)):
        await ended_by(cancelled)


async def test_a_question_that_nobody_answered_ends_with_the_session():
    ended = asyncio.Event()

    async def question():
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with _Attention(lambda: None, Output()) as attention:
        attention.ask(question())
        await asyncio.sleep(0)
    async with asyncio.timeout(DEADLINE_S):
        await ended.wait()


async def test_the_wait_for_a_direct_path_lasts_from_the_yes_to_the_first_data():
    output = Output()
    with _Attention(lambda: None, output, before_data="for a direct path") as attention:
        attention.show(TransferStarted(1, 10))
        attention.show(PathInUse(PathKind.DIRECT_TCP, plain=True, connections=1))
    assert output.waits == ["for a direct path", None]


async def test_an_error_of_the_session_is_told_as_it_is():
    with pytest.raises(UsageError, match="as it is"), _Attention(lambda: None, Output()):
        raise UsageError("as it is")


async def test_after_a_signal_the_error_is_that_it_was_interrupted():
    def session():
        with _Attention(lambda: None, Output()) as attention:
            attention.entered()
            attention._on_signal()
            raise CancelledByUserError

    with pytest.raises(StoppedError):
        session()

"""Questions to a person, on a real pseudo-terminal."""

from __future__ import annotations

import signal

import pytest
from tallow_cli.prompt import is_yes

from tests.cli.terminals import python

ASK = """
import asyncio
from tallow_cli.output.interface import Sink
from tallow_cli.prompt import Terminal

async def main():
    terminal = Terminal.find(Sink.stderr())
    print("beats:", end="", flush=True)
    beat = asyncio.create_task(beats())
    print("answer", repr(await terminal.ask("Go on? ")), flush=True)
    beat.cancel()

async def beats():
    while True:
        await asyncio.sleep(0.05)
        print(".", end="", flush=True)

asyncio.run(main())
"""

ABANDON = """
import asyncio, signal
from tallow_cli.output.interface import Sink
from tallow_cli.prompt import Terminal

async def main():
    terminal = Terminal.find(Sink.stderr())
    question = asyncio.create_task(terminal.ask("Go on? "))
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, question.cancel)
    await asyncio.wait([question])
    print("cancelled", question.cancelled(), flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("answer", ["y", "Y", "yes", " YES \n"])
def test_a_plain_yes_is_a_yes(answer):
    assert is_yes(answer)


@pytest.mark.parametrize("answer", ["", "n", "no", "yess", "l", "j", "\x1b[Ay", "sure"])
def test_everything_else_is_a_no(answer):
    assert not is_yes(answer)


def test_the_loop_goes_on_while_a_person_thinks():
    with python(ASK) as child:
        child.until("Go on? ")
        child.until("...")
        child.type("y\n")
        child.until("answer 'y'")
        assert child.end() == 0


def test_the_end_of_input_is_an_empty_answer():
    with python(ASK) as child:
        child.until("Go on? ")
        child.type("\x04")
        child.until("answer ''")
        assert child.end() == 0


def test_what_was_typed_before_the_question_does_not_answer_it():
    with python(f"input()\n{ASK}") as child:
        child.type("first\ny\n")
        child.until("Go on? ")
        child.until("...")
        child.type("n\n")
        child.until("answer 'n'")
        assert child.end() == 0


def test_an_abandoned_question_holds_up_nothing():
    with python(ABANDON) as child:
        child.until("Go on? ")
        child.process.send_signal(signal.SIGUSR1)
        child.until("cancelled True")
        assert child.end() == 0


def test_without_a_terminal_nobody_is_asked():
    source = (
        "from tallow_cli.prompt import Terminal; from tallow_cli.output.interface import Sink; import sys; "
    )
    source += "sys.stdin = open('/dev/null'); print('found', Terminal.find(Sink.stderr()))"
    with python(source) as child:
        child.until("found None")
        assert child.end() == 0

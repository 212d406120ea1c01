"""Which output a command has, and whether a person is there to answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallow_cli.errors import NoTerminalError
from tallow_cli.output.interface import Sink
from tallow_cli.prompt import Terminal
from tallow_cli.transfer import Person

if TYPE_CHECKING:
    from tallow_cli.application import Border
    from tallow_cli.output.interface import Output

__all__ = ["Screens", "open_output"]


@dataclass(frozen=True, slots=True)
class Screens:
    """A command's output, and the person who answers, or None."""

    output: Output
    person: Person | None


def open_output(
    border: Border,
    *,
    sending: bool,
    json: bool,
    quiet: bool,
    verify: bool,
    yes: bool = False,
    lists: bool = False,
    stdout_is_data: bool = False,
) -> Screens:
    """Return what the options ask for (`yes`: nobody is asked about an offer; `lists`: it is what was asked for), and leave the output with the border that reports failures.

    NoTerminalError where `verify` needs a person and there is none.
    """
    stderr = Sink.stderr()
    terminal = None if json else Terminal.find(stderr)
    if verify and terminal is None:
        raise NoTerminalError(
            "--verify needs a person who compares the digits, and there is no terminal to ask on"
            if not json
            else "--verify needs a person who compares the digits, and --json is for programs",
            hints=("run it in a terminal without --json, or leave --verify out",),
        )
    # Each of the two takes 4 ms to import, and a command has one.
    if json:
        from tallow_cli.output.jsonlines import JsonLines

        border.output = JsonLines(Sink.stdout())
        return Screens(border.output, None)
    from tallow_cli.output.human import Screen

    screen = Screen(
        stderr if stdout_is_data else Sink.stdout(),
        stderr,
        sending=sending,
        quiet=quiet,
        asks=terminal is not None and not yes,
        data=lists,
    )
    border.output = screen
    return Screens(screen, None if terminal is None else Person(terminal, screen))

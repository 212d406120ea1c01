"""Where the receiver's code comes from: argument, TALLOW_CODE, a pipe, or a person at the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tallow_cli.errors import UsageError, failure_of, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import IO

    from tallow_protocol import Code

__all__ = ["CODE_VARIABLE", "completions", "read_code"]

CODE_VARIABLE = "TALLOW_CODE"

_LINE_CHARACTERS = 4096
"""A code is far shorter; a pipe that never sends a line end is not read for ever."""

_PROMPT = "Code from the sender's screen: "


def read_code(arguments: Sequence[str] | None, environment: Mapping[str, str]) -> Code:
    """Return the code that was given in the first of these places; its words may be arguments of their own.

    A word that is not in the list raises CodeError (tallow_protocol); at the terminal it is said and asked again.
    UsageError where there is none.
    """
    from tallow_protocol import Code

    if arguments:
        return _of_arguments(arguments)
    if environment.get(CODE_VARIABLE):
        return Code.parse(environment[CODE_VARIABLE])
    stdin = sys.stdin
    if stdin is None or stdin.closed:
        raise _no_code()
    if stdin.isatty():
        return _ask(Code.parse)
    line = _first_line(stdin)
    if not line:
        raise _no_code()
    return Code.parse(line)


def _of_arguments(arguments: Sequence[str]) -> Code:
    from tallow_protocol import Code, CodeError

    if len(arguments) == 1:
        return Code.parse(arguments[0])
    try:
        Code.parse(arguments[0])
    except CodeError:  # no whole code yet
        return Code.parse(" ".join(arguments))
    raise UsageError(
        f"one argument too many after the code: {printable(arguments[1])!r}",
        hints=("the folder to receive into is given with --out",),
    )


def completions(line: str, fragment: str) -> list[str]:
    """Return what Tab offers for `fragment`, the last part of `line`: list words, with their dash where one follows."""
    from tallow_protocol.code import complete_word

    before = line[: len(line) - len(fragment)].replace(" ", "-")
    words_before = len([part for part in before.split("-") if part]) - 1
    if words_before < 0:
        return []  # the number, which nobody can guess
    dash = "-" if words_before < 2 else ""
    return [word + dash for word in complete_word(fragment.lower())]


def _first_line(stdin: IO[str]) -> str:
    return stdin.readline(_LINE_CHARACTERS).strip()


def _ask(parse: Callable[[str], Code]) -> Code:
    from tallow_protocol import CodeError

    read = _terminal_reader()
    while True:
        try:
            line = read().strip()
        except EOFError:
            sys.stderr.write("\n")
            raise _no_code() from None
        except KeyboardInterrupt:
            sys.stderr.write("\n")  # what follows starts a line of its own
            raise
        if not line:
            continue
        try:
            return parse(line)
        except CodeError as error:
            failure = failure_of(error)
            sys.stderr.write(f"{failure.sentence}\n")
            for hint in failure.hints:
                sys.stderr.write(f"hint: {hint}\n")


def _terminal_reader() -> Callable[[], str]:
    """Return what reads a line, with completion where readline and a terminal on both ends exist."""
    if sys.stdout is None or not sys.stdout.isatty():
        return _plain_reader
    try:
        import readline
    except ImportError:
        return _plain_reader
    found: list[str] = []

    def complete(fragment: str, state: int) -> str | None:
        if state == 0:
            found[:] = completions(readline.get_line_buffer()[: readline.get_endidx()], fragment)
        return found[state] if state < len(found) else None

    readline.set_completer(complete)
    readline.set_completer_delims("- ")
    readline.parse_and_bind(
        "bind ^I rl_complete" if "libedit" in (readline.__doc__ or "") else "tab: complete"
    )
    return lambda: input(_PROMPT)


def _plain_reader() -> str:
    sys.stderr.write(_PROMPT)
    sys.stderr.flush()
    line = sys.stdin.readline(_LINE_CHARACTERS)
    if not line:
        raise EOFError
    return line


def _no_code() -> UsageError:
    return UsageError(
        "no code was given",
        hints=(f"give it as an argument, in {CODE_VARIABLE}, or as the first line of standard input",),
    )

"""The command group of `tallow`: lazy subcommands, usage errors in our words, one report for every failure."""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallow_cli.errors import (
    FULL,
    OutputClosedError,
    OutputFailedError,
    StoppedError,
    UsageError,
    failure_of,
)
from tallow_cli.exit_codes import ExitCode, exit_code_of
from tallow_cli.options import OTHER
from tallow_cli.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tallow_cli.output.interface import Output

__all__ = ["Border", "invoke"]

_COMMANDS = {
    "send": ("tallow_cli.commands.send", "send"),
    "receive": ("tallow_cli.commands.receive", "receive"),
    "resume": ("tallow_cli.commands.resume", "resume"),
}

_CODE_LIKE = re.compile(r"\b[0-9]+(?:-[a-z]+){2,}\b|\b[0-9]+:\S{12,}")


class Border:
    """What a command leaves for whoever reports its end: the output it had opened, if it came that far."""

    def __init__(self, *, json: bool, command: str = "tallow") -> None:
        self.json = json
        self.command = command
        self.output: Output | None = None


class _Command(typer.core.TyperCommand):
    """A command whose help names its arguments plainly, PATH... and not {PATH...}, and has its options in groups."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            row = parameter.get_help_record(ctx)
            is_argument = parameter.param_type_name == "argument"
            title = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or OTHER
            if row is not None:
                sections.setdefault(title, []).append(row)
        for title in sorted(sections, key=lambda title: title == OTHER):
            with formatter.section(title):
                formatter.write_dl(sections[title])


class _LazyGroup(typer.core.TyperGroup):
    """Imports a command's module only when that command is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        found = getattr(importlib.import_module(module), name)
        if isinstance(found, typer.Typer):
            return typer.main.get_command(found)
        command = typer.Typer(add_completion=False, rich_markup_mode=None)
        command.command(name, cls=_Command, no_args_is_help=cmd_name == "send")(found)
        return typer.main.get_command(command)


_application = typer.Typer(
    cls=_LazyGroup,
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _show_version(asked: bool) -> None:  # noqa: FBT001 - an option's callback gets its value so
    if asked:
        typer.echo(f"tallow {VERSION}")
        raise typer.Exit


_EPILOG = """Environment: TALLOW_RELAY, TALLOW_PATHS, TALLOW_CODE, TALLOW_HOME, TALLOW_DEBUG, NO_COLOR.

Exit codes and JSON events: docs/cli.md."""


@_application.callback(epilog=_EPILOG)
def _tallow(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version and exit."),
    ] = False,
) -> None:
    """Send files from one machine to another under a short code, sealed from end to end.

    On one machine, run: tallow send PATH

    It prints the line to run on the other machine.
    """


def invoke(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` name and return its exit code; every failure is reported here."""
    debug = os.environ.get("TALLOW_DEBUG") == "1"
    _set_up_diagnostics(debug=debug)
    named = " ".join(["tallow", *(arguments[:1] if arguments[:1] and arguments[0] in _COMMANDS else ())])
    border = Border(json="--json" in arguments, command=named)
    try:
        result = typer.main.get_command(_application).main(
            args=list(arguments), prog_name="tallow", standalone_mode=False, obj=border
        )
        if result == ExitCode.INTERRUPTED:  # typer met Ctrl-C before a session could
            raise StoppedError("interrupted")
    except (
        OutputClosedError,
        SystemExit,
    ):  # typer exits by itself for one reason: its own writing met no reader
        return ExitCode.OUTPUT_CLOSED
    except (
        OSError
    ) as error:  # of typer's own writing, --help for one: all others come here with a type of ours
        return _report(OutputFailedError(error) if error.errno in FULL else error, border)
    except Exception as error:  # noqa: BLE001 - the border: whatever it is, the user gets a sentence
        if debug:
            sys.stderr.write(_redacted("".join(traceback.format_exception(error))))
        return _report(error, border)
    return result if isinstance(result, int) else ExitCode.OK


def _report(error: Exception, border: Border) -> int:
    if hasattr(
        error, "format_message"
    ):  # typer's errors; their class is vendored, its name differs by version
        error = _usage_error(error, border.command)
    failure = failure_of(error)
    output = border.output
    from tallow_cli.output.interface import Sink

    if border.json:
        from tallow_cli.output.line import error_line

        try:
            if output is None:
                Sink.stdout().line(error_line(failure))
            else:
                output.failed(failure)
        except OutputClosedError:
            return ExitCode.OUTPUT_CLOSED
        except OutputFailedError:
            pass  # standard output cannot be written; standard error says what happened
    if border.json or output is None:
        for line in failure.lines():
            Sink.stderr().line(line)
    else:
        output.failed(failure)
    return exit_code_of(failure.code)


def _usage_error(error: Any, named: str) -> UsageError:
    """Return typer's error in our words: `Missing argument 'PATH...'.` becomes a sentence of our kind.

    `named` is the command where the error does not know it.
    """
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else named
    if type(error).__name__ == "NoArgsIsHelpError":  # its message is the whole help
        missing = "a path is missing" if command == "tallow send" else "a command is missing"
        return UsageError(missing, hints=(f"see {command} --help",))
    near = sorted(getattr(error, "possibilities", None) or ())
    hints = (*([f"did you mean {' or '.join(near)}?"] if near else ()), f"see {command} --help")
    return UsageError(error.message if near else error.format_message(), hints=hints)


def _set_up_diagnostics(*, debug: bool) -> None:
    """Keep libraries from writing to the screen; with TALLOW_DEBUG=1, let ours write what they log."""
    root = logging.getLogger()
    if not debug:
        root.addHandler(logging.NullHandler())
        # Faults in finalizers and threads would print tracebacks past every border.
        sys.unraisablehook = _ignore
        threading.excepthook = _ignore
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_RedactingFormatter("%(relativeCreated)7d %(name)s %(levelname)s: %(message)s"))
    handler.addFilter(lambda record: record.name.startswith(("tallow", "asyncio")))
    root.addHandler(handler)
    logging.getLogger("tallow").setLevel(logging.DEBUG)
    for package in ("tallow_net", "tallow_protocol", "tallow_store", "tallow_crypto", "tallow_cli"):
        logging.getLogger(package).setLevel(logging.DEBUG)


class _RedactingFormatter(logging.Formatter):
    """Formats a record, a traceback included, without anything that looks like a code."""

    def format(self, record: logging.LogRecord) -> str:
        return _redacted(super().format(record))


def _redacted(text: str) -> str:
    """Return `text` without anything that looks like a code; our errors hold none, other libraries' might."""
    return _CODE_LIKE.sub("[code]", text)


def _ignore(_fault: object) -> None:
    """Say nothing."""

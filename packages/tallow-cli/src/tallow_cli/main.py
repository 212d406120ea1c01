"""The entry of `tallow`.

Nothing heavy is imported here: `tallow --version` is answered before typer is.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys

from tallow_cli.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

__all__ = ["main", "run"]

COLLECT_AFTER = 50_000
"""Objects between two searches for cycles. The usual 700 are 100 searches, 15 ms, while a command is loaded; an offer
of 100,000 files is many objects and no cycle."""


def main() -> None:
    """Run `tallow` with the process's arguments and exit."""
    gc.set_threshold(COLLECT_AFTER)
    end(run(sys.argv[1:]))


def end(code: int) -> NoReturn:
    """Exit; where no thread is to be waited for, without taking the interpreter apart, which takes 30 ms and more."""
    threading = sys.modules.get("threading")
    if threading is None or all(t.daemon or t is threading.main_thread() for t in threading.enumerate()):
        atexit._run_exitfuncs()  # noqa: SLF001 - what the interpreter itself calls, and there is no other name for it
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, ValueError):
                continue  # closed from the start: nothing was to be written there
            except OSError as error:
                code = code or _unwritten(error)
        os._exit(code)
    sys.exit(code)


def _unwritten(error: OSError) -> int:
    """Return the exit code of a success whose last words could not be written."""
    from tallow_cli.errors import OutputFailedError
    from tallow_cli.exit_codes import exit_code_of

    is_closed = isinstance(error, BrokenPipeError)
    return exit_code_of("output_closed" if is_closed else OutputFailedError(error).code)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. Every failure is printed, none is raised."""
    if list(arguments) == ["--version"]:
        try:
            sys.stdout.write(f"tallow {VERSION}\n")
            sys.stdout.flush()
        except OSError:
            pass  # `invoke` will run into the same, and has words for it
        else:
            return 0
    for name in ("SIGTERM", "SIGHUP"):
        # What is ignored from the start, as by nohup, stays ignored.
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN:
            signal.signal(getattr(signal, name), _as_ctrl_c)
    try:
        from tallow_cli.application import invoke

        return invoke(arguments)
    except KeyboardInterrupt:
        # Ctrl-C while the command was still being loaded.
        sys.stderr.write("tallow: error: interrupted\n")
        return 130


def _as_ctrl_c(number: int, frame: object) -> None:
    """Treat a request to end as Ctrl-C: the peer is told, nothing half-written stays."""
    del number, frame
    raise KeyboardInterrupt

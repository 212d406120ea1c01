"""The entry of `tallow`.

Nothing heavy is imported here: `tallow --version` is answered before typer is.
"""

from __future__ import annotations

import signal
import sys

from tallow_cli.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "run"]


def main() -> None:
    """Run `tallow` with the process's arguments and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. Every failure is printed, none is raised."""
    if list(arguments) == ["--version"]:
        sys.stdout.write(f"tallow {VERSION}\n")
        return 0
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
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

"""One JSON event as one line, without anything heavy behind it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tallow_cli.errors import Failure

__all__ = ["SCHEMA", "error_line", "event_line"]

SCHEMA = 1


def event_line(event: str, **fields: Any) -> str:
    """Return one event, without the line's end.

    ASCII only: the line survives every locale, and no name in it can drive a terminal that shows it.
    """
    return json.dumps({"schema": SCHEMA, "event": event, **fields}, separators=(",", ":"))


def error_line(failure: Failure) -> str:
    """Return the `error` event, which is the last line of a command that failed."""
    return event_line("error", error=failure.code, message=failure.sentence, hints=list(failure.hints))

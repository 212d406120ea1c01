"""What `tallow send` was told to send: paths, a text, or standard input."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tallow_protocol.limits import TEXT_BYTES

from tallow_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ToSend", "what_to_send"]

STANDARD_INPUT = "-"
_NO_NAME = {"", ".", ".."}


@dataclass(frozen=True, slots=True)
class ToSend:
    """Exactly one of these: paths, a text, or the name under which standard input is sent."""

    paths: tuple[str, ...] = ()
    text: str | None = None
    stream_name: str | None = None


def what_to_send(paths: Sequence[str], text: str | None, name: str | None) -> ToSend:
    """Return what is sent. UsageError for more than one kind, none, and what has no effect."""
    streams = STANDARD_INPUT in paths
    if name is not None and not streams:
        raise UsageError("--name is what standard input is called, and - is not sent")
    if text is not None:
        if paths:
            raise UsageError("--text is sent alone", hints=("send the files with a second command",))
        if not text or len(text.encode("utf-8", "replace")) > TEXT_BYTES:
            raise UsageError(
                f"a text has 1 to {TEXT_BYTES} bytes",
                hints=("send a longer one as a file, or pipe it into: tallow send -",),
            )
        return ToSend(text=text)
    if not paths:
        raise UsageError("a path is missing", hints=("see tallow send --help",))
    if not streams:
        named = {Path(path).absolute() if path else None: path for path in reversed(paths)}
        return ToSend(paths=tuple(reversed(named.values())))  # one that is named twice is sent once
    if len(paths) > 1:
        raise UsageError("- is sent alone", hints=("a file that is called - is sent as ./-",))
    if sys.stdin is None or sys.stdin.closed:
        raise UsageError("- is standard input, and it is closed")
    chosen = "stdin" if name is None else name
    if chosen in _NO_NAME or "/" in chosen or "\0" in chosen:
        raise UsageError(f"--name is the name of a file, not {chosen!r}")
    return ToSend(stream_name=chosen)

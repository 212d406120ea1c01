"""What a command tells its output, whoever reads it."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

from tallow_cli.errors import OutputClosedError, OutputFailedError

if TYPE_CHECKING:
    from tallow_protocol import Event

    from tallow_cli.errors import Failure

__all__ = ["Output", "ReceiveLine", "Sink"]


@dataclass(frozen=True, slots=True)
class ReceiveLine:
    """How the other side receives: the command to run there, and the addresses where this side listens.

    `peers` are HOST:PORT, the likeliest first; empty where a relay brings both together. `fallback` is the command that
    names the first of them, for where `command` finds nothing; None where there is a relay.
    """

    code: str
    command: str
    fallback: str | None
    peers: tuple[str, ...]


class Sink:
    """A text stream that may be missing, may lack letters, and is flushed after every write.

    A standard stream that was closed before we started is None in Python; writing to it does nothing. A closed
    reader raises OutputClosedError, a full disk OutputFailedError, unless the stream is `forgiving` (standard error:
    nobody is left to tell).
    """

    def __init__(self, stream: TextIO | None, *, forgiving: bool) -> None:
        self._stream = stream
        self._forgiving = forgiving

    @property
    def is_terminal(self) -> bool:
        """Return whether a person sees this stream."""
        return self._stream is not None and not self._stream.closed and self._stream.isatty()

    def write(self, text: str) -> None:
        """Write and flush `text`; letters that the stream's encoding lacks are written as escapes."""
        stream = self._stream
        if stream is None:
            return
        encoding = stream.encoding or "utf-8"
        safe = text.encode(encoding, "backslashreplace").decode(encoding)
        try:
            stream.write(safe)
            stream.flush()
        except OSError as error:
            _send_nowhere(stream)
            if self._forgiving:
                return
            if isinstance(error, BrokenPipeError):
                raise OutputClosedError("whoever read the standard output has gone") from None
            raise OutputFailedError(error) from error

    def line(self, text: str) -> None:
        """Write one line."""
        self.write(f"{text}\n")

    @classmethod
    def stdout(cls) -> Sink:
        """Return standard output: data."""
        return cls(sys.stdout, forgiving=False)

    @classmethod
    def stderr(cls) -> Sink:
        """Return standard error: all that is not data."""
        return cls(sys.stderr, forgiving=True)


def _send_nowhere(stream: TextIO) -> None:
    """Let what is still buffered, which the interpreter flushes at its end, go where it can."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


class Output(Protocol):
    """Where a command's events go. `now` is monotonic seconds; calls do not overlap."""

    def code_ready(self, receive: ReceiveLine) -> None:
        """Show the code and how it is used; the sender waits from here on."""

    def show(self, event: Event, now: float) -> None:
        """Show one event."""

    def waiting(self, for_what: str | None, now: float) -> None:
        """Note what is being waited for (said aloud after two seconds), or None."""

    def tick(self, now: float) -> None:
        """Let time pass: say what is waited for, redraw a bar. Called about twice a second."""

    def looked(self) -> None:
        """Say that the offer was only looked at; that was what the user wanted."""

    def failed(self, failure: Failure) -> None:
        """Show the error that ends the command."""

    def close(self, now: float) -> None:
        """Leave the screen in order: an open bar is ended."""

"""Questions to a person, while the transfer's own tasks go on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tallow_cli.output.interface import Sink

__all__ = ["Terminal", "is_yes"]

_ANSWER_BYTES = 4096
"""A terminal's line buffer holds no more."""


def is_yes(answer: str) -> bool:
    """Return whether `answer` is a plain yes; everything else, an empty line too, is a no."""
    return answer.strip().lower() in {"y", "yes"}


class Terminal:
    """The person at this terminal: questions go to standard error, answers come from standard input."""

    def __init__(self, stderr: Sink, descriptor: int) -> None:
        self._stderr = stderr
        self._descriptor = descriptor

    @classmethod
    def find(cls, stderr: Sink) -> Terminal | None:
        """Return the terminal, or None where input or the screen is none: nobody could answer."""
        if sys.stdin is None or sys.stdin.closed or not sys.stdin.isatty() or not stderr.is_terminal:
            return None
        return cls(stderr, sys.stdin.fileno())

    async def ask(self, question: str) -> str:
        """Return the answer's line, "" at the end of input. One question at a time.

        What was typed before the question is dropped: nobody says yes to an offer that was not on the screen.
        Cancelling abandons the question; its reader thread ends with the process.
        """
        with contextlib.suppress(ImportError, OSError):
            import termios

            termios.tcflush(self._descriptor, termios.TCIFLUSH)
        self._stderr.write(question)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()

        def deliver(text: str) -> None:
            if not answer.done():
                answer.set_result(text)

        def read() -> None:
            text = _read_line(self._descriptor)
            if not text.endswith("\n"):
                self._stderr.write("\n")  # the end of input, which leaves the cursor behind the question
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(deliver, text)

        # A daemon thread and not the executor: nothing may wait for it when the session ends first.
        threading.Thread(target=read, name="answer", daemon=True).start()
        try:
            return (await answer).rstrip("\n")
        except asyncio.CancelledError:
            self._stderr.write("\n")
            raise


def _read_line(descriptor: int) -> str:
    line = b""
    while not line.endswith(b"\n") and len(line) < _ANSWER_BYTES:
        try:
            piece = os.read(descriptor, _ANSWER_BYTES)
        except OSError:
            break  # the terminal is gone: nobody answers
        if not piece:
            break
        line += piece
    return line.decode(errors="replace")

"""Errors that the command line itself raises, and how any error is told to people and programs.

    CliError
    |-- UsageError          usage     the command line, the environment or the configuration is wrong
    |   `-- NoTerminalError usage     a person has to answer, and there is none
    |-- OfferRefusedError   refused   the offer was refused here
    |-- StoppedError        interrupted   Ctrl-C or SIGTERM
    |-- OutputFailedError   no_space, not_writable   standard output cannot be written
    `-- OutputClosedError   output_closed   whoever read our standard output has gone

What other packages raise (ProtocolError, NetError, StoreError, CryptoError) is met at one border,
`main.run`, and needs only `code`, `str()` and `hints`; nothing is imported to recognise it.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

__all__ = [
    "FULL",
    "CliError",
    "Failure",
    "NoTerminalError",
    "OfferRefusedError",
    "OutputClosedError",
    "OutputFailedError",
    "StoppedError",
    "UsageError",
    "failure_of",
    "printable",
]


FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What a write to a full disk, or beyond a quota, fails with."""


class CliError(Exception):
    """Base of this package's errors: a stable `code`, one sentence, `hints` as next steps."""

    code: str = "internal"
    retryable: bool = False

    def __init__(self, sentence: str, *, hints: tuple[str, ...] = ()) -> None:
        super().__init__(sentence)
        self.hints = hints


class UsageError(CliError):
    """The command line, the environment or the configuration is wrong."""

    code = "usage"


class NoTerminalError(UsageError):
    """A person has to answer, and there is no terminal to ask on."""


class OfferRefusedError(CliError):
    """The offer was refused on this side."""

    code = "refused"


class StoppedError(CliError):
    """Ctrl-C, or a signal that asks for the same."""

    code = "interrupted"


class OutputClosedError(CliError):
    """Whoever read our standard output has gone; there is nobody to tell."""

    code = "output_closed"


class OutputFailedError(CliError):
    """Standard output cannot be written: `no_space` where what it goes to is full, else `not_writable`."""

    def __init__(self, error: OSError) -> None:
        full = error.errno in FULL
        self.code = "no_space" if full else "not_writable"
        hint = "make room where it goes" if full else "let it go elsewhere"
        super().__init__(
            f"standard output cannot be written: {error.strerror}", hints=(f"{hint}, then start again",)
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """What is said of an error: its stable code, one sentence, and next steps."""

    code: str
    sentence: str
    hints: tuple[str, ...]

    def lines(self) -> tuple[str, ...]:
        """Return what standard error shows."""
        return (f"tallow: error: {self.sentence}", *(f"hint: {hint}" for hint in self.hints))


def printable(text: str) -> str:
    """Return `text` on one line, with everything that could drive a terminal replaced by "?"."""
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "?" for letter in text)


def _in_one_style(sentence: str) -> str:
    """Return `sentence` as it stands after "tallow: error: ": no capital, no full stop if it is the only sentence."""
    text = printable(sentence).strip()
    first = text.partition(" ")[0]
    if first[:1].isupper() and (len(first) == 1 or first[1:].islower()):
        text = text[0].lower() + text[1:]
    return text.removesuffix(".") if ". " not in text else text


def failure_of(error: BaseException) -> Failure:
    """Return what is said of `error`; one that nobody typed is called a fault of Tallow, by its class alone."""
    code = getattr(error, "code", None)
    hints = getattr(error, "hints", None)
    if isinstance(code, str) and isinstance(hints, tuple):
        return Failure(code, _in_one_style(str(error)), tuple(_in_one_style(str(hint)) for hint in hints))
    return Failure(
        "internal",
        f"something went wrong inside Tallow ({type(error).__name__})",
        ("run the command again with TALLOW_DEBUG=1 and report what it prints",),
    )

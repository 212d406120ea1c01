"""What every target is made of: a name, a function of bytes that raises where a property does not hold, and seeds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tallow_protocol.errors import (
    InternalError,
    MisuseError,
    ProtocolError,
)

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["CORPUS", "TARGETS", "Reader", "Target", "check", "corpus", "peers_fault", "target"]


@dataclass(frozen=True, slots=True)
class Target:
    """One decoder of what `reads` says: `run` raises where a property does not hold, `seeds` are inputs that it takes."""

    name: str
    reads: str
    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


TARGETS: dict[str, Target] = {}


def target(
    reads: str, seeds: Callable[[], list[bytes]]
) -> Callable[[Callable[[bytes], None]], Callable[[bytes], None]]:
    """Make a target of a function, under its name; `reads` stands in the table of docs/reliability.md."""

    def register(run: Callable[[bytes], None]) -> Callable[[bytes], None]:
        TARGETS[run.__name__] = Target(run.__name__, reads, run, seeds)
        return run

    return register


def check(holds: object, what: str) -> None:
    """Raise AssertionError unless it holds; a plain `assert` says less without pytest."""
    if not holds:
        raise AssertionError(what)


def peers_fault(error: ProtocolError) -> None:
    """Raise what a peer's bytes must never cause: an error that blames our own caller, or nobody."""
    if isinstance(error, MisuseError | InternalError):
        raise error
    check(str(error), "an error without a sentence")


class Reader:
    """Cuts fields from the front of the bytes; zeros behind their end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    @property
    def left(self) -> int:
        return max(len(self._data) - self.at, 0)

    def take(self, length: int) -> bytes:
        piece = self._data[self.at : self.at + length]
        self.at += length
        return piece

    def number(self, length: int = 1) -> int:
        return int.from_bytes(self.take(length), "big")


CORPUS = Path(__file__).parent / "corpus"


def corpus(name: str) -> list[Path]:
    """Return the files of a target's corpus: small inputs that were found, and every past finding."""
    folder = CORPUS / name
    return sorted(folder.iterdir()) if folder.is_dir() else []

"""What a scan leaves out: patterns of the user's, and those of ignore files in the folders, with git's meaning.

A pattern is relative to the folder that its file stands in, or, for the user's own, to each folder that was given. The
last pattern that matches decides, a deeper file's before an outer one's, `!` takes something in again; what is below a
folder that is left out is not looked at. `.tallowignore` always counts, `.gitignore` only if asked for. Files above what
was given, and git's own configuration, do not.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallow_protocol.disk import names
from tallow_protocol.disk.patterns import Pattern, PatternError
from tallow_protocol.errors import BadPatternError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["Ignore", "ScanOptions"]

TALLOW_IGNORE = ".tallowignore"
GIT_IGNORE = ".gitignore"

IGNORE_BYTES = 128 * 1024
"""Longest ignore file: a hundred times what one usually has. A longer one is an error, not cut.

With the bound on its patterns it bounds what a folder that somebody else made costs: 0.2 s for each name at the very worst.
"""

IGNORE_PATTERNS = 4096
"""Most patterns of one ignore file; each costs about 0.1 ms once, and a microsecond for each name."""


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """What a scan leaves out. Hidden files come along like any other."""

    exclude: tuple[str, ...] = ()
    """Patterns as in a `.gitignore`; those that are given win over every ignore file."""

    gitignore: bool = False
    """Whether `.gitignore` files in the folders count beside `.tallowignore`."""


class Ignore:
    """The patterns that hold in one folder of a scan. Paths are relative to the folder that the user gave."""

    __slots__ = ("_files", "_given", "_levels")

    def __init__(
        self,
        given: tuple[Pattern, ...],
        files: tuple[str, ...],
        levels: tuple[tuple[int, tuple[Pattern, ...]], ...] = (),
    ) -> None:
        self._given = given
        self._files = files
        self._levels = levels

    @classmethod
    def of(cls, options: ScanOptions) -> Ignore:
        """Return the rules of a given folder before it is looked into; BadPatternError for what is no pattern."""
        given: list[Pattern] = []
        for text in options.exclude:
            try:
                pattern = Pattern.parse(text)
            except PatternError as error:
                raise BadPatternError(f"{names.quoted(text)} is no pattern: {error}") from None
            if pattern is not None:
                given.append(pattern)
        return cls(
            tuple(reversed(given)), (GIT_IGNORE, TALLOW_IGNORE) if options.gitignore else (TALLOW_IGNORE,)
        )

    @property
    def idle(self) -> bool:
        """Return whether nothing can be left out here."""
        return not self._given and not self._levels

    def inside(self, folder: str, relative: str, found: Collection[str]) -> Ignore:
        """Return the rules inside a folder that holds the names `found`. Raises UnreadableError for its ignore files."""
        patterns: list[Pattern] = []
        for name in self._files:
            if name in found:
                path = f"{folder}/{name}"
                patterns += _patterns(path, _lines(path))
        if not patterns:
            return self
        depth = len(relative) + 1 if relative else 0
        return Ignore(self._given, self._files, (*self._levels, (depth, tuple(reversed(patterns)))))

    def leaves_out(self, relative: str, *, folder: bool) -> bool:
        """Return whether what stands at a path is left out."""
        for pattern in self._given:
            if pattern.matches(relative, folder=folder):
                if pattern.negated:
                    break
                return True
        for depth, patterns in reversed(self._levels):
            path = relative[depth:]
            for pattern in patterns:
                if pattern.matches(path, folder=folder):
                    return not pattern.negated
        return False


def _patterns(path: str, lines: Iterable[str]) -> list[Pattern]:
    """Return the patterns of an ignore file. Raises UnreadableError for a line that is none, and for too many.

    A line that would never match is refused: it was meant to leave something out, and that would be sent.
    """
    found: list[Pattern] = []
    for number, line in enumerate(lines, 1):
        try:
            pattern = Pattern.parse(line)
        except PatternError as error:
            hints = ("write it as a line of a .gitignore is written, such as *.o or /build/",)
            raise UnreadableError(
                f"line {number} of {names.quoted(path)} is no pattern: {error}", hints=hints
            ) from None
        if pattern is not None:
            found.append(pattern)
        if len(found) > IGNORE_PATTERNS:
            raise UnreadableError(f"{names.quoted(path)} has more than {IGNORE_PATTERNS} patterns")
    return found


def _lines(path: str) -> list[str]:
    """Return the lines of an ignore file; none of what is a link or no file, as git does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if os.path.islink(path):  # noqa: PTH114 - a string, as in scan.py
            return []
        raise UnreadableError(f"cannot read {names.quoted(path)}: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return []
        data = bytearray()
        while len(data) <= IGNORE_BYTES:
            piece = os.pread(descriptor, IGNORE_BYTES, len(data))
            if not piece:
                text = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
                return [line.removesuffix("\r") for line in text.split("\n")]
            data += piece
    except OSError as error:
        raise UnreadableError(f"cannot read {names.quoted(path)}: {error.strerror}") from error
    finally:
        os.close(descriptor)
    raise UnreadableError(f"{names.quoted(path)} is longer than {IGNORE_BYTES} bytes")

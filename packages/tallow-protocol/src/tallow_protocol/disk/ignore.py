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
from tallow_protocol.errors import MisuseError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pathspec import GitIgnoreSpec

__all__ = ["Ignore", "ScanOptions"]

TALLOW_IGNORE = ".tallowignore"
GIT_IGNORE = ".gitignore"

IGNORE_BYTES = 1024 * 1024
"""Longest ignore file: a thousand times what one usually has. A longer one is an error, not cut."""


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
        given: GitIgnoreSpec | None,
        files: tuple[str, ...],
        levels: tuple[tuple[int, GitIgnoreSpec], ...] = (),
    ) -> None:
        self._given = given
        self._files = files
        self._levels = levels

    @classmethod
    def of(cls, options: ScanOptions) -> Ignore:
        """Return the rules of a given folder before it is looked into; MisuseError for what is no pattern."""
        given = None
        if options.exclude:
            given = _spec(options.exclude, MisuseError, "an exclude pattern")
        return cls(given, (GIT_IGNORE, TALLOW_IGNORE) if options.gitignore else (TALLOW_IGNORE,))

    @property
    def idle(self) -> bool:
        """Return whether nothing can be left out here."""
        return self._given is None and not self._levels

    def inside(self, folder: str, relative: str, found: Collection[str]) -> Ignore:
        """Return the rules inside a folder that holds the names `found`. Raises UnreadableError for its ignore files."""
        lines: list[str] = []
        for name in self._files:
            if name in found:
                lines += _lines(f"{folder}/{name}")
        if not lines:
            return self
        spec = _spec(lines, UnreadableError, f"an ignore file in {names.quoted(folder)}")
        depth = len(relative) + 1 if relative else 0
        return Ignore(self._given, self._files, (*self._levels, (depth, spec)))

    def leaves_out(self, relative: str, *, folder: bool) -> bool:
        """Return whether what stands at a path is left out."""
        path = f"{relative}/" if folder else relative
        if self._given is not None and self._given.match_file(path):
            return True
        for depth, spec in reversed(self._levels):
            decided = spec.check_file(path[depth:]).include
            if decided is not None:
                return decided
        return False


def _spec(lines: Iterable[str], error_type: type[MisuseError | UnreadableError], what: str) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec  # 20 ms that most scans do not need

    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        hints = ("write it as a line of a .gitignore is written, such as *.o or /build/",)
        raise error_type(f"{what} is not valid: {error}", hints=hints) from None


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
                return data.decode("utf-8", "surrogateescape").removeprefix("\ufeff").splitlines()
            data += piece
    except OSError as error:
        raise UnreadableError(f"cannot read {names.quoted(path)}: {error.strerror}") from error
    finally:
        os.close(descriptor)
    raise UnreadableError(f"{names.quoted(path)} is longer than {IGNORE_BYTES} bytes")

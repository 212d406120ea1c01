r"""Patterns as in a `.gitignore` file, matched in a time that is bounded by the lengths of pattern and path.

A folder that somebody else made brings its own patterns, so a pattern is a peer's word: written naively as a regular
expression, `*a*a*a*a*b` takes seconds for one name, since each asterisk is tried against every end of the one before.
Here each piece between two asterisks takes the first place where it fits, and never another, which finds a match
whenever there is one: the same argument holds for the letters of a name between `*` and for the folders of a path between
`**`. So a match costs at most the length of the pattern times that of the path.

The meaning is git's (gitignore(5)): `*`, `?` and `[a-z]` stay inside one name, `**` stands for any number of folders, a
`/` within the pattern ties it to the folder of its file, one at its end means folders only, `!` takes something in again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["PATTERN_CHARACTERS", "Pattern", "PatternError"]

PATTERN_CHARACTERS = 1024
"""Longest pattern: four names of the greatest length. It bounds the time of one match."""

_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": "\\t-\\r ",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}
_END_OF_NAME = r"(?=/|\Z)"
_NOT_A_SLASH = "[^/]"


class PatternError(ValueError):
    """A line is no pattern: git would never match anything with it. The message says why."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line that says what is left out, or, negated, taken in again."""

    negated: bool
    folders_only: bool
    name_only: bool
    """Whether it is compared with the last name of a path, whatever folder that is in."""
    expression: re.Pattern[str]

    @classmethod
    def parse(cls, line: str) -> Pattern | None:
        """Return the pattern of a line without its line end, None for a comment or nothing. Raises PatternError."""
        text = _without_spaces(line)
        if not text or text.startswith("#"):
            return None
        if len(text) > PATTERN_CHARACTERS:
            raise PatternError(f"a pattern has at most {PATTERN_CHARACTERS} characters")
        negated = text.startswith("!")
        text = text[negated:]
        folders_only = text.endswith("/")
        text = text.removesuffix("/")
        if not text:
            raise PatternError("it names nothing")
        name_only = "/" not in text
        expression = _name(text) if name_only else _path(text.removeprefix("/").split("/"))
        return cls(negated, folders_only, name_only, re.compile(expression, re.DOTALL))

    def matches(self, path: str, *, folder: bool) -> bool:
        """Return whether it speaks of what stands at `path`: names between "/", relative to the folder of its file."""
        if self.folders_only and not folder:
            return False
        return self.expression.match(path, path.rfind("/") + 1 if self.name_only else 0) is not None


def _without_spaces(line: str) -> str:
    r"""Return a line without the spaces at its end; one after a backslash stays."""
    text = line.rstrip(" ")
    behind = len(text) - len(text.rstrip("\\"))
    return line[: len(text) + 1] if behind % 2 and len(text) < len(line) else text


def _path(segments: list[str]) -> str:
    """Return the expression of a pattern's names, `**` among them, for a whole path."""
    groups: list[list[str]] = [[]]
    for segment in segments:
        if not segment:
            raise PatternError("a name in it is empty")
        if len(segment) > 1 and not segment.strip("*"):
            groups.append([])
        else:
            groups[-1].append(_name(segment))
    first, *others = ("/".join(group) for group in groups)
    if not others:
        return rf"{first}\Z"
    *middle, last = others
    return "".join(
        [
            f"{first}/" if first else "",
            *(rf"(?>(?:{_NOT_A_SLASH}+/)*?{group}/)" for group in middle if group),
            rf"(?:{_NOT_A_SLASH}+/)*{last}\Z" if last else _NOT_A_SLASH,
        ]
    )


def _name(segment: str) -> str:
    """Return the expression of one name. It is atomic: it fits in one way or not at all."""
    first, *others = _pieces(segment)
    if not others:
        return f"(?>{first}{_END_OF_NAME})"
    *middle, last = others
    found = "".join(f"(?>{_NOT_A_SLASH}*?{piece})" for piece in middle if piece)
    return f"(?>{first}{found}{_NOT_A_SLASH}*{last}{_END_OF_NAME})"


def _pieces(segment: str) -> list[str]:
    """Return the expressions of what stands before, between and behind the asterisks of one name."""
    pieces = [""]
    at = 0
    while at < len(segment):
        letter = segment[at]
        at += 1
        if letter == "*":
            pieces.append("")
        elif letter == "?":
            pieces[-1] += _NOT_A_SLASH
        elif letter == "[":
            expression, at = _bracket(segment, at)
            pieces[-1] += expression
        else:
            if letter == "\\":
                letter, at = _escaped(segment, at)
            pieces[-1] += re.escape(letter)
    return pieces


def _escaped(segment: str, at: int) -> tuple[str, int]:
    """Return the letter behind a backslash, and the place behind it."""
    if at == len(segment):
        raise PatternError("a backslash in it stands before nothing")
    return segment[at], at + 1


def _bracket(segment: str, at: int) -> tuple[str, int]:
    """Return the expression of a bracket that was opened before `at`, and the place behind its end."""
    negated = segment[at : at + 1] in {"!", "^"}
    at += negated
    parts: list[str] = []
    start = at
    while segment[at : at + 1] != "]" or at == start:
        if at >= len(segment):
            raise PatternError("a bracket in it is not closed")
        if segment.startswith("[:", at):
            end = segment.find(":]", at + 2)
            if end < 0 or segment[at + 2 : end] not in _CLASSES:
                raise PatternError("a class of letters in it is not known")
            parts.append(_CLASSES[segment[at + 2 : end]])
            at = end + 2
            continue
        low, at = _member(segment, at)
        high = low
        if segment[at : at + 1] == "-" and segment[at + 1 : at + 2] not in {"]", ""}:
            high, at = _member(segment, at + 1)
        if low <= high:  # a range that runs backwards holds nothing, as in git
            parts.append(f"{re.escape(low)}-{re.escape(high)}")
    inside = "".join(parts)
    if not inside:
        return (_NOT_A_SLASH if negated else "(?!)"), at + 1
    return f"[^/{inside}]" if negated else f"(?!/)[{inside}]", at + 1


def _member(segment: str, at: int) -> tuple[str, int]:
    """Return one letter of a bracket, and the place behind it."""
    letter = segment[at]
    return _escaped(segment, at + 1) if letter == "\\" else (letter, at + 1)

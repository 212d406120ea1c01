"""Which names may become a place on disk: pure rules, the same on every system.

Both sides ask here. The sender normalises its names to NFC and "/" before it offers them; the receiver
refuses whatever is not in that form and never repairs, so the name that is written is the name that was
signed. Nothing here touches a disk: `root.py` is the one module that turns components into a place.

A path is accepted when every component

- is NFC, UTF-8 encodable, 1 to 255 bytes, and neither "." nor "..",
- holds no control, format, bidi, separator or invisible character, no backslash and no ":",
- does not end in a dot or a space, and is no device name of Windows, with or without an extension,

and when the whole is at most 4,096 bytes and 64 components.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Protocol

from tallow_protocol import limits
from tallow_protocol.disk.errors import NameRefusedError

COMPONENT_BYTES = 255
"""Longest component in UTF-8: NAME_MAX of ext4, XFS, APFS and NTFS (where it counts UTF-16 units)."""

PATH_BYTES = limits.PATH_BYTES
"""Longest path or link target in UTF-8: PATH_MAX of Linux. An offer's entry costs at most this much memory."""

PATH_DEPTH = 64
"""Most components in one path. Deep trees cost a directory handle a level; real ones stay below 30."""

_SHOWN_CHARACTERS = 120
"""How much of a refused name an error quotes: enough to recognise it, little enough for one line."""

_DEVICES = frozenset(
    ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"]
    + [f"{port}{digit}" for port in ("COM", "LPT") for digit in "0123456789¹²³"]
)

# Printable ASCII without slash, backslash and colon, no dot or space at the end.
_PLAIN_ASCII = re.compile(r"[ -.0-9;-\[\]-~]*[!-\-0-9;-\[\]-~]")

# One pass over the usual case: such a name, short enough, and no device. Where it does not match, the rules decide.
_USUAL = re.compile(
    r"(?!(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9]) *(?:\.|\Z))"
    r"[ -.0-9;-\[\]-~]{0,254}[!-\-0-9;-\[\]-~]",
    re.IGNORECASE | re.ASCII,
)

# Letters by category that draw nothing (Hangul fillers), and the grapheme joiner: invisible in any name.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\u180b\u180c\u180d\u180f")

# Needed to spell Persian and several Indic languages, and inside emoji: taken only between visible
# characters that are not ASCII. They never make two names differ (`fold`).
_JOINERS = frozenset("\u200c\u200d")

_REFUSED_CATEGORIES = {
    "Cc": "a control character",
    "Cf": "an invisible or text-direction character",
    "Cs": "a character that is not valid Unicode",
    "Co": "a private-use character",
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
}


class Kind(Enum):
    """What stands at a path, as far as clashes are concerned."""

    FILE = 0
    FOLDER = 1
    LINK = 2


_BY_VALUE = {kind.value: kind for kind in Kind}


class _KindLike(Protocol):
    @property
    def value(self) -> int: ...


class NamedEntry(Protocol):
    """An entry of an offer, as far as names are concerned; `core.messages.Entry` is one."""

    @property
    def path(self) -> str:
        """The path in the offer, "/" separated."""

    @property
    def kind(self) -> _KindLike:
        """File 0, folder 1 or link 2 (by its value)."""

    @property
    def target(self) -> str | None:
        """Where a link points, None for anything else."""


def quoted(name: str) -> str:
    """Return a name for an error sentence: quoted, what cannot be seen escaped, at most 120 characters."""
    if len(name) > _SHOWN_CHARACTERS:
        return repr(name[:_SHOWN_CHARACTERS]) + "..."
    return repr(name)


def usual(name: str) -> bool:
    """Return whether `name` is one of the usual kind that every rule accepts: short plain ASCII, no device."""
    return _USUAL.fullmatch(name) is not None


def check_component(name: str) -> None:
    """Return if `name` may be one component of a path; raise NameRefusedError with the reason if not."""
    if not usual(name):
        _check_rules(name)


def _check_rules(name: str) -> None:
    if _PLAIN_ASCII.fullmatch(name) is None:
        _check_unusual(name)
    if len(name) > COMPONENT_BYTES or (not name.isascii() and len(name.encode()) > COMPONENT_BYTES):
        raise NameRefusedError(f"the name {quoted(name)} is longer than {COMPONENT_BYTES} bytes")
    base = name.partition(".")[0].rstrip(" ").upper()
    if base in _DEVICES:
        raise NameRefusedError(f"the name {quoted(name)} is reserved for a device on Windows")


def check_path(path: str) -> tuple[str, ...]:
    """Return the components of a path of an offer; raise NameRefusedError with the reason if it is refused.

    `path` is relative, "/" separated and canonical already: `a//b`, `./a`, `a/` and a decomposed (NFD)
    spelling are refused, not cleaned. `a..b` is an ordinary name.
    """
    check_length(path)
    components = tuple(path.split("/"))
    for component in components:
        if not component:
            raise NameRefusedError(
                f"the path {quoted(path)} has an empty part, or begins or ends with a slash"
            )
        check_component(component)
    return components


def check_length(path: str) -> None:
    """Return if a path has at most 4,096 bytes and 64 components; raise NameRefusedError if not."""
    if len(path) > PATH_BYTES or (not path.isascii() and len(path.encode(errors="replace")) > PATH_BYTES):
        raise NameRefusedError(f"the path {quoted(path)} is longer than {PATH_BYTES} bytes")
    if path.count("/") >= PATH_DEPTH:
        raise NameRefusedError(f"the path {quoted(path)} has more than {PATH_DEPTH} levels")


def check_link_target(components: tuple[str, ...], target: str) -> None:
    """Return if a link at `components` may point to `target`; raise NameRefusedError with the reason if not.

    The target is relative, "/" separated, and stays inside the link's own top-level folder. ".." is taken
    at the front only: what precedes it there are real folders, which the gate made, so each one goes up
    exactly one level. Further in, it could follow another link of the offer and go up from where that one
    leads (`m -> l/../x` with `l -> a/b`). So links that pass here cannot leave the folder together either.
    """
    where = quoted("/".join(components))
    if len(target) > PATH_BYTES or len(target.encode(errors="replace")) > PATH_BYTES:
        raise NameRefusedError(f"the link {where} has a target longer than {PATH_BYTES} bytes")
    parts = target.split("/")
    if len(parts) > 2 * PATH_DEPTH:
        raise NameRefusedError(f"the link {where} has a target of more than {2 * PATH_DEPTH} levels")
    if not parts[0]:
        raise NameRefusedError(f"the link {where} has an empty or absolute target: {quoted(target)}")
    climbs = 0
    while climbs < len(parts) and parts[climbs] == "..":
        climbs += 1
    for part in parts[climbs:]:
        if not part:
            raise NameRefusedError(f"the link {where} has a target with an empty part: {quoted(target)}")
        if part == "..":
            raise NameRefusedError(
                f"the link {where} has a target that goes up in its middle: {quoted(target)}"
            )
        check_component(part)
    # A link in `top/a` has one folder of the offer's own to climb before it stands in `top` itself.
    if climbs > len(components) - 2:
        raise NameRefusedError(f"the link {where} points out of its own folder: {quoted(target)}")


def fold(name: str) -> str:
    """Return what two names share when a file system that ignores case or form takes them for one.

    Canonical caseless matching (Unicode 3.13, D145), joiners left out. For comparison only: never written.
    """
    if name.isascii():
        return name.lower()
    visible = "".join(character for character in name if character not in _JOINERS)
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", visible).casefold())


class _Node:
    """One name of the offer so far: its spelling, and what stands there (None: a folder only implied)."""

    __slots__ = ("children", "kind", "name")

    def __init__(self, name: str, kind: Kind | None) -> None:
        self.name = name
        self.kind = kind
        self.children: dict[str, _Node] | None = None


class NameIndex:
    """The names of one offer, added one by one, so that no two of them can claim one place.

    Costs about 250 bytes a name. Order does not matter: a file below a link is refused whichever came first.
    """

    __slots__ = ("_components", "_folder", "_parent", "_top")

    def __init__(self) -> None:
        self._top = _Node("", Kind.FOLDER)
        self._top.children = {}
        # The folder of the entry before: in an offer's usual order most entries have the same one. It was walked
        # and checked then, and what is a folder by then never becomes anything else.
        self._parent: str | None = None
        self._components: tuple[str, ...] = ()
        self._folder = self._top

    def add(self, path: str, kind: Kind, target: str | None = None) -> tuple[str, ...]:
        """Return the components of `path` and remember it.

        Raises NameRefusedError where the path or a link's target is refused, where the path is there
        already or differs from another only by case or Unicode form, where one entry is both a folder and
        something else, and where an entry stands below a file or a link.
        """
        components = self._enter(path)
        if kind is Kind.LINK:
            if target is None:
                raise NameRefusedError(f"the link {quoted(path)} has no target")
            check_link_target(components, target)
        name = components[-1]
        children = _children(self._folder)
        key = fold(name)
        found = children.get(key)
        if found is None:
            children[key] = _Node(name, kind)
        elif found.name != name:
            raise NameRefusedError(_alike(found.name, name, path))
        elif found.kind is None and kind is Kind.FOLDER:
            found.kind = kind
        elif found.kind is None:
            raise NameRefusedError(f"{quoted(path)} is a folder for one entry and something else for another")
        else:
            raise NameRefusedError(f"{quoted(path)} is in the offer twice")
        return components

    def _enter(self, path: str) -> tuple[str, ...]:
        """Return the components of `path`, checked, and go to the folder that it stands in."""
        parent, slash, name = path.rpartition("/")
        if slash and name and parent == self._parent:
            check_length(path)
            check_component(name)
            return (*self._components, name)
        components = check_path(path)
        node = self._top
        for component in components[:-1]:
            node = self._child(node, component, path)
        self._parent, self._components, self._folder = parent, components[:-1], node
        return components

    def _child(self, node: _Node, component: str, path: str) -> _Node:
        children = _children(node)
        key = fold(component)
        found = children.get(key)
        if found is None:
            found = children[key] = _Node(component, None)
        elif found.name != component:
            raise NameRefusedError(_alike(found.name, component, path))
        elif found.kind is Kind.LINK:
            raise NameRefusedError(f"{quoted(path)} stands below a link of the offer")
        elif found.kind is Kind.FILE:
            raise NameRefusedError(f"{quoted(path)} stands below a file of the offer")
        return found


def check_offer(entries: Iterable[NamedEntry]) -> tuple[tuple[str, ...], ...]:
    """Return each entry's components, in order; raise NameRefusedError at the first that is refused."""
    return tuple(checked_offer(entries))


def checked_offer(entries: Iterable[NamedEntry]) -> Iterator[tuple[str, ...]]:
    """Yield what `check_offer` returns, one by one; the offer is checked once the last was taken."""
    add = NameIndex().add
    for entry in entries:
        yield add(entry.path, _BY_VALUE[entry.kind.value], entry.target)


def _children(node: _Node) -> dict[str, _Node]:
    if node.children is None:
        node.children = {}
    return node.children


def _alike(first: str, second: str, path: str) -> str:
    return (
        f"{quoted(first)} and {quoted(second)} in {quoted(path)} differ only by case or Unicode form, "
        "so one would take the other's place on some systems"
    )


def _check_unusual(name: str) -> None:
    """Raise NameRefusedError for whatever the pattern for plain names left open."""
    if not name:
        raise NameRefusedError("a name is empty")
    if name in {".", ".."}:
        raise NameRefusedError(f"{quoted(name)} is a direction, not a name")
    if len(name) > COMPONENT_BYTES:
        raise NameRefusedError(f"the name {quoted(name)} is longer than {COMPONENT_BYTES} bytes")
    for position, character in enumerate(name):
        if character in "/\\:":
            raise NameRefusedError(
                f"the name {quoted(name)} holds {character!r}, which separates paths on some systems"
            )
        reason = _REFUSED_CATEGORIES.get(unicodedata.category(character))
        if reason is not None and not (character in _JOINERS and _joins(name, position)):
            raise NameRefusedError(f"the name {quoted(name)} holds {reason} (U+{ord(character):04X})")
        if (
            character in _INVISIBLE
            or (ord(character) & 0xFFFE) == 0xFFFE
            or 0xFDD0 <= ord(character) <= 0xFDEF
        ):
            raise NameRefusedError(
                f"the name {quoted(name)} holds a character that cannot be seen (U+{ord(character):04X})"
            )
    if name[-1] in ". ":
        raise NameRefusedError(f"the name {quoted(name)} ends in a dot or a space")
    if not unicodedata.is_normalized("NFC", name):
        raise NameRefusedError(f"the name {quoted(name)} is not in Unicode's composed form (NFC)")


def _joins(name: str, position: int) -> bool:
    """Whether a joiner stands between two visible characters that are not ASCII."""
    if position == 0 or position == len(name) - 1:
        return False
    return all(
        not neighbour.isascii() and unicodedata.category(neighbour)[0] in "LMNS"
        for neighbour in (name[position - 1], name[position + 1])
    )

"""What to do where something stands already: pure rules, one for each policy of `OnConflict`.

Two rules hold under every policy: a folder is never replaced and never deleted, and nothing but a plain file or a
link gives its place to a file or a link.
"""

import os.path
import stat
from collections.abc import Callable
from enum import Enum

from tallow_protocol.disk import names
from tallow_protocol.disk.errors import NameRefusedError
from tallow_protocol.events import OnConflict

RENAME_TRIES = 10_000
"""Numbers tried for a free name: each costs one call of the system."""

EXTENSION_CHARACTERS = 16
"""What is longer is no extension, but the end of a name with a dot in it."""


class Standing(Enum):
    """What stands at a place."""

    NOTHING = "nothing"
    FILE = "a file"
    LINK = "a link"
    FOLDER = "a folder"
    OTHER = "something that is neither file nor folder"


class Decision(Enum):
    """What becomes of one offered entry."""

    WRITE = "write"
    LEAVE = "leave"
    REFUSE = "refuse"


def standing(mode: int) -> Standing:
    """Return what a file status' mode says that there is."""
    if stat.S_ISREG(mode):
        return Standing.FILE
    if stat.S_ISLNK(mode):
        return Standing.LINK
    return Standing.FOLDER if stat.S_ISDIR(mode) else Standing.OTHER


def decide(
    policy: OnConflict, kind: names.Kind, there: Standing, *, there_mtime_ns: int, mtime_ns: int
) -> Decision:
    """Return what becomes of an entry of `kind` where `there` stands. RENAME has chosen a free name before."""
    if there is Standing.NOTHING or (
        there is Standing.FOLDER and kind is names.Kind.FOLDER and policy.merges
    ):
        return Decision.WRITE
    if policy is OnConflict.SKIP:
        return Decision.LEAVE
    if kind is names.Kind.FOLDER or not replaceable(
        policy, there, there_mtime_ns=there_mtime_ns, mtime_ns=mtime_ns
    ):
        older = policy is OnConflict.NEWER and kind is not names.Kind.FOLDER
        return Decision.LEAVE if older and there in GIVE_WAY else Decision.REFUSE
    return Decision.WRITE


def replaceable(policy: OnConflict, there: Standing, *, there_mtime_ns: int, mtime_ns: int) -> bool:
    """Return whether a new file or link may take the place of what stands."""
    if there not in GIVE_WAY:
        return False
    return policy is OnConflict.OVERWRITE or (policy is OnConflict.NEWER and mtime_ns > there_mtime_ns)


GIVE_WAY = frozenset({Standing.FILE, Standing.LINK})
"""What a policy may replace."""


def free_name(name: str, *, folder: bool, taken: Callable[[str], bool]) -> str | None:
    """Return `name (1).ext`, or with the first higher number that is not taken; None where none is free.

    A folder has no extension, and a name that begins with its only dot has none either. The stem is cut where the
    whole would be longer than 255 bytes.
    """
    stem, extension = (name, "") if folder else _split(name)
    if len(extension) > EXTENSION_CHARACTERS:
        stem, extension = name, ""
    for number in range(1, RENAME_TRIES + 1):
        ending = f" ({number}){extension}"
        room = names.COMPONENT_BYTES - len(ending.encode())
        candidate = stem.encode()[:room].decode(errors="ignore").rstrip() + ending
        try:
            names.check_component(candidate)
        except NameRefusedError:  # cutting left half a character's spelling
            return None
        if not taken(candidate):
            return candidate
    return None


def _split(name: str) -> tuple[str, str]:
    """Return stem and extension; ".tar.gz" and its like are one extension."""
    stem, extension = os.path.splitext(name)  # noqa: PTH122 - a name, not a path
    inner, tar = os.path.splitext(stem)  # noqa: PTH122 - a name, not a path
    return (inner, tar + extension) if inner and tar.lower() == ".tar" else (stem, extension)

"""Which path is better, and which ones both sides allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tallow_protocol.errors import AttachError, NoPathError
from tallow_protocol.events import PathKind, PathLimit
from tallow_protocol.limits import DIRECT_WAIT_S

if TYPE_CHECKING:
    from tallow_protocol.core.messages import Paths

__all__ = ["PathAgreement", "allows", "combined", "rank"]

_ORDER: Final = (
    (PathKind.DIRECT_TCP, True),
    (PathKind.MEMORY, True),
    (PathKind.DIRECT_TCP, False),
    (PathKind.MEMORY, False),
    (PathKind.DIRECT_QUIC, False),
    (PathKind.RELAY_TCP, True),
    (PathKind.RELAY_TCP, False),
    (PathKind.RELAY_QUIC, False),
)
"""Best first. Direct before relayed: nobody else pays for it. TCP of its own before QUIC and TLS: sealed records need
no second encryption, and the kernel moves them."""

_RANKS: Final = {place: number for number, place in enumerate(_ORDER)}


def rank(path: PathKind, *, dedicated: bool) -> int:
    """Return the place of a connection among all, 0 the best."""
    return _RANKS.get((path, dedicated), len(_ORDER))


def combined(ours: PathLimit, theirs: PathLimit) -> PathLimit | None:
    """Return what both sides allow together, None where they contradict each other."""
    if ours is PathLimit.ANY or ours is theirs:
        return theirs
    return ours if theirs is PathLimit.ANY else None


def allows(limit: PathLimit, path: PathKind) -> bool:
    """Return whether file data may travel on `path`."""
    if limit is PathLimit.ANY:
        return True
    return path.direct is (limit is PathLimit.DIRECT_ONLY)


class PathAgreement:
    """What the two sides of a session allow together, and how long the only allowed kind may be missing.

    `allowed` is our own limit until the other side's is known.
    """

    def __init__(self, ours: PathLimit) -> None:
        self.ours = ours
        self.theirs: Paths | None = None
        self.allowed = ours
        self._direct_by: float | None = None

    def take(self, theirs: Paths) -> None:
        """Take the other side's Paths. Raises NoPathError where the two contradict each other."""
        self.theirs = theirs
        both = combined(self.ours, theirs.limit)
        if both is None:
            raise NoPathError(
                "one side allows relayed paths alone, the other direct ones alone",
                hints=("leave out --relay-only or --direct-only on one side",),
            )
        self.allowed = both

    def admit(self, path: PathKind) -> None:
        """Raise AttachError for a direct path where a side wants none: a session must not live on it."""
        if self.allowed is PathLimit.RELAY_ONLY and path.direct:
            raise AttachError("a direct connection came where relayed ones alone are allowed")

    def await_direct(self, now: float) -> None:
        """Note that data is to flow: where only a direct path may carry it, one has to come up in time."""
        self._direct_by = now + DIRECT_WAIT_S

    def again(self, now: float) -> None:
        """Note that the session is back after an absence: the time for a direct path begins anew."""
        if self._direct_by is not None:
            self._direct_by = now + DIRECT_WAIT_S

    @property
    def direct_by(self) -> float | None:
        """Return when a direct path has to be there, None where none has to."""
        return self._direct_by if self.allowed is PathLimit.DIRECT_ONLY else None

    def look(self, now: float, *, carried: bool) -> None:
        """Take note whether an allowed connection stands. Raises NoPathError once none did for long enough."""
        if self.direct_by is None:
            return
        if carried:
            self._direct_by = now + DIRECT_WAIT_S
        elif now >= self.direct_by:
            raise NoPathError("no direct path to the other side was found, and no other is allowed")

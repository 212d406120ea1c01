"""Which path is better, and which one both sides allow. Pure rules; `core/session.py` applies them."""

from __future__ import annotations

from typing import Final

from tallow_protocol.events import PathKind, PathLimit

__all__ = ["allows", "combined", "rank"]

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

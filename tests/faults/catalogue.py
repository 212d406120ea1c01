"""Every fault: how it is made, and what may come of it. The name is that of `python -m tests.faults.soak --fault NAME`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.faults.kit import Run


@dataclass(frozen=True, slots=True)
class Fault:
    """`limit_s` bounds a whole run. `gate` seeds run in the gate; slow ones have none."""

    name: str
    title: str
    work: Callable[[Run], Awaitable[None]]
    limit_s: float = 300.0
    gate: tuple[int, ...] = ()


FAULTS: dict[str, Fault] = {}


def fault(
    title: str, *, limit_s: float = 300.0, gate: tuple[int, ...] = ()
) -> Callable[[Callable[[Run], Awaitable[None]]], Callable[[Run], Awaitable[None]]]:
    """Put a function into the catalogue; underscores of its name become dashes."""

    def add(work: Callable[[Run], Awaitable[None]]) -> Callable[[Run], Awaitable[None]]:
        name = work.__name__.replace("_", "-")
        FAULTS[name] = Fault(name, title, work, limit_s, gate)
        return work

    return add


def load() -> dict[str, Fault]:
    """Return the whole catalogue."""
    from tests.faults import disks, endings, networks, relays  # noqa: F401  # each adds its own

    return FAULTS

"""Where links may lead in folders that stood before: never through a link that this transfer did not make.

In folders that the gate made itself, the form of a target says it all (`names.check_link_target`). A folder that stood
there may hold links of its owner's, which may lead anywhere: through one of them an offered link would leave its entry
as well. So a target is walked, on handles: links on the way are followed where their own form says that they stay
inside, and refuse it where not. What leads to nothing yet is walked again when an own link may complete it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallow_protocol.disk import names
from tallow_protocol.disk.errors import NameRefusedError
from tallow_protocol.errors import ConflictError

if TYPE_CHECKING:
    from tallow_protocol.disk.root import OutputRoot

LINKS_FOLLOWED = 40
"""Own links followed in one walk, as the kernel's limit is; a chain that is longer opens nowhere anyway."""


class LinkRule:
    """The links that one gate made, and whether a further one may stand beside them."""

    def __init__(self, root: OutputRoot) -> None:
        self._root = root
        self._made: dict[tuple[str, ...], str] = {}
        self._open: dict[tuple[str, ...], list[tuple[tuple[str, ...], str]]] = {}
        """Links that lead to nothing, by the place where the walk ended."""

    def check(self, components: tuple[str, ...], target: str) -> None:
        """Note a link that is about to be made; raise NameRefusedError where it leads through somebody else's."""
        self._made[components] = target
        again = [(components, target)]
        for depth in range(1, len(components) + 1):
            again += self._open.pop(components[:depth], ())
        try:
            for place, leads in again:
                end = self._walk(place, leads)
                if end is not None:
                    self._open.setdefault(end, []).append((place, leads))
        except (NameRefusedError, ConflictError):
            self.forget(components)
            where = names.quoted("/".join(components))
            raise NameRefusedError(
                f"the link {where} would lead out through a link that stands in the output directory already"
            ) from None

    def forget(self, components: tuple[str, ...]) -> None:
        """Drop a link that was not made after all."""
        self._made.pop(components, None)

    def _walk(self, components: tuple[str, ...], target: str) -> tuple[str, ...] | None:
        """Return the first place on a link's way where nothing stands, or None; raise where it leads out."""
        place = components[:-1]
        left = target.split("/")[::-1]
        followed = 0
        while left:
            part = left.pop()
            if part == "..":
                place = place[:-1]
                continue
            place = (*place, part)
            leads = self._leads(place)
            if leads is not None:
                followed += 1
                if followed > LINKS_FOLLOWED:
                    return None
                place = place[:-1]
                left.extend(leads.split("/")[::-1])
            elif self._root.look(place) is None:
                return place
        return None

    def _leads(self, place: tuple[str, ...]) -> str | None:
        """Return where the link at a place leads, None where no link is; raise where it may lead out."""
        own = self._made.get(place)
        if own is None:
            own = self._root.read_link(place)
            if own is not None:
                names.check_link_target(place, own)
        return own

"""An offer as lines for a person, before the yes.

A short offer is listed whole. A long one is counted by folder, and what deserves a look (names that begin with a
dot, programs, links) is still called out by name; whatever is not listed is counted, and can be listed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tallow_protocol import OfferedKind

from tallow_cli.output import sizes
from tallow_cli.selection import selectable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tallow_protocol import OfferedEntry, OfferReceived

__all__ = ["STANDARD_OUTPUT", "OfferText", "full_list", "numbered_list", "question", "summary", "whole"]

STANDARD_OUTPUT = "standard output"
"""Names the place of what is received with --stdout. A folder of this name is ./standard output."""

_FOLDERS_SHOWN = 20
_CALLED_OUT_SHOWN = 20


@dataclass(frozen=True, slots=True)
class OfferText:
    """The lines of an offer, and whether some entries are only counted in them."""

    lines: tuple[str, ...]
    shortened: bool


@dataclass(slots=True)
class _Tally:
    """What a folder holds."""

    files: int = 0
    folders: int = 0
    links: int = 0
    bytes: int = 0

    def add(self, entry: OfferedEntry) -> None:
        self.files += entry.kind is OfferedKind.FILE
        self.folders += entry.kind is OfferedKind.FOLDER
        self.links += entry.kind is OfferedKind.LINK
        self.bytes += entry.size_bytes or 0


@dataclass(slots=True)
class _Group:
    """Entries that are called out in one line: those under one hidden folder, or one entry alone."""

    name: str
    notes: str
    tally: _Tally = field(default_factory=_Tally)
    alone: OfferedEntry | None = None


def whole(offer: OfferReceived) -> list[str]:
    """Return every line of an offer, however long."""
    return [_head(offer), *full_list(offer.entries)]


def summary(offer: OfferReceived, page: int) -> OfferText:
    """Return the offer in about `page` lines: the full list where it fits, else counts and what to look at."""
    head = _head(offer)
    if len(offer.entries) <= page:
        return OfferText((head, *full_list(offer.entries)), shortened=False)
    lines = [head]
    lines += _folder_lines(offer.entries)
    lines += _called_out_lines(offer.entries)
    return OfferText(tuple(lines), shortened=True)


def full_list(entries: Iterable[OfferedEntry]) -> list[str]:
    """Return one line an entry, in the sender's order."""
    return [_entry_line(entry) for entry in entries]


def numbered_list(entries: Sequence[OfferedEntry]) -> list[str]:
    """Return one line for each entry that can be chosen by its number, counted from 1."""
    return [f"{at:>5} {_entry_line(entries[number])}" for at, number in enumerate(selectable(entries), 1)]


def question(offer: OfferReceived, out: str, *, shortened: bool, there_bytes: int = 0) -> str:
    """Return the question that asks for the yes; of what is there in part, whether it shall go on."""
    to_stdout = out == STANDARD_OUTPUT
    named = out[0] in "./~" or to_stdout
    place = "the current folder" if out in {".", "./"} else out if named else f"./{out}"
    more = [*(["l lists all"] if shortened else []), *(["s selects"] if offer.files > 1 else [])]
    answers = f"[{', '.join(['y/N', *more])}]"
    if len(offer.entries) == 1 and offer.entries[0].is_text:
        return f"Show a text of {sizes.size(offer.bytes)}? {answers} "
    if there_bytes:
        tops = {str(entry.path).partition("/")[0] for entry in offer.entries}
        what = tops.pop() if len(tops) == 1 else sizes.count(offer.files, "file")
        return f"Resume {what} at {100 * there_bytes // max(offer.bytes, 1)} %? {answers} "
    what = f"{sizes.count(offer.files, 'file')}, {_amount(offer)}"
    return f"{'Write' if to_stdout else 'Receive'} {what} {'to' if to_stdout else 'into'} {place}? {answers} "


def _head(offer: OfferReceived) -> str:
    return f"Offered: {sizes.count(offer.files, 'file')}, {_amount(offer)}"


def _amount(offer: OfferReceived) -> str:
    streams = any(entry.size_bytes is None and entry.kind is OfferedKind.FILE for entry in offer.entries)
    return "of unknown length" if streams else sizes.size(offer.bytes)


def _entry_line(entry: OfferedEntry) -> str:
    amount = "" if entry.size_bytes is None else sizes.size(entry.size_bytes)
    path = str(entry.path)
    if entry.kind is OfferedKind.FOLDER:
        path += "/"
    elif entry.target is not None:
        path += f" -> {entry.target}"
    notes = _notes(entry)
    return f"  {amount:>8}  {path}" + (f"   [{notes}]" if notes else "")


def _notes(entry: OfferedEntry) -> str:
    marks = (
        ("hidden", entry.hidden),
        ("executable", entry.executable),
        ("link", entry.kind is OfferedKind.LINK),
        ("text", entry.is_text),
        ("a stream, its length is not known", entry.size_bytes is None and entry.kind is OfferedKind.FILE),
    )
    return ", ".join(word for word, is_so in marks if is_so)


def _folder_lines(entries: Sequence[OfferedEntry]) -> list[str]:
    folders: dict[str, _Tally] = {}
    for entry in entries:
        top, slash, _rest = str(entry.path).partition("/")
        name = f"{top}/" if slash or entry.kind is OfferedKind.FOLDER else "(in no folder)"
        folders.setdefault(name, _Tally()).add(entry)
    shown = list(folders.items())[:_FOLDERS_SHOWN]
    lines = [f"  {sizes.size(tally.bytes):>8}  {name}   {_contents(tally)}" for name, tally in shown]
    if len(folders) > len(shown):
        lines.append(f"  and {sizes.count(len(folders) - len(shown), 'more folder')}")
    return lines


def _called_out_lines(entries: Sequence[OfferedEntry]) -> list[str]:
    groups: dict[str, _Group] = {}
    for entry in entries:
        notes = _notes(entry)
        if not notes:
            continue
        folder = _hidden_folder(entry)
        if folder is None:
            name = str(entry.path)
            groups[name] = _Group(name, notes, alone=entry)
        else:
            group = groups.setdefault(folder, _Group(folder, "hidden"))
            if entry.executable and "executable" not in group.notes:
                group.notes += ", holds executables"
        groups[folder or str(entry.path)].tally.add(entry)
    if not groups:
        return ["  No hidden, executable or linked entries among them."]
    shown = list(groups.values())[:_CALLED_OUT_SHOWN]
    lines = ["  Look at these:"]
    for group in shown:
        if group.alone is not None:
            lines.append(_entry_line(group.alone))
        else:
            lines.append(
                f"  {sizes.size(group.tally.bytes):>8}  {group.name}   {_contents(group.tally)} [{group.notes}]"
            )
    if len(groups) > len(shown):
        lines.append(f"  and {len(groups) - len(shown):,} more like these")
    return lines


def _hidden_folder(entry: OfferedEntry) -> str | None:
    """Return the first folder of the path whose name begins with a dot, or None."""
    parts = str(entry.path).split("/")
    last = len(parts) if entry.kind is OfferedKind.FOLDER else len(parts) - 1
    for index, part in enumerate(parts[:last]):
        if part.startswith("."):
            return "/".join(parts[: index + 1]) + "/"
    return None


def _contents(tally: _Tally) -> str:
    counts = ((tally.files, "file"), (tally.folders, "folder"), (tally.links, "link"))
    return ", ".join(sizes.count(number, thing) for number, thing in counts if number or thing == "file")

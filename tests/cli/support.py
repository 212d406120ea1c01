"""Streams and values that several tests of the command line need."""

from __future__ import annotations

import io

from tallow_cli.output.interface import Sink
from tallow_net import PeerText
from tallow_protocol import OfferedEntry, OfferedKind, OfferReceived


class Pretended(io.StringIO):
    """A text stream that says whether it is a terminal."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    encoding = "utf-8"

    def isatty(self) -> bool:
        return self._terminal


def sinks(*, terminal: bool = False) -> tuple[Pretended, Pretended, Sink, Sink]:
    out, err = Pretended(terminal=terminal), Pretended(terminal=terminal)
    return out, err, Sink(out, forgiving=False), Sink(err, forgiving=True)


def file_entry(path: str, size: int = 10, mode: int = 0o644) -> OfferedEntry:
    return OfferedEntry(PeerText(path), OfferedKind.FILE, size, mode, None)


def folder_entry(path: str) -> OfferedEntry:
    return OfferedEntry(PeerText(path), OfferedKind.FOLDER, None, 0o755, None)


def link_entry(path: str, target: str) -> OfferedEntry:
    return OfferedEntry(PeerText(path), OfferedKind.LINK, None, 0o777, PeerText(target))


def offer_of(*entries: OfferedEntry) -> OfferReceived:
    files = [entry for entry in entries if entry.kind is OfferedKind.FILE]
    return OfferReceived(tuple(entries), len(files), sum(entry.size_bytes or 0 for entry in files))

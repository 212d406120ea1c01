"""`tallow send --dry-run`: what would be offered, from the same scan that an offer is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallow_net.untrusted import PeerText
from tallow_protocol import OfferedEntry, OfferedKind, OfferReceived, Warned
from tallow_protocol.aio.inputs import StreamInput, StreamReader, text_scan
from tallow_protocol.core.entries import EntryKind
from tallow_protocol.disk.ignore import ScanOptions
from tallow_protocol.disk.scan import scan

if TYPE_CHECKING:
    from tallow_cli.output.interface import Output
    from tallow_cli.sources import ToSend

__all__ = ["list_offer"]

_KINDS = {
    EntryKind.FILE: OfferedKind.FILE,
    EntryKind.FOLDER: OfferedKind.FOLDER,
    EntryKind.LINK: OfferedKind.LINK,
}


def list_offer(source: ToSend, output: Output, exclude: tuple[str, ...], *, gitignore: bool) -> None:
    """Show the offer, without what is excluded, and its warnings. Raises what a scan raises. Standard input is not read."""
    if source.stream_name is not None:
        found = StreamReader(StreamInput(0, source.stream_name)).scan()
    elif source.text is not None:
        found = text_scan(source.text)[0]
    else:
        found = scan(source.paths, ScanOptions(exclude=exclude, gitignore=gitignore))
    for warning in found.warnings:
        output.show(Warned(PeerText(warning)), 0.0)
    entries = tuple(
        OfferedEntry(
            PeerText(entry.path),
            _KINDS[entry.kind],
            entry.size,
            entry.mode,
            None if entry.target is None else PeerText(entry.target),
        )
        for entry in found.entries.offered
    )
    files = sum(entry.kind is OfferedKind.FILE for entry in entries)
    output.show(OfferReceived(entries, files, sum(entry.size_bytes or 0 for entry in entries)), 0.0)

"""The record of an unfinished transfer: which names of the output directory it made, and what it meant to write there.

A text of lines, each a check (16 hexadecimal digits), a space, and JSON:

    {"version": 1, "sender": HEX}          the first line: whose transfer it is
    {"tops": [[OFFERED, PLACED], ...]}     top-level names that were free when the transfer began, and their names here
    {"made": [PLACED, DEVICE, INODE]}      the folder that was made under such a name
    {"wrote": [[PATH, MTIME_NS], ...]}     files and links of the offer, and the times that they get
    {"offer": HEX}                         all entries of the offer with this digest were told above
    {"ended": [PLACED, ...]}               these names are not the unfinished transfer's any more: one ended well

A check is the first 8 bytes of BLAKE3-derive-key("tallow/1 unfinished", sender || line). The first line that does not
check ends the record; what follows is torn and is cut off. Later lines add to earlier ones.

Pure: bytes in, bytes out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from tallow_crypto import DerivedHasher, Fingerprint, derive_key

from tallow_protocol.core.entries import EntryKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tallow_protocol.core.entries import Entry

__all__ = [
    "RECORD_BYTES_MAX",
    "Record",
    "RecordWriter",
    "decode_record",
    "files_told",
    "record_name",
    "sender_of_record",
]

_Item = TypeVar("_Item")

_VERSION = 1
_CHECK_BYTES = 8
_CONTEXT = "tallow/1 unfinished"
_OFFER_CONTEXT = "tallow/1 unfinished offer"
_OFFER_BYTES = 16
_LINE_ENTRIES = 1024

RECORD_BYTES_MAX = 256 * 1024 * 1024
"""A longer record is not believed: an offer of the most names takes 64 MiB and its times, and few of them are kept."""


@dataclass(slots=True)
class Record:
    """What a record says."""

    tops: dict[str, str] = field(default_factory=dict)
    """Names here by the names offered."""

    made: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Device and inode of folders by their names here."""

    wrote: set[str] = field(default_factory=set)
    """Those of the paths that were asked about whose time is one that this transfer gave them."""

    offers: set[str] = field(default_factory=set)
    """Digests of the offers that were told whole."""

    good_bytes: int = 0
    """So long is the part that checks; 0 where it is no record of this sender."""


def record_name(sender: Fingerprint) -> str:
    """Return the name, 32 hexadecimal digits, under which the record of a sender's unfinished transfer lies."""
    return derive_key("tallow/1 unfinished name", bytes(sender), 16).hex()


def decode_record(pieces: Iterable[bytes], sender: Fingerprint, times_ns: Mapping[str, int]) -> Record:
    """Return what the record says, given in pieces of any length, to somebody who asks whether `times_ns` are from it.

    Keeps one line at a time, and of files only what was asked for.
    """
    record = Record()
    for line in _lines(pieces):
        if not _take(record, line, sender, times_ns):
            break
        record.good_bytes += len(line) + 1
    return record


def files_told(pieces: Iterable[bytes], sender: Fingerprint) -> Iterator[tuple[str, int]]:
    """Yield path and time (nanoseconds) of the files and links that a record says were to be written.

    As `decode_record` reads it: up to the first line that does not check. A path comes again where it was offered again.
    """
    record = Record()
    for line in _lines(pieces):
        if not _take(record, line, sender, {}):
            return
        record.good_bytes += len(line) + 1
        said = json.loads(_body(line))
        yield from ((path, mtime_ns) for path, mtime_ns in said.get("wrote", ()))


def sender_of_record(beginning: bytes) -> Fingerprint | None:
    """Return whose transfer a record is of, by its beginning of 256 bytes or more; None where it is no record."""
    line = beginning.partition(b"\n")[0]
    try:
        sender = Fingerprint(bytes.fromhex(json.loads(_body(line))["sender"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return sender if _take(Record(), line, sender, {}) else None


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    pending = bytearray()
    for piece in pieces:
        pending += piece
        while (end := pending.find(b"\n")) >= 0:
            line = bytes(pending[:end])
            del pending[: end + 1]
            yield line


def _body(line: bytes) -> bytes:
    return line[2 * _CHECK_BYTES + 1 :]


def _take(record: Record, line: bytes, sender: Fingerprint, times_ns: Mapping[str, int]) -> bool:
    """Add a line; return whether it is one."""
    body = _body(line)
    if line != _checked(sender, body):
        return False
    try:
        said = json.loads(body)
        if not record.good_bytes:
            return bool(said == _first(sender))
        match said:
            case {"tops": tops}:
                record.tops.update((str(offered), str(placed)) for offered, placed in tops)
            case {"made": [placed, device, inode]}:
                record.made[str(placed)] = int(device), int(inode)
            case {"wrote": wrote}:
                record.wrote.update(path for path, mtime_ns in wrote if times_ns.get(path) == mtime_ns)
            case {"offer": digest}:
                record.offers.add(str(digest))
            case {"ended": ended}:
                gone = {str(placed) for placed in ended}
                record.tops = {name: placed for name, placed in record.tops.items() if placed not in gone}
                record.made = {placed: made for placed, made in record.made.items() if placed not in gone}
            case _:
                return False
    except (ValueError, TypeError, RecursionError):
        return False
    return True


class RecordWriter:
    """Makes the lines of one sender's record."""

    def __init__(self, sender: Fingerprint) -> None:
        self._sender = sender

    def first(self) -> bytes:
        """Return the line with which a record begins."""
        return self._line(_first(self._sender))

    def tops(self, placed: Mapping[str, str]) -> bytes:
        """Return the lines that say which names, and under which names here, are the transfer's own from now on."""
        pairs = [list(pair) for pair in placed.items()]
        return b"".join(self._line({"tops": part}) for part in _parts(pairs))

    def made(self, placed: str, device: int, inode: int) -> bytes:
        """Return the line of a folder that was made under such a name."""
        return self._line({"made": [placed, device, inode]})

    def ended(self, placed: Sequence[str]) -> bytes:
        """Return the lines that give names up."""
        return b"".join(self._line({"ended": list(part)}) for part in _parts(placed))

    def offer(self, entries: Sequence[Entry], known: set[str]) -> Iterator[bytes]:
        """Yield the lines of an offer's files and links, none where an offer with the same was told already.

        One line at a time: an offer of 100,000 entries takes 5 MB.
        """
        if known and self._digest(self._wrote(entries)) in known:
            return
        told = DerivedHasher(_OFFER_CONTEXT)
        for line in self._wrote(entries):
            told.update(line)
            yield line
        yield self._line({"offer": told.digest(_OFFER_BYTES).hex()})

    def _wrote(self, entries: Sequence[Entry]) -> Iterator[bytes]:
        for part in _parts(entries):
            wrote = [[entry.path, entry.mtime_ns] for entry in part if entry.kind is not EntryKind.FOLDER]
            if wrote:
                yield self._line({"wrote": wrote})

    @staticmethod
    def _digest(lines: Iterable[bytes]) -> str:
        told = DerivedHasher(_OFFER_CONTEXT)
        for line in lines:
            told.update(line)
        return told.digest(_OFFER_BYTES).hex()

    def _line(self, said: dict[str, object]) -> bytes:
        body = json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()
        return _checked(self._sender, body) + b"\n"


def _first(sender: Fingerprint) -> dict[str, object]:
    return {"version": _VERSION, "sender": bytes(sender).hex()}


def _checked(sender: Fingerprint, body: bytes) -> bytes:
    return derive_key(_CONTEXT, bytes(sender) + body, _CHECK_BYTES).hex().encode() + b" " + body


def _parts(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    for first in range(0, len(items), _LINE_ENTRIES):
        yield items[first : first + _LINE_ENTRIES]

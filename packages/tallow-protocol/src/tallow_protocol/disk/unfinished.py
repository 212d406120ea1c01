"""What an unfinished transfer of the same sender made in the output directory: its own, and so no conflict.

The record (core/unfinished.py) lies in the folder of partial files. It is begun before the first name of a transfer is
made, and removed when the transfer ends well; no error removes it, and it grows old as partial files do. While a transfer
runs it is locked: another one of the same sender finds nothing.

A folder is the transfer's own if device and inode are those that it had when it was made. A file or a link is, at the top
or in such a folder, if its time is the one that the transfer gave it: whoever changed it since has changed that too. Where
anything is in doubt it is somebody else's, and what is somebody else's is a conflict as ever. Nothing here fails a
transfer: without a record it is less comfortable to go on.
"""

from __future__ import annotations

import contextlib
import errno
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tallow_protocol.core.unfinished import (
    RECORD_BYTES_MAX,
    Record,
    RecordWriter,
    decode_record,
    record_name,
)
from tallow_protocol.disk.errors import NameRefusedError
from tallow_protocol.disk.leftovers import RECORD_SUFFIX
from tallow_protocol.disk.names import check_component, fold
from tallow_protocol.disk.places import write_all
from tallow_protocol.errors import ConflictError, NotWritableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tallow_crypto import Fingerprint

    from tallow_protocol.core.entries import Entry
    from tallow_protocol.disk.partials import PartialFolder

__all__ = ["Own", "Unfinished"]

SETTLED_ENTRIES = 256
SETTLED_BYTES = 16 * 1024 * 1024
"""Of an offer of more entries, or more bytes, the record is on the device before the first name is given."""

_READ_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Own:
    """What of an offer stands as this sender's unfinished transfer left it."""

    tops: dict[str, str] = field(default_factory=dict)
    """Names here by the names offered."""

    folders: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Device and inode of those of them that are folders, by the names here."""


class Unfinished:
    """The record of one sender in one output directory. One thread at a time."""

    def __init__(self, partials: PartialFolder, sender: Fingerprint) -> None:
        self._partials = partials
        self._root = partials.root
        self._calls = partials.root.calls
        self._sender = sender
        self._name = record_name(sender) + RECORD_SUFFIX
        self._writer = RecordWriter(sender)
        self._handle = -1
        self._length = 0
        self._offers: set[str] = set()
        # Names here by the names offered: those of this transfer, and those of others that the record knows.
        self._tops: dict[str, str] = {}
        self._others: dict[str, str] = {}
        self._told: dict[str, str] = {}
        self._unsynced = False

    def find(self, entries: Sequence[Entry]) -> Own:
        """Return what stands of the top level of an offer. Opens and locks the record, if there is one."""
        tops = {entry.path.partition("/")[0] for entry in entries}
        top_files = {entry.path: entry.mtime_ns for entry in entries if "/" not in entry.path}
        record = self._read(top_files) if self._open() else Record()
        self._offers = record.offers
        self._others = {offered: placed for offered, placed in record.tops.items() if offered not in tops}
        # A name here that the offer has as well would stand for two.
        here = {fold(top) for top in tops}
        own = Own()
        for offered in sorted(tops.intersection(record.tops)):
            placed = record.tops[offered]
            if placed != offered and fold(placed) in here:
                continue
            self._look(offered, placed, record.made.get(placed), own)
        files = {offered: placed for offered, placed in own.tops.items() if placed not in own.folders}
        for offered in set(files) - self.wrote({name: self._time(placed) for name, placed in files.items()}):
            del own.tops[offered]
        self._tops = dict(own.tops)
        self._told = record.tops
        return own

    def wrote(self, times_ns: Mapping[str, int]) -> set[str]:
        """Return those of some paths of the offer whose times here are those that the transfer gave them."""
        if self._handle < 0 or not times_ns:
            return set()
        return self._read(times_ns).wrote

    def begin(self, entries: Sequence[Entry], tops: Mapping[str, str]) -> None:
        """Note what a transfer will write, and which top-level names, free until now, are its own from now on."""
        if self._handle < 0 and not self._create():
            return
        if not self._length:
            self._append(self._writer.first())
        for lines in self._writer.offer(entries, self._offers):
            self._append(lines)
        if tops:
            self._tops.update(tops)
            new = {offered: here for offered, here in tops.items() if self._told.get(offered) != here}
            self._append(self._writer.tops(new))
        self._unsynced = len(entries) > 1 and (
            len(entries) > SETTLED_ENTRIES or sum(entry.size or 0 for entry in entries) > SETTLED_BYTES
        )

    def made(self, placed: str, device: int, inode: int) -> None:
        """Note a folder of the top level that was made."""
        self._append(self._writer.made(placed, device, inode))

    def settle(self) -> None:
        """Have the record on the device before the first file has its name, so that a power cut is survived as well.

        Not for a single file, which is on the device itself before it has its name, and not for what is over in a moment:
        a sync waits for what other programs wrote as well.
        """
        if self._unsynced and self._handle >= 0:
            self._unsynced = False
            with contextlib.suppress(OSError):
                self._calls.sync_data(self._handle)

    def end(self) -> None:
        """Forget what this transfer made: it ended well. Never raises."""
        if self._others:
            self._append(self._writer.ended(list(self._tops.values())))
        elif self._handle >= 0:
            self._drop()

    def close(self, *, keep: bool) -> None:
        """Release the record; where it is not worth to `keep`, it goes. Never raises; repeatable."""
        if self._handle >= 0 and not keep and not self._others:
            self._drop()
        handle, self._handle = self._handle, -1
        if handle >= 0:
            with contextlib.suppress(OSError):
                self._calls.close(handle)

    def _look(self, offered: str, placed: str, made: tuple[int, int] | None, own: Own) -> None:
        """Add a top-level name to what is the transfer's own, if it may be."""
        with contextlib.suppress(NameRefusedError, ConflictError, NotWritableError):
            check_component(placed)
            status = self._root.look_at_top(placed)
            if status is None or status.st_uid != self._calls.user():
                return
            identity = status.st_dev, status.st_ino
            if not stat.S_ISDIR(status.st_mode):
                if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                    own.tops[offered] = placed
            # Killed before it was noted what was made: an empty folder of ours, under a name that was free.
            elif made == identity or (made is None and self._root.is_empty(placed)):
                own.tops[offered] = placed
                own.folders[placed] = identity

    def _time(self, placed: str) -> int:
        status = self._root.look_at_top(placed)
        return -1 if status is None else status.st_mtime_ns

    # ---- the file ----

    def _open(self) -> bool:
        if self._handle >= 0:
            return True
        with contextlib.suppress(OSError, NotWritableError):
            handle = self._partials.open_record(self._name, make=False)
            return handle is not None and self._take(handle)
        return False

    def _create(self) -> bool:
        with contextlib.suppress(OSError, NotWritableError):
            handle = self._partials.open_record(self._name, make=True)
            return handle is not None and self._take(handle)
        return False

    def _take(self, handle: int) -> bool:
        try:
            if self._calls.lock(handle):
                self._handle = handle
                self._length = min(self._calls.fstat(handle).st_size, RECORD_BYTES_MAX)
                return True
        finally:
            if self._handle != handle:
                self._calls.close(handle)
        return False

    def _read(self, times_ns: Mapping[str, int]) -> Record:
        """Return what the record says; what of it does not check is cut off."""
        record = Record()
        try:
            record = decode_record(self._pieces(self._length), self._sender, times_ns)
            if record.good_bytes != self._calls.fstat(self._handle).st_size:
                self._calls.ftruncate(self._handle, record.good_bytes)
        except OSError:
            record = Record()
        self._length = record.good_bytes
        return record

    def _pieces(self, length: int) -> Iterator[bytes]:
        done = 0
        while done < length:
            piece = self._calls.pread(self._handle, min(_READ_BYTES, length - done), done)
            if not piece:
                return
            done += len(piece)
            yield piece

    def _append(self, lines: bytes) -> None:
        """Add lines; a record that cannot be written is given up, so that it never says half of what it should."""
        if self._handle < 0:
            return
        try:
            if self._length + len(lines) > RECORD_BYTES_MAX:
                raise OSError(errno.EFBIG, "the record is too long")
            write_all(self._calls, self._handle, memoryview(lines), self._length)
            self._length += len(lines)
        except OSError:
            self._drop()

    def _drop(self) -> None:
        self._partials.remove_record(self._name)
        handle, self._handle = self._handle, -1
        with contextlib.suppress(OSError):
            self._calls.close(handle)

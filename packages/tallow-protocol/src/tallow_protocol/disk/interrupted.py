"""What an interrupted transfer made under final names and would go on with, for a list of it.

Reads the record that disk/unfinished.py keeps, locks nothing and changes nothing; a running transfer is listed as well.
"""

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tallow_crypto import Fingerprint

from tallow_protocol.core.unfinished import (
    RECORD_BYTES_MAX,
    Record,
    decode_record,
    files_told,
    record_name,
    sender_of_record,
)
from tallow_protocol.disk.calls import SYSTEM, SystemCalls
from tallow_protocol.disk.errors import NameRefusedError
from tallow_protocol.disk.leftovers import OLD_FILE, RECORD_SUFFIX, is_own_file, opened, record_names
from tallow_protocol.disk.names import check_path
from tallow_protocol.disk.root import OutputRoot
from tallow_protocol.errors import ConflictError, NotWritableError

__all__ = ["InterruptedInfo", "list_interrupted"]

_READ_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class InterruptedInfo:
    """A transfer that was interrupted after it had made something under final names.

    `names` are those of the top level that stand in the directory as it left them, of folders with a slash behind. Of
    `files` files and links `files_there` are there, with `bytes_there`. It was begun, the last time, `age_s` ago.
    """

    directory: Path
    sender: Fingerprint
    names: tuple[str, ...]
    files: int
    files_there: int
    bytes_there: int
    age_s: float


def list_interrupted(
    directory: str | os.PathLike[str], *, calls: SystemCalls = SYSTEM, now_s: float | None = None
) -> tuple[InterruptedInfo, ...]:
    """Return the interrupted transfers of which something stands in an output directory, the oldest first.

    Raises NotWritableError where the directory cannot be read.
    """
    now_s = time.time() if now_s is None else now_s
    found: list[InterruptedInfo] = []
    with opened(directory, calls) as handle, OutputRoot.existing_only(directory, calls=calls) as root:
        if handle is None or root is None:
            return ()
        for name in record_names(calls, handle):
            with contextlib.suppress(OSError):
                record = calls.open(name, OLD_FILE, dir_fd=handle)
                try:
                    status = calls.fstat(record)
                    if is_own_file(status, calls.user()) and status.st_size <= RECORD_BYTES_MAX:
                        old_s = max(now_s - status.st_mtime_ns / 1e9, 0.0)
                        found += _told(_Pieces(calls, record), name, root, Path(directory), old_s)
                finally:
                    calls.close(record)
    return tuple(sorted(found, key=lambda info: -info.age_s))


class _Pieces:
    """The pieces of an open file, from its beginning each time."""

    def __init__(self, calls: SystemCalls, handle: int) -> None:
        self._calls = calls
        self._handle = handle

    def __iter__(self) -> Iterator[bytes]:
        done = 0
        while piece := self._calls.pread(self._handle, _READ_BYTES, done):
            done += len(piece)
            yield piece


def _told(
    pieces: _Pieces, name: str, root: OutputRoot, directory: Path, age_s: float
) -> Iterator[InterruptedInfo]:
    """Yield what a record tells, nothing where nothing of it stands."""
    sender = sender_of_record(next(iter(pieces), b""))
    if sender is None or name != record_name(sender) + RECORD_SUFFIX:
        return
    record = decode_record(pieces, sender, {})
    folders = {offered for offered in record.tops if _is_own_folder(root, record, record.tops[offered])}
    files: set[str] = set()
    there: dict[str, int] = {}
    for path, mtime_ns in files_told(pieces, sender):
        top, slash, rest = path.partition("/")
        if top not in record.tops:
            continue
        files.add(path)
        if not slash or top in folders:
            size = _size_there(root, record.tops[top] + slash + rest, mtime_ns)
            if size is not None:
                there[path] = size
    names = [record.tops[offered] + "/" for offered in folders]
    names += [record.tops[path] for path in there if "/" not in path]
    if names:
        yield InterruptedInfo(
            directory, sender, tuple(sorted(names)), len(files), len(there), sum(there.values()), age_s
        )


def _is_own_folder(root: OutputRoot, record: Record, placed: str) -> bool:
    with contextlib.suppress(NameRefusedError, ConflictError, NotWritableError):
        status = root.look_at_top(placed)
        return (
            status is not None
            and stat.S_ISDIR(status.st_mode)
            and record.made.get(placed) == (status.st_dev, status.st_ino)
        )
    return False


def _size_there(root: OutputRoot, path: str, mtime_ns: int) -> int | None:
    """Return the size of what stands at a path, None where it is not what the transfer wrote."""
    with contextlib.suppress(NameRefusedError, ConflictError, NotWritableError):
        status = root.look(check_path(path))
        if status is not None and status.st_mtime_ns == mtime_ns and not stat.S_ISDIR(status.st_mode):
            return status.st_size
    return None

"""What lies in the folders of partial files: opened safely, listed, aged, removed.

The folder's rules stand in partials.py; what an interrupted transfer made beside it is told by interrupted.py.
"""

import contextlib
import errno
import os
import re
import stat
import time
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from tallow_crypto import Fingerprint

from tallow_protocol.core.journal import decode_journal
from tallow_protocol.core.unfinished import record_name
from tallow_protocol.disk import names
from tallow_protocol.disk.calls import SYSTEM, FileStatus, SystemCalls
from tallow_protocol.disk.staging import clean_staging
from tallow_protocol.errors import NotWritableError

__all__ = [
    "BOTH",
    "NOT_OURS",
    "OLD_FILE",
    "PARTIALS_NAME",
    "RECORD_SUFFIX",
    "CleanedPartials",
    "PartialInfo",
    "age_s",
    "clean_partials",
    "clean_records",
    "folder_names",
    "is_own_file",
    "is_unfinished",
    "list_partials",
    "open_folder",
    "opened",
    "pairs",
    "partial_info",
    "read_all",
    "record_names",
    "remove_pair",
]

PARTIALS_NAME = ".tallow-partial"
"""The folder's name. Where it is another user's, as in a shared directory, ours has our number behind it."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OLD_FILE = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_READ_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

NOT_OURS = frozenset({errno.ELOOP, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.ENXIO})
"""What opening gives where nothing stands, or a link, a pipe, a folder, or what another user keeps for himself."""

BOTH = frozenset({"data", "journal"})
RECORD_SUFFIX = ".unfinished"
"""Ends the name of a record of what an unfinished transfer made (disk/unfinished.py); 32 hexadecimal digits precede."""

_RECORD = re.compile(r"[0-9a-f]{32}\.unfinished\Z")
_PAIR = re.compile(r"([0-9a-f]{32}(?:-[0-9a-f]{8})?)\.(data|journal)\Z")
_READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class PartialInfo:
    """One partial file, for a list of them. `path` is the sender's own text."""

    directory: Path
    name: str
    sender: Fingerprint
    path: str
    size_bytes: int
    verified_bytes: int
    age_s: float


@dataclass(frozen=True, slots=True)
class CleanedPartials:
    """What was removed: partial files and the bytes that this freed, records of transfers, folders of killed transfers.

    `in_use` partial files were left because a transfer uses them.
    """

    files: int = 0
    bytes: int = 0
    in_use: int = 0
    records: int = 0
    staging: int = 0


def list_partials(
    directory: str | os.PathLike[str], *, calls: SystemCalls = SYSTEM, now_s: float | None = None
) -> tuple[PartialInfo, ...]:
    """Return the partial files in an output directory, the oldest first; none where it has none.

    Raises NotWritableError where the directory cannot be read.
    """
    now_s = time.time() if now_s is None else now_s
    found = []
    with opened(directory, calls) as handle:
        if handle is None:
            return ()
        for name, kinds in pairs(calls.listdir(handle)).items():
            info = partial_info(calls, handle, Path(directory), name, now_s) if kinds == BOTH else None
            if info is not None:
                found.append(info)
    return tuple(sorted(found, key=lambda info: -info.age_s))


def clean_partials(
    directory: str | os.PathLike[str],
    *,
    older_than_s: float = 0.0,
    calls: SystemCalls = SYSTEM,
    now_s: float | None = None,
) -> CleanedPartials:
    """Remove the partial files of an output directory to which nothing was added for `older_than_s` seconds.

    One that is in use stays. Staging that a killed transfer left goes in any case. Raises NotWritableError.
    """
    now_s = time.time() if now_s is None else now_s
    files = size_bytes = in_use = 0
    staging = _clean_staging(directory, calls)
    with opened(directory, calls) as handle:
        if handle is None:
            return CleanedPartials(staging=staging)
        for name, kinds in pairs(calls.listdir(handle)).items():
            if age_s(calls, handle, name, kinds, now_s) < older_than_s:
                continue
            freed = remove_pair(calls, handle, name, kinds)
            if freed is None:
                in_use += 1
            else:
                files, size_bytes = files + 1, size_bytes + freed
        records = clean_records(calls, handle, older_than_s, now_s)
    return CleanedPartials(files, size_bytes, in_use, records, staging)


def is_unfinished(
    directory: str | os.PathLike[str], sender: Fingerprint, *, calls: SystemCalls = SYSTEM
) -> bool:
    """Return whether an output directory has anything of a sender's unfinished transfer. Raises as `list_partials` does."""
    with opened(directory, calls) as handle:
        if handle is None:
            return False
        found = calls.listdir(handle)
        if record_name(sender) + RECORD_SUFFIX in found:
            return True
        infos = (partial_info(calls, handle, Path(directory), name, 0.0) for name in pairs(found))
        return any(info is not None and info.sender == sender for info in infos)


def record_names(calls: SystemCalls, handle: int) -> list[str]:
    """Return the names of the records in an open folder of partial files."""
    return sorted(name for name in calls.listdir(handle) if _RECORD.match(name))


def clean_records(calls: SystemCalls, handle: int, older_than_s: float, now_s: float) -> int:
    """Remove the records in an open folder of partial files to which nothing was added for so long; one in use stays.

    Return how many went.
    """
    gone = 0
    for name in record_names(calls, handle):
        record = -1
        with contextlib.suppress(OSError):
            old_s = now_s - calls.stat(name, dir_fd=handle).st_mtime_ns / 1e9
            if max(old_s, 0.0) < older_than_s:
                continue
            try:
                with contextlib.suppress(
                    OSError
                ):  # a link or something else that is not opened: its name goes
                    record = calls.open(name, OLD_FILE, dir_fd=handle)
                if record < 0 or calls.lock(record):
                    calls.unlink(name, dir_fd=handle)
                    gone += 1
            finally:
                if record >= 0:
                    calls.close(record)
    return gone


def _clean_staging(directory: str | os.PathLike[str], calls: SystemCalls) -> int:
    with contextlib.suppress(
        OSError, ValueError
    ):  # no such directory: `opened` says what there is to be said
        handle = calls.open(str(directory), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return clean_staging(calls, handle)
        finally:
            calls.close(handle)
    return 0


@contextlib.contextmanager
def opened(directory: str | os.PathLike[str], calls: SystemCalls) -> Iterator[int | None]:
    """Give the handle of the partials' folder of a directory, None where there is none; remove it if it is empty then."""
    outer = -1
    try:
        outer = calls.open(str(directory), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        opened = open_folder(calls, outer)
        if opened is None:
            yield None
            return
        handle, name = opened
        try:
            yield handle
        finally:
            calls.close(handle)
        with contextlib.suppress(OSError):
            calls.rmdir(name, dir_fd=outer)
    except FileNotFoundError:
        yield None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        shown = names.quoted(str(directory))
        raise NotWritableError(f"cannot look for partial files in {shown}: {reason}") from error
    finally:
        if outer >= 0:
            calls.close(outer)


def folder_names(calls: SystemCalls) -> tuple[str, str]:
    """Return the names that our folder may have, the usual one first."""
    return PARTIALS_NAME, f"{PARTIALS_NAME}-{calls.user()}"


def open_folder(calls: SystemCalls, directory: int) -> tuple[int, str] | None:
    """Return the handle and the name of our private folder below `directory`; None where there is none yet.

    A link, another kind of file or another user's folder is never ours; in a shared directory ours has our number.
    """
    for name in folder_names(calls):
        try:
            handle = calls.open(name, _FOLDER, dir_fd=directory)
        except OSError as error:
            if error.errno in NOT_OURS:
                continue
            raise
        status = calls.fstat(handle)
        if status.st_uid == calls.user():
            if status.st_mode & 0o077:  # opened to others; what they put there is theirs, and not touched
                with contextlib.suppress(OSError):  # a file system without modes
                    calls.fchmod(handle, 0o700)
            return handle, name
        calls.close(handle)
    return None


def pairs(found: list[str]) -> dict[str, set[str]]:
    """Return the names of pairs and which of their two files are there; what else lies in the folder is not ours."""
    pairs: dict[str, set[str]] = {}
    for name in found:
        match = _PAIR.match(name)
        if match is not None:
            pairs.setdefault(match[1], set()).add(match[2])
    return pairs


def age_s(calls: SystemCalls, handle: int, name: str, kinds: AbstractSet[str], now_s: float) -> float:
    """Return how long ago something was added to a pair; a clock that went back makes it new."""
    times = [0]
    for kind in kinds:
        with contextlib.suppress(OSError):
            times.append(calls.stat(f"{name}.{kind}", dir_fd=handle).st_mtime_ns)
    return max(now_s - max(times) / 1e9, 0.0)


def remove_pair(calls: SystemCalls, handle: int, name: str, kinds: AbstractSet[str]) -> int | None:
    """Remove a pair that nobody uses; return the bytes of its data, None where it is in use."""
    freed, data = 0, -1
    try:
        with contextlib.suppress(OSError):  # a link or something else that is not opened: its name goes
            if "data" in kinds:
                data = calls.open(f"{name}.data", OLD_FILE, dir_fd=handle)
                if not calls.lock(data):
                    return None
                freed = calls.fstat(data).st_size
        for kind in ("journal", "data"):
            if kind in kinds:
                with contextlib.suppress(OSError):
                    calls.unlink(f"{name}.{kind}", dir_fd=handle)
    finally:
        if data >= 0:
            calls.close(data)
    return freed


def partial_info(
    calls: SystemCalls, handle: int, directory: Path, name: str, now_s: float
) -> PartialInfo | None:
    """Return what a pair's journal says of it, None where that says nothing. Reads none of its data."""
    try:
        journal = calls.open(f"{name}.journal", _READ_FILE, dir_fd=handle)
    except OSError:
        return None
    try:
        status = calls.fstat(journal)
        if not is_own_file(status, calls.user()):
            return None
        said = decode_journal(read_all(calls, journal, 0, status.st_size))
        length = calls.stat(f"{name}.data", dir_fd=handle).st_size
    except OSError:
        return None
    finally:
        calls.close(journal)
    if said is None:
        return None
    header = said.header
    verified = min(said.count * header.chunk_size, header.size, length)
    old_s = age_s(calls, handle, name, BOTH, now_s)
    return PartialInfo(directory, name, header.sender, header.path, header.size, verified, old_s)


def is_own_file(status: FileStatus, user: int) -> bool:
    """Return whether it is a regular file of `user` with one name."""
    return stat.S_ISREG(status.st_mode) and status.st_uid == user and status.st_nlink == 1


def read_all(calls: SystemCalls, handle: int, offset: int, length: int) -> bytes:
    """Return up to `length` bytes from `offset`, fewer where the file ends."""
    data = bytearray()
    while len(data) < length:
        piece = calls.pread(handle, min(_READ_BYTES, length - len(data)), offset + len(data))
        if not piece:
            break
        data += piece
    return bytes(data)

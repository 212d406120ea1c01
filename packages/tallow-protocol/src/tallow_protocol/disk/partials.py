"""Partial files: what a transfer that was interrupted leaves, so that the next one goes on where it stopped.

They lie in a private folder (0700) inside the output directory, so on the same file system, each as a pair: NAME.data,
and NAME.journal (core/journal.py), which says how much of the data is verified and durable. NAME is made of the sender's
fingerprint, the path and the size: no peer's text is in it, and no two of them share a pair. Everything is opened through
the folder's handle and never through a link; what is no regular file of ours with one name is not touched. A pair in use
is locked, and whoever finds it so takes another name, which nobody resumes.

The journal is the one truth, and it is never ahead of the data: data is made durable before its digests are noted, and
a journal is cut before data is written over. A partial file outlives every error; it ends when its file is placed, when
it is old, or when the user says so.

Synchronous; one thread at a time, and `PartialFile.sync` beside it.
"""

import contextlib
import errno
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable

from tallow_crypto import DIGEST_BYTES, Fingerprint, chunk_digest, equal

from tallow_protocol.core.journal import (
    JOURNAL_RECORD_BYTES,
    JournalHeader,
    decode_journal,
    encode_records,
    journal_bytes_max,
    partial_name,
)
from tallow_protocol.core.receiving import Existing
from tallow_protocol.disk import names
from tallow_protocol.disk.calls import Buffer, SystemCalls
from tallow_protocol.disk.leftovers import (
    BOTH,
    NOT_OURS,
    OLD_FILE,
    PARTIALS_NAME,
    age_s,
    clean_records,
    folder_names,
    is_own_file,
    open_folder,
    pairs,
    partial_info,
    read_all,
    remove_pair,
)
from tallow_protocol.disk.places import translated, write_all
from tallow_protocol.disk.root import OutputRoot
from tallow_protocol.errors import IntegrityError, MisuseError, NotWritableError, ProtocolError
from tallow_protocol.limits import CHUNK_LOG2_MAX, CHUNK_LOG2_MIN, FILE_SIZE_MAX

__all__ = ["PartialFile", "PartialFolder"]

KEEP_S = 30 * 24 * 3600.0
"""A partial file that nothing was added to for 30 days is removed at the next use of its folder."""

RECHECK_BYTES = 64 * 1024 * 1024
"""So much of the end of what a journal says is read again before it is believed: what a disk's own cache may have lost."""

OPEN_PARTIALS = 128
"""Partial files of one offer that are resumed, two handles each. A sender begins few files at a time, so that this many
are left only by many interruptions; the others are sent again."""

_ZEROS = bytes(1 << CHUNK_LOG2_MAX)
"""The longest chunk, all zeros: what it begins with is a hole. Never written, so it takes 4 MiB of addresses, no memory."""

DIRECT_FILE_BYTES = 32 * 1024 * 1024
DIRECT_CHUNK_BYTES = 1024 * 1024
"""From here on, on a fast path, chunks go to the device past the system's memory: that saves a copy, a page for each 4 KiB
and nearly all of the last sync. A shorter file may be wanted in memory at once; shorter chunks are better written together."""

BLOCK_BYTES = 4096
"""The largest block that a device has."""

_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class PartialFile:
    """A file on its way, under no final name. `sync` may be called beside one other call; others may not overlap."""

    def __init__(
        self,
        folder: "PartialFolder",
        name: str,
        data: int,
        header: JournalHeader,
        *,
        journal: int = -1,
        count: int = 0,
        resumable: bool = True,
        stream: bool = False,
    ) -> None:
        self._folder = folder
        self._calls = folder.root.calls
        self._name = name
        self._data = data
        self._journal = journal
        self._header = header
        self._encoded = header.encode()
        self._components: tuple[str, ...] = ()
        self._resumable = resumable
        self._stream = stream
        # What an earlier session left from here on is nothing; before, it may be anything that the journal does not say.
        self._length = self._hole_from = self._calls.fstat(data).st_size
        self._direct: bool | None = None  # None before the first write
        self._guard = threading.Lock()
        # Under the guard:
        self._count = count
        self._syncing = False
        self._ended = False

    def aim(self, components: tuple[str, ...]) -> None:
        """Say where it is placed at the end."""
        self._components = components

    def restart(self, header: JournalHeader) -> None:
        """Begin anew, in other chunks maybe: first the journal is emptied for good, then the data."""
        if self._journal >= 0:
            self._calls.ftruncate(self._journal, 0)
            self._calls.sync_data(self._journal)
        self._calls.ftruncate(self._data, 0)
        self._length = self._hole_from = 0
        self._direct = None
        self._header, self._encoded, self._count = header, header.encode(), 0

    def write_at(self, offset: int, data: Buffer) -> None:
        """Write all of `data` at `offset`. Raises NoSpaceError or NotWritableError.

        Zeros where nothing was written yet are left a hole, which takes no space. What is beyond the file's size is a MisuseError: the pipeline has checked it before.
        """
        view = memoryview(data)
        if self._ended or offset < 0 or offset + len(view) > self._header.size:
            raise MisuseError(f"a write beyond the {self._header.size} bytes of a file, or after its end")
        end = offset + len(view)
        try:
            if offset < self._hole_from or not _ZEROS.startswith(view):
                self._write(view, offset)
            elif end > self._length:
                self._calls.ftruncate(self._data, end)
        except OSError as error:
            raise translated(error, self._components) from error
        self._length = max(self._length, end)

    def _write(self, data: memoryview, offset: int) -> None:
        header, handle = self._header, self._data
        if self._direct is None:
            large = header.size >= DIRECT_FILE_BYTES and header.chunk_size >= DIRECT_CHUNK_BYTES
            self._direct = large and self._calls.write_direct(handle, on=True)
        if self._direct:
            if not (offset | len(data)) % BLOCK_BYTES:
                try:
                    write_all(self._calls, handle, data, offset)
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
                else:
                    return
            # The end of the file, or memory that does not lie as the device wants it: what was decompressed, say.
            self._direct = self._calls.write_direct(handle, on=False)
        write_all(self._calls, handle, data, offset)

    def sync(self, first: int, digests: bytes) -> None:
        """Make the data durable, then note the digests (32 bytes each, joined) of chunks from `first` on.

        Those that are noted already are skipped. After the end, or where nobody could resume it, nothing is done.
        Raises NoSpaceError or NotWritableError.
        """
        with self._guard:
            if self._ended or self._syncing or not self._resumable:
                return
            self._syncing = True
        try:
            self._calls.sync_data(self._data)
            with self._guard:
                if not self._ended:
                    self._note(first, digests)
        except OSError as error:
            raise translated(error, self._components) from error
        finally:
            with self._guard:
                self._syncing = False
                if self._ended:
                    self._close()

    def _note(self, first: int, digests: bytes) -> None:
        new = digests[(self._count - first) * DIGEST_BYTES :]
        if first > self._count or not new:
            return
        if self._journal < 0:
            self._journal = self._folder.new_journal(self._name)
        records = encode_records(self._encoded, self._count, new)
        at = len(self._encoded) + self._count * JOURNAL_RECORD_BYTES
        if not self._count:
            records, at = self._encoded + records, 0
        write_all(self._calls, self._journal, memoryview(records), at)
        self._count += len(new) // DIGEST_BYTES

    def commit(self, mode: int, mtime_ns: int) -> None:
        """Set mode and time, give the file its final name, and remove the journal.

        Raises ConflictError if something stands there by now, IntegrityError if bytes are missing at the end; the
        partial file stays then.
        """
        root = self._folder.root
        try:
            if not self._stream and self._calls.fstat(self._data).st_size != self._header.size:
                raise IntegrityError(
                    f"{names.quoted('/'.join(self._components))} is shorter than was promised"
                )
            # Durable before it has its name: after a power cut a final name never holds what was not verified.
            self._calls.sync_data(self._data)
            root.finish_file(self._data, mode, mtime_ns)
            try:
                root.place_from(self._folder.handle, f"{self._name}.data", self._components)
            except (OSError, ProtocolError):
                with contextlib.suppress(OSError):  # else who owns it could not open it again
                    self._calls.fchmod(self._data, 0o600)
                raise
        except OSError as error:
            raise translated(error, self._components) from error
        self._end()
        self._folder.remove(self._name, "journal")
        self._folder.ended(self)

    def abandon(self) -> None:
        """Close it. What was noted stays to be resumed, and where nothing was, nothing stays. Never raises."""
        if self._ended:
            return
        if not self._count or not self._resumable:
            self._folder.remove(self._name, "journal")
            self._folder.remove(self._name, "data")
        self._end()
        self._folder.ended(self)

    def _end(self) -> None:
        with self._guard:
            self._ended = True
            if not self._syncing:
                self._close()

    def _close(self) -> None:
        for handle in (self._data, self._journal):
            if handle >= 0:
                with contextlib.suppress(OSError):  # what counts was synced before
                    self._calls.close(handle)
        self._data = self._journal = -1


class PartialFolder:
    """The partial files of one sender in one output directory; the folder is made when it is first needed."""

    def __init__(
        self, root: OutputRoot, sender: Fingerprint, *, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock` gives seconds since 1970, against which files' times are held."""
        self.root = root
        self._calls = root.calls
        self._sender = sender
        self._clock = clock
        self._handle = -1
        self._folder_name = ""
        self._looked = False
        self._journals: frozenset[str] = frozenset()
        self._found: dict[str, PartialFile] = {}
        self._open: set[PartialFile] = set()

    @property
    def handle(self) -> int:
        """Return the folder's handle."""
        return self._handle

    def find(self, path: str, size: int) -> Existing | None:
        """Return how much of a file is there from this sender, verified and durable, at least a chunk of it.

        It stays open for `begin`. Raises NotWritableError.
        """
        name = partial_name(self._sender, path, size)
        try:
            if not self._look() or name not in self._journals or len(self._found) >= OPEN_PARTIALS:
                return None
            return self._find(name, path, size)
        except OSError as error:
            raise translated(error, (PARTIALS_NAME,)) from error

    def noted_bytes(self, path: str, size: int) -> int:
        """Return how many bytes of a file its journal notes, without a look at its data. Raises NotWritableError."""
        name = partial_name(self._sender, path, size)
        try:
            if not self._look() or name not in self._journals:
                return 0
            info = partial_info(self._calls, self._handle, self.root.directory, name, self._clock())
        except OSError as error:
            raise translated(error, (PARTIALS_NAME,)) from error
        return info.verified_bytes if info is not None and (info.path, info.size_bytes) == (path, size) else 0

    def _find(self, name: str, path: str, size: int) -> Existing | None:
        data = self._own(f"{name}.data")
        if data is None:
            return None
        journal, kept = None, False
        try:
            if self._calls.lock(data):
                journal = self._own(f"{name}.journal")
            found = None if journal is None else self._read(journal, path, size)
            if journal is None or found is None:
                return None
            header, said = found
            digests = self._believed(data, header, said)
            count = len(digests) // DIGEST_BYTES
            if not count:
                return None
            good_bytes = len(header.encode()) + count * JOURNAL_RECORD_BYTES
            if self._calls.fstat(journal).st_size != good_bytes:
                self._calls.ftruncate(journal, good_bytes)
                self._calls.sync_data(journal)  # before data is written over of which the rest spoke
            partial = PartialFile(self, name, data, header, journal=journal, count=count)
            self._found[path] = partial
            self._open.add(partial)
            kept = True
            return Existing(header.chunk_size, digests)
        finally:
            for handle in () if kept else (data, journal):
                if handle is not None:
                    self._calls.close(handle)

    def _read(self, journal: int, path: str, size: int) -> tuple[JournalHeader, bytes] | None:
        """Return what a journal says, if it is of this file."""
        most = journal_bytes_max(size, 1 << CHUNK_LOG2_MIN)
        length = min(self._calls.fstat(journal).st_size, most)
        said = decode_journal(read_all(self._calls, journal, 0, length))
        if said is None or (said.header.sender, said.header.path, said.header.size) != (
            self._sender,
            path,
            size,
        ):
            return None
        return said.header, said.digests

    def _believed(self, data: int, header: JournalHeader, digests: bytes) -> bytes:
        """Return the digests of those first chunks whose data is there; the last 64 MiB are read and compared."""
        length = self._calls.fstat(data).st_size
        whole = header.chunks if length >= header.size else length // header.chunk_size
        count = min(len(digests) // DIGEST_BYTES, whole)
        buffer = memoryview(bytearray(header.chunk_size if count else 0))
        for index in range(max(count - RECHECK_BYTES // header.chunk_size, 0), count):
            offset = index * header.chunk_size
            chunk = buffer[: min(header.chunk_size, header.size - offset)]
            at = index * DIGEST_BYTES
            if not _read_into(self._calls, data, chunk, offset) or not equal(
                chunk_digest(chunk), digests[at : at + DIGEST_BYTES]
            ):
                count = index
                break
        return digests[: count * DIGEST_BYTES]

    def begin(
        self, path: str, size: int | None, chunk_size: int, components: tuple[str, ...], *, resumes: bool
    ) -> PartialFile:
        """Return the partial file of `path`, to be placed at `components`: what `find` found, or a new one.

        A size of None is a stream's: it takes what comes, and is never resumed.
        Raises ConflictError, NameRefusedError, NoSpaceError, NotWritableError.
        """
        self.root.claim(components)
        header = JournalHeader(self._sender, path, FILE_SIZE_MAX if size is None else size, chunk_size)
        partial = self._found.pop(path, None)
        try:
            if partial is None:
                if resumes:
                    raise MisuseError("a file goes on that was not found")
                name = partial_name(self._sender, path, header.size)
                partial = self._new(name, header, stream=size is None)
                self._open.add(partial)
            elif not resumes:
                partial.restart(header)
        except OSError as error:
            raise translated(error, components) from error
        partial.aim(components)
        return partial

    def _new(self, name: str, header: JournalHeader, *, stream: bool) -> PartialFile:
        for _ in range(3):  # the folder may go away between two calls, with the last file of another transfer
            if self._handle < 0:
                self._make()
            try:
                return self._new_stream(name, header) if stream else self._new_here(name, header)
            except FileNotFoundError:
                self._calls.close(self._handle)
                self._handle = -1
        raise NotWritableError(f"the folder {PARTIALS_NAME} in the output directory goes away all the time")

    def _new_stream(self, name: str, header: JournalHeader) -> PartialFile:
        name = f"{name}-{secrets.token_hex(4)}"
        data = self._calls.open(f"{name}.data", _NEW_FILE, 0o600, dir_fd=self._handle)
        self._calls.lock(data)
        return PartialFile(self, name, data, header, resumable=False, stream=True)

    def _new_here(self, name: str, header: JournalHeader) -> PartialFile:
        try:
            self._calls.stat(f"{name}.data", dir_fd=self._handle)
        except FileNotFoundError:
            # A power cut may leave it without its data; it says nothing of new data.
            self.remove(name, "journal")
        try:
            data = self._calls.open(f"{name}.data", _NEW_FILE, 0o600, dir_fd=self._handle)
        except FileExistsError:
            standing = self._own(f"{name}.data")
            if standing is not None and self._calls.lock(standing):
                # Without a journal that is worth anything, or `find` would have it.
                journal = self._own(f"{name}.journal")
                partial = PartialFile(
                    self, name, standing, header, journal=-1 if journal is None else journal
                )
                partial.restart(header)
                return partial
            if standing is not None:
                self._calls.close(standing)
            name = f"{name}-{secrets.token_hex(4)}"
            data = self._calls.open(f"{name}.data", _NEW_FILE, 0o600, dir_fd=self._handle)
            return PartialFile(self, name, data, header, resumable=False)
        self._calls.lock(data)
        return PartialFile(self, name, data, header)

    def new_journal(self, name: str) -> int:
        """Return the handle of a new journal; what stood under its name is no journal of ours and goes."""
        try:
            return self._calls.open(f"{name}.journal", _NEW_FILE, 0o600, dir_fd=self._handle)
        except FileExistsError:
            self._calls.unlink(f"{name}.journal", dir_fd=self._handle)
            return self._calls.open(f"{name}.journal", _NEW_FILE, 0o600, dir_fd=self._handle)

    def open_record(self, name: str, *, make: bool) -> int | None:
        """Return the handle of a file of ours in the folder that is no pair's; None where there is none, or none of ours.

        Raises OSError, and NotWritableError where the folder cannot be ours.
        """
        if not make:
            return self._own(name) if self._look() else None
        for _ in range(3):  # as in `_new`
            if self._handle < 0:
                self._make()
            try:
                return self._calls.open(name, _NEW_FILE, 0o600, dir_fd=self._handle)
            except FileExistsError:
                return self._own(name)
            except FileNotFoundError:
                self._calls.close(self._handle)
                self._handle = -1
        return None

    def remove_record(self, name: str) -> None:
        """Remove such a file, if it is there. Never raises."""
        with contextlib.suppress(OSError):
            self._calls.unlink(name, dir_fd=self._handle)

    def remove(self, name: str, kind: str) -> None:
        """Remove one file of a pair, if it is there. Never raises."""
        with contextlib.suppress(OSError):
            self._calls.unlink(f"{name}.{kind}", dir_fd=self._handle)

    def ended(self, partial: PartialFile) -> None:
        """Drop a partial file that has ended."""
        self._open.discard(partial)

    def close(self) -> None:
        """Close what is open, and the folder, which goes if nothing is left in it. Never raises; repeatable."""
        for partial in tuple(self._open):
            partial.abandon()
        self._found.clear()
        handle, self._handle = self._handle, -1
        if handle >= 0:
            with contextlib.suppress(OSError):
                self._calls.close(handle)
            with contextlib.suppress(OSError):  # not empty: something is left to be resumed
                self._calls.rmdir(self._folder_name, dir_fd=self.root.handle)

    def _own(self, name: str) -> int | None:
        """Open a regular file of ours that has one name only; None for anything else that may stand there."""
        try:
            handle = self._calls.open(name, OLD_FILE, dir_fd=self._handle)
        except OSError as error:
            if error.errno in NOT_OURS:
                return None
            raise
        status = self._calls.fstat(handle)
        if is_own_file(status, self._calls.user()):
            return handle
        self._calls.close(handle)
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1 and name.endswith(".data"):
            # It was placed, and we were killed before this name of it went: the file is whole elsewhere.
            with contextlib.suppress(OSError):
                self._calls.unlink(name, dir_fd=self._handle)
        return None

    # ---- the folder ----

    def _look(self) -> bool:
        """Open the folder if it is there, once; note what is in it, and remove what is too old."""
        if not self._looked:
            self._looked = True
            opened = open_folder(self._calls, self.root.handle)
            if opened is not None:
                self._take(*opened)
        return self._handle >= 0

    def _make(self) -> None:
        opened = open_folder(self._calls, self.root.handle)
        if opened is None:
            for name in folder_names(self._calls):
                with contextlib.suppress(FileExistsError):
                    self._calls.mkdir(name, 0o700, dir_fd=self.root.handle)
                    break
            opened = open_folder(self._calls, self.root.handle)
        if opened is None:
            raise NotWritableError(
                f"{PARTIALS_NAME} in the output directory is not a private folder of yours, and data that is "
                "on its way would have to be kept in it",
                hints=("remove it, or choose another output directory",),
            )
        self._looked = True
        self._take(*opened)

    def _take(self, handle: int, name: str) -> None:
        self._handle, self._folder_name = handle, name
        kept = []
        for pair, kinds in sorted(pairs(self._calls.listdir(handle)).items()):
            old_s = age_s(self._calls, handle, pair, kinds, self._clock())
            if old_s > KEEP_S:
                remove_pair(self._calls, handle, pair, kinds)
            elif kinds == BOTH:
                kept.append(pair)
        clean_records(self._calls, handle, KEEP_S, self._clock())
        self._journals = frozenset(kept)


def _read_into(calls: SystemCalls, handle: int, buffer: memoryview, offset: int) -> bool:
    """Fill a buffer; return whether there was enough."""
    done = 0
    while done < len(buffer):
        count = calls.pread_into(handle, buffer[done:], offset + done)
        if not count:
            return False
        done += count
    return True

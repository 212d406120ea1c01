"""Outputs that are no files: a text for the screen, and a descriptor such as standard output."""

from __future__ import annotations

import errno
import os
import select
import threading
from collections import deque
from typing import TYPE_CHECKING

from tallow_protocol.core.entries import EntryKind
from tallow_protocol.errors import (
    MisuseError,
    NoSpaceError,
    NotWritableError,
    OutputClosedError,
    ViolationError,
)

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from tallow_crypto import Fingerprint

    from tallow_protocol.core.entries import Entry
    from tallow_protocol.core.receiver import SinkPort
    from tallow_protocol.core.receiving import Existing, Sink, StagedPlace
    from tallow_protocol.errors import ProtocolError

__all__ = ["DescriptorWriter", "Outputs"]

QUEUED_BYTES = 16 * 1024 * 1024
"""Verified bytes that wait for whoever reads; then the transfer waits too."""

EARLY_BYTES = 64 * 1024 * 1024
"""Bytes kept that came before their turn: over several connections, at most what is on its way."""


class DescriptorWriter:
    """Writes to a descriptor in a thread of its own. One caller at a time."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._moved = threading.Condition()
        # Under the condition:
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._closed = False
        self._error: ProtocolError | None = None
        self._thread: threading.Thread | None = None

    def write(self, data: bytes) -> None:
        """Queue `data`; wait while too much is queued. Raises what the descriptor could not do."""
        with self._moved:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tallow-output", daemon=True)
                self._thread.start()
            self._moved.wait_for(lambda: self._queued < QUEUED_BYTES or self._error or self._closed)
            self._check()
            self._queue.append(data)
            self._queued += len(data)
            self._moved.notify_all()

    def drain(self) -> None:
        """Wait until everything is written. Raises what the descriptor could not do."""
        with self._moved:
            self._moved.wait_for(lambda: not self._queued or self._error or self._closed)
            self._check()

    def close(self) -> None:
        """Drop what is queued. The descriptor stays open."""
        with self._moved:
            self._closed = True
            self._moved.notify_all()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while True:
            with self._moved:
                self._moved.wait_for(lambda: self._queue or self._closed)
                if self._closed:
                    return
                data = self._queue.popleft()
            try:
                self._write_all(memoryview(data))
            except BrokenPipeError:
                self._fail(OutputClosedError())
                return
            except OSError as error:
                kind = NoSpaceError if error.errno == errno.ENOSPC else NotWritableError
                self._fail(kind(f"the output cannot be written: {error.strerror}"))
                return
            with self._moved:
                self._queued -= len(data)
                self._moved.notify_all()

    def _fail(self, error: ProtocolError) -> None:
        with self._moved:
            self._error = error
            self._moved.notify_all()

    def _write_all(self, view: memoryview) -> None:
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:
                select.select([], [self._descriptor], [])


class _TextWriter:
    """Keeps a text."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> None:
        self.data += data

    def drain(self) -> None:
        pass

    def close(self) -> None:
        pass


class _OneFile:
    """A sink of one file, whose bytes go to a writer in their order. Nothing of it is ever resumed."""

    def __init__(self, writer: DescriptorWriter | _TextWriter) -> None:
        self._writer = writer
        self._left_out: frozenset[int] = frozenset()
        self._at = 0
        self._early: dict[int, bytes] = {}
        self._early_bytes = 0

    @property
    def left_out(self) -> frozenset[int]:
        return self._left_out

    def begin_offer(self, entries: Sequence[Entry], chosen: Container[int] | None = None) -> None:
        files = [
            number
            for number, entry in enumerate(entries)
            if entry.kind is EntryKind.FILE and (chosen is None or number in chosen)
        ]
        if len(files) != 1:
            raise MisuseError(f"one file can be written here, and {len(files)} were accepted")
        self._left_out = frozenset(range(len(entries))).difference(files)

    def check_space(self, size_bytes: int) -> None:
        """Say nothing: who reads knows."""

    def make_folder(self, path: str) -> None:
        """Make nothing."""

    def make_link(self, path: str, target: str, mtime_ns: int) -> None:
        """Make nothing."""

    def have(self, number: int, entry: Entry) -> Existing | None:
        del number, entry
        return None

    def begin_file(
        self, path: str, size_bytes: int | None, chunk_size: int, *, resume: Existing | None = None
    ) -> StagedPlace:
        del path, size_bytes, chunk_size, resume
        return self

    def write_small(self, path: str, data: memoryview, mode: int, mtime_ns: int) -> None:
        del path, mode, mtime_ns
        self._writer.write(bytes(data))

    def write_at(self, offset: int, data: memoryview) -> None:
        """Pass on what is next, and what waited for it; keep what comes early."""
        if offset != self._at:
            self._early_bytes += len(data)
            if self._early_bytes > EARLY_BYTES:
                raise ViolationError("The peer sent chunks too far out of their order.")
            self._early[offset] = bytes(data)
            return
        piece: bytes | None = bytes(data)
        while piece is not None:
            self._writer.write(piece)
            self._at += len(piece)
            piece = self._early.pop(self._at, None)
            self._early_bytes -= 0 if piece is None else len(piece)

    def commit(self, mode: int, mtime_ns: int) -> None:
        """Wait until all of it is out."""
        del mode, mtime_ns
        self._writer.drain()

    def sync(self, first: int, digests: bytes) -> None:
        """Note nothing."""

    def abandon(self) -> None:
        """Drop what came early."""
        self._early.clear()

    def finish_folders(self, folders: Sequence[tuple[str, int, int]]) -> None:
        """Wait until all of it is out."""
        del folders
        self._writer.drain()

    def discard(self) -> None:
        """Do nothing: what is out is out."""

    def close(self) -> None:
        self._writer.close()


class Outputs:
    """Where an offer goes: to a writer if there is one, else a text to `text` if it may, else into the folder."""

    def __init__(self, folder: SinkPort, *, writer: DescriptorWriter | None, show_text: bool) -> None:
        self._folder = folder
        self._writer = writer
        self._show_text = show_text
        self._is_text = False
        self._text: _TextWriter | None = None

    @property
    def writes_files(self) -> bool:
        """Return whether the checked offer goes into the folder."""
        return self._writer is None and not (self._is_text and self._show_text)

    @property
    def text(self) -> bytes | None:
        """Return the text that came, None if none was asked for."""
        return None if self._text is None else bytes(self._text.data)

    def check(self, entries: Sequence[Entry]) -> None:
        """Refuse an offer whose names cannot be written; raises BadNameError. Touches no disk."""
        self._folder.check(entries)
        self._is_text = len(entries) == 1 and entries[0].is_text

    def open(self, sender: Fingerprint) -> Sink:
        """Open the place for what this sender offers."""
        if self._writer is not None:
            return _OneFile(self._writer)
        if self._is_text and self._show_text:
            self._text = _TextWriter()
            return _OneFile(self._text)
        return self._folder.open(sender)

"""Inputs that are no files of a scan: a text, and a stream of unknown length such as standard input."""

from __future__ import annotations

import os
import select
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallow_protocol.aio.streambuffer import StreamBuffer
from tallow_protocol.core.entries import Entry, EntryKind
from tallow_protocol.core.streams import STREAM_CHUNK_BYTES
from tallow_protocol.disk.names import quoted
from tallow_protocol.disk.scan import Scan
from tallow_protocol.errors import MisuseError, UnreadableError
from tallow_protocol.limits import TEXT_BYTES, TEXT_MODE

if TYPE_CHECKING:
    from tallow_protocol.core.filling import Source

__all__ = [
    "TEXT_NAME",
    "BytesSource",
    "StreamInput",
    "StreamReader",
    "StreamSources",
    "TextSources",
    "text_scan",
]

TEXT_NAME = "text.txt"
"""The name of a text where the receiver wants a file."""


@dataclass(frozen=True, slots=True)
class StreamInput:
    """What is sent as one file named `name`, read from the descriptor until its end."""

    descriptor: int
    name: str = "stdin"


def text_scan(text: str) -> tuple[Scan, bytes]:
    """Return the offer of one text, and its bytes. MisuseError for an empty or too long one."""
    data = text.encode("utf-8", "replace")
    if not data or len(data) > TEXT_BYTES:
        raise MisuseError(f"a text has 1 to {TEXT_BYTES} bytes; send a file instead")
    entry = Entry(TEXT_NAME, EntryKind.FILE, len(data), 0o644 | TEXT_MODE, time.time_ns())
    return Scan.of_one(entry), data


class BytesSource:
    """A source that is held in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill the buffer from `offset`; return how many bytes that was."""
        piece = self._data[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        return len(piece)

    def changed(self) -> bool:
        """Return False: it is what it is."""
        return False

    def close(self) -> None:
        """Do nothing: the bytes are the caller's."""


class TextSources:
    """Opens the text of an offer that has nothing else."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def open(self, file: int) -> Source:
        """Return the text."""
        del file
        return BytesSource(self._data)


class StreamSources:
    """Opens the stream of an offer that has nothing else."""

    def __init__(self, buffer: StreamBuffer) -> None:
        self._buffer = buffer

    def open(self, file: int) -> Source:
        """Return the stream's buffer."""
        del file
        return self._buffer


class StreamReader:
    """Reads a descriptor to its end, in a thread of its own, never further ahead than the buffer has room."""

    def __init__(self, given: StreamInput) -> None:
        self.buffer = StreamBuffer()
        self._given = given

    def scan(self) -> Scan:
        """Return the offer of this stream."""
        entry = Entry(self._given.name, EntryKind.FILE, None, 0o644, time.time_ns())
        return Scan.of_one(entry)

    def start(self) -> None:
        """Begin to read. A daemon thread: one that waits for input cannot be woken, and nothing waits for it."""
        threading.Thread(target=self._read, name="tallow-input", daemon=True).start()

    def _read(self) -> None:
        chunk = bytearray()
        try:
            while piece := self._piece(STREAM_CHUNK_BYTES - len(chunk)):
                chunk += piece
                if len(chunk) == STREAM_CHUNK_BYTES:
                    if not self.buffer.put(bytes(chunk)):
                        return
                    chunk.clear()
        except OSError as error:
            self.buffer.end(UnreadableError(f"cannot read {quoted(self._given.name)}: {error.strerror}"))
            return
        if not chunk or self.buffer.put(bytes(chunk)):
            self.buffer.end()

    def _piece(self, most: int) -> bytes:
        while True:
            try:
                return os.read(self._given.descriptor, most)
            except BlockingIOError:  # whoever shares it made it so
                select.select([self._given.descriptor], [], [])

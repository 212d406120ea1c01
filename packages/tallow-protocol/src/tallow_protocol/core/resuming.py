"""A sender's side of resume: whether the chunks that a receiver holds are the first ones of what is sent now.

A Have is checked by digests: those that are remembered of this very version of the file, and for the rest by reading it
again. What is learned on the way, and while a long file is sent, is handed to whoever remembers it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tallow_crypto import DIGEST_BYTES, FileRoot, chunk_digest, equal

from tallow_protocol.core.chunking import chunk_count
from tallow_protocol.errors import CancelledByUserError, SourceChangedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallow_protocol.core.filling import SourcePort
    from tallow_protocol.core.messages import Have

__all__ = [
    "LEARNED_FILE_BYTES",
    "CheckedHave",
    "DigestPort",
    "Learned",
    "Learning",
    "NoDigests",
    "check_have",
]

LEARNED_FILE_BYTES = 64 * 1024 * 1024
"""Digests of a shorter file are not kept: it is read and hashed again in 30 ms. They are handed over so much at a time."""


@dataclass(frozen=True, slots=True)
class Learned:
    """Digests (32 bytes each, joined) of a file's chunks from `first` on."""

    file: int
    chunk_size: int
    first: int
    digests: bytes


class DigestPort(Protocol):
    """What is remembered of the files of an offer, by their numbers. Called in worker threads, one call at a time."""

    def known(self, file: int, chunk_size: int) -> bytes:
        """Return the digests, joined, of the first chunks of this version of the file, as far as they are known."""

    def learn(self, learned: list[Learned]) -> None:
        """Remember digests of this version of the files. Must not raise."""


class NoDigests:
    """Remembers nothing."""

    def known(self, file: int, chunk_size: int) -> bytes:
        """Return nothing."""
        del file, chunk_size
        return b""

    def learn(self, learned: list[Learned]) -> None:
        """Drop it."""


@dataclass(slots=True)
class Learning:
    """Gathers the digests of one long file while it is sent, and gives them away in pieces."""

    file: int
    chunk_size: int
    first: int = 0
    digests: bytearray = field(default_factory=bytearray)

    def add(self, digest: bytes, *, last: bool) -> Learned | None:
        """Take the next chunk's digest; return a piece once 64 MiB are together, or the file has ended."""
        self.digests += digest
        count = len(self.digests) // DIGEST_BYTES
        if not last and count * self.chunk_size < LEARNED_FILE_BYTES:
            return None
        piece = Learned(self.file, self.chunk_size, self.first, bytes(self.digests))
        self.first += count
        self.digests.clear()
        return piece


@dataclass(frozen=True, slots=True)
class CheckedHave:
    """What came of a Have: the digests of its chunks where ours are the same, None where not; what was read for it."""

    have: Have
    digests: bytes | None
    learned: Learned | None
    whole: bool
    """Whether it was of all chunks: then it may have been about any file of that name and size."""


def check_have(
    have: Have, size: int, sources: SourcePort, port: DigestPort, stopped: Callable[[], bool]
) -> CheckedHave:
    """Compare a Have with our file, of `size` bytes, which is read as far as its digests are not known.

    Raises FileError where it cannot be read or is not what was offered, CancelledByUserError once `stopped`. Takes a
    chunk's memory, and 32 bytes a chunk.
    """
    chunk_size, wanted = have.chunk_size, have.count * DIGEST_BYTES
    source = sources.open(have.file)  # it looks first that this is the version of which something is known
    try:
        digests = bytearray(port.known(have.file, chunk_size)[:wanted])
        known = len(digests) // DIGEST_BYTES
        buffer = memoryview(bytearray(chunk_size if known < have.count else 0))
        for index in range(known, have.count):
            if stopped():
                raise CancelledByUserError
            chunk = buffer[: min(chunk_size, size - index * chunk_size)]
            if source.read_into(index * chunk_size, chunk) != len(chunk):
                raise SourceChangedError
            digests += chunk_digest(chunk)
        if known < have.count and source.changed():
            raise SourceChangedError
    finally:
        source.close()
    root = FileRoot(size, chunk_size)
    root.update_all(digests)
    learned = None
    if known < have.count and size >= LEARNED_FILE_BYTES:
        learned = Learned(have.file, chunk_size, known, bytes(digests[known * DIGEST_BYTES :]))
    same = equal(root.digest(), have.root)
    whole = have.count == chunk_count(size, chunk_size)
    return CheckedHave(have, bytes(digests) if same else None, learned, whole)

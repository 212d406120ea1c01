"""The journal of a partial file: whose it is, how it is cut, and the digests of its first chunks, in order.

    header   "TLWJ" || u16 version 1 || u8 log2 chunk size || 0 || u64 size || sender's fingerprint (32)
             || u16 length of path || path (UTF-8) || check (8)
    record   digest (32) || check (8)            one a chunk, from chunk 0, 40 bytes each

A check is the first 8 bytes of BLAKE3-derive-key("tallow/1 journal", ...): of the header over all before it, of record
i over the header's check || u64 i || digest. So a record of another journal, or in another place, is none. The first
record that does not check ends the journal: what it says before is what was written, a torn or damaged tail is cut off.

Pure: bytes in, bytes out. The journal is written to only once the data that it speaks of is on the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallow_crypto import DIGEST_BYTES, Fingerprint, derive_key

from tallow_protocol.core.chunking import chunk_count
from tallow_protocol.errors import MisuseError
from tallow_protocol.limits import CHUNK_LOG2_MAX, CHUNK_LOG2_MIN, FILE_SIZE_MAX, PATH_BYTES

if TYPE_CHECKING:
    from tallow_crypto import Buffer

__all__ = [
    "HEADER_BYTES_MAX",
    "JOURNAL_RECORD_BYTES",
    "Journal",
    "JournalHeader",
    "decode_journal",
    "encode_records",
    "journal_bytes_max",
    "partial_name",
]

_MAGIC = b"TLWJ"
_VERSION = 1
_CHECK_BYTES = 8
_CONTEXT = "tallow/1 journal"
_FIXED_BYTES = 4 + 2 + 1 + 1 + 8 + 32 + 2

HEADER_BYTES_MAX = _FIXED_BYTES + PATH_BYTES + _CHECK_BYTES

JOURNAL_RECORD_BYTES = DIGEST_BYTES + _CHECK_BYTES
"""40 bytes a chunk: 800 KB for 10 GiB in chunks of 512 KiB."""


@dataclass(frozen=True, slots=True)
class JournalHeader:
    """What a partial file is a part of: nothing of another sender, path, size or chunk size is ever mixed with it."""

    sender: Fingerprint
    path: str
    size: int
    chunk_size: int

    def encode(self) -> bytes:
        """Return the header, 58 bytes and the path. Raises MisuseError for values that no journal has."""
        path = self.path.encode("utf-8", "surrogatepass")
        log2 = self.chunk_size.bit_length() - 1
        if (
            not 1 <= len(path) <= PATH_BYTES
            or not CHUNK_LOG2_MIN <= log2 <= CHUNK_LOG2_MAX
            or self.chunk_size != 1 << log2
            or not 1 <= self.size <= FILE_SIZE_MAX
        ):
            raise MisuseError(
                "a journal is of a file with a path, bytes, and a chunk size that is a power of two"
            )
        body = b"".join(
            (
                _MAGIC,
                _VERSION.to_bytes(2, "big"),
                bytes((log2, 0)),
                self.size.to_bytes(8, "big"),
                bytes(self.sender),
                len(path).to_bytes(2, "big"),
                path,
            )
        )
        return body + _check(body)

    @property
    def chunks(self) -> int:
        """Return how many chunks the whole file has."""
        return chunk_count(self.size, self.chunk_size)


@dataclass(frozen=True, slots=True)
class Journal:
    """What a journal says: its header, and the digests of the first chunks, 32 bytes each, joined."""

    header: JournalHeader
    digests: bytes
    good_bytes: int
    """So long is the part of the file that says this; what follows is torn and to be cut off."""

    @property
    def count(self) -> int:
        """Return of how many chunks it has the digests."""
        return len(self.digests) // DIGEST_BYTES


def encode_records(header: bytes, first: int, digests: Buffer) -> bytes:
    """Return the records of chunks from `first` on; `header` is the journal's encoded header.

    `digests` are 32 bytes each, joined. Raises MisuseError otherwise.
    """
    view = memoryview(digests)
    if len(view) % DIGEST_BYTES or first < 0:
        raise MisuseError(f"a chunk's digest has {DIGEST_BYTES} bytes")
    bound = header[-_CHECK_BYTES:]
    records = bytearray()
    for at in range(0, len(view), DIGEST_BYTES):
        digest = view[at : at + DIGEST_BYTES]
        records += digest
        records += _record_check(bound, first + at // DIGEST_BYTES, digest)
    return bytes(records)


def decode_journal(data: Buffer) -> Journal | None:
    """Return what a journal says, as far as it checks; None where not even its header does.

    It takes as much memory as `data` at most, whatever that says; a caller reads `journal_bytes_max` bytes and no more.
    """
    view = memoryview(data)
    header = _decode_header(view)
    if header is None:
        return None
    at = len(header.encode())
    bound = bytes(view[at - _CHECK_BYTES : at])
    digests = bytearray()
    for index in range(min(header.chunks, (len(view) - at) // JOURNAL_RECORD_BYTES)):
        digest = view[at : at + DIGEST_BYTES]
        if _record_check(bound, index, digest) != view[at + DIGEST_BYTES : at + JOURNAL_RECORD_BYTES]:
            break
        digests += digest
        at += JOURNAL_RECORD_BYTES
    return Journal(header, bytes(digests), at)


def journal_bytes_max(size: int, chunk_size: int) -> int:
    """Return the bytes of the longest journal of a file of this size."""
    return HEADER_BYTES_MAX + chunk_count(size, chunk_size) * JOURNAL_RECORD_BYTES


def partial_name(sender: Fingerprint, path: str, size: int) -> str:
    """Return the name, 32 hexadecimal digits, under which a partial file lies: nothing a peer said can be read in it."""
    material = bytes(sender) + size.to_bytes(8, "big") + path.encode("utf-8", "surrogatepass")
    return derive_key("tallow/1 partial", material, 16).hex()


def _decode_header(view: memoryview) -> JournalHeader | None:
    if len(view) < _FIXED_BYTES + _CHECK_BYTES or view[:4] != _MAGIC:
        return None
    log2, size = view[6], int.from_bytes(view[8:16], "big")
    end = _FIXED_BYTES + int.from_bytes(view[_FIXED_BYTES - 2 : _FIXED_BYTES], "big")
    if (
        int.from_bytes(view[4:6], "big") != _VERSION
        or view[7]
        or not CHUNK_LOG2_MIN <= log2 <= CHUNK_LOG2_MAX
        or not 1 <= size <= FILE_SIZE_MAX
        or not _FIXED_BYTES < end <= _FIXED_BYTES + PATH_BYTES
        or len(view) < end + _CHECK_BYTES
        or view[end : end + _CHECK_BYTES] != _check(view[:end])
    ):
        return None
    try:
        path = bytes(view[_FIXED_BYTES:end]).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None
    return JournalHeader(Fingerprint(bytes(view[16:48])), path, size, 1 << log2)


def _check(body: Buffer) -> bytes:
    return derive_key(_CONTEXT, body, _CHECK_BYTES)


def _record_check(bound: bytes, index: int, digest: Buffer) -> bytes:
    return derive_key(_CONTEXT, b"".join((bound, index.to_bytes(8, "big"), digest)), _CHECK_BYTES)

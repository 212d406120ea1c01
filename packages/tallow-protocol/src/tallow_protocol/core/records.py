"""Records: the plaintext that is sealed, header, body and zeros, and the entries of a pack.

    offset  0  u8  type: 1 control, 2 chunk, 3 pack
            1  u8  flags: 1 zstd (chunk, pack), 2 last chunk of its file (chunk)
            2  u8  log2 of the chunk size, 16 to 22 (chunk), else 0
            3  u8  0
            4  u32 body length
            8  control: u64 number, u64 ack, 8 zeros
               chunk:   u32 file, u32 raw length, u64 index, 8 zeros
               pack:    u32 entries, u32 raw length, 16 zeros
           32  body, then zeros to a multiple of 256 (control), 8192 (Auth) or 4096 (chunk, pack), header included

All integers are big-endian. A chunk's body is the 32-byte BLAKE3 of its raw bytes, then the data, compressed or
not; its raw length counts the raw data alone. A pack's body, once decompressed, is entries one after another:
u32 file || u32 length || root (32) || bytes; its raw length is that of the whole decompressed body.

Parsing copies nothing: bodies are views of the caller's buffer, valid as long as it is not reused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from tallow_protocol.errors import MisuseError, RecordError
from tallow_protocol.limits import (
    CHUNK_COUNT_MAX,
    CHUNK_LOG2_MAX,
    CHUNK_LOG2_MIN,
    CONTROL_BODY_BYTES,
    MESSAGE_NUMBER_MAX,
    PACK_ENTRY_HEADER_BYTES,
    PACK_RAW_BYTES,
    RECORD_PLAINTEXT_BYTES,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "CHUNK_DATA_AT",
    "CHUNK_DIGEST_BYTES",
    "RECORD_HEADER_BYTES",
    "TAG_BYTES",
    "Buffer",
    "ChunkHeader",
    "ControlHeader",
    "Header",
    "PackEntry",
    "PackHeader",
    "RecordKind",
    "control_record",
    "iter_pack",
    "pack_entry_header",
    "pack_header",
    "padded_length",
    "parse_record",
    "write_padding",
]

Buffer: TypeAlias = bytes | bytearray | memoryview

RECORD_HEADER_BYTES = 32
CHUNK_DIGEST_BYTES = 32
CHUNK_DATA_AT = RECORD_HEADER_BYTES + CHUNK_DIGEST_BYTES
"""Where in a record a chunk's bytes begin."""

TAG_BYTES = 16
"""Spare bytes behind a plaintext for the AEAD's tag."""

_CONTROL_MULTIPLE = 256
_BULK_MULTIPLE = 4096
_AUTH_MULTIPLE = 8192
_AUTH_TYPE = b"\x00\x01"
_FLAG_COMPRESSED = 1
_FLAG_LAST = 2

_CONTROL = struct.Struct(">BBBBIQQ8s")
_CHUNK = struct.Struct(">BBBBIIIQ8s")
_PACK = struct.Struct(">BBBBIII16s")
_ENTRY = struct.Struct(">II32s")
_ZEROS = bytes(_AUTH_MULTIPLE)
"""No padding is longer than the largest multiple, so one comparison against this block checks any."""


class RecordKind(IntEnum):
    """First byte of a record's plaintext."""

    CONTROL = 1
    CHUNK = 2
    PACK = 3


_KIND_CONTROL, _KIND_CHUNK, _KIND_PACK = map(int, RecordKind)
"""Plain integers: an enumeration's members take three times as long to compare, for each record."""


@dataclass(frozen=True, slots=True)
class ControlHeader:
    """Header of a control message. `number` counts from 1 per direction and session; 0 is never kept or re-sent.

    `ack` is the highest number up to which everything arrived.
    """

    number: int
    ack: int


@dataclass(frozen=True, slots=True)
class ChunkHeader:
    """Header of one chunk of one file. `raw_length` is in bytes, before compression, without the digest."""

    file: int
    index: int
    raw_length: int
    log2_chunk_size: int
    compressed: bool = False
    last: bool = False


@dataclass(frozen=True, slots=True)
class PackHeader:
    """Header of a pack of whole small files. `raw_length` is the decompressed body's length in bytes."""

    entries: int
    raw_length: int
    compressed: bool = False


Header: TypeAlias = ControlHeader | ChunkHeader | PackHeader


class PackEntry(NamedTuple):
    """One whole file of a pack: its number, its root (32 bytes), and its bytes as a view of the body.

    A tuple, since a tree has many and a frozen dataclass takes three times as long to make.
    """

    file: int
    root: bytes
    data: memoryview


def padded_length(kind: int, body_length: int, *, auth: bool = False) -> int:
    """Return the plaintext's whole length in bytes: header, body and zeros.

    `auth` is for the one control message Auth, whose length would tell which signatures it has.
    """
    multiple = _BULK_MULTIPLE
    if kind == _KIND_CONTROL:
        multiple = _AUTH_MULTIPLE if auth else _CONTROL_MULTIPLE
    return -(-(RECORD_HEADER_BYTES + body_length) // multiple) * multiple


def pack_header(buffer: bytearray | memoryview, header: Header, body_length: int) -> None:
    """Write the 32-byte header at the start of `buffer`. Raises MisuseError for values that do not fit.

    The body follows at offset 32; `write_padding` then writes the zeros.
    """
    fault = _header_fault(header, body_length)
    if fault:
        raise MisuseError(f"a record was built wrongly: {fault}")
    match header:
        case ControlHeader():
            _CONTROL.pack_into(
                buffer, 0, RecordKind.CONTROL, 0, 0, 0, body_length, header.number, header.ack, bytes(8)
            )
        case ChunkHeader():
            flags = _FLAG_COMPRESSED * header.compressed | _FLAG_LAST * header.last
            _CHUNK.pack_into(
                buffer,
                0,
                RecordKind.CHUNK,
                flags,
                header.log2_chunk_size,
                0,
                body_length,
                header.file,
                header.raw_length,
                header.index,
                bytes(8),
            )
        case PackHeader():
            _PACK.pack_into(
                buffer,
                0,
                RecordKind.PACK,
                _FLAG_COMPRESSED * header.compressed,
                0,
                0,
                body_length,
                header.entries,
                header.raw_length,
                bytes(16),
            )


def write_padding(buffer: bytearray | memoryview, used: int, padded: int) -> None:
    """Write zeros from offset `used` (header and body) to offset `padded`, from `padded_length`."""
    if not 0 <= padded - used <= _AUTH_MULTIPLE:
        raise MisuseError(f"a record of {used} bytes cannot be padded to {padded}")
    buffer[used:padded] = _ZEROS[: padded - used]


def control_record(number: int, ack: int, body: Buffer) -> bytearray:
    """Return the whole plaintext of a control message and 16 spare bytes for the tag.

    An empty `body` is a bare acknowledgement. Auth is recognised by its message type and padded as it must be.
    """
    padded = padded_length(RecordKind.CONTROL, len(body), auth=body[:2] == _AUTH_TYPE)
    buffer = bytearray(padded + TAG_BYTES)
    pack_header(buffer, ControlHeader(number, ack), len(body))
    buffer[RECORD_HEADER_BYTES : RECORD_HEADER_BYTES + len(body)] = body
    return buffer


def parse_record(plaintext: memoryview) -> tuple[Header, memoryview]:
    """Return the header and the body, a view of `plaintext`, of an opened record.

    Raises RecordError when a length, a flag, a reserved byte or a pad byte is not exactly as it must be; the
    connection ends then.
    """
    total = len(plaintext)
    if not RECORD_HEADER_BYTES <= total <= RECORD_PLAINTEXT_BYTES:
        raise RecordError(f"a record has {total} bytes")
    kind, flags, log2, reserved, body_length = struct.unpack_from(">BBBBI", plaintext)
    end = RECORD_HEADER_BYTES + body_length
    if end > total:
        raise RecordError("a record is shorter than its body")
    body = plaintext[RECORD_HEADER_BYTES:end]
    header: Header
    if kind == _KIND_CONTROL:
        *_, number, ack, zeros = _CONTROL.unpack_from(plaintext)
        header, used_flags, used_log2 = ControlHeader(number, ack), 0, 0
    elif kind == _KIND_CHUNK:
        *_, file, raw_length, index, zeros = _CHUNK.unpack_from(plaintext)
        compressed, last = bool(flags & _FLAG_COMPRESSED), bool(flags & _FLAG_LAST)
        header = ChunkHeader(file, index, raw_length, log2, compressed, last)
        used_flags, used_log2 = _FLAG_COMPRESSED | _FLAG_LAST, log2
    elif kind == _KIND_PACK:
        *_, entries, raw_length, zeros = _PACK.unpack_from(plaintext)
        header = PackHeader(entries, raw_length, bool(flags & _FLAG_COMPRESSED))
        used_flags, used_log2 = _FLAG_COMPRESSED, 0
    else:
        raise RecordError(f"a record has the unknown type {kind}")
    if reserved or flags & ~used_flags or log2 != used_log2 or zeros.strip(b"\x00"):
        raise RecordError("a record has a reserved byte or flag that is not zero")
    fault = _header_fault(header, body_length)
    if fault:
        raise RecordError(f"a record is malformed: {fault}")
    auth = body[:2] == _AUTH_TYPE
    if total != padded_length(kind, body_length, auth=auth):
        raise RecordError("a record is not padded to its multiple")
    if not _ZEROS.startswith(plaintext[end:]):  # memcmp; comparing memoryviews goes element by element
        raise RecordError("a record's padding is not zero")
    return header, body


def _header_fault(header: Header, body_length: int) -> str:
    """Return what is wrong with a header for a body of this length, or an empty string."""
    match header:
        case ControlHeader():
            return _control_fault(header, body_length)
        case ChunkHeader():
            return _chunk_fault(header, body_length)
        case PackHeader():
            return _pack_fault(header, body_length)


def _control_fault(header: ControlHeader, body_length: int) -> str:
    if not (0 <= header.number <= MESSAGE_NUMBER_MAX and 0 <= header.ack <= MESSAGE_NUMBER_MAX):
        return "a message number is out of range"
    if body_length > CONTROL_BODY_BYTES:
        return f"a control message of {body_length} bytes"
    if body_length == 0 and header.number != 0:
        return "a bare acknowledgement has a number"
    return ""


def _chunk_fault(header: ChunkHeader, body_length: int) -> str:
    if not CHUNK_LOG2_MIN <= header.log2_chunk_size <= CHUNK_LOG2_MAX:
        return f"chunk size 2**{header.log2_chunk_size}"
    chunk_size = 1 << header.log2_chunk_size
    if not 0 < header.raw_length <= chunk_size:
        return f"a chunk of {header.raw_length} bytes where {chunk_size} are the most"
    if header.raw_length < chunk_size and not header.last:
        return "a chunk that is not the last of its file is short"
    if not 0 <= header.index < CHUNK_COUNT_MAX or not 0 <= header.file < 2**32:
        return "a file or chunk number is out of range"
    data_length = body_length - CHUNK_DIGEST_BYTES
    if data_length < 1 or (not header.compressed and data_length != header.raw_length):
        return "a chunk's body does not fit its raw length"
    if padded_length(RecordKind.CHUNK, body_length) > RECORD_PLAINTEXT_BYTES:
        return f"a chunk's body of {body_length} bytes"
    return ""


def _pack_fault(header: PackHeader, body_length: int) -> str:
    if not 0 < header.raw_length <= PACK_RAW_BYTES:
        return f"a pack of {header.raw_length} bytes"
    if not 0 < header.entries <= header.raw_length // PACK_ENTRY_HEADER_BYTES:
        return f"a pack of {header.raw_length} bytes with {header.entries} entries"
    if body_length < 1 or (not header.compressed and body_length != header.raw_length):
        return "a pack's body does not fit its raw length"
    if padded_length(RecordKind.PACK, body_length) > RECORD_PLAINTEXT_BYTES:
        return f"a pack's body of {body_length} bytes"
    return ""


def pack_entry_header(file: int, length: int, root: bytes) -> bytes:
    """Return the 40 bytes before a packed file's bytes: u32 file || u32 length || root (32)."""
    if len(root) != 32 or not 0 <= file < 2**32 or not 0 <= length < PACK_RAW_BYTES:
        raise MisuseError("a packed file needs a u32 number, a root of 32 bytes and fewer bytes than a pack")
    return _ENTRY.pack(file, length, root)


def iter_pack(body: Buffer, entries: int) -> Iterator[PackEntry]:
    """Yield the files of a decompressed pack body, each as a view of it.

    Raises RecordError, before it yields the entry, where one is cut off, and at the end where bytes are left over
    or the number of entries is not what the header said.
    """
    view = memoryview(body)
    offset = 0
    for _ in range(entries):
        start = offset + PACK_ENTRY_HEADER_BYTES
        if start > len(view):
            raise RecordError("a pack ends inside an entry's header")
        file, length, root = _ENTRY.unpack_from(view, offset)
        offset = start + length
        if offset > len(view):
            raise RecordError("a pack ends inside a file")
        yield PackEntry(file, root, view[start:offset])
    if offset != len(view):
        raise RecordError("a pack has bytes after its last entry")

"""Control messages and their one encoding: `u16 type || canonical CBOR map` with keys 1, 2, ... in field order.

     1 Auth      {ed (32), mldsa (2592), sig_ed (64), sig_mldsa (4627), r_a (32, A only), verify}
     2 Offer     {part, last, entries}         entry: [path, kind, size or null, mode, mtime_ns, target or null]
     3 Accept    {ranges or null}              [[first, count], ...], ascending, apart; null: everything
     4 Refuse    {code}
     5 FileDone  {file, size, count, root (32)}
     6 Manifest  {digest (32), sig_ed (64), sig_mldsa (4627)}
     7 Done      {files, bytes}
     8 Cancel    {code}
     9 Ping      {}
    10 Received  {ranges}                      [[file, first, count], ...]
    11 Paths     {limit, candidates}           limit: 0 any, 1 relay only, 2 direct only;
                                               [[kind 0 TCP / 1 QUIC, address (4 or 16), port], ...], 16 at most
    12 Spread    {connections}                 1 to 4
    13 Have      {file, chunk_size, count, root (32)}   B: the first `count` chunks are there; before Accept
    14 From      {file, first}                 A, to each Have: first is count, or 0 for a file that goes anew

The codec refuses what it does not know: types, keys, kinds, values out of range, anything not in canonical form.
Parts of an offer are numbered from 0; a file's number is its entry's position over all parts, from 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

from tallow_net.canonical import decode_map, encode_map
from tallow_net.errors import NetError
from tallow_net.limits import CANDIDATES
from tallow_net.paths.candidates import Candidate, CandidateKind

from tallow_protocol.core.codes import CloseCode
from tallow_protocol.core.entries import MODES, Entry, EntryKind
from tallow_protocol.errors import MessageError, MisuseError
from tallow_protocol.events import PathLimit
from tallow_protocol.limits import (
    ACCEPT_RANGES,
    CHUNK_COUNT_MAX,
    CHUNK_LOG2_MAX,
    CHUNK_LOG2_MIN,
    CONTROL_BODY_BYTES,
    DATA_CONNECTIONS,
    FILE_NUMBER_MAX,
    FILE_SIZE_MAX,
    MODE_MAX,
    MTIME_NS_MAX,
    MTIME_NS_MIN,
    OFFER_ENTRIES,
    OFFER_PART_BYTES,
    OFFER_PARTS,
    PATH_BYTES,
    RECEIVED_RANGES,
    SAS_NONCE_BYTES,
    TEXT_BYTES,
    TEXT_MODE,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tallow_net.canonical import Encodable, Value

    from tallow_protocol.core.records import Buffer

__all__ = [
    "Accept",
    "Auth",
    "Cancel",
    "Candidate",
    "CandidateKind",
    "CloseCode",
    "Done",
    "Entry",
    "EntryKind",
    "FileDone",
    "From",
    "Have",
    "Manifest",
    "Message",
    "MessageType",
    "Offer",
    "Paths",
    "Ping",
    "Received",
    "Refuse",
    "Spread",
    "TallowCodec",
    "split_offer",
]

_TYPE_BYTES = 2
_ENTRY_FIELDS = 6
_ENTRY_BYTES = 32
"""An entry's array, kind, size, mode, time and the lengths of its texts take 29 bytes at most."""

_CANDIDATE_FIELDS = 3
_ADDRESS_BYTES = frozenset({4, 16})
"""IPv4 and IPv6."""

_LIMITS: Final = tuple(PathLimit)
"""In the order of their numbers on the wire."""

_SHORT_CHARACTERS = PATH_BYTES // 4
"""A path of so few characters is within its bytes: one of them has four at most."""

_OFFER_MAP_BYTES = 64
"""More than an offer's map takes around its list of entries."""


class MessageType(IntEnum):
    """First two bytes of a control message."""

    AUTH = 1
    OFFER = 2
    ACCEPT = 3
    REFUSE = 4
    FILE_DONE = 5
    MANIFEST = 6
    DONE = 7
    CANCEL = 8
    PING = 9
    RECEIVED = 10
    PATHS = 11
    SPREAD = 12
    HAVE = 13
    FROM = 14


@dataclass(frozen=True, slots=True)
class Auth:
    """An identity and its two signatures. `r_a` (32 bytes) is there in A's alone; `verify` asks for the SAS."""

    TYPE: ClassVar = MessageType.AUTH

    ed: bytes
    mldsa: bytes
    sig_ed: bytes
    sig_mldsa: bytes
    r_a: bytes | None = field(default=None, repr=False)
    verify: bool = False

    def to_map(self) -> dict[int, Encodable]:
        """Return the fields by their keys on the wire."""
        values: dict[int, Encodable] = {1: self.ed, 2: self.mldsa, 3: self.sig_ed, 4: self.sig_mldsa}
        if self.r_a is not None:
            values[5] = self.r_a
        values[6] = self.verify
        return values


@dataclass(frozen=True, slots=True)
class Offer:
    """One part of the list of what is offered, at most 1 MiB. `raw` is its CBOR map as it was on the wire."""

    TYPE: ClassVar = MessageType.OFFER

    part: int
    last: bool
    entries: tuple[Entry, ...]
    raw: bytes = field(default=b"", repr=False, compare=False)

    def to_map(self) -> dict[int, Encodable]:
        """Return the fields by their keys on the wire."""
        return {1: self.part, 2: self.last, 3: self.entries}


@dataclass(frozen=True, slots=True)
class Accept:
    """The receiver's yes: `ranges` of file numbers (first, count), or None for everything."""

    TYPE: ClassVar = MessageType.ACCEPT

    ranges: tuple[tuple[int, int], ...] | None = None

    def to_map(self) -> dict[int, Encodable]:
        """Return the fields by their keys on the wire."""
        return {1: self.ranges}


@dataclass(frozen=True, slots=True)
class Refuse:
    """The receiver's no."""

    TYPE: ClassVar = MessageType.REFUSE

    code: CloseCode

    def to_map(self) -> dict[int, Encodable]:
        """Return the fields by their keys on the wire."""
        return {1: int(self.code)}


@dataclass(frozen=True, slots=True)
class FileDone:
    """A file was sent whole: size in bytes, number of chunks, root (32 bytes). It may overtake chunks."""

    TYPE: ClassVar = MessageType.FILE_DONE

    file: int
    size: int
    count: int
    root: bytes

    def to_map(self) -> dict[int, Encodable]:
        """Return the fields by their keys on the wire."""
        return {1: self.file, 2: self.size, 3: self.count, 4: self.root}


@dataclass(frozen=True, slots=True)
class Manifest:
    """The sender's signed list of all roots: digest (32 bytes) and two signatures (64 and 4627 bytes)."""

    TYPE: ClassVar = MessageType.MANIFEST

    digest: bytes
    sig_ed: bytes
    sig_mldsa: bytes

    def to_map(self) -> dict[int, Encodable]:
        """Return the fields by their keys on the wire."""
        return {1: self.digest, 2: self.sig_ed, 3: self.sig_mldsa}


@dataclass(frozen=True, slots=True)
class Done:
    """The receiver has written and verified everything: files, and their raw bytes in all."""

    TYPE: ClassVar = MessageType.DONE

    files: int
    bytes: int

    def to_map(self) -> dict[int, Encodable]:
        """Return the fields by their keys on the wire."""
        return {1: self.files, 2: self.bytes}


@dataclass(frozen=True, slots=True)
class Cancel:
    """The transfer ends here, for this reason."""

    TYPE: ClassVar = MessageType.CANCEL

    code: CloseCode

    def to_map(self) -> dict[int, Encodable]:
        """Return the fields by their keys on the wire."""
        return {1: int(self.code)}


@dataclass(frozen=True, slots=True)
class Ping:
    """Keeps a quiet connection alive."""

    TYPE: ClassVar = MessageType.PING

    def to_map(self) -> dict[int, Encodable]:
        """Return the fields by their keys on the wire."""
        return {}


@dataclass(frozen=True, slots=True)
class Received:
    """Chunks whose write returned: (file, first index, count) each."""

    TYPE: ClassVar = MessageType.RECEIVED

    ranges: tuple[tuple[int, int, int], ...]

    def to_map(self) -> dict[int, Encodable]:
        """Return the fields by their keys on the wire."""
        return {1: self.ranges}


@dataclass(frozen=True, slots=True)
class Paths:
    """Which paths a side allows, and at most 16 addresses at which it listens. The last one said holds."""

    TYPE: ClassVar = MessageType.PATHS

    limit: PathLimit
    candidates: tuple[Candidate, ...] = ()

    def to_map(self) -> dict[int, Encodable]:
        """Return the fields by their keys on the wire."""
        places: list[Encodable] = [[int(c.kind), c.address, c.port] for c in self.candidates]
        return {1: _LIMITS.index(self.limit), 2: places}


@dataclass(frozen=True, slots=True)
class Spread:
    """A tells B how many data connections (1 to 4) to have on the path in use."""

    TYPE: ClassVar = MessageType.SPREAD

    connections: int

    def to_map(self) -> dict[int, Encodable]:
        """Return the fields by their keys on the wire."""
        return {1: self.connections}


@dataclass(frozen=True, slots=True)
class Have:
    """B holds the first `count` chunks of a file, cut into `chunk_size` bytes; `root` (32 bytes) is over their digests."""

    TYPE: ClassVar = MessageType.HAVE

    file: int
    chunk_size: int
    count: int
    root: bytes

    def to_map(self) -> dict[int, Encodable]:
        """Return the fields by their keys on the wire."""
        return {1: self.file, 2: self.chunk_size, 3: self.count, 4: self.root}


@dataclass(frozen=True, slots=True)
class From:
    """A's answer to a Have: its chunks go from `first` on, which is the Have's count where A has the same, else 0."""

    TYPE: ClassVar = MessageType.FROM

    file: int
    first: int

    def to_map(self) -> dict[int, Encodable]:
        """Return the fields by their keys on the wire."""
        return {1: self.file, 2: self.first}


Message: TypeAlias = (
    Auth
    | Offer
    | Accept
    | Refuse
    | FileDone
    | Manifest
    | Done
    | Cancel
    | Ping
    | Received
    | Paths
    | Spread
    | Have
    | From
)


class _Fields:
    """Takes the values of one decoded map by key, each checked; `end` refuses what nobody took."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[int, Value]) -> None:
        self._values = values

    def _take(self, key: int) -> Value:
        if key not in self._values:
            raise MessageError(f"a message lacks its field {key}")
        return self._values.pop(key)

    def integer(self, key: int, low: int, high: int) -> int:
        return _integer(self._take(key), low, high)

    def octets(self, key: int, length: int) -> bytes:
        value = self._take(key)
        if not isinstance(value, bytes) or len(value) != length:
            raise MessageError(f"field {key} of a message has not {length} bytes")
        return value

    def optional_octets(self, key: int, length: int) -> bytes | None:
        return self.octets(key, length) if key in self._values else None

    def boolean(self, key: int) -> bool:
        value = self._take(key)
        if not isinstance(value, bool):
            raise MessageError(f"field {key} of a message is no boolean")
        return value

    def items(self, key: int, most: int) -> list[Value]:
        return _items(self._take(key), most)

    def optional_items(self, key: int, most: int) -> list[Value] | None:
        value = self._take(key)
        return None if value is None else _items(value, most)

    def end(self) -> None:
        if self._values:
            raise MessageError("a message has a field that this version does not know")


def _integer(value: Value, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise MessageError("a number in a message is out of range")
    return value


def _items(value: Value, most: int) -> list[Value]:
    if not isinstance(value, list) or len(value) > most:
        raise MessageError(f"a list in a message is none, or longer than {most}")
    return value


def _text(value: Value) -> str:
    if not isinstance(value, str) or not value or len(value.encode("utf-8", "surrogatepass")) > PATH_BYTES:
        raise MessageError(f"a path is empty or longer than {PATH_BYTES} bytes")
    return value


def _numbers(value: Value, length: int) -> list[int]:
    items = _items(value, length)
    if len(items) != length:
        raise MessageError("a range in a message has not the right number of values")
    return [_integer(item, 0, CHUNK_COUNT_MAX) for item in items]


def _entry(value: Value) -> Entry:
    items = _items(value, _ENTRY_FIELDS)
    if len(items) != _ENTRY_FIELDS:
        raise MessageError("an entry of an offer has not six values")
    return _checked_entry(items)


def _checked_entry(items: Sequence[Value]) -> Entry:
    path, kind_number, size, mode, mtime_ns, target = items
    # An offer has a hundred thousand files: for the usual one, the rules below in one look.
    if (
        (kind_number == EntryKind.FILE and kind_number is not False and target is None)
        and (type(path) is str and 0 < len(path) <= _SHORT_CHARACTERS)
        and (type(size) is int and 0 <= size <= FILE_SIZE_MAX)
        and (type(mode) is int and 0 <= mode <= MODE_MAX)
        and (type(mtime_ns) is int and MTIME_NS_MIN <= mtime_ns <= MTIME_NS_MAX)
    ):
        return Entry(path, EntryKind.FILE, size, MODES[mode], mtime_ns)
    kind = EntryKind(_integer(kind_number, EntryKind.FILE, EntryKind.LINK))
    if (size is not None and kind is not EntryKind.FILE) or (target is None) != (kind is not EntryKind.LINK):
        raise MessageError("an entry's size or target does not fit its kind")
    # A text has a size, and a small one; nothing else has its bit.
    is_text = kind is EntryKind.FILE and type(size) is int and size <= TEXT_BYTES
    return Entry(
        _text(path),
        kind,
        None if size is None else _integer(size, 0, FILE_SIZE_MAX),
        _integer(mode, 0, TEXT_MODE | MODE_MAX if is_text else MODE_MAX),
        _integer(mtime_ns, MTIME_NS_MIN, MTIME_NS_MAX),
        None if target is None else _text(target),
    )


def _decode_auth(fields: _Fields, _raw: bytes) -> Auth:
    return Auth(
        fields.octets(1, 32),
        fields.octets(2, 2592),
        fields.octets(3, 64),
        fields.octets(4, 4627),
        fields.optional_octets(5, SAS_NONCE_BYTES),
        fields.boolean(6),
    )


def _decode_offer(fields: _Fields, raw: bytes) -> Offer:
    part, last = fields.integer(1, 0, OFFER_PARTS - 1), fields.boolean(2)
    if len(raw) > OFFER_PART_BYTES:
        raise MessageError(f"a part of an offer is longer than {OFFER_PART_BYTES} bytes")
    return Offer(part, last, tuple(_entry(item) for item in fields.items(3, OFFER_ENTRIES)), raw)


def _check_offer(offer: Offer, raw_bytes: int) -> None:
    """Raise MessageError where decoding what `offer` was encoded to would: faster, for many entries."""
    _integer(offer.part, 0, OFFER_PARTS - 1)
    if type(offer.last) is not bool or len(offer.entries) > OFFER_ENTRIES or raw_bytes > OFFER_PART_BYTES:
        raise MessageError(f"a part of an offer is longer than {OFFER_PART_BYTES} bytes")
    for entry in offer.entries:
        _checked_entry(entry)


def _decode_accept(fields: _Fields, _raw: bytes) -> Accept:
    items = fields.optional_items(1, ACCEPT_RANGES)
    if items is None:
        return Accept(None)
    ranges = tuple((first, count) for first, count in (_numbers(item, 2) for item in items))
    following = 0
    for first, count in ranges:
        if first < following or count < 1 or first + count > OFFER_ENTRIES:
            raise MessageError("the accepted ranges are empty, out of order or out of range")
        following = first + count + 1
    return Accept(ranges)


def _decode_file_done(fields: _Fields, _raw: bytes) -> FileDone:
    file, size = fields.integer(1, 0, FILE_NUMBER_MAX), fields.integer(2, 0, FILE_SIZE_MAX)
    fewest, most = -(-size >> CHUNK_LOG2_MAX), -(-size >> CHUNK_LOG2_MIN)  # rounded up
    return FileDone(file, size, fields.integer(3, fewest, most), fields.octets(4, 32))


def _candidate(value: Value) -> Candidate:
    items = _items(value, _CANDIDATE_FIELDS)
    if len(items) != _CANDIDATE_FIELDS:
        raise MessageError("a candidate has not three values")
    kind, address, port = items
    if not isinstance(address, bytes) or len(address) not in _ADDRESS_BYTES:
        raise MessageError("a candidate's address has neither 4 nor 16 bytes")
    kind_number = _integer(kind, CandidateKind.TCP, CandidateKind.QUIC)
    return Candidate(CandidateKind(kind_number), address, _integer(port, 1, 0xFFFF))


def _decode_paths(fields: _Fields, _raw: bytes) -> Paths:
    limit = _LIMITS[fields.integer(1, 0, len(_LIMITS) - 1)]
    return Paths(limit, tuple(_candidate(item) for item in fields.items(2, CANDIDATES)))


def _decode_received(fields: _Fields, _raw: bytes) -> Received:
    ranges = tuple((a, b, c) for a, b, c in (_numbers(item, 3) for item in fields.items(1, RECEIVED_RANGES)))
    if any(file > FILE_NUMBER_MAX or count < 1 for file, _, count in ranges):
        raise MessageError("an acknowledged range is empty or out of range")
    return Received(ranges)


def _decode_have(fields: _Fields, _raw: bytes) -> Have:
    file, chunk_size = fields.integer(1, 0, FILE_NUMBER_MAX), fields.integer(2, 1, 1 << CHUNK_LOG2_MAX)
    if chunk_size & (chunk_size - 1) or chunk_size < 1 << CHUNK_LOG2_MIN:
        raise MessageError("a chunk size is no power of two in range")
    return Have(file, chunk_size, fields.integer(3, 1, -(-FILE_SIZE_MAX // chunk_size)), fields.octets(4, 32))


_DECODERS: Final[dict[int, Callable[[_Fields, bytes], Message]]] = {
    MessageType.AUTH: _decode_auth,
    MessageType.OFFER: _decode_offer,
    MessageType.ACCEPT: _decode_accept,
    MessageType.REFUSE: lambda fields, _: Refuse(CloseCode.of_number(fields.integer(1, 1, 0xFFFF))),
    MessageType.FILE_DONE: _decode_file_done,
    MessageType.MANIFEST: lambda fields, _: Manifest(
        fields.octets(1, 32), fields.octets(2, 64), fields.octets(3, 4627)
    ),
    MessageType.DONE: lambda fields, _: Done(
        fields.integer(1, 0, OFFER_ENTRIES), fields.integer(2, 0, FILE_SIZE_MAX)
    ),
    MessageType.CANCEL: lambda fields, _: Cancel(CloseCode.of_number(fields.integer(1, 1, 0xFFFF))),
    MessageType.PING: lambda _fields, _: Ping(),
    MessageType.RECEIVED: _decode_received,
    MessageType.PATHS: _decode_paths,
    MessageType.SPREAD: lambda fields, _: Spread(fields.integer(1, 1, DATA_CONNECTIONS)),
    MessageType.HAVE: _decode_have,
    MessageType.FROM: lambda fields, _: From(
        fields.integer(1, 0, FILE_NUMBER_MAX), fields.integer(2, 0, CHUNK_COUNT_MAX)
    ),
}


_OFFER_TYPE = MessageType.OFFER.to_bytes(_TYPE_BYTES, "big")


class TallowCodec:
    """Turns control messages into bytes and back. It holds no state; calls may overlap."""

    __slots__ = ()

    @staticmethod
    def encode(message: Message) -> bytes:
        """Return `u16 type || map`. Raises MisuseError for a message that `decode` would refuse.

        A part of an offer that has its raw map is not encoded or checked again: a MiB of it takes a while.
        """
        kind = int(message.TYPE).to_bytes(_TYPE_BYTES, "big")
        if isinstance(message, Offer) and message.raw:
            return kind + message.raw
        try:
            data = kind + encode_map(message.to_map())
            if isinstance(message, Offer):
                _check_offer(message, len(data) - _TYPE_BYTES)
            else:
                TallowCodec.decode(data)
        except (NetError, MessageError) as error:
            raise MisuseError(f"a message cannot be sent: {error}") from None
        return data

    @staticmethod
    def decode(data: Buffer) -> Message:
        """Return the message in `data`. Raises MessageError, and allocates nothing for a length it refuses."""
        if not _TYPE_BYTES < len(data) <= CONTROL_BODY_BYTES:
            raise MessageError(f"a message has {len(data)} bytes")
        number = int.from_bytes(data[:_TYPE_BYTES], "big")
        decoder = _DECODERS.get(number)
        if decoder is None:
            raise MessageError(f"a message has the unknown type {number}")
        raw = bytes(memoryview(data)[_TYPE_BYTES:])
        try:
            fields = _Fields(decode_map(raw, max_bytes=CONTROL_BODY_BYTES))
        except NetError as error:
            raise MessageError(f"a message is malformed: {error}") from None
        message = decoder(fields, raw)
        fields.end()
        return message

    @staticmethod
    def is_offer(data: bytes) -> bool:
        """Return whether `data` is a part of an offer, well formed or not."""
        return data.startswith(_OFFER_TYPE)

    @staticmethod
    def raw_map(message: Offer) -> bytes:
        """Return the CBOR map of an offer's part as it is on the wire, for the manifest's digest."""
        return message.raw or TallowCodec.encode(message)[_TYPE_BYTES:]


def split_offer(entries: Iterable[Entry]) -> Iterator[Offer]:
    """Yield the parts of an offer, each at most 1 MiB with its raw map kept; at least one, the last marked.

    Raises MisuseError where the entries exceed what a receiver takes.
    """
    part: list[Entry] = []
    number, size, total = 0, 0, 0
    for entry in entries:
        total += 1
        length = _ENTRY_BYTES + len(entry.path.encode("utf-8", "replace"))
        if entry.target is not None:
            length += len(entry.target.encode("utf-8", "replace"))
        if part and size + length > OFFER_PART_BYTES - _OFFER_MAP_BYTES:
            yield _part(number, part, last=False)
            number, size, part = number + 1, 0, []
        part.append(entry)
        size += length
    if total > OFFER_ENTRIES or number >= OFFER_PARTS:
        raise MisuseError(
            f"an offer holds at most {OFFER_ENTRIES} entries, and {OFFER_PARTS} MiB of their names;"
            " send fewer files, or an archive of them"
        )
    yield _part(number, part, last=True)


def _part(number: int, entries: list[Entry], *, last: bool) -> Offer:
    offer = Offer(number, last, tuple(entries))
    return Offer(number, last, offer.entries, TallowCodec.raw_map(offer))

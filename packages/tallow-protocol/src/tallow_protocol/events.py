"""What a transfer tells its application, as typed values.

Every event is a frozen dataclass. Text that a peer or a relay chose is `PeerText`, whose `str()` is safe to
show; what names a secret (`CodeReady.code`) shows it only on request.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallow_protocol.limits import TEXT_BYTES, TEXT_MODE

if TYPE_CHECKING:
    from tallow_crypto import Fingerprint
    from tallow_net.untrusted import PeerText

    from tallow_protocol.code import Code

__all__ = [
    "CodeReady",
    "Connected",
    "Event",
    "OfferReceived",
    "OfferedEntry",
    "OfferedKind",
    "OnConflict",
    "PathInUse",
    "PathKind",
    "PathLimit",
    "PeerIdentified",
    "Rejoined",
    "Rejoining",
    "RelayBack",
    "RelayTrouble",
    "Resumed",
    "ServerNotice",
    "TextReceived",
    "TransferDone",
    "TransferProgress",
    "TransferStarted",
    "Tuned",
    "VerificationNeeded",
    "Warned",
    "WrongCode",
]


class PathKind(enum.Enum):
    """Which network path carries the transfer."""

    RELAY_QUIC = "relay-quic"
    RELAY_TCP = "relay-tcp"
    DIRECT_QUIC = "direct-quic"
    DIRECT_TCP = "direct-tcp"
    MEMORY = "memory"

    @property
    def transport(self) -> str:
        """Return "quic", "tcp" or "memory"."""
        return self.value.rpartition("-")[2]

    @property
    def direct(self) -> bool:
        """Return whether no relay is on the way."""
        return self in {PathKind.DIRECT_QUIC, PathKind.DIRECT_TCP, PathKind.MEMORY}


class PathLimit(enum.Enum):
    """Which paths a side allows; the values are on the wire's `Paths` message in this order, 0, 1, 2."""

    ANY = "any"
    RELAY_ONLY = "relay-only"
    DIRECT_ONLY = "direct-only"


class OnConflict(enum.Enum):
    """What a receiver does where something of an offer's names stands in its directory already.

    Whatever is chosen: a folder is never deleted, and neither a folder nor a file takes the place of the other.
    """

    ASK = "ask"
    """Write nothing: the offer is refused, and the error names what stands there."""

    SKIP = "skip"
    """Leave what stands as it is, and write what is missing, also inside standing folders."""

    RENAME = "rename"
    """Write each top-level entry whose name is taken under a free name beside it, such as `name (1).ext`."""

    OVERWRITE = "overwrite"
    """Put new files in the place of standing ones, each when it is whole and verified, also inside standing folders."""

    NEWER = "newer"
    """As `OVERWRITE` where the offered file changed after the standing one; any other is left as it is."""

    @property
    def merges(self) -> bool:
        """Return whether standing folders are written into."""
        return self in {OnConflict.SKIP, OnConflict.OVERWRITE, OnConflict.NEWER}


class OfferedKind(enum.Enum):
    """What an offered entry is."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class CodeReady:
    """The sender waits or listens: the code may now be told to the other side.

    `peer` is HOST:PORT where the sender listens itself, None where a relay brings both together; `peers` are all such
    addresses, the likeliest first.
    """

    code: Code
    peer: str | None
    peers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WrongCode:
    """Somebody tried a wrong code, or tampered; `left` tries remain before the code is burned."""

    left: int


@dataclass(frozen=True, slots=True)
class Connected:
    """Both sides proved that they know the code; everything from here on is sealed."""

    path: PathKind


@dataclass(frozen=True, slots=True)
class PathInUse:
    """What carries the file data from here on; comes with the first of it and at each change.

    `plain` says that the sealed records travel on TCP connections of their own, `connections` of them, and not
    inside the QUIC or TLS connection that also carries control.
    """

    path: PathKind
    plain: bool
    connections: int


@dataclass(frozen=True, slots=True)
class Tuned:
    """The sender measured the path and chose: at the first file, and when a choice changes by half or more.

    `window_bytes` may be on their way unacknowledged, new files are cut into chunks of `chunk_bytes`.
    """

    window_bytes: int
    chunk_bytes: int
    rate_bytes_per_s: int
    round_trip_s: float
    connections: int


@dataclass(frozen=True, slots=True)
class PeerIdentified:
    """The peer proved its identity key. `known` is what the trust port says of it, None for nothing."""

    fingerprint: Fingerprint
    known: PeerText | None


@dataclass(frozen=True, slots=True)
class VerificationNeeded:
    """Eight digits that both people compare; where `must_confirm`, the transfer waits for `confirm()`."""

    digits: str
    must_confirm: bool


@dataclass(frozen=True, slots=True)
class OfferedEntry:
    """One line of an offer. `size_bytes` is None for what has no size (a folder, a link, a stream)."""

    path: PeerText
    kind: OfferedKind
    size_bytes: int | None
    mode: int
    target: PeerText | None

    @property
    def executable(self) -> bool:
        """Return whether anybody may run this file once it is written."""
        return self.kind is OfferedKind.FILE and bool(self.mode & 0o111)

    @property
    def is_text(self) -> bool:
        """Return whether this is a text that is meant for the screen."""
        return bool(self.mode & TEXT_MODE)

    @property
    def hidden(self) -> bool:
        """Return whether any part of the path begins with a dot."""
        return any(part.startswith(".") for part in self.path.raw.split("/"))


@dataclass(frozen=True, slots=True)
class OfferReceived:
    """What the sender offers; the receiver answers with `accept()` or `refuse()`."""

    entries: tuple[OfferedEntry, ...]
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class TransferStarted:
    """The receiver said yes. `bytes` is None where a stream is among the files: its end says how long it is."""

    files: int
    bytes: int | None


@dataclass(frozen=True, slots=True)
class Resumed:
    """Of `total` bytes the receiver has `bytes` verified ones already; they are not sent again. Progress counts them.

    `path` is the file's where it is the only entry of the offer, else None.
    """

    bytes: int
    total: int
    path: PeerText | None = None


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """How far the transfer is: verified bytes at the receiver, in both sides' counting.

    `total` is None until the end of a stream is known.
    """

    bytes: int
    total: int | None
    files_done: int
    files: int

    @property
    def complete(self) -> bool:
        """Return whether nothing is left: the last of these events."""
        return self.total is not None and self.bytes >= self.total and self.files_done >= self.files


@dataclass(frozen=True, slots=True)
class TransferDone:
    """Every file is verified, under its final name. `seconds` runs from the yes to the last verified byte."""

    files: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class TextReceived:
    """The text that was sent, whole and verified; it comes before `TransferDone`. `text.raw` is what was typed."""

    text: PeerText

    @property
    def lines(self) -> tuple[str, ...]:
        """Return its lines as they may be shown: nothing in them moves a cursor or turns a line around."""
        lines = self.text.raw.replace("\r\n", "\n").expandtabs().split("\n")
        if len(lines) > 1 and not lines[-1]:
            lines.pop()
        return tuple(str(type(self.text)(line, limit=TEXT_BYTES)) for line in lines)


@dataclass(frozen=True, slots=True)
class RelayTrouble:
    """The relay went away while we waited; the next try comes in `retry_in_s` seconds."""

    retry_in_s: float


@dataclass(frozen=True, slots=True)
class RelayBack:
    """The relay that went away answers again, and we wait there as before."""


@dataclass(frozen=True, slots=True)
class Rejoining:
    """The last connection of a running transfer was lost; both sides come back to each other by themselves.

    It comes at the loss and before each further wait. `retry_in_s` seconds pass before the next try: 0 while one is
    under way, None where this side waits to be reached. The transfer fails in `left_s` seconds. `reason` is who ended
    the connection: "peer" or "network".
    """

    retry_in_s: float | None
    left_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Rejoined:
    """Both sides are connected again, and the transfer goes on where it stood."""

    path: PathKind


@dataclass(frozen=True, slots=True)
class ServerNotice:
    """What the relay's operator says to its users."""

    text: PeerText


@dataclass(frozen=True, slots=True)
class Warned:
    """Something was left out or changed, and the user should know: a sentence."""

    text: PeerText


Event = (
    CodeReady
    | WrongCode
    | Connected
    | PathInUse
    | Tuned
    | PeerIdentified
    | VerificationNeeded
    | OfferReceived
    | TransferStarted
    | Resumed
    | TransferProgress
    | TextReceived
    | TransferDone
    | RelayTrouble
    | RelayBack
    | Rejoining
    | Rejoined
    | ServerNotice
    | Warned
)

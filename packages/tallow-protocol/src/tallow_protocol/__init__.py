"""Protocol of Tallow and an async API to send and receive files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallow_net import PeerText, RelayAddress

from tallow_protocol.errors import (
    BadNameError,
    BudgetExhaustedError,
    CancelledByUserError,
    CodeBurnedError,
    CodeError,
    CodeExpiredError,
    CodeFormatError,
    ConflictError,
    FileError,
    IntegrityError,
    InternalError,
    InUseError,
    MisuseError,
    NoPathError,
    NoSpaceError,
    NoSuchCodeError,
    NotVerifiedError,
    NotWritableError,
    PathMissingError,
    PeerCancelledError,
    PeerLeftError,
    ProtocolError,
    RefusedError,
    RelayChangedError,
    RelayFullError,
    SourceChangedError,
    UnknownWordError,
    UnreachableError,
    UnreadableError,
    UnsupportedSystemError,
    VersionError,
    ViolationError,
    WrongCodeError,
)
from tallow_protocol.events import (
    CodeReady,
    Connected,
    Event,
    OfferedEntry,
    OfferedKind,
    OfferReceived,
    OnConflict,
    PathInUse,
    PathKind,
    PathLimit,
    PeerIdentified,
    Rejoined,
    Rejoining,
    RelayBack,
    RelayTrouble,
    Resumed,
    ServerNotice,
    TextReceived,
    TransferDone,
    TransferProgress,
    TransferStarted,
    Tuned,
    VerificationNeeded,
    Warned,
    WrongCode,
)
from tallow_protocol.ports import History, KnownRelays, PartialTransfers, Ports, TransferRecord, Trust

if TYPE_CHECKING:
    from tallow_net import TransportChoice

    from tallow_protocol.api import Receiver, Sender, TransferOptions
    from tallow_protocol.code import Code

_LATE = {
    "Code": "tallow_protocol.code",
    "Receiver": "tallow_protocol.api",
    "Sender": "tallow_protocol.api",
    "TransferOptions": "tallow_protocol.api",
    "TransportChoice": "tallow_net.transport.interface",
}
"""Names whose modules cost more than 20 ms to import; they come when they are first asked for."""


def __getattr__(name: str) -> object:
    if name in _LATE:
        import importlib

        return getattr(importlib.import_module(_LATE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "BadNameError",
    "BudgetExhaustedError",
    "CancelledByUserError",
    "Code",
    "CodeBurnedError",
    "CodeError",
    "CodeExpiredError",
    "CodeFormatError",
    "CodeReady",
    "ConflictError",
    "Connected",
    "Event",
    "FileError",
    "History",
    "InUseError",
    "IntegrityError",
    "InternalError",
    "KnownRelays",
    "MisuseError",
    "NoPathError",
    "NoSpaceError",
    "NoSuchCodeError",
    "NotVerifiedError",
    "NotWritableError",
    "OfferReceived",
    "OfferedEntry",
    "OfferedKind",
    "OnConflict",
    "PartialTransfers",
    "PathInUse",
    "PathKind",
    "PathLimit",
    "PathMissingError",
    "PeerCancelledError",
    "PeerIdentified",
    "PeerLeftError",
    "PeerText",
    "Ports",
    "ProtocolError",
    "Receiver",
    "RefusedError",
    "Rejoined",
    "Rejoining",
    "RelayAddress",
    "RelayBack",
    "RelayChangedError",
    "RelayFullError",
    "RelayTrouble",
    "Resumed",
    "Sender",
    "ServerNotice",
    "SourceChangedError",
    "TextReceived",
    "TransferDone",
    "TransferOptions",
    "TransferProgress",
    "TransferRecord",
    "TransferStarted",
    "TransportChoice",
    "Trust",
    "Tuned",
    "UnknownWordError",
    "UnreachableError",
    "UnreadableError",
    "UnsupportedSystemError",
    "VerificationNeeded",
    "VersionError",
    "ViolationError",
    "Warned",
    "WrongCode",
    "WrongCodeError",
]

"""The u16 codes by which one side tells the other why it ends: Abort before keys, Refuse and Cancel after.

Numbers and names are stable. Each stands for an error class of this package, on both sides: the one that happened
here and the one that the other side reports. An unknown number is not an error; it reads as the most general code.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from tallow_protocol.errors import (
    BadNameError,
    CodeBurnedError,
    ConflictError,
    FileError,
    IntegrityError,
    InternalError,
    InUseError,
    NoPathError,
    NoSpaceError,
    NotVerifiedError,
    NotWritableError,
    PeerCancelledError,
    ProtocolError,
    RefusedError,
    SourceChangedError,
    UnreadableError,
    VersionError,
    ViolationError,
    WrongCodeError,
)

__all__ = ["AbortCode", "CloseCode"]


class AbortCode(IntEnum):
    """Why an attempt ends before keys exist. A hint: anybody between can forge it, and it changes no budget."""

    WRONG_CODE = 1
    IN_USE = 2
    BURNED = 3
    VERSION = 4
    CANCELLED = 5
    VIOLATION = 6
    INTERNAL = 7

    @classmethod
    def of_number(cls, number: int) -> AbortCode:
        """Return the code of a number from the wire; INTERNAL for one that this version does not know."""
        return _ABORT_CODES.get(number, cls.INTERNAL)

    @classmethod
    def of(cls, error: ProtocolError) -> AbortCode:
        """Return what the other side is told when this side ends with `error`."""
        return _ABORT_OF_ERROR.get(error.code, cls.INTERNAL)

    def error(self, left: int) -> ProtocolError:
        """Return the error of a receiver that was told this; `left` is how many guesses its own budget has."""
        match self:
            case AbortCode.WRONG_CODE:
                return WrongCodeError(left, "the sender says that this code is wrong")
            case AbortCode.IN_USE:
                return InUseError()
            case AbortCode.BURNED:
                return CodeBurnedError()
            case AbortCode.VERSION:
                return VersionError()
            case AbortCode.CANCELLED:
                return PeerCancelledError()
            case AbortCode.VIOLATION:
                return ViolationError("the other side says that this one broke the protocol")
            case AbortCode.INTERNAL:
                return PeerCancelledError("the other side gave up before keys were agreed")

    def error_of_sender(self) -> ProtocolError:
        """Return the error of a sender that was told this.

        Only the sender's own budget says whether its code is wrong or burned: a stranger's word for it is no
        more than an attempt that ended.
        """
        if self in {AbortCode.WRONG_CODE, AbortCode.BURNED}:
            return PeerCancelledError("the receiver gave up before it proved the code")
        return self.error(0)


_ABORT_CODES: Final = {int(code): code for code in AbortCode}
_ABORT_OF_ERROR: Final = {
    "wrong_code": AbortCode.WRONG_CODE,
    "in_use": AbortCode.IN_USE,
    "burned": AbortCode.BURNED,
    "version": AbortCode.VERSION,
    "interrupted": AbortCode.CANCELLED,
    "cancelled": AbortCode.CANCELLED,
    "violation": AbortCode.VIOLATION,
}


class CloseCode(IntEnum):
    """Why a side refuses an offer (Refuse) or ends a session (Cancel). Sealed, so nobody between can forge it."""

    CANCELLED = 1
    REFUSED = 2
    UNATTENDED = 3
    CONFLICT = 4
    NO_SPACE = 5
    NOT_WRITABLE = 6
    BAD_NAME = 7
    SOURCE_CHANGED = 8
    UNREADABLE = 9
    FILE = 10
    VIOLATION = 11
    INTEGRITY = 12
    NOT_VERIFIED = 13
    INTERNAL = 14
    NO_PATH = 15
    LOOKED = 16

    @classmethod
    def of_number(cls, number: int) -> CloseCode:
        """Return the code of a number from the wire; INTERNAL for one that this version does not know."""
        return _CLOSE_CODES.get(number, cls.INTERNAL)

    @classmethod
    def of(cls, error: ProtocolError) -> CloseCode:
        """Return what the other side is told when this side ends with `error`."""
        if isinstance(error, IntegrityError):
            return cls.INTEGRITY
        return _CLOSE_OF_ERROR.get(error.code, cls.INTERNAL)

    def error(self) -> ProtocolError:
        """Return the error of a side that was told this by the other."""
        kind, sentence = _TOLD[self]
        return kind(sentence, hints=_NEXT_STEP.get(self))


_CLOSE_CODES: Final = {int(code): code for code in CloseCode}
_CLOSE_OF_ERROR: Final = {
    "interrupted": CloseCode.CANCELLED,
    "cancelled": CloseCode.CANCELLED,
    "refused": CloseCode.REFUSED,
    "conflict": CloseCode.CONFLICT,
    "no_space": CloseCode.NO_SPACE,
    "not_writable": CloseCode.NOT_WRITABLE,
    "bad_name": CloseCode.BAD_NAME,
    "source_changed": CloseCode.SOURCE_CHANGED,
    "unreadable": CloseCode.UNREADABLE,
    "path_missing": CloseCode.UNREADABLE,
    "file": CloseCode.FILE,
    "violation": CloseCode.VIOLATION,
    "not_verified": CloseCode.NOT_VERIFIED,
    "no_path": CloseCode.NO_PATH,
    "output_closed": CloseCode.CANCELLED,
}
_TOLD: Final[dict[CloseCode, tuple[type[ProtocolError], str]]] = {
    CloseCode.CANCELLED: (PeerCancelledError, "the other side cancelled the transfer"),
    CloseCode.REFUSED: (RefusedError, "the receiver refused the offer"),
    CloseCode.UNATTENDED: (RefusedError, "nobody was there to say yes on the receiving side"),
    CloseCode.LOOKED: (RefusedError, "the receiver only looked at the offer, and took nothing"),
    CloseCode.CONFLICT: (ConflictError, "the receiver has a file or folder of the same name"),
    CloseCode.NO_SPACE: (NoSpaceError, "there is not enough space on the receiver's disk"),
    CloseCode.NOT_WRITABLE: (NotWritableError, "the receiver cannot write to its output directory"),
    CloseCode.BAD_NAME: (BadNameError, "a name in the offer cannot be written on the receiver's machine"),
    CloseCode.SOURCE_CHANGED: (SourceChangedError, "a file changed while it was being sent"),
    CloseCode.UNREADABLE: (UnreadableError, "the sender cannot read a file that it offered"),
    CloseCode.FILE: (FileError, "the other side cannot read or write a file"),
    CloseCode.VIOLATION: (ViolationError, "the other side says that this one broke the protocol"),
    CloseCode.INTEGRITY: (IntegrityError, "the receiver found that data does not match what was signed"),
    CloseCode.NOT_VERIFIED: (NotVerifiedError, "the digits were not confirmed on the other side"),
    CloseCode.INTERNAL: (InternalError, "the other side failed for a reason of its own"),
    CloseCode.NO_PATH: (NoPathError, "the other side found no path that both sides allow"),
}
_NEXT_STEP: Final[dict[CloseCode, tuple[str, ...]]] = {
    CloseCode.UNATTENDED: (
        "ask the receiver to be there, or to take it without being asked, then send again",
    ),
    CloseCode.LOOKED: ("send it again under a new code once it is wanted",),
    CloseCode.CONFLICT: (
        "ask the receiver to choose another folder or what to do with what is there, then send again",
    ),
    CloseCode.NO_SPACE: ("ask the receiver to make room or to choose another disk, then send again",),
    CloseCode.NOT_WRITABLE: ("ask the receiver to choose another folder, then send again",),
    CloseCode.BAD_NAME: ("rename it, then send again",),
    CloseCode.UNREADABLE: ("ask the sender to check its permissions, then to send again",),
}
"""Where the one who is told can do something else than the side on which it happened, whose words the error has."""

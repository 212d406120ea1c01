"""Turns tallow_net's errors into this package's: no other package's exception leaves the API."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tallow_net import (
    CertificateChangedError,
    CertificateRefusedError,
    ConnectError,
    ConnectionLostError,
    NetError,
    NotTallowError,
    PeerViolationError,
    RelayRefusedError,
)

from tallow_protocol.errors import (
    CodeBurnedError,
    CodeExpiredError,
    InternalError,
    InUseError,
    NoSuchCodeError,
    PeerLeftError,
    ProtocolError,
    RelayChangedError,
    RelayFullError,
    UnreachableError,
    VersionError,
    ViolationError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["as_protocol_errors", "translated"]

_REFUSALS: dict[str, type[ProtocolError]] = {
    "no_such_room": NoSuchCodeError,
    "room_expired": CodeExpiredError,
    "room_spent": CodeExpiredError,
    "room_burned": CodeBurnedError,
    "two_senders": InUseError,
    "two_receivers": InUseError,
    "in_use": InUseError,
    "version": VersionError,
}
_SENTENCES = {
    "room_spent": "this code was used already; a code serves once",
    "two_senders": "another sender already waits under this code",
    "two_receivers": "another receiver already uses this code",
}


def translated(error: NetError) -> ProtocolError:
    """Return the error of this package that says the same."""
    if isinstance(error, RelayRefusedError):
        if error.code in {"relay_full", "rate_limited"}:
            return RelayFullError(str(error), code=error.code, retry_after_s=error.retry_after_s)
        kind = _REFUSALS.get(error.code)
        return kind(_SENTENCES.get(error.code)) if kind is not None else ViolationError(str(error))
    if isinstance(error, CertificateChangedError | CertificateRefusedError):
        return RelayChangedError(str(error), code=error.code, hints=error.hints)
    if isinstance(error, NotTallowError | ConnectError):
        return UnreachableError(str(error), code=error.code, hints=error.hints or None)
    if isinstance(error, ConnectionLostError):
        return PeerLeftError(by=error.by)
    if isinstance(error, PeerViolationError):
        return ViolationError(str(error))
    return InternalError(str(error))


@contextmanager
def as_protocol_errors() -> Iterator[None]:
    """Let nothing but this package's errors out."""
    try:
        yield
    except NetError as error:
        raise translated(error) from None

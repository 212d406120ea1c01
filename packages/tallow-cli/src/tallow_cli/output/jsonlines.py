"""Events for programs: one JSON object a line on standard output, as events.schema.json describes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tallow_protocol import (
    Connected,
    OfferReceived,
    PathInUse,
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

from tallow_cli.output.line import error_line, event_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallow_protocol import Event, OfferedEntry

    from tallow_cli.errors import Failure
    from tallow_cli.output.interface import ReceiveLine, Sink

__all__ = ["JsonLines"]

_PROGRESS_S = 0.1
"""Ten progress lines a second are enough for any display and cost nothing beside the transfer."""

_ENTRIES = 1000
"""An offer's line lists this many entries, about 150 KB; `more` says how many are left out."""


class JsonLines:
    """Writes every event as one object with `schema` and `event`, flushed."""

    def __init__(self, stdout: Sink) -> None:
        self._stdout = stdout
        self._held: TransferProgress | None = None
        self._next_progress = float("-inf")

    def code_ready(self, receive: ReceiveLine) -> None:
        """Write `code`; `peer` is null where a relay brings both together."""
        peer = receive.peers[0] if receive.peers else None
        self._stdout.line(
            event_line(
                "code",
                code=receive.code,
                peer=peer,
                peers=list(receive.peers),
                command=receive.command,
                fallback=receive.fallback,
            )
        )

    def show(self, event: Event, now: float) -> None:
        """Write one event; progress at most ten times a second, the last one always."""
        if isinstance(event, TransferProgress):
            self._held = event
            if now >= self._next_progress or event.complete:
                self._release(now)
            return
        self._release(now)
        if type(event) in _LINES:
            self._write(event)

    def waiting(self, for_what: str | None, now: float) -> None:
        """Say nothing: a program has its own clock."""

    def tick(self, now: float) -> None:
        """Write progress that was held back."""
        if now >= self._next_progress:
            self._release(now)

    def looked(self) -> None:
        """Say nothing: the program asked for it, and the offer was the last event."""

    def failed(self, failure: Failure) -> None:
        """Write `error`, the last line."""
        self._stdout.line(error_line(failure))

    def close(self, now: float) -> None:
        """Write progress that was held back."""
        self._release(now)

    def _release(self, now: float) -> None:
        if self._held is not None:
            event, self._held = self._held, None
            self._next_progress = now + _PROGRESS_S
            self._write(event)

    def _write(self, event: Event) -> None:
        name, fields = _LINES[type(event)]
        self._stdout.line(event_line(name, **fields(event)))


def _offer(event: OfferReceived) -> dict[str, Any]:
    entries = [_entry(entry) for entry in event.entries[:_ENTRIES]]
    return {
        "files": event.files,
        "bytes": event.bytes,
        "entries": entries,
        "more": len(event.entries) - len(entries),
    }


def _entry(entry: OfferedEntry) -> dict[str, Any]:
    return {
        "path": str(entry.path),
        "kind": entry.kind.value,
        "bytes": entry.size_bytes,
        "executable": entry.executable,
        "hidden": entry.hidden,
        "text": entry.is_text,
        "target": None if entry.target is None else str(entry.target),
    }


def _identity(event: PeerIdentified) -> dict[str, Any]:
    return {"fingerprint": str(event.fingerprint), "known": None if event.known is None else str(event.known)}


def _progress(event: TransferProgress) -> dict[str, Any]:
    return {"bytes": event.bytes, "total": event.total, "files_done": event.files_done, "files": event.files}


def _path(event: PathInUse) -> dict[str, Any]:
    return {"path": event.path.value, "plain": event.plain, "connections": event.connections}


def _tuned(event: Tuned) -> dict[str, Any]:
    return {
        "window_bytes": event.window_bytes,
        "chunk_bytes": event.chunk_bytes,
        "rate": event.rate_bytes_per_s,
        "rtt_ms": round(event.round_trip_s * 1000, 3),
        "connections": event.connections,
    }


def _rejoining(event: Rejoining) -> dict[str, Any]:
    return {
        "retry_in_s": None if event.retry_in_s is None else round(event.retry_in_s, 3),
        "left_s": round(event.left_s, 3),
        "reason": event.reason,
    }


def _done(event: TransferDone) -> dict[str, Any]:
    return {"files": event.files, "bytes": event.bytes, "seconds": round(event.seconds, 6)}


# CodeReady is not here: only the command knows the addresses of this machine, and calls code_ready().
_LINES: dict[type, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    WrongCode: ("wrong_code", lambda event: {"left": event.left}),
    Connected: ("connected", lambda event: {"path": event.path.value, "transport": event.path.transport}),
    PathInUse: ("path", _path),
    Tuned: ("tuned", _tuned),
    PeerIdentified: ("identity", _identity),
    VerificationNeeded: (
        "verify",
        lambda event: {"digits": event.digits, "must_confirm": event.must_confirm},
    ),
    OfferReceived: ("offer", _offer),
    TransferStarted: ("started", lambda event: {"files": event.files, "bytes": event.bytes}),
    Resumed: ("resumed", lambda event: {"bytes": event.bytes, "total": event.total}),
    TransferProgress: ("progress", _progress),
    TextReceived: ("text", lambda event: {"text": "\n".join(event.lines)}),
    TransferDone: ("done", _done),
    RelayTrouble: ("relay_trouble", lambda event: {"retry_in_s": round(event.retry_in_s, 3)}),
    RelayBack: ("relay_back", lambda _event: {}),
    Rejoining: ("rejoining", _rejoining),
    Rejoined: ("rejoined", lambda event: {"path": event.path.value, "transport": event.path.transport}),
    ServerNotice: ("notice", lambda event: {"text": str(event.text)}),
    Warned: ("warning", lambda event: {"text": str(event.text)}),
}

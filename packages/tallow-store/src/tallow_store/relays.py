"""The relays that were used before, and how each one's key was accepted. Never weakened.

Once a relay is remembered, `remember` takes nothing else for it: not another key, not the authorities in
place of a key, not a key in place of the authorities. `replace` is for a user who decided so.
"""

import time
from dataclasses import dataclass
from typing import Literal, cast

from tallow_store.database import Database, Value
from tallow_store.errors import MisuseError, RelayPinError

PinMode = Literal["spki", "authority"]

SPKI_BYTES = 32

_SELECT = "SELECT host, port, mode, spki_sha256, first_used_s FROM known_relay"


@dataclass(frozen=True, slots=True)
class KnownRelay:
    """One remembered relay: mode "spki" with the SHA-256 of its public key (32 bytes), or "authority" with None."""

    host: str
    port: int
    mode: PinMode
    spki_sha256: bytes | None
    first_used_s: int
    """Unix time of the first use, in seconds."""


class KnownRelayStore:
    """The remembered relays of one database. A lookup never waits for a writer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def lookup(self, host: str, port: int) -> KnownRelay | None:
        """Return what is remembered of a relay, None if it was never used. Raises DatabaseError."""
        rows = self._database.execute(f"{_SELECT} WHERE host = ? AND port = ?", (host.lower(), port))
        return _relay(rows[0]) if rows else None

    def remember(
        self, host: str, port: int, mode: PinMode, spki_sha256: bytes | None, *, now_s: int | None = None
    ) -> KnownRelay:
        """Remember a relay at its first use and return what is remembered; the same again changes nothing.

        Raises RelayPinError if something else is remembered, which stays; MisuseError for values that do
        not fit together; DatabaseError.
        """
        _check(port, mode, spki_sha256)
        with self._database.transaction():
            known = self.lookup(host, port)
            if known is None:
                self._insert(host, port, mode, spki_sha256, now_s)
            elif (known.mode, known.spki_sha256) != (mode, spki_sha256):
                raise RelayPinError(_difference(known, mode))
            return cast("KnownRelay", self.lookup(host, port))

    def replace(
        self, host: str, port: int, mode: PinMode, spki_sha256: bytes | None, *, now_s: int | None = None
    ) -> KnownRelay:
        """Remember a relay anew, whatever was remembered: only for a key that the user gave or confirmed."""
        _check(port, mode, spki_sha256)
        with self._database.transaction():
            self._delete(host, port)
            self._insert(host, port, mode, spki_sha256, now_s)
            return cast("KnownRelay", self.lookup(host, port))

    def forget(self, host: str, port: int) -> bool:
        """Forget a relay, so that its next use is its first one; return whether it was known."""
        with self._database.transaction():
            known = self.lookup(host, port) is not None
            self._delete(host, port)
        return known

    def all(self) -> tuple[KnownRelay, ...]:
        """Return every remembered relay, by host and port."""
        return tuple(_relay(row) for row in self._database.execute(f"{_SELECT} ORDER BY host, port"))

    def _insert(
        self, host: str, port: int, mode: PinMode, spki_sha256: bytes | None, now_s: int | None
    ) -> None:
        first_used_s = int(time.time()) if now_s is None else now_s
        self._database.execute(
            "INSERT INTO known_relay (host, port, mode, spki_sha256, first_used_s) VALUES (?, ?, ?, ?, ?)",
            (host.lower(), port, mode, spki_sha256, first_used_s),
        )

    def _delete(self, host: str, port: int) -> None:
        self._database.execute("DELETE FROM known_relay WHERE host = ? AND port = ?", (host.lower(), port))


def _relay(row: tuple[Value, ...]) -> KnownRelay:
    return KnownRelay(*cast("tuple[str, int, PinMode, bytes | None, int]", row))


def _check(port: int, mode: str, spki_sha256: bytes | None) -> None:
    if not 1 <= port <= 65535:
        raise MisuseError(f"a port is a number from 1 to 65535, not {port}")
    length = None if spki_sha256 is None else len(spki_sha256)
    if (mode, length) not in {("spki", SPKI_BYTES), ("authority", None)}:
        raise MisuseError(
            f"a relay is remembered by a hash of {SPKI_BYTES} bytes or by authority, not {mode!r}, {length}"
        )


def _difference(known: KnownRelay, mode: str) -> str:
    name = f"{known.host}:{known.port}"
    if known.mode == mode:
        return f"the relay {name} is remembered with another key"
    remembered = "its own key" if known.mode == "spki" else "the system's authorities"
    return (
        f"the relay {name} is remembered by {remembered}, and that is not changed for another kind of check"
    )

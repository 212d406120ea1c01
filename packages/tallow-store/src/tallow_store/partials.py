"""Which folders hold partial files of which sender: where to look, never what is in them."""

import time
from dataclasses import dataclass
from typing import cast

from tallow_store.database import Database
from tallow_store.errors import MisuseError

FINGERPRINT_BYTES = 32


@dataclass(frozen=True, slots=True)
class PartialPlace:
    """One folder, the fingerprint (32 bytes) of a sender, and when it was noted last, in Unix seconds."""

    sender: bytes
    place: str
    noted_s: int


class PartialPlaceStore:
    """The remembered folders of one database. One thread, as that."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def remember(self, sender: bytes, place: str, *, now_s: int | None = None) -> None:
        """Note that partial files of a sender may lie in a folder. Raises MisuseError and DatabaseError."""
        if len(sender) != FINGERPRINT_BYTES or not place:
            raise MisuseError(f"a fingerprint has {FINGERPRINT_BYTES} bytes, and a folder a name")
        self._database.execute(
            "INSERT OR REPLACE INTO partial_place (sender, place, noted_s) VALUES (?, ?, ?)",
            (sender, place, int(time.time()) if now_s is None else now_s),
        )

    def forget(self, sender: bytes | None, place: str) -> None:
        """Drop the note; None drops those of all senders. Raises DatabaseError."""
        if sender is None:
            self._database.execute("DELETE FROM partial_place WHERE place = ?", (place,))
        else:
            self._database.execute(
                "DELETE FROM partial_place WHERE sender = ? AND place = ?", (sender, place)
            )

    def all(self) -> tuple[PartialPlace, ...]:
        """Return every note, the oldest first."""
        rows = self._database.execute(
            "SELECT sender, place, noted_s FROM partial_place ORDER BY noted_s, place, sender"
        )
        return tuple(PartialPlace(*cast("tuple[bytes, str, int]", row)) for row in rows)

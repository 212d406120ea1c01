"""What files that were sent hashed to: a cache by the version of the file, bounded and expiring.

A version is (device, inode, size in bytes, mtime_ns, ctime_ns). The change time is in it because nothing but the kernel
sets it: a file whose content was replaced and whose modification time was put back is another version.
"""

import time
from collections.abc import Sequence

from tallow_store.database import Database, Value
from tallow_store.errors import MisuseError

DIGEST_BYTES = 32

KEEP_S = 30 * 24 * 3600
"""As long as receivers keep partial files."""

ROWS = 16_384
"""Rows hold 64 MiB of a file mostly, 4 KB of digests at 512 KiB a chunk: 1 TB of files in 64 MB. The longest unused go."""

Version = tuple[int, int, int, int, int]

_SELECT = """SELECT first, digests FROM source_digests
WHERE device = ? AND inode = ? AND size_bytes = ? AND mtime_ns = ? AND ctime_ns = ? AND chunk_bytes = ?
ORDER BY first"""
_USE = """UPDATE source_digests SET used_s = ?
WHERE device = ? AND inode = ? AND size_bytes = ? AND mtime_ns = ? AND ctime_ns = ? AND chunk_bytes = ?"""


class SourceDigestStore:
    """The cache in one database. One thread, as that."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def digests(self, version: Version, chunk_bytes: int, *, now_s: int | None = None) -> bytes:
        """Return the digests, 32 bytes each, joined, of the first chunks, as far as they are known without a gap.

        What was found counts as used now. Raises DatabaseError.
        """
        key = _key(version, chunk_bytes)
        rows = self._database.execute(_SELECT, key)
        found = bytearray()
        for first, digests in rows:
            known = len(found) // DIGEST_BYTES
            if not isinstance(first, int) or not isinstance(digests, bytes) or first > known:
                break
            found += digests[(known - first) * DIGEST_BYTES :]
        if found:
            self._database.execute(_USE, (_now(now_s), *key))
        return bytes(found)

    def remember(
        self, pieces: Sequence[tuple[Version, int, int, bytes]], *, now_s: int | None = None
    ) -> None:
        """Keep (version, chunk bytes, number of the first chunk, digests joined) of files, in one transaction.

        What is old or too much goes. Raises MisuseError and DatabaseError.
        """
        now = _now(now_s)
        with self._database.transaction():
            for version, chunk_bytes, first, digests in pieces:
                if first < 0 or not digests or len(digests) % DIGEST_BYTES:
                    raise MisuseError(f"digests have {DIGEST_BYTES} bytes each, from a chunk on")
                self._database.execute(
                    "INSERT OR REPLACE INTO source_digests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (*_key(version, chunk_bytes), first, digests, now),
                )
            self._database.execute("DELETE FROM source_digests WHERE used_s < ?", (now - KEEP_S,))
            count = self._database.execute("SELECT count(*) FROM source_digests")[0][0]
            if isinstance(count, int) and count > ROWS:
                self._database.execute(
                    "DELETE FROM source_digests WHERE used_s <= (SELECT used_s FROM source_digests"
                    " ORDER BY used_s LIMIT 1 OFFSET ?)",
                    (count - ROWS - 1,),
                )


def _key(version: Version, chunk_bytes: int) -> tuple[Value, ...]:
    device, inode, size_bytes, mtime_ns, ctime_ns = version
    return _signed(device), _signed(inode), size_bytes, mtime_ns, ctime_ns, chunk_bytes


def _signed(number: int) -> int:
    """Return a number of 64 bits as SQLite keeps it."""
    return number - (1 << 64) if number >= 1 << 63 else number


def _now(now_s: int | None) -> int:
    return int(time.time()) if now_s is None else now_s

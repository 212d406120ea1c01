"""Roots of an offer's files by their numbers: 33 bytes an entry, where a dictionary takes about 170."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tallow_crypto.hashing import DIGEST_BYTES

from tallow_protocol.errors import MisuseError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Roots"]


class Roots(Mapping[int, bytes]):
    """The roots (32 bytes each) that are known of an offer of so many entries. Calls may not overlap."""

    __slots__ = ("_count", "_joined", "_known")

    def __init__(self, entries: int) -> None:
        self._joined = bytearray(DIGEST_BYTES * entries)
        self._known = bytearray(entries)
        self._count = 0

    @property
    def joined(self) -> bytearray:
        """The roots of all entries in order, 32 zeros where none is known: not to be changed."""
        return self._joined

    @property
    def known(self) -> bytearray:
        """One byte an entry, 1 where a root is known: not to be changed."""
        return self._known

    def put(self, file: int, root: bytes) -> None:
        """Set the root of one entry, which must be one of the offer's."""
        if len(root) != DIGEST_BYTES:
            raise MisuseError(f"a root has {DIGEST_BYTES} bytes")
        self._count += not self._known[file]
        self._known[file] = 1
        self._joined[DIGEST_BYTES * file : DIGEST_BYTES * (file + 1)] = root

    def put_all(self, files: Sequence[int], roots: Sequence[bytes]) -> None:
        """Set the roots of some entries, at least one, in ascending order."""
        first, end = files[0], files[-1] + 1
        if end - first != len(files):
            for file, root in zip(files, roots, strict=True):
                self.put(file, root)
            return
        joined = b"".join(roots)
        if len(joined) != DIGEST_BYTES * len(files):
            raise MisuseError(f"a root has {DIGEST_BYTES} bytes, and each file one")
        self._count += self._known.count(0, first, end)
        self._known[first:end] = b"\1" * len(files)
        self._joined[DIGEST_BYTES * first : DIGEST_BYTES * end] = joined

    def __contains__(self, file: object) -> bool:
        return isinstance(file, int) and 0 <= file < len(self._known) and self._known[file] == 1

    def __getitem__(self, file: int) -> bytes:
        if file not in self:
            raise KeyError(file)
        return bytes(self._joined[DIGEST_BYTES * file : DIGEST_BYTES * (file + 1)])

    def __iter__(self) -> Iterator[int]:
        return (file for file, known in enumerate(self._known) if known)

    def __len__(self) -> int:
        return self._count

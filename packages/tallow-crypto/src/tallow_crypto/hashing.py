"""BLAKE3: digests of chunks, roots of files, and keys and names derived under a context.

The derive-key mode (BLAKE3 specification, section 2.3) separates uses by their context string, so no two
purposes can ever meet in one value.
"""

from collections.abc import Iterable

from blake3 import blake3

from tallow_crypto.secret import Buffer

DIGEST_BYTES = 32

_FILE_CONTEXT = "tallow/1 file"


def chunk_digest(data: Buffer) -> bytes:
    """Return the 32-byte BLAKE3 hash of one chunk's raw bytes; the GIL is released meanwhile."""
    return blake3(data).digest()


def derive_key(context: str, material: Buffer, length: int = DIGEST_BYTES) -> bytes:
    """Return `length` bytes of BLAKE3's derive-key mode over `material`.

    `context` is a fixed string of the protocol ("tallow/1 room"), never data from a peer. Raises
    ValueError where `length` is not positive.
    """
    hasher = DerivedHasher(context)
    hasher.update(material)
    return hasher.digest(length)


class DerivedHasher:
    """BLAKE3's derive-key mode over data that arrives in pieces."""

    __slots__ = ("_hasher",)

    def __init__(self, context: str) -> None:
        self._hasher = blake3(derive_key_context=context)

    def update(self, data: Buffer) -> None:
        """Append `data`; where the cuts between calls fall makes no difference."""
        self._hasher.update(data)

    def digest(self, length: int = DIGEST_BYTES) -> bytes:
        """Return `length` bytes for all data so far; more data may follow.

        Raises ValueError where `length` is not positive.
        """
        if length < 1:
            raise ValueError(f"a BLAKE3 output has at least 1 byte, not {length}")
        return self._hasher.digest(length=length)


class FileRoot:
    """The root of one file: BLAKE3-derive-key("tallow/1 file", u64 size || u32 chunk size || d_0 || ...).

    d_i are the chunks' digests, 32 bytes each. Size and chunk size stand first, so that two files of
    different shape never share a root even where their digests do.
    """

    __slots__ = ("_hasher",)

    def __init__(self, size_bytes: int, chunk_size_bytes: int) -> None:
        """Begin a file of `size_bytes` (0 to 2**64 - 1) in chunks of `chunk_size_bytes` (1 to 2**32 - 1).

        Raises ValueError outside these ranges.
        """
        shape = _shape(size_bytes, chunk_size_bytes)
        self._hasher = DerivedHasher(_FILE_CONTEXT)
        self._hasher.update(shape)

    def update(self, digest: bytes) -> None:
        """Append the next chunk's digest, once per chunk and in order; ValueError unless 32 bytes."""
        if len(digest) != DIGEST_BYTES:
            raise ValueError(f"a chunk's digest has {DIGEST_BYTES} bytes, not {len(digest)}")
        self._hasher.update(digest)

    def update_all(self, digests: Buffer) -> None:
        """Append the digests of many chunks, joined, in order; ValueError unless a multiple of 32 bytes."""
        if len(digests) % DIGEST_BYTES:
            raise ValueError(f"a chunk's digest has {DIGEST_BYTES} bytes")
        self._hasher.update(digests)

    def digest(self) -> bytes:
        """Return the 32-byte root over the digests so far; more may follow."""
        return self._hasher.digest()


def file_root(size_bytes: int, chunk_size_bytes: int, digests: Iterable[bytes]) -> bytes:
    """Return the 32-byte root of a file whose chunk digests are all known; see FileRoot."""
    known = list(digests)
    if not {DIGEST_BYTES}.issuperset(map(len, known)):
        raise ValueError(f"a chunk's digest has {DIGEST_BYTES} bytes")
    material = _shape(size_bytes, chunk_size_bytes) + b"".join(known)
    # One call, not four: a tree has many small files.
    return blake3(material, derive_key_context=_FILE_CONTEXT).digest()


def _shape(size_bytes: int, chunk_size_bytes: int) -> bytes:
    if not 0 <= size_bytes < 1 << 64:
        raise ValueError(f"a file's size fits 8 bytes, {size_bytes} does not")
    if not 1 <= chunk_size_bytes < 1 << 32:
        raise ValueError(f"a chunk size is 1 to 2**32 - 1 bytes, not {chunk_size_bytes}")
    return size_bytes.to_bytes(8, "big") + chunk_size_bytes.to_bytes(4, "big")

"""Sealing and opening records, in place, without a nonce in any signature.

One RecordSealer and one RecordOpener serve one direction of one connection. Record i, counted from 0 and
never sent, belongs to epoch e = i >> 14 and has the nonce iv XOR (4 zero bytes || u64 i) (RFC 8446 section
5.3), where

    key, iv, secret_(e+1) = Expand(secret_e, "tallow/1 key" | "tallow/1 iv" | "tallow/1 next", 32 | 12 | 64)
"""

from enum import IntEnum
from typing import TYPE_CHECKING, TypeAlias

from tallow_crypto.errors import AuthenticationError, InvalidKeyError, KeyExhaustedError, ProviderMissingError
from tallow_crypto.kdf import hkdf_expand
from tallow_crypto.secret import Buffer, Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

    _Cipher: TypeAlias = AESGCM | ChaCha20Poly1305

TAG_BYTES = 16
SECRET_BYTES = 64
# The frame limit. With 2**14 records an epoch it bounds a key to 2**32 AES blocks, a distinguishing
# advantage of 2**-65 (draft-irtf-cfrg-aead-limits).
MAX_SEALED_BYTES = (4 << 20) + (8 << 10)
EPOCH_SHIFT = 14

_KEY_BYTES = 32
_NONCE_BYTES = 12
_LAST_RECORD = (1 << 64) - 1


class Suite(IntEnum):
    """The AEAD of a session, by its number on the wire."""

    AES_256_GCM = 1
    CHACHA20_POLY1305 = 2


class _Keys:
    """The keys of one direction: which cipher and which nonce come next."""

    __slots__ = ("_cipher", "_epoch", "_iv", "_secret", "_shift", "_suite", "records")

    def __init__(self, suite: Suite, secret: Secret, epoch_shift: int) -> None:
        if len(secret) != SECRET_BYTES:
            raise InvalidKeyError(f"a record secret has {SECRET_BYTES} bytes, not {len(secret)}")
        if not 0 <= epoch_shift <= EPOCH_SHIFT:
            raise ValueError(f"an epoch shift is 0 to {EPOCH_SHIFT}, not {epoch_shift}")
        self._suite = Suite(suite)
        self._secret = secret
        self._shift = epoch_shift
        self._epoch = 0
        self.records = 0
        self._load()

    def _load(self) -> None:
        self._cipher = _make_cipher(self._suite, hkdf_expand(self._secret, b"tallow/1 key", _KEY_BYTES))
        self._iv = int.from_bytes(hkdf_expand(self._secret, b"tallow/1 iv", _NONCE_BYTES).reveal(), "big")

    def next_record(self) -> "tuple[_Cipher, bytes]":
        """Count one record and return the cipher and the 12-byte nonce that are its own."""
        record = self.records
        if record > _LAST_RECORD:
            raise KeyExhaustedError("this connection has counted its last record; open a new one")
        # Counted before it is used: a call that fails half-way must not leave its nonce for another.
        self.records = record + 1
        while self._epoch < record >> self._shift:
            self._secret = hkdf_expand(self._secret, b"tallow/1 next", SECRET_BYTES)
            self._epoch += 1
            self._load()
        return self._cipher, (self._iv ^ record).to_bytes(_NONCE_BYTES, "big")


class RecordSealer:
    """Seals one direction of one connection. Calls must not overlap: one task or thread owns it."""

    __slots__ = ("_keys",)

    def __init__(self, suite: Suite, secret: Secret, *, epoch_shift: int = EPOCH_SHIFT) -> None:
        """Begin at record 0 of `secret` (64 bytes), which no other sealer may ever get.

        A key serves 2**epoch_shift records. Raises InvalidKeyError for another secret length, ValueError
        for a shift outside 0 to 14, ProviderMissingError where OpenSSL lacks the suite.
        """
        self._keys = _Keys(suite, secret, epoch_shift)

    @property
    def records(self) -> int:
        """How many records have been sealed."""
        return self._keys.records

    def seal_in_place(self, buffer: memoryview, associated_data: Buffer) -> None:
        """Turn plaintext || 16 spare bytes into ciphertext || tag in the same memory.

        The GIL is released meanwhile. Raises ValueError where the buffer is read-only, not plain bytes,
        shorter than 16 bytes or longer than 4 MiB + 8 KiB; KeyExhaustedError after 2**64 records.
        """
        _check_buffer(buffer)
        length = len(buffer)
        if not TAG_BYTES <= length <= MAX_SEALED_BYTES:
            raise ValueError(f"a sealed record has {TAG_BYTES} to {MAX_SEALED_BYTES} bytes, not {length}")
        cipher, nonce = self._keys.next_record()
        cipher.encrypt_into(nonce, buffer[: length - TAG_BYTES], associated_data, buffer)

    def seal(self, plaintext: Buffer, associated_data: Buffer) -> bytes:
        """Return ciphertext || 16-byte tag in new memory; errors as seal_in_place's."""
        buffer = bytearray(len(plaintext) + TAG_BYTES)
        buffer[: len(plaintext)] = plaintext
        self.seal_in_place(memoryview(buffer), associated_data)
        return bytes(buffer)

    def __repr__(self) -> str:
        return f"RecordSealer({self.records} records)"


class RecordOpener:
    """Opens one direction of one connection. Calls must not overlap: one task or thread owns it.

    After one record that does not open it opens nothing more: the connection is over, the session is not.
    """

    __slots__ = ("_failed", "_invalid_tag", "_keys")

    def __init__(self, suite: Suite, secret: Secret, *, epoch_shift: int = EPOCH_SHIFT) -> None:
        """Begin at record 0 of `secret` (64 bytes); errors as RecordSealer's."""
        from cryptography.exceptions import InvalidTag

        self._keys = _Keys(suite, secret, epoch_shift)
        # Kept here because an import statement in every call costs more than opening a small record.
        self._invalid_tag = InvalidTag
        self._failed = False

    @property
    def records(self) -> int:
        """How many records have been tried."""
        return self._keys.records

    def open_in_place(self, buffer: memoryview, associated_data: Buffer) -> memoryview:
        """Turn ciphertext || tag into plaintext and return the view of it, in the same memory.

        The GIL is released meanwhile. Raises AuthenticationError where the record does not open, and the
        buffer then holds zeros, not unverified plaintext; ValueError where the buffer is read-only or not
        plain bytes; KeyExhaustedError after 2**64 records.
        """
        _check_buffer(buffer)
        length = len(buffer)
        if self._failed or not TAG_BYTES <= length <= MAX_SEALED_BYTES:
            self._failed = True
            raise _not_authentic()
        cipher, nonce = self._keys.next_record()
        plaintext = buffer[: length - TAG_BYTES]
        try:
            cipher.decrypt_into(nonce, buffer, associated_data, plaintext)
        except self._invalid_tag:
            self._failed = True
            buffer[:] = bytes(length)
            raise _not_authentic() from None
        return plaintext

    def open(self, ciphertext: Buffer, associated_data: Buffer) -> bytes:
        """Return the plaintext of ciphertext || tag in new memory; errors as open_in_place's."""
        return bytes(self.open_in_place(memoryview(bytearray(ciphertext)), associated_data))

    def __repr__(self) -> str:
        return f"RecordOpener({self.records} records)"


def _make_cipher(suite: Suite, key: Secret) -> "_Cipher":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

    make: Callable[[bytes], _Cipher] = AESGCM if suite is Suite.AES_256_GCM else ChaCha20Poly1305
    try:
        return make(key.reveal())
    except UnsupportedAlgorithm:
        raise ProviderMissingError(
            f"this OpenSSL has no {suite.name}",
            hints=("install the cryptography package's own wheel; a FIPS mode leaves ChaCha20 out",),
        ) from None


def _check_buffer(buffer: memoryview) -> None:
    if buffer.readonly or buffer.ndim != 1 or buffer.itemsize != 1 or not buffer.c_contiguous:
        raise ValueError("a record is sealed and opened in a writable, contiguous memoryview of bytes")


def _not_authentic() -> AuthenticationError:
    return AuthenticationError(
        "a record did not open: it was changed or reordered on its way",
        hints=("close this connection and open a new one; the session can go on",),
    )

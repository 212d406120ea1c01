"""Secrets in the database, each sealed under the store's key; and the key file.

    sealed value   "TLWS" || u8 1 || salt (32) || AES-256-GCM ciphertext || tag (16)

The 64-byte secret of a value is HKDF-SHA-512: Expand(Extract(salt, store key), "tallow/1 store" || 0x00 || name).
A RecordSealer of that secret seals the one record 0; the salt is random, so no two values share a key. The
associated data is everything in front of the ciphertext, then the name: a value cannot be moved to another name.

    key file       "tallow-store-key-1 " || 128 hexadecimal digits || " " || 8 digits to check them || a newline
"""

import secrets
from pathlib import Path

from tallow_crypto import (
    AuthenticationError,
    RecordOpener,
    RecordSealer,
    Secret,
    Suite,
    derive_key,
    hkdf_expand,
    hkdf_extract,
)

from tallow_store.errors import KeyFileError, LocationError, SealError
from tallow_store.locations import make_private_directory, make_private_file, read_secret_file

KEY_BYTES = 64
SALT_BYTES = 32
SECRET_BYTES = 64

_MAGIC = b"TLWS\x01"
_KEY_PREFIX = "tallow-store-key-1"
_CHECK_DIGITS = 8
_KEY_FILE_BYTES = len(_KEY_PREFIX) + 2 * KEY_BYTES + _CHECK_DIGITS + 3
_RESTORE = "restore the key file from a backup: without it the identity in the database is lost"


class SealedBox:
    """Seals and opens values under one store key (64 bytes)."""

    __slots__ = ("_key",)

    def __init__(self, key: Secret) -> None:
        if len(key) != KEY_BYTES:
            raise KeyFileError(f"a store key has {KEY_BYTES} bytes, not {len(key)}")
        self._key = key

    def seal(self, name: str, value: Secret) -> bytes:
        """Return the sealed form, 53 bytes longer than the value. Each call gives another."""
        head = _MAGIC + secrets.token_bytes(SALT_BYTES)
        sealer = RecordSealer(Suite.AES_256_GCM, self._secret(name, head))
        return head + sealer.seal(value.reveal(), head + name.encode())

    def open(self, name: str, sealed: bytes) -> Secret:
        """Return the value that was sealed under this name. Raises SealError."""
        head = sealed[: len(_MAGIC) + SALT_BYTES]
        if not sealed.startswith(_MAGIC) or len(head) != len(_MAGIC) + SALT_BYTES:
            raise SealError(f"the sealed value {name!r} is damaged, or a later release of Tallow wrote it")
        opener = RecordOpener(Suite.AES_256_GCM, self._secret(name, head))
        try:
            return Secret(opener.open(sealed[len(head) :], head + name.encode()))
        except AuthenticationError:
            raise SealError(
                f"the sealed value {name!r} does not open with this key: one of them is damaged or of another store"
            ) from None

    def _secret(self, name: str, head: bytes) -> Secret:
        info = b"tallow/1 store\0" + name.encode()
        return hkdf_expand(hkdf_extract(head[len(_MAGIC) :], self._key), info, SECRET_BYTES)


def load_key(path: Path) -> Secret:
    """Return the store's key from its file.

    Raises FileNotFoundError if there is none, KeyFileError if it is damaged or others could read it.
    """
    try:
        data, private = read_secret_file(path, _KEY_FILE_BYTES)
    except LocationError as error:
        raise KeyFileError(str(error), hints=(_RESTORE,)) from error
    if not private:
        raise KeyFileError(
            f"the key file {str(path)!r} may be read by others than you, or is a link",
            hints=(
                f"if nobody else saw it: chmod 600 {path}",
                "if somebody did, move it away with the database",
            ),
        )
    prefix, _, rest = data.decode("ascii", "replace").removesuffix("\n").partition(" ")
    digits, _, check = rest.partition(" ")
    try:
        key = bytes.fromhex(digits)
    except ValueError:
        key = b""
    # `fromhex` passes over white space, which is damage here.
    if (
        prefix != _KEY_PREFIX
        or len(key) != KEY_BYTES
        or digits.lower() != key.hex()
        or check != _check_digits(key)
    ):
        # Without a cause: a traceback of it would show the file.
        raise KeyFileError(f"the key file {str(path)!r} is damaged", hints=(_RESTORE,)) from None
    return Secret(key)


def load_or_create_key(path: Path) -> Secret:
    """Return the store's key, made with mode 0600 if there is none; processes that race get the same one.

    Raises KeyFileError and LocationError. Ask first whether anything is sealed already: a new key opens none.
    """
    try:
        return load_key(path)
    except FileNotFoundError:
        pass
    make_private_directory(path.parent)
    key = secrets.token_bytes(KEY_BYTES)
    make_private_file(path, f"{_KEY_PREFIX} {key.hex()} {_check_digits(key)}\n".encode())
    try:
        return load_key(path)
    except FileNotFoundError:
        raise KeyFileError(f"the key file {str(path)!r} was removed while it was being made") from None


def _check_digits(key: bytes) -> str:
    """Return eight digits that show a damaged key for what it is, before anything fails to open."""
    return derive_key("tallow/1 store key check", key, _CHECK_DIGITS // 2).hex()

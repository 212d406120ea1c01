"""Errors of tallow_store: one tree, a stable code for each class, a sentence and a next step.

    StoreError
    |-- MisuseError              misuse            the caller broke this API's rules
    |-- LocationError            store_location    a directory or file cannot be used, or is not private
    |-- ConfigError              bad_config        the configuration file says something that is no setting
    |-- DatabaseError            store_database    the database cannot be used
    |   |-- DatabaseBusyError    store_busy        another process held it for too long
    |   |-- DatabaseFullError    store_full        no space left; what was committed is kept
    |   |-- DatabaseDamagedError store_damaged     it is no database, or not one of Tallow's
    |   `-- NewerSchemaError     store_newer       a later release of Tallow wrote it
    |-- KeyFileError             store_key         the key file is missing, damaged or readable by others
    |-- SealError                store_sealed      a sealed value does not open with this key
    `-- RelayPinError            relay_changed     a relay would be remembered otherwise than before

No sentence holds a secret.
"""

__all__ = [
    "ConfigError",
    "DatabaseBusyError",
    "DatabaseDamagedError",
    "DatabaseError",
    "DatabaseFullError",
    "KeyFileError",
    "LocationError",
    "MisuseError",
    "NewerSchemaError",
    "RelayPinError",
    "SealError",
    "StoreError",
]


class StoreError(Exception):
    """Base of every error of this package.

    `code` is stable and meant for programs, `str()` is one sentence for people, `hints` are next steps, and
    `retryable` says whether the same call may succeed when it is simply made again.
    """

    code: str = "store"
    default_hints: tuple[str, ...] = ()
    retryable: bool = False

    def __init__(self, sentence: str, *, hints: tuple[str, ...] | None = None) -> None:
        super().__init__(sentence)
        self.hints: tuple[str, ...] = self.default_hints if hints is None else hints


class MisuseError(StoreError):
    """The caller broke this API's rules."""

    code = "misuse"


class LocationError(StoreError):
    """A directory or file of ours cannot be made, read or kept private."""

    code = "store_location"
    default_hints = ("set TALLOW_HOME to a directory of your own",)


class ConfigError(StoreError):
    """The configuration file cannot be read, or says something that is no setting."""

    code = "bad_config"
    default_hints = ("correct the file, or remove it to use the defaults",)


class DatabaseError(StoreError):
    """The database cannot be used."""

    code = "store_database"
    default_hints = ("check the permissions of the directory and its disk",)


class DatabaseBusyError(DatabaseError):
    """Another process held the database for too long."""

    code = "store_busy"
    default_hints = ("try again; if it stays so, look for a Tallow process that hangs",)
    retryable = True


class DatabaseFullError(DatabaseError):
    """There is no space left to write; what was committed before is kept."""

    code = "store_full"
    default_hints = ("free some space on that disk",)


class DatabaseDamagedError(DatabaseError):
    """The file is no database, or not one of Tallow's."""

    code = "store_damaged"
    default_hints = (
        "restore it from a backup, or move it away: known relays and the identity in it are lost then",
    )


class NewerSchemaError(DatabaseError):
    """A later release of Tallow wrote this database; nothing was changed."""

    code = "store_newer"
    default_hints = ("update Tallow, or set TALLOW_HOME to another directory",)


class KeyFileError(StoreError):
    """The key file is missing, damaged, or readable by others. No new key was made."""

    code = "store_key"


class SealError(StoreError):
    """A sealed value does not open: it or the key is damaged, or they do not belong together."""

    code = "store_sealed"
    default_hints = ("restore the database and the key file from the same backup",)


class RelayPinError(StoreError):
    """A relay was remembered with another key or another kind of check; what is remembered stays."""

    code = "relay_changed"
    default_hints = ("ask the relay's operator whether its key was replaced before you trust it again",)

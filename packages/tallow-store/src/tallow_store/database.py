"""The one database: SQLite in WAL mode, its schema, and the migrations that lead to it.

Safe with several processes and a kill at any point: a migration is one transaction together with the number
that says it was done, and every commit is on the device when it returns. sqlite3 is imported when the first
database is opened (5 ms).
"""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tallow_store.errors import (
    DatabaseBusyError,
    DatabaseDamagedError,
    DatabaseError,
    DatabaseFullError,
    NewerSchemaError,
    StoreError,
)
from tallow_store.locations import make_private_directory, repair_file

if TYPE_CHECKING:
    import sqlite3

Value = int | str | bytes | None

APPLICATION_ID = int.from_bytes(b"TLW1", "big")

SCHEMA_VERSION = 2
"""The schema that this release writes; schema/ holds one file of SQL for each step to it."""

BUSY_TIMEOUT_S = 5.0
"""How long a call waits for another process. Transactions here take milliseconds."""


class Database:
    """An open database. One thread; calls may not overlap."""

    def __init__(self, path: Path, connection: "sqlite3.Connection") -> None:
        self._path = path
        self._connection = connection

    @classmethod
    def open(cls, path: Path, migrations: Sequence[str] | None = None) -> Self:
        """Open the database, made with mode 0600 in a directory 0700 if it is missing, on the present schema.

        `migrations` replaces the package's own, for tests. Raises NewerSchemaError, DatabaseDamagedError,
        DatabaseBusyError, DatabaseFullError, DatabaseError and LocationError.
        """
        import sqlite3

        make_private_directory(path.parent)
        _make_file(path)
        repair_file(path)
        with _translated(path):
            connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            with _translated(path):
                _prepare(connection, path, migrations)
        except StoreError:
            connection.close()
            raise
        return cls(path, connection)

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def execute(self, statement: str, values: Sequence[Value] = ()) -> list[tuple[Value, ...]]:
        """Run one statement and return the rows that it gives. Raises DatabaseError."""
        with _translated(self._path):
            return self._connection.execute(statement, values).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Make what is done inside one transaction: committed at the end, undone if anything is raised.

        Other writers wait from its start. Transactions do not nest.
        """
        with _translated(self._path), _transaction(self._connection):
            yield

    def close(self) -> None:
        """Close it; a second call does nothing."""
        with _translated(self._path):
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def packaged_migrations() -> tuple[str, ...]:
    """Return the SQL of each step, in order: file 0001 leads from an empty database to schema 1."""
    from importlib.resources import files

    found = sorted(
        (file for file in files("tallow_store").joinpath("schema").iterdir() if file.name.endswith(".sql")),
        key=lambda file: file.name,
    )
    return tuple(file.read_text("utf-8") for file in found)


def _make_file(path: Path) -> None:
    """Make an empty file of mode 0600; SQLite's own would have the umask's mode for a moment."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
    try:
        os.close(os.open(path, flags, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise DatabaseError(f"cannot create the database {str(path)!r}: {error.strerror}") from error


def _prepare(connection: "sqlite3.Connection", path: Path, migrations: Sequence[str] | None) -> None:
    """Check whose database it is, set the modes of this connection, and migrate."""
    latest = SCHEMA_VERSION if migrations is None else len(migrations)
    # One read of all three: another process may be making the database between two.
    with _transaction(connection, "DEFERRED"):
        version = _number(connection, "PRAGMA user_version")
        application = _number(connection, "PRAGMA application_id")
        tables = _number(connection, "SELECT count(*) FROM sqlite_master")
    if (application != APPLICATION_ID) if version else tables:
        raise DatabaseDamagedError(f"{str(path)!r} is a database of another program")
    _refuse_newer(version, latest, path)
    _switch_to_wal(connection)
    # FULL: a commit is on the device when it returns, also in WAL mode. trusted_schema: the file is data only.
    for setting in ("synchronous = FULL", "foreign_keys = ON", "trusted_schema = OFF"):
        connection.execute(f"PRAGMA {setting}")
    if version < latest:
        _migrate(connection, path, packaged_migrations() if migrations is None else migrations)


def _switch_to_wal(connection: "sqlite3.Connection") -> None:
    """Turn on WAL. The switch needs the file alone and does not wait for it, so the waiting is done here."""
    import sqlite3

    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _migrate(connection: "sqlite3.Connection", path: Path, migrations: Sequence[str]) -> None:
    """Take each step in a transaction of its own, unless another process has taken it meanwhile."""
    for step, script in enumerate(migrations, start=1):
        with _transaction(connection):
            version = _number(connection, "PRAGMA user_version")
            _refuse_newer(version, len(migrations), path)
            if version >= step:
                continue
            for statement in _statements(script):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {step}")


def _refuse_newer(version: int, latest: int, path: Path) -> None:
    if version > latest:
        raise NewerSchemaError(
            f"{str(path)!r} was written by a later release of Tallow (schema {version}; this one knows {latest})"
        )


def _statements(script: str) -> Iterator[str]:
    """Split a script where SQLite says that a statement is whole; `executescript` would commit by itself."""
    import sqlite3

    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""


@contextlib.contextmanager
def _transaction(connection: "sqlite3.Connection", kind: str = "IMMEDIATE") -> Iterator[None]:
    connection.execute(f"BEGIN {kind}")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _number(connection: "sqlite3.Connection", statement: str) -> int:
    return int(connection.execute(statement).fetchone()[0])


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn sqlite3's errors into ours."""
    import sqlite3

    try:
        yield
    except sqlite3.Error as error:
        number = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        name = repr(str(path))
        if number in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise DatabaseBusyError(f"another process has held the database {name} for too long") from error
        if number == sqlite3.SQLITE_FULL:
            raise DatabaseFullError(f"no space left to write the database {name}") from error
        if number in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            raise DatabaseDamagedError(f"the database {name} is damaged: {error}") from error
        raise DatabaseError(f"the database {name} cannot be used: {error}") from error

"""The database: modes, migrations, several processes, a kill at any point, a full disk."""

import contextlib
import os
import sqlite3
import stat

import pytest
from tallow_store import (
    SCHEMA_VERSION,
    Database,
    DatabaseBusyError,
    DatabaseDamagedError,
    DatabaseError,
    DatabaseFullError,
    NewerSchemaError,
)
from tallow_store import database as database_module
from tallow_store.database import APPLICATION_ID, packaged_migrations

from tests.store.children import run, run_together, started

FURTHER = "CREATE TABLE more (x);\nINSERT INTO more VALUES (1);\nINSERT INTO more VALUES (2);\n"


def version_of(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]


def test_a_new_database_is_private_on_the_present_schema_and_in_wal_mode(locations):
    before = os.umask(0)
    try:
        with Database.open(locations.database_file) as database:
            (mode,), (synchronous,) = (
                database.execute("PRAGMA journal_mode")[0],
                database.execute("PRAGMA synchronous")[0],
            )
            database.execute("INSERT INTO sealed_value VALUES ('a', x'00')")
            modes = {stat.S_IMODE(path.stat().st_mode) for path in locations.data_dir.iterdir()}
    finally:
        os.umask(before)
    assert (mode, synchronous) == ("wal", 2)
    assert modes == {0o600}
    assert stat.S_IMODE(locations.data_dir.stat().st_mode) == 0o700
    assert version_of(locations.database_file) == SCHEMA_VERSION


def test_a_lax_database_file_is_repaired(locations):
    Database.open(locations.database_file).close()
    locations.database_file.chmod(0o644)
    Database.open(locations.database_file).close()
    assert stat.S_IMODE(locations.database_file.stat().st_mode) == 0o600


def test_the_files_of_sql_lead_to_the_schema_that_this_release_writes():
    assert len(packaged_migrations()) == SCHEMA_VERSION


def test_the_schema_refuses_rows_that_make_no_sense(database):
    pin = b"\0" * 32
    for row in [
        ("h", 0, "spki", pin, 0),
        ("h", 65536, "spki", pin, 0),
        ("h", "1x", "spki", pin, 0),
        ("h", 1, "other", pin, 0),
        ("h", 1, "spki", None, 0),
        ("h", 1, "spki", b"short", 0),
        ("h", 1, "authority", pin, 0),
        (None, 1, "authority", None, 0),
    ]:
        with pytest.raises(DatabaseError):
            database.execute("INSERT INTO known_relay VALUES (?, ?, ?, ?, ?)", row)


def test_a_transaction_is_kept_whole_or_undone_whole(database):
    def fail_half_way():
        with database.transaction():
            database.execute("INSERT INTO sealed_value VALUES ('a', x'00')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    with database.transaction():
        database.execute("INSERT INTO sealed_value VALUES ('b', x'00')")
    assert database.execute("SELECT name FROM sealed_value") == [("b",)]


def test_a_newer_schema_is_refused_and_left_alone(locations):
    Database.open(locations.database_file).close()
    with contextlib.closing(sqlite3.connect(locations.database_file)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = locations.database_file.read_bytes()
    with pytest.raises(NewerSchemaError, match="later release") as caught:
        Database.open(locations.database_file)
    assert "update Tallow" in caught.value.hints[0]
    assert locations.database_file.read_bytes() == before


@pytest.mark.parametrize("version", [0, 1])
def test_a_database_of_another_program_is_refused_and_left_alone(locations, version):
    locations.data_dir.mkdir()
    with contextlib.closing(sqlite3.connect(locations.database_file)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
        connection.execute(f"PRAGMA user_version = {version}")
    before = locations.database_file.read_bytes()
    with pytest.raises(DatabaseDamagedError, match="another program"):
        Database.open(locations.database_file)
    assert locations.database_file.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_left_alone(locations):
    locations.data_dir.mkdir()
    locations.database_file.write_bytes(b"this is no database " * 1000)
    with pytest.raises(DatabaseDamagedError, match="damaged"):
        Database.open(locations.database_file)
    assert locations.database_file.read_bytes().startswith(b"this is no database")


def test_a_damaged_database_is_one_clear_error(locations):
    with Database.open(locations.database_file) as database:
        database.execute("INSERT INTO sealed_value VALUES ('a', zeroblob(100000))")
    with locations.database_file.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 20_000)

    def read_all():
        with Database.open(locations.database_file) as database:
            database.execute("SELECT * FROM sealed_value")
            database.execute("SELECT * FROM known_relay")

    with pytest.raises(DatabaseDamagedError):
        read_all()


def test_a_directory_in_the_databases_place_is_one_clear_error(locations):
    locations.database_file.mkdir(parents=True)
    with pytest.raises(DatabaseError, match="cannot be used"):
        Database.open(locations.database_file)


def test_a_full_disk_is_one_clear_error_and_keeps_what_was_committed(database):
    database.execute("INSERT INTO sealed_value VALUES ('kept', x'00')")
    database.execute("PRAGMA max_page_count = 10")

    def fill():
        with database.transaction():
            database.execute("INSERT INTO sealed_value VALUES ('lost', x'00')")
            database.execute("INSERT INTO sealed_value VALUES ('big', zeroblob(1000000))")

    with pytest.raises(DatabaseFullError):
        fill()
    assert database.execute("SELECT name FROM sealed_value") == [("kept",)]


def test_a_database_held_by_another_process_is_busy_after_the_time_out(locations, monkeypatch):
    Database.open(locations.database_file).close()
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.05)
    holder = (
        "import sys\nfrom pathlib import Path\nfrom tallow_store import Database\n"
        "database = Database.open(Path(sys.argv[1]))\n"
        "with database.transaction():\n    print('held', flush=True)\n    sys.stdin.readline()\n"
    )
    with started(holder, locations.database_file) as child:
        assert child.stdout.readline() == "held\n"
        with Database.open(locations.database_file) as database:
            assert database.execute("SELECT count(*) FROM known_relay") == [(0,)]
            with pytest.raises(DatabaseBusyError, match="for too long") as caught, database.transaction():
                pass
            assert caught.value.retryable


def test_a_migration_keeps_the_data_and_runs_once(locations):
    with Database.open(locations.database_file) as database:
        database.execute("INSERT INTO sealed_value VALUES ('a', x'00')")
    steps = (*packaged_migrations(), FURTHER)
    for _ in range(2):
        with Database.open(locations.database_file, steps) as database:
            assert database.execute("SELECT name FROM sealed_value") == [("a",)]
            assert database.execute("SELECT x FROM more") == [(1,), (2,)]
    assert version_of(locations.database_file) == SCHEMA_VERSION + 1


def test_a_failed_migration_changes_nothing_and_can_be_repaired(locations):
    broken = FURTHER + "INSERT INTO missing VALUES (1);\n"
    with pytest.raises(DatabaseError):
        Database.open(locations.database_file, (*packaged_migrations(), broken))
    assert version_of(locations.database_file) == SCHEMA_VERSION
    with Database.open(locations.database_file, (*packaged_migrations(), FURTHER)) as database:
        assert database.execute("SELECT x FROM more") == [(1,), (2,)]


def test_processes_that_open_a_new_database_at_once_all_get_it(locations):
    script = (
        "from pathlib import Path\nfrom tallow_store import Database\ngo()\n"
        "with Database.open(Path(sys.argv[1])) as database:\n"
        "    print(database.execute('PRAGMA user_version')[0][0])\n"
    )
    outputs = run_together(script, locations.database_file)
    assert outputs == [f"{SCHEMA_VERSION}\n"] * 8


def test_processes_that_write_at_once_lose_nothing(locations):
    script = (
        "import os\nfrom pathlib import Path\nfrom tallow_store import Database, KnownRelayStore\ngo()\n"
        "with Database.open(Path(sys.argv[1])) as database:\n"
        "    relays = KnownRelayStore(database)\n"
        "    for number in range(1, 21):\n"
        "        relays.remember(f'h{os.getpid()}', number, 'authority', None)\n"
    )
    run_together(script, locations.database_file, processes=4)
    with Database.open(locations.database_file) as database:
        assert database.execute("SELECT count(*) FROM known_relay") == [(80,)]


# Kills itself before the n-th statement that SQLite runs, for the n given.
KILLED_AT = """
import os, signal, sqlite3, sys
from pathlib import Path
from tallow_store import Database
from tallow_store.database import packaged_migrations
left = int(sys.argv[2])
def count(statement):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
connect = sqlite3.connect
def traced(*arguments, **options):
    connection = connect(*arguments, **options)
    connection.set_trace_callback(count)
    return connection
sqlite3.connect = traced
further = "CREATE TABLE more (x);\\nINSERT INTO more VALUES (1);\\nINSERT INTO more VALUES (2);\\n"
Database.open(Path(sys.argv[1]), (*packaged_migrations(), further)).close()
print("whole")
"""


FIRST = {"known_relay", "sealed_value"}
SECOND = FIRST | {"partial_place", "source_digests"}
TABLES = [set(), FIRST, SECOND, SECOND | {"more"}]


def test_a_kill_before_any_statement_of_a_migration_leaves_one_schema_or_the_other(tmp_path):
    ends = set()
    for point in range(1, 40):
        path = tmp_path / str(point) / "tallow.db"
        child = run(KILLED_AT, path, point)
        ends.add(child.returncode)
        if child.stdout == "whole\n":
            break
        version = version_of(path)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            tables = {
                name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            }
            assert connection.execute("PRAGMA application_id").fetchone() == (
                APPLICATION_ID if version else 0,
            )
        assert tables == TABLES[version]
        with Database.open(path, (*packaged_migrations(), FURTHER)) as database:
            assert database.execute("SELECT x FROM more") == [(1,), (2,)]
            assert database.execute("PRAGMA integrity_check") == [("ok",)]
    assert ends == {-9, 0}


WRITER = """
import sys
from pathlib import Path
from tallow_store import Database, KnownRelayStore
with Database.open(Path(sys.argv[1])) as database:
    relays = KnownRelayStore(database)
    for number in range(1, 60_000):
        relays.remember("h", number, "spki", number.to_bytes(32, "big"))
        print(number, flush=True)
"""


@pytest.mark.parametrize("after", [1, 7, 50])
def test_a_kill_while_writing_loses_nothing_that_was_committed(locations, after):
    with started(WRITER, locations.database_file) as child:
        for _ in range(after):
            last = int(child.stdout.readline())
        child.kill()
        rest = child.stdout.read().splitlines()
    last = int(rest[-1]) if rest else last
    with Database.open(locations.database_file) as database:
        ports = [port for (port,) in database.execute("SELECT port FROM known_relay ORDER BY port")]
        assert database.execute("PRAGMA integrity_check") == [("ok",)]
    assert ports[:last] == list(range(1, last + 1))
    assert len(ports) <= last + 1

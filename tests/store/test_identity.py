"""The identity and what seals it: made once, never silently made anew."""

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_crypto import Secret
from tallow_store import (
    Database,
    KeyFileError,
    Locations,
    SealedBox,
    SealError,
    load_key,
    load_or_create_identity,
    load_or_create_key,
)

from tests.store.children import run, run_together

KEY = Secret(bytes(range(64)))


def fingerprint(locations):
    return str(load_or_create_identity(locations).public_key.fingerprint)


def counts(locations):
    with Database.open(locations.database_file) as database:
        return database.execute("SELECT count(*) FROM sealed_value")


def test_the_first_use_makes_an_identity_and_every_later_one_finds_it(locations):
    first = fingerprint(locations)
    assert fingerprint(locations) == first
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in locations.data_dir.iterdir()}
    assert modes == {"store.key": 0o600, "tallow.db": 0o600}


def test_the_places_are_found_by_the_environment(locations, monkeypatch):
    monkeypatch.setenv("TALLOW_HOME", str(locations.data_dir))
    assert str(load_or_create_identity().public_key.fingerprint) == fingerprint(locations)


def test_an_open_database_can_be_shared(locations, database):
    made = load_or_create_identity(locations, database=database)
    assert str(made.public_key.fingerprint) == fingerprint(locations)


def test_the_identity_signs(locations):
    identity = load_or_create_identity(locations)
    identity.public_key.verify(b"message", load_or_create_identity(locations).sign(b"message"))


def test_no_file_holds_the_seed(locations):
    seed = load_or_create_identity(locations).seed.reveal()
    key = load_key(locations.key_file).reveal()
    found = b"".join(path.read_bytes() for path in locations.data_dir.iterdir())
    for secret in (seed[:32], seed[32:]):
        assert secret not in found
        assert secret.hex().encode() not in found
    assert key not in locations.database_file.read_bytes()


def damaged_keys():
    def cut(data):
        return data[:-10]

    def other_digit(data):
        position = 40
        return (
            data[:position] + (b"0" if data[position : position + 1] != b"0" else b"1") + data[position + 1 :]
        )

    return [
        cut,
        other_digit,
        lambda data: b"",
        lambda data: data + b"\n",
        lambda data: data.replace(b"key-1", b"key-2"),
        lambda data: b"\xff" * len(data),
        lambda data: data.replace(b" ", b"", 1),
    ]


@pytest.mark.parametrize("damage", damaged_keys())
def test_a_damaged_key_file_is_one_clear_error_and_never_a_new_identity(locations, damage):
    first = fingerprint(locations)
    whole = locations.key_file.read_bytes()
    locations.key_file.write_bytes(damage(whole))
    with pytest.raises(KeyFileError) as caught:
        load_or_create_identity(locations)
    assert str(locations.key_file) in str(caught.value)
    assert caught.value.hints
    locations.key_file.write_bytes(whole)
    assert fingerprint(locations) == first


def test_the_wrong_key_file_is_one_clear_error_and_never_a_new_identity(locations, tmp_path):
    first = fingerprint(locations)
    whole = locations.key_file.read_bytes()
    load_or_create_key(tmp_path / "other" / "store.key")
    locations.key_file.write_bytes((tmp_path / "other" / "store.key").read_bytes())
    with pytest.raises(SealError, match="does not open") as caught:
        load_or_create_identity(locations)
    assert "same backup" in caught.value.hints[0]
    assert counts(locations) == [(1,)]
    locations.key_file.write_bytes(whole)
    assert fingerprint(locations) == first


def test_a_missing_key_file_is_one_clear_error_and_no_new_key(locations):
    fingerprint(locations)
    locations.key_file.unlink()
    with pytest.raises(KeyFileError, match="is missing"):
        load_or_create_identity(locations)
    assert not locations.key_file.exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o666])
def test_a_key_file_that_others_may_read_is_refused(locations, mode):
    fingerprint(locations)
    locations.key_file.chmod(mode)
    with pytest.raises(KeyFileError, match="read by others") as caught:
        load_or_create_identity(locations)
    assert "chmod 600" in caught.value.hints[0]
    assert stat.S_IMODE(locations.key_file.stat().st_mode) == mode


def test_a_key_file_that_is_a_link_is_refused(locations, tmp_path):
    fingerprint(locations)
    locations.key_file.rename(tmp_path / "moved")
    locations.key_file.symlink_to(tmp_path / "moved")
    with pytest.raises(KeyFileError):
        load_or_create_identity(locations)


def test_a_key_file_that_is_a_directory_is_refused(locations):
    fingerprint(locations)
    locations.key_file.unlink()
    locations.key_file.mkdir()
    with pytest.raises(KeyFileError):
        load_or_create_identity(locations)


@pytest.mark.parametrize(
    "damage", ["x'00'", "zeroblob(117)", "substr(value, 1, length(value) - 1)", "substr(value, 2)"]
)
def test_a_damaged_identity_is_one_clear_error_and_never_a_new_one(locations, damage):
    fingerprint(locations)
    with Database.open(locations.database_file) as database:
        database.execute(f"UPDATE sealed_value SET value = {damage}")
    with pytest.raises(SealError):
        load_or_create_identity(locations)
    assert counts(locations) == [(1,)]


def test_a_sealed_value_of_the_wrong_length_is_no_identity(locations):
    box = SealedBox(load_or_create_key(locations.key_file))
    with Database.open(locations.database_file) as database:
        database.execute(
            "INSERT INTO sealed_value VALUES ('identity', ?)", (box.seal("identity", Secret(b"short")),)
        )
    with pytest.raises(SealError, match="cannot be used"):
        load_or_create_identity(locations)


def test_a_key_without_an_identity_is_used_not_replaced(locations):
    key = load_or_create_key(locations.key_file)
    fingerprint(locations)
    assert load_key(locations.key_file) == key


def test_processes_that_create_at_once_end_with_one_identity(locations):
    script = (
        "from pathlib import Path\nfrom tallow_store import Locations, load_or_create_identity\n"
        "home = Path(sys.argv[1])\ngo()\n"
        "print(load_or_create_identity(Locations(home, home, home)).public_key.fingerprint)\n"
    )
    outputs = run_together(script, locations.data_dir)
    assert set(outputs) == {fingerprint(locations) + "\n"}
    assert counts(locations) == [(1,)]


# Kills itself before the n-th call that opens, links, removes or syncs a file, or runs a statement.
KILLED_AT = """
import os, signal, sqlite3, sys
from pathlib import Path
from tallow_store import Locations, load_or_create_identity
left = int(sys.argv[2])
def count(*_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
def counted(call):
    def wrapper(*arguments, **options):
        count()
        return call(*arguments, **options)
    return wrapper
for name in ("open", "link", "unlink", "fsync", "mkdir"):
    setattr(os, name, counted(getattr(os, name)))
connect = sqlite3.connect
def traced(*arguments, **options):
    connection = connect(*arguments, **options)
    connection.set_trace_callback(count)
    return connection
sqlite3.connect = traced
home = Path(sys.argv[1])
print(load_or_create_identity(Locations(home, home, home)).public_key.fingerprint)
"""


def test_a_kill_at_any_point_of_the_first_use_leaves_a_store_that_works(tmp_path):
    for point in range(1, 100):
        home = tmp_path / str(point)
        child = run(KILLED_AT, home, point)
        locations = Locations(home, home, home)
        first = fingerprint(locations)
        assert fingerprint(locations) == first
        if child.returncode == 0:
            assert child.stdout == first + "\n"
            assert point > 15
            return
        assert child.returncode == -9
    pytest.fail("the first use never ended")


def test_without_the_directorys_rights_one_clear_error(locations):
    locations.data_dir.parent.joinpath("home").write_bytes(b"a file")
    from tallow_store import StoreError

    with pytest.raises(StoreError, match="not a directory"):
        load_or_create_identity(locations)


@given(name=st.text(max_size=20), value=st.binary(max_size=200))
def test_what_is_sealed_opens_under_its_own_name(name, value):
    box = SealedBox(KEY)
    sealed = box.seal(name, Secret(value))
    assert box.open(name, sealed).reveal() == value
    assert len(sealed) == len(value) + 53
    with pytest.raises(SealError):
        box.open(name + "x", sealed)


@given(st.data())
def test_any_changed_byte_keeps_a_sealed_value_closed(data):
    box = SealedBox(KEY)
    sealed = bytearray(box.seal("n", Secret(b"value")))
    position = data.draw(st.integers(0, len(sealed) - 1))
    sealed[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SealError):
        box.open("n", bytes(sealed))


@given(st.binary(max_size=80))
def test_arbitrary_bytes_do_not_open(data):
    with pytest.raises(SealError):
        SealedBox(KEY).open("n", data)


def test_the_same_value_is_sealed_differently_each_time():
    box = SealedBox(KEY)
    assert box.seal("n", Secret(b"v")) != box.seal("n", Secret(b"v"))


def test_another_key_opens_nothing():
    sealed = SealedBox(KEY).seal("n", Secret(b"v"))
    with pytest.raises(SealError):
        SealedBox(Secret(bytes(64))).open("n", sealed)


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_store_key_has_64_bytes(length):
    with pytest.raises(KeyFileError):
        SealedBox(Secret(bytes(length)))

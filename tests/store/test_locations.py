"""Where our files lie, and that they are private."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tallow_store import LocationError, Locations
from tallow_store import locations as locations_module
from tallow_store.locations import (
    make_private_directory,
    make_private_file,
    read_secret_file,
    repair_file,
    replace_private_file,
)


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_tallow_home_replaces_every_place(tmp_path):
    found = Locations.find({"TALLOW_HOME": str(tmp_path)})
    assert found == Locations(tmp_path, tmp_path, tmp_path)
    assert found.config_file == tmp_path / "config.toml"
    assert found.database_file == tmp_path / "tallow.db"
    assert found.key_file == tmp_path / "store.key"


def test_a_relative_tallow_home_does_not_move_with_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Locations.find({"TALLOW_HOME": "h"}).data_dir == tmp_path / "h"


def test_the_environment_is_asked_unless_one_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("TALLOW_HOME", str(tmp_path / "h"))
    assert Locations.find().state_dir == tmp_path / "h"


@pytest.mark.parametrize("environment", [{}, {"TALLOW_HOME": ""}])
def test_without_tallow_home_the_platform_decides(environment, monkeypatch, tmp_path):
    for variable in ("CONFIG", "DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{variable}_HOME", str(tmp_path / variable))
    found = Locations.find(environment)
    expected = [tmp_path / variable / "tallow" for variable in ("CONFIG", "DATA", "STATE")]
    assert [found.config_dir, found.data_dir, found.state_dir] == expected


def test_finding_creates_nothing(tmp_path):
    Locations.find({"TALLOW_HOME": str(tmp_path / "new")})
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_made_private_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        make_private_directory(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "a" / "b") == 0o700


def test_a_lax_directory_is_repaired(tmp_path):
    (tmp_path / "lax").mkdir()
    (tmp_path / "lax").chmod(0o755)
    make_private_directory(tmp_path / "lax")
    assert mode_of(tmp_path / "lax") == 0o700


def test_a_shared_directory_is_refused_and_left_alone(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    with pytest.raises(LocationError, match="shared with other users"):
        make_private_directory(tmp_path / "shared")
    assert mode_of(tmp_path / "shared") == 0o1777


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_another_users_directory_or_file_is_refused(tmp_path):
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 65534, 65534)
    with pytest.raises(LocationError, match="another user") as caught:
        make_private_directory(tmp_path / "theirs")
    assert "TALLOW_HOME" in caught.value.hints[0]
    (tmp_path / "f").write_bytes(b"")
    os.chown(tmp_path / "f", 65534, 65534)
    with pytest.raises(LocationError, match="another user"):
        repair_file(tmp_path / "f")


def test_a_file_in_a_directorys_place_is_one_clear_error(tmp_path):
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(LocationError, match="is not a directory"):
        make_private_directory(tmp_path / "f")
    with pytest.raises(LocationError, match="Not a directory"):
        make_private_directory(tmp_path / "f" / "below")
    with pytest.raises(LocationError):
        make_private_directory(Path("a\0b"))


def test_a_private_file_is_whole_and_never_replaced(tmp_path):
    before = os.umask(0)
    try:
        assert make_private_file(tmp_path / "f", b"first")
        assert not make_private_file(tmp_path / "f", b"second")
    finally:
        os.umask(before)
    assert (tmp_path / "f").read_bytes() == b"first"
    assert mode_of(tmp_path / "f") == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_without_hard_links_a_private_file_is_still_never_replaced(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(1, "no hard links here")

    monkeypatch.setattr(os, "link", refused)
    assert make_private_file(tmp_path / "f", b"first")
    assert not make_private_file(tmp_path / "f", b"second")
    assert (tmp_path / "f").read_bytes() == b"first"
    assert mode_of(tmp_path / "f") == 0o600


def test_a_private_file_in_a_missing_directory_is_one_clear_error(tmp_path):
    with pytest.raises(LocationError, match="cannot write"):
        make_private_file(tmp_path / "no" / "f", b"")
    with pytest.raises(LocationError, match="cannot write"):
        replace_private_file(tmp_path / "no" / "f", b"")


def test_a_replaced_file_is_private_and_leaves_nothing_beside_it(tmp_path):
    (tmp_path / "f").write_bytes(b"old")
    replace_private_file(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"new"
    assert mode_of(tmp_path / "f") == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_lax_file_is_repaired_and_a_missing_one_left_missing(tmp_path):
    (tmp_path / "f").write_bytes(b"")
    (tmp_path / "f").chmod(0o664)
    repair_file(tmp_path / "f")
    repair_file(tmp_path / "missing")
    assert mode_of(tmp_path / "f") == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_secret_file_longer_than_its_limit_is_refused(tmp_path):
    (tmp_path / "f").write_bytes(b"12345")
    assert read_secret_file(tmp_path / "f", 5)[0] == b"12345"
    with pytest.raises(LocationError, match="longer than"):
        read_secret_file(tmp_path / "f", 4)


def test_without_posix_modes_nothing_is_repaired(tmp_path, monkeypatch):
    (tmp_path / "f").write_bytes(b"")
    (tmp_path / "f").chmod(0o644)
    monkeypatch.setattr(locations_module.os, "name", "nt")
    repair_file(tmp_path / "f")
    monkeypatch.undo()
    assert mode_of(tmp_path / "f") == 0o644


def test_importing_the_package_imports_neither_sqlite_nor_platformdirs():
    heavy = ["sqlite3", "platformdirs", "tomllib", "tomli_w", "cryptography", "asyncio", "socket"]
    script = f"import sys, tallow_store; print([name for name in {heavy} if name in sys.modules])"
    child = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert child.stdout == "[]\n"

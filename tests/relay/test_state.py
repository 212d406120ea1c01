"""The state directory: private, and its certificate made once and kept."""

import ssl
import stat
from pathlib import Path

import pytest
from tallow_relay.errors import StateError
from tallow_relay.state import CERTIFICATE_FILE, default_state_directory, open_state


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_certificate_is_made_once_and_kept(tmp_path: Path) -> None:
    first = open_state(tmp_path / "deep" / "relay")
    again = open_state(tmp_path / "deep" / "relay")
    assert first.spki_sha256 == again.spki_sha256
    assert first.certificate_der == again.certificate_der
    assert first.private_key_pem == again.private_key_pem


def test_directory_and_key_are_private_and_nothing_else_is_left(tmp_path: Path) -> None:
    state = tmp_path / "relay"
    open_state(state)
    assert (mode(state), mode(state / CERTIFICATE_FILE)) == (0o700, 0o600)
    assert [path.name for path in state.iterdir()] == [CERTIFICATE_FILE]


def test_an_empty_directory_that_is_open_is_closed(tmp_path: Path) -> None:
    state = tmp_path / "relay"
    state.mkdir(mode=0o755)
    state.chmod(0o755)
    open_state(state)
    assert mode(state) == 0o700


def test_an_open_directory_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    tmp_path.chmod(0o755)
    with pytest.raises(StateError, match="open to other users"):
        open_state(tmp_path)
    assert mode(tmp_path) == 0o755


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "relay"
    open_state(state)
    (state / CERTIFICATE_FILE).chmod(0o640)
    with pytest.raises(StateError, match="open to other users"):
        open_state(state)


@pytest.mark.parametrize("damage", [b"", b"garbage", b"\xff" * 99])
def test_a_damaged_file_is_an_error_and_never_replaced(tmp_path: Path, damage: bytes) -> None:
    state = tmp_path / "relay"
    open_state(state)
    (state / CERTIFICATE_FILE).write_bytes(damage)
    with pytest.raises(StateError, match="no usable key"):
        open_state(state)
    assert (state / CERTIFICATE_FILE).read_bytes() == damage


def test_a_key_beside_the_certificate_of_another_is_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    key = open_state(one).private_key_pem.reveal()
    foreign = ssl.DER_cert_to_PEM_cert(open_state(other).certificate_der)
    (one / CERTIFICATE_FILE).write_bytes(key + foreign.encode())
    with pytest.raises(StateError, match="no usable key"):
        open_state(one)


def test_two_relays_that_start_at_once_share_the_first_certificate(tmp_path: Path, monkeypatch) -> None:
    from tallow_relay import state as module

    directory = tmp_path / "relay"
    make = module.generate_certificate
    winner = []

    def make_while_another_starts(name: str):
        monkeypatch.setattr(module, "generate_certificate", make)
        winner.append(open_state(directory))
        return make(name)

    monkeypatch.setattr(module, "generate_certificate", make_while_another_starts)
    assert open_state(directory).spki_sha256 == winner[0].spki_sha256
    assert [path.name for path in directory.iterdir()] == [CERTIFICATE_FILE]


def test_a_place_that_is_no_directory_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be used"):
        open_state(tmp_path / "file")


def test_tallow_home_decides_the_default_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLOW_HOME", str(tmp_path))
    assert default_state_directory() == tmp_path / "relay"
    monkeypatch.delenv("TALLOW_HOME")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert default_state_directory() == tmp_path / "state" / "tallow-relay"

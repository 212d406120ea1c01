"""Whole transfers between real processes: every path, then what stops one half-way."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from tests.e2e.kit import (
    WITHOUT_ROOT,
    assert_nothing_left,
    assert_only_partials_left,
    assert_same,
    described,
    local,
    make_source,
    needs_programs,
    stage,
    write_random,
)

__all__ = ["stage"]  # pytest finds the fixture by its name here

pytestmark = needs_programs

DIRECT = [("direct-tcp", "tcp", 64), ("direct-quic", "quic", 64)]
RELAYED = [("tcp", "tcp", 64), ("quic", "quic", 64), ("tcp", "quic", 64), ("quic", "tcp", 64)]


def finished(sender, receiver, seconds=100):
    codes = (receiver.end(seconds), sender.end(seconds))
    assert codes == (0, 0), (receiver.errors, sender.errors, receiver.raw[-2:], sender.raw[-2:])
    assert sender.events[-1]["event"] == receiver.events[-1]["event"] == "done"
    for name in ("files", "bytes"):
        assert sender.events[-1][name] == receiver.events[-1][name]


@pytest.mark.parametrize(("path", "transport", "mib"), DIRECT)
def test_everything_arrives_directly(stage, tmp_path, path, transport, mib):
    paths, out = make_source(tmp_path / "source", mib), tmp_path / "out"
    sender = stage.send(*paths, transport=transport)
    code = sender.wait_for("code")
    receiver = stage.receive(code["code"], out, peer=local(code), transport=transport)
    assert receiver.wait_for("connected")["path"] == path
    finished(sender, receiver)
    assert_same(tmp_path / "source", out)
    offer = next(event for event in receiver.events if event["event"] == "offer")
    assert offer["files"] == 2000 + 9 + 3
    assert len(offer["entries"]) == 1000


@pytest.mark.parametrize(("sends", "receives", "mib"), RELAYED)
def test_everything_arrives_through_the_relay(stage, tmp_path, sends, receives, mib):
    paths, out = make_source(tmp_path / "source", mib), tmp_path / "out"
    relay = stage.relay()
    sender = stage.send(*paths, transport=sends, relay=relay)
    code = sender.wait_for("code")
    assert code["peer"] is None
    receiver = stage.receive(code["code"], out, transport=receives, relay=relay)
    assert receiver.wait_for("connected")["path"] == f"relay-{receives}"
    assert sender.wait_for("connected")["path"] == f"relay-{sends}"
    finished(sender, receiver)
    assert_same(tmp_path / "source", out)


def test_one_folder_is_sent_under_its_own_name(stage, tmp_path):
    (tmp_path / "source" / "only").mkdir(parents=True)
    (tmp_path / "source" / "only" / "file").write_bytes(b"x")
    sender = stage.send(tmp_path / "source" / "only")
    code = sender.wait_for("code")
    finished(sender, stage.receive(code["code"], tmp_path / "out", peer=local(code)))
    assert_same(tmp_path / "source", tmp_path / "out")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("gib", [1, 4])
@pytest.mark.parametrize(
    ("sends", "receives", "relayed"),
    [("tcp", "tcp", False), ("quic", "quic", False)] + [(a, b, True) for a, b, _ in RELAYED],
)
def test_gigabytes_arrive_in_little_memory(stage, tmp_path, gib, sends, receives, relayed):
    (tmp_path / "source").mkdir()
    write_random(tmp_path / "source" / "big", gib << 10)
    relay = stage.relay() if relayed else None
    sender = stage.send(tmp_path / "source" / "big", transport=sends, relay=relay)
    code = sender.wait_for("code")
    receiver = stage.receive(
        code["code"], tmp_path / "out", peer=local(code), transport=receives, relay=relay
    )
    total = gib << 30
    receiver.wait_for("progress", 800, bytes=total)
    for process in stage.processes:
        process.measure()
    finished(sender, receiver)
    compared = ["cmp", tmp_path / "source" / "big", tmp_path / "out" / "big"]
    assert subprocess.run(compared, check=False, timeout=100).returncode == 0
    peaks = [process.peak_kib // 1024 for process in stage.processes]
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "source" / "big").unlink()
    assert max(peaks) < 200, peaks


@pytest.mark.parametrize(("sends", "receives"), [("tcp", "quic"), ("quic", "tcp")])
def test_differing_transports_without_a_relay_are_one_clear_error(stage, tmp_path, sends, receives):
    (tmp_path / "file").write_bytes(b"x")
    sender = stage.send(tmp_path / "file", transport=sends)
    code = sender.wait_for("code")
    receiver = stage.receive(code["code"], tmp_path / "out", peer=local(code), transport=receives)
    assert receiver.end() == 7, receiver.errors
    receiver.only_error_line()
    assert f"over {receives.upper()}" in receiver.errors
    assert "--transport" in receiver.errors
    assert sender.child.poll() is None
    assert_nothing_left(tmp_path / "out")


@pytest.mark.parametrize("relayed", [False, True])
def test_a_taken_name_is_a_conflict_and_nothing_is_written(stage, tmp_path, relayed):
    paths, out = [], tmp_path / "out"
    for name in ("other", "taken"):
        (tmp_path / name).write_bytes(b"new")
        paths.append(tmp_path / name)
    out.mkdir()
    (out / "taken").write_bytes(b"old")
    before = described(out)
    relay = stage.relay() if relayed else None
    sender = stage.send(*paths, relay=relay)
    code = sender.wait_for("code")
    receiver = stage.receive(code["code"], out, peer=local(code), relay=relay)
    assert (receiver.end(), sender.end()) == (12, 12), (receiver.errors, sender.errors)
    assert receiver.error["error"] == sender.error["error"] == "conflict"
    assert described(out) == before


def test_without_a_terminal_and_without_yes_the_offer_is_shown_and_refused(stage, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    sender = stage.send(tmp_path / "file")
    code = sender.wait_for("code")
    receiver = stage.receive(code["code"], tmp_path / "out", peer=local(code), yes=False)
    assert receiver.wait_for("offer")["files"] == 1
    assert (receiver.end(), sender.end()) == (11, 11), (receiver.errors, sender.errors)
    assert receiver.error["error"] == sender.error["error"] == "refused"
    assert_nothing_left(tmp_path / "out")


@pytest.mark.parametrize("relayed", [False, True])
@pytest.mark.parametrize("stopped", ["sender", "receiver"])
def test_ctrl_c_in_mid_transfer_is_told_and_leaves_no_final_name(stage, tmp_path, stopped, relayed):
    block = os.urandom(1 << 20)
    with (tmp_path / "big").open("wb") as file:
        for _ in range(256):
            file.write(block)
    relay = stage.relay() if relayed else None
    sender = stage.send(tmp_path / "big", relay=relay)
    code = sender.wait_for("code")
    receiver = stage.receive(code["code"], tmp_path / "out", peer=local(code), relay=relay)
    receiver.wait_for("progress")
    first, other = (sender, receiver) if stopped == "sender" else (receiver, sender)
    first.interrupt()
    assert first.end() == 130, first.errors
    assert first.error["error"] == "interrupted"
    assert other.end() == 10, other.errors
    assert other.error["error"] in {"cancelled", "peer_left"}
    other.only_error_line()
    assert_only_partials_left(tmp_path / "out")
    (tmp_path / "big").unlink()


def test_ctrl_c_while_waiting_ends_the_sender_at_once(stage, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    sender = stage.send(tmp_path / "file")
    sender.wait_for("code")
    sender.interrupt()
    assert sender.end(10) == 130
    sender.only_error_line()


def test_a_missing_path_is_named_before_anything_is_waited_for(stage, tmp_path):
    sender = stage.send(tmp_path / "missing")
    assert sender.end() == 14
    assert [event["event"] for event in sender.events] == ["error"]
    assert "missing" in sender.only_error_line()


@pytest.fixture
def nobody_listens():
    with socket.socket() as taken:  # bound, not listening: refused, and nobody else gets the number
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def speaks_something_else():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n" * 20)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@pytest.mark.parametrize("place", ["nobody_listens", "speaks_something_else"])
@pytest.mark.parametrize("option", ["--relay", "--peer"])
def test_a_place_that_is_not_tallow_is_one_clear_error(stage, tmp_path, request, place, option):
    address = request.getfixturevalue(place)
    out = tmp_path / "out"
    receiver = stage.receive("4821-copper-lantern-tidy", out, option, address)
    assert receiver.end() == 7, receiver.errors
    receiver.only_error_line()
    assert_nothing_left(out)
    if option == "--relay":
        (tmp_path / "file").write_bytes(b"x")
        sender = stage.send(option, address, tmp_path / "file")
        assert sender.end() == 7, sender.errors
        sender.only_error_line()


@pytest.fixture
def without_root(tmp_path):
    """The words before a command that take root's rights away, and a folder that such a child may use."""
    if os.geteuid() != 0:
        return [], tmp_path
    if shutil.which("setpriv") is None:
        pytest.skip("root's rights cannot be taken from a child without setpriv")
    shared = Path(tempfile.gettempdir())
    for folder in (
        tmp_path,
        *(parent for parent in tmp_path.parents if parent.is_relative_to(shared) and parent != shared),
    ):
        folder.chmod(folder.stat().st_mode | 0o011)
    probe = [*WITHOUT_ROOT, sys.executable, "-c", "import tallow_cli"]
    if subprocess.run(probe, check=False, capture_output=True, timeout=30).returncode:
        pytest.skip("a child without root's rights cannot read this checkout")
    return WITHOUT_ROOT, tmp_path


def test_an_unreadable_file_is_named_before_anything_is_waited_for(stage, without_root):
    prefix, folder = without_root
    (folder / "secret").write_bytes(b"x")
    (folder / "secret").chmod(0)
    sender = stage.send(folder / "secret", prefix=prefix)
    assert sender.end() == 14, (sender.errors, sender.raw)
    assert sender.error["error"] == "unreadable"
    assert "secret" in sender.only_error_line()


def test_a_folder_that_cannot_be_written_is_refused_before_the_code_is_used_up(stage, without_root):
    prefix, folder = without_root
    (folder / "file").write_bytes(b"x")
    (folder / "closed").mkdir(mode=0o555)
    sender = stage.send(folder / "file")
    code = sender.wait_for("code")
    for place in (folder / "closed", folder / "closed" / "new"):
        refused = stage.receive(code["code"], place, peer=local(code), prefix=prefix)
        assert refused.end() == 14, (refused.errors, refused.raw)
        assert refused.error["error"] == "not_writable"
        refused.only_error_line()
    assert_nothing_left(folder / "closed")
    receiver = stage.receive(code["code"], folder / "open", peer=local(code))
    assert (receiver.end(), sender.end()) == (0, 0), (receiver.errors, sender.errors)

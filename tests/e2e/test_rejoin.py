"""Transfers whose connections are cut, or whose relay dies, go on by themselves: real processes, real sockets."""

import signal
import socket
import time

import pytest

from tests.e2e.kit import RELAY, assert_same, local, needs_programs, stage, write_random
from tests.protocol.paths.processes import between

__all__ = ["between", "stage"]

pytestmark = [needs_programs, pytest.mark.timeout(180)]

MIB = 1 << 20
RATE = 12 * MIB
END_S = 90


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    write_random(folder / "big", 24)
    return folder


class Cuts:
    """Ends every connection that passes, once so many more bytes have, `times` times."""

    def __init__(self, every, times):
        self.every, self.times = every, times
        self.moved = self.cut_at = 0
        self.next_at = every

    def __call__(self, passage, way, offset, data):
        if passage.number < self.cut_at:
            return None
        self.moved += len(data)
        if self.times and self.moved >= self.next_at:
            self.times -= 1
            self.next_at += self.every
            self.cut_at = 1 << 30
            self.cut_at = len(self.middle.passages)
            return None
        return data


def names(process):
    return [event["event"] for event in process.events]


def count(process, name):
    return names(process).count(name)


def finish(sender, receiver, tmp_path):
    codes = receiver.end(END_S), sender.end(END_S)
    assert codes == (0, 0), (receiver.errors, sender.errors, receiver.raw[-6:], sender.raw[-6:])
    assert_same(tmp_path / "source", tmp_path / "out")
    for process in (sender, receiver):
        assert "wrong_code" not in names(process)
        done = [event for event in process.events if event["event"] == "done"]
        assert [event["bytes"] for event in done] == [24 * MIB]


def moving(process, mib):
    """Wait until so much has arrived."""
    end = time.monotonic() + END_S
    while (event := process.next(end)) is not None:
        if event["event"] == "progress" and event["bytes"] >= mib * MIB:
            return
    raise AssertionError((process.raw[-3:], process.errors))


def test_a_direct_transfer_whose_connections_are_cut_four_times_arrives_whole(
    stage, between, source, tmp_path
):
    cuts = Cuts(5 * MIB, 4)
    sender = stage.send(source / "big", transport="tcp")
    code = sender.wait_for("code")
    host, _, port = local(code).rpartition(":")
    cuts.middle = between((host, int(port)), rate_bytes_s=RATE, tamper=cuts)
    receiver = stage.receive(
        code["code"], tmp_path / "out", peer=f"127.0.0.1:{cuts.middle.port}", transport="tcp"
    )
    finish(sender, receiver, tmp_path)
    assert cuts.times == 0
    for process in (sender, receiver):
        assert count(process, "rejoined") == 4
        assert count(process, "rejoining") >= 4
    waits = [event["retry_in_s"] for event in sender.events if event["event"] == "rejoining"]
    assert set(waits) == {None}, waits  # who listens can only wait


def test_a_relayed_transfer_whose_connections_are_cut_four_times_arrives_whole(
    stage, between, source, tmp_path
):
    cuts = Cuts(10 * MIB, 4)  # each byte passes twice
    relay = stage.relay()
    host, _, port = relay.address.partition("#")[0].rpartition(":")
    cuts.middle = between((host, int(port)), rate_bytes_s=2 * RATE, tamper=cuts)
    relay.address = f"127.0.0.1:{cuts.middle.port}#{relay.address.partition('#')[2]}"
    sender = stage.send(source / "big", "--relay-only", relay=relay, transport="tcp")
    code = sender.wait_for("code")
    receiver = stage.receive(code["code"], tmp_path / "out", "--relay-only", relay=relay, transport="tcp")
    finish(sender, receiver, tmp_path)
    assert cuts.times == 0
    for process in (sender, receiver):
        assert count(process, "rejoined") == 4


# Over QUIC nobody tells a side whose relay came back that its connection is unknown there: 45 s of silence do.
@pytest.mark.parametrize("transport", ["tcp", pytest.param("quic", marks=pytest.mark.slow)])
def test_a_relay_that_is_killed_and_started_again_brings_both_sides_back(stage, source, tmp_path, transport):
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    settings = tmp_path / "relay.toml"
    settings.write_text(f"room_bytes_per_s = {4 * MIB}\n")
    serve = [
        *(RELAY, "serve", "--listen", f"127.0.0.1:{port}", "--json"),
        *("--state", tmp_path / "relay", "--config", settings),
    ]
    relay = stage.start(serve)
    line = relay.wait_for("listening")
    relay.address = f"{line['listen']}#{line['fingerprint']}"
    sender = stage.send(source / "big", "--relay-only", relay=relay, transport=transport)
    code = sender.wait_for("code")
    receiver = stage.receive(code["code"], tmp_path / "out", "--relay-only", relay=relay, transport=transport)
    moving(receiver, 6)
    relay.child.send_signal(signal.SIGKILL)
    relay.child.wait(10)
    receiver.wait_for("rejoining", retry_in_s=0)
    stage.start(serve).wait_for("listening")
    finish(sender, receiver, tmp_path)
    for process in (sender, receiver):
        assert count(process, "rejoined") == 1


def test_a_relay_that_is_gone_for_good_is_followed_by_the_next(stage, source, tmp_path):
    relays = [stage.relay(), stage.relay()]
    where = [word for relay in relays for word in ("--relay", relay.address)]
    sender = stage.send(source / "big", *where, "--relay-only", "--transport", "tcp")
    code = sender.wait_for("code")
    receiver = stage.receive(code["code"], tmp_path / "out", *where, "--relay-only", "--transport", "tcp")
    receiver.wait_for("path")
    relays[0].child.send_signal(signal.SIGKILL)
    finish(sender, receiver, tmp_path)


@pytest.mark.parametrize("way", ["direct", "relay"])
@pytest.mark.parametrize("who", ["sender", "receiver"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_ends_on_purpose_says_so_and_the_other_ends_at_once(
    stage, between, source, tmp_path, who, way, number
):
    if way == "relay":
        sender, receiver = through_a_slow_relay(stage, source, tmp_path)
    else:
        sender, receiver, _ = slowly(stage, between, source, tmp_path)
    moving(receiver, 1)
    ends, hears = (sender, receiver) if who == "sender" else (receiver, sender)
    ends.child.send_signal(number)
    told_at = time.monotonic()
    assert hears.end() == 10
    assert time.monotonic() - told_at < 8
    assert hears.error["error"] == "cancelled"
    assert ends.end() == 130
    assert count(hears, "rejoining") == 0


@pytest.mark.parametrize("who", ["sender", "receiver"])
def test_while_the_other_side_is_gone_ctrl_c_ends_the_wait_at_once(stage, between, source, tmp_path, who):
    sender, receiver, _ = slowly(stage, between, source, tmp_path)
    moving(receiver, 1)
    killed, left = (sender, receiver) if who == "sender" else (receiver, sender)
    killed.child.send_signal(signal.SIGKILL)
    lost = left.wait_for("rejoining", seconds=30)
    assert lost["left_s"] == pytest.approx(600, abs=1)
    left.interrupt()
    asked_at = time.monotonic()
    assert left.end() == 130
    assert time.monotonic() - asked_at < 5


# A laptop that sleeps: nothing of it runs, nobody tells the other side. The gate has the shorter form.
@pytest.mark.parametrize("seconds", [16, pytest.param(65, marks=pytest.mark.slow)])
@pytest.mark.parametrize("who", ["sender", "receiver"])
def test_a_side_that_sleeps_for_a_while_goes_on_when_it_wakes(stage, between, source, tmp_path, who, seconds):
    sender, receiver, middle = slowly(stage, between, source, tmp_path)
    moving(receiver, 1)
    sleeper, other = (sender, receiver) if who == "sender" else (receiver, sender)
    sleeper.child.send_signal(signal.SIGSTOP)
    try:
        lost = other.wait_for("rejoining", seconds=30)
        assert lost["reason"] == "network"
        time.sleep(seconds - 14)  # the length of the sleep
    finally:
        sleeper.child.send_signal(signal.SIGCONT)
    middle.rate_bytes_s = 4 * RATE
    finish(sender, receiver, tmp_path)
    assert count(other, "rejoined") >= 1


def slowly(stage, between, source, tmp_path):
    """A direct transfer over a proxy that lets 2 MiB a second through."""
    sender = stage.send(source / "big", transport="tcp")
    code = sender.wait_for("code")
    host, _, port = local(code).rpartition(":")
    middle = between((host, int(port)), rate_bytes_s=2 * MIB)
    receiver = stage.receive(code["code"], tmp_path / "out", peer=f"127.0.0.1:{middle.port}", transport="tcp")
    return sender, receiver, middle


def through_a_slow_relay(stage, source, tmp_path):
    settings = tmp_path / "relay.toml"
    settings.write_text(f"room_bytes_per_s = {4 * MIB}\n")
    serve = (RELAY, "serve", "--listen", "127.0.0.1:0", "--json", "--config", settings)
    relay = stage.start([*serve, "--state", tmp_path / "relay"])
    line = relay.wait_for("listening")
    relay.address = f"{line['listen']}#{line['fingerprint']}"
    sender = stage.send(source / "big", "--relay-only", relay=relay, transport="tcp")
    code = sender.wait_for("code")
    receiver = stage.receive(code["code"], tmp_path / "out", "--relay-only", relay=relay, transport="tcp")
    return sender, receiver


def test_a_peer_that_is_killed_is_waited_for_as_long_as_was_said(stage, between, source, tmp_path):
    sender = stage.send(source / "big", "--rejoin", "3s", transport="tcp")
    code = sender.wait_for("code")
    host, _, port = local(code).rpartition(":")
    middle = between((host, int(port)), rate_bytes_s=2 * MIB)
    receiver = stage.receive(code["code"], tmp_path / "out", peer=f"127.0.0.1:{middle.port}", transport="tcp")
    moving(receiver, 1)
    receiver.child.send_signal(signal.SIGKILL)
    lost = sender.wait_for("rejoining", seconds=60)
    assert 2.5 <= lost["left_s"] <= 3
    assert sender.end() == 10
    assert sender.error["error"] == "peer_left"
    assert "could not be made again within 3 s; what arrived is kept" in sender.errors

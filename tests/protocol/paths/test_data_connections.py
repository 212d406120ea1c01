"""Plain data connections between real processes: used where they can be had, and harmless where they are attacked."""

import socket
import threading
import time

from tests.e2e.kit import RELAY, needs_programs, stage
from tests.protocol.paths.middle import PREAMBLE
from tests.protocol.paths.processes import (
    MIB,
    all_of,
    behind,
    between,
    directly,
    finished,
    over_relay,
    paths_of,
    place_of,
    source,
)

__all__ = ["between", "source", "stage"]  # pytest finds fixtures by their names here

pytestmark = needs_programs

ATTACH_FRAME_BYTES, ACK_FRAME_BYTES = 85, 69


def test_bulk_takes_plain_connections_through_the_relay(stage, between, source, tmp_path):
    relay = stage.relay()
    middle = between(place_of(relay.address), rate_bytes_s=60 * MIB)
    sender, receiver = over_relay(stage, behind(relay, middle), source(32), tmp_path / "out")
    finished(sender, receiver, tmp_path)
    assert paths_of(sender)[-1] == paths_of(receiver)[-1] == ("relay-tcp", True)
    assert len(middle.plain) == 2
    assert all(passage.first.startswith(PREAMBLE) for passage in middle.plain)
    assert sum(p.total for p in middle.plain) > 3 * sum(p.total for p in middle.wrapped)


def test_bulk_stays_inside_where_the_user_wants_it_sealed_twice(stage, between, source, tmp_path):
    relay = stage.relay()
    middle = between(place_of(relay.address))
    sender, receiver = over_relay(
        stage, behind(relay, middle), source(8), tmp_path / "out", "--encrypt-twice"
    )
    finished(sender, receiver, tmp_path)
    assert set(paths_of(sender) + paths_of(receiver)) == {("relay-tcp", False)}
    assert middle.plain == []


def test_bulk_stays_inside_a_relay_that_offers_no_tokens(stage, between, source, tmp_path):
    config = tmp_path / "relay.toml"
    config.write_text("data_connections = false\n")
    process = stage.start([RELAY, "serve", "--listen", "127.0.0.1:0", "--json", "--config", config])
    line = process.wait_for("listening")
    process.address = f"{line['listen']}#{line['fingerprint']}"
    middle = between(place_of(process.address))
    sender, receiver = over_relay(stage, behind(process, middle), source(8), tmp_path / "out")
    finished(sender, receiver, tmp_path)
    assert set(paths_of(sender) + paths_of(receiver)) == {("relay-tcp", False)}
    assert middle.plain == []


def test_after_two_plain_connections_that_are_cut_at_once_bulk_stays_inside(stage, between, source, tmp_path):
    relay = stage.relay()

    def cut_plain(passage, client):
        return not passage.plain

    middle = between(place_of(relay.address), rate_bytes_s=14 * MIB, met=cut_plain)
    sender, receiver = over_relay(stage, behind(relay, middle), source(32), tmp_path / "out")
    finished(sender, receiver, tmp_path)
    assert set(paths_of(sender) + paths_of(receiver)) == {("relay-tcp", False)}
    assert len(middle.plain) == 4  # two of each side


def test_plain_connections_that_are_cut_in_the_middle_lose_nothing(stage, between, source, tmp_path):
    relay = stage.relay()

    def cut_after_a_mebibyte(passage, way, offset, data):
        return None if passage.plain and offset > MIB else data

    middle = between(place_of(relay.address), rate_bytes_s=20 * MIB, tamper=cut_after_a_mebibyte)
    sender, receiver = over_relay(stage, behind(relay, middle), source(32), tmp_path / "out")
    finished(sender, receiver, tmp_path)
    used = paths_of(sender)
    assert ("relay-tcp", True) in used
    assert used[-1] == ("relay-tcp", False)


def test_a_flipped_bit_ends_the_plain_connection_and_the_file_arrives_whole(stage, between, source, tmp_path):
    relay = stage.relay()
    flipped = threading.Event()

    def flip_once(passage, way, offset, data):
        if passage.plain and offset > MIB and not flipped.is_set():
            flipped.set()
            middle_of = len(data) // 2
            return data[:middle_of] + bytes([data[middle_of] ^ 0x10]) + data[middle_of + 1 :]
        return data

    middle = between(place_of(relay.address), rate_bytes_s=20 * MIB, tamper=flip_once)
    sender, receiver = over_relay(stage, behind(relay, middle), source(48), tmp_path / "out")
    finished(sender, receiver, tmp_path)
    assert flipped.is_set()
    used = paths_of(sender)
    assert used.index(("relay-tcp", True)) < len(used) - 1 - used[::-1].index(("relay-tcp", False))


def test_a_thief_of_a_token_gets_an_attach_at_most_and_the_file_arrives(stage, between, source, tmp_path):
    relay = stage.relay()
    stolen = []
    thieves = []

    def steal(passage, client):
        """The first token that comes by is used by the thief, who is faster than its owner."""
        if passage.plain and not stolen:
            stolen.append(passage.first)
            thief = socket.create_connection(place_of(relay.address), 10)
            thief.sendall(passage.first[: len(PREAMBLE) + 32])
            thieves.append(thief)
        return True

    middle = between(place_of(relay.address), rate_bytes_s=14 * MIB, met=steal)
    sender, receiver = over_relay(stage, behind(relay, middle), source(48), tmp_path / "out")
    finished(sender, receiver, tmp_path)
    (thief,) = thieves
    with thief:
        got = all_of(thief)
    assert len(got) in (0, ATTACH_FRAME_BYTES)


def test_an_attach_that_is_sent_twice_through_the_relay_ends_its_connection_and_nothing_is_lost(
    stage, between, source, tmp_path
):
    relay = stage.relay()
    doubled = threading.Event()

    def twice(passage, way, offset, data):
        attach = data[36:] if way == "up" and offset == 0 else data
        if passage.plain and way == "up" and attach[:5] == b"\0\0\0\x51\x01" and not doubled.is_set():
            doubled.set()
            return data + attach[:ATTACH_FRAME_BYTES]
        return data

    middle = between(place_of(relay.address), rate_bytes_s=20 * MIB, tamper=twice)
    sender, receiver = over_relay(stage, behind(relay, middle), source(32), tmp_path / "out")
    finished(sender, receiver, tmp_path)
    assert doubled.is_set()


# -- without a relay ---------------------------------------------------------------------------------------------------


def test_a_direct_transfer_takes_a_plain_connection_of_its_own(stage, between, source, tmp_path):
    sender, receiver, middle, _ = directly(
        stage, between, source(48), tmp_path / "out", rate_bytes_s=30 * MIB
    )
    finished(sender, receiver, tmp_path)
    assert paths_of(sender)[-1] == paths_of(receiver)[-1] == ("direct-tcp", True), (sender.raw, receiver.raw)
    assert len(middle.plain) == 1
    assert middle.plain[0].down > 16 * MIB


def test_a_small_transfer_opens_no_further_connection(stage, between, source, tmp_path):
    sender, receiver, middle, _ = directly(stage, between, source(1), tmp_path / "out")
    finished(sender, receiver, tmp_path)
    assert middle.plain == []


def test_a_replayed_attach_gets_no_second_session_from_the_listener(stage, between, source, tmp_path):
    sender, receiver, middle, place = directly(
        stage, between, source(48), tmp_path / "out", rate_bytes_s=20 * MIB
    )
    receiver.wait_for("path", plain=True)
    (passage,) = middle.plain
    with socket.create_connection(place, 10) as replay:
        replay.sendall(bytes(passage.recorded["up"][:ATTACH_FRAME_BYTES]))
        assert all_of(replay) == b""
    finished(sender, receiver, tmp_path)


def test_an_attach_replayed_before_its_owner_went_on_gets_an_ack_and_nothing_more(
    stage, between, source, tmp_path
):
    answers = []

    def replay_first(passage, client):
        """The copier's Attach arrives before its owner's."""
        if passage.plain and not answers:
            copier = socket.create_connection(middles[0].target, 10)
            copier.sendall(passage.first[:ATTACH_FRAME_BYTES])
            answers.append(copier)
        return True

    middles = []

    def make(place, **settings):
        middles.append(between(place, **settings))
        return middles[-1]

    sender, receiver, _, _ = directly(
        stage, make, source(48), tmp_path / "out", rate_bytes_s=20 * MIB, met=replay_first
    )
    finished(sender, receiver, tmp_path)
    (copier,) = answers
    with copier:
        got = all_of(copier)
    assert len(got) == ACK_FRAME_BYTES
    assert ("direct-tcp", True) in paths_of(receiver)


def test_strangers_at_the_listener_do_not_disturb_a_running_session(stage, between, source, tmp_path):
    sender, receiver, _, place = directly(stage, between, source(64), tmp_path / "out", rate_bytes_s=20 * MIB)
    receiver.wait_for("path", plain=True)
    silent = [socket.create_connection(place, 10) for _ in range(8)]
    # Whoever comes while eight are silent hears at once that the sender is in use: Abort, three bytes.
    deadline = time.monotonic() + 10
    with socket.create_connection(place, 10) as ninth:
        heard = b""
        while len(heard) < 7 and time.monotonic() < deadline:
            heard += ninth.recv(7 - len(heard))
    assert heard[:5] == b"\0\0\0\x03\x13"
    finished(sender, receiver, tmp_path)
    for sock in silent:
        sock.close()

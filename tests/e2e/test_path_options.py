"""Every option about paths, seen to have its effect: what the events say, and how many bytes the relay moved."""

from __future__ import annotations

import json

import pytest

from tests.e2e.kit import assert_nothing_left, needs_programs, stage, write_random

__all__ = ["stage"]  # pytest finds the fixture by its name here

pytestmark = needs_programs

MIB = 8
BYTES = MIB << 20


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.bin"
    write_random(path, MIB)
    return path


@pytest.fixture
def relay(stage):
    return stage.relay()


def transferred(stage, relay, source, *, sends=(), receives=()):
    """Move `source` through `relay`; return the path events of both sides, and the bytes that the relay moved."""
    out = stage.folder / "out"
    sender = stage.send(*sends, source, relay=relay)
    code = sender.wait_for("code")["code"]
    receiver = stage.receive(code, out, *receives, relay=relay)
    codes = receiver.end(), sender.end()
    assert codes == (0, 0), (receiver.errors, sender.errors)
    assert (out / source.name).read_bytes() == source.read_bytes()
    paths = [event for side in (sender, receiver) for event in side.events if event["event"] == "path"]
    relay.interrupt()
    assert relay.end() == 0
    logged = [json.loads(line) for line in relay.errors.splitlines()]
    (closed,) = [line for line in logged if line["event"] == "room_closed"]
    return paths, closed["bytes"]


@pytest.mark.parametrize(("sends", "receives"), [(["--relay-only"], []), ([], ["--relay-only"])])
def test_relay_only_on_either_side_keeps_all_data_on_the_relay(stage, relay, film, sends, receives):
    paths, relayed = transferred(stage, relay, film, sends=sends, receives=receives)
    assert {event["path"] for event in paths} <= {"relay-quic", "relay-tcp"}
    assert relayed > BYTES


@pytest.mark.parametrize(("sends", "receives"), [(["--direct-only"], []), ([], ["--direct-only"])])
def test_direct_only_on_either_side_keeps_all_data_off_the_relay(stage, relay, film, sends, receives):
    paths, relayed = transferred(stage, relay, film, sends=sends, receives=receives)
    assert {event["path"] for event in paths} <= {"direct-quic", "direct-tcp"}
    assert relayed < BYTES // 10


def test_limits_that_exclude_each_other_end_both_sides_with_one_clear_error(stage, relay, film):
    sender = stage.send("--relay-only", film, relay=relay)
    code = sender.wait_for("code")["code"]
    receiver = stage.receive(code, stage.folder / "out", "--direct-only", relay=relay)
    assert (receiver.end(), sender.end()) == (7, 7), (receiver.errors, sender.errors)
    for side in (sender, receiver):
        assert "the other direct ones alone" in side.only_error_line()
    assert_nothing_left(stage.folder / "out")


def test_data_through_a_relay_leaves_the_encrypted_connection_unless_it_is_encrypted_twice(
    stage, relay, film
):
    write_random(film, 4 * MIB)  # long enough for the data connection to be there before the end
    paths, _ = transferred(stage, relay, film, sends=["--relay-only", "--transport", "tcp"])
    assert paths[-1] | {"path": "relay-tcp", "plain": True} == paths[-1]


@pytest.mark.parametrize("side", ["sends", "receives"])
def test_data_that_is_encrypted_twice_stays_inside_whichever_side_asked_for_it(stage, relay, film, side):
    paths, relayed = transferred(
        stage, relay, film, **{side: ["--relay-only", "--transport", "tcp", "--encrypt-twice"]}
    )
    assert {event["plain"] for event in paths} == {False}
    assert relayed > BYTES


def test_data_that_is_encrypted_twice_goes_over_tls_where_quic_would_do_too(stage, relay, film):
    both = ["--relay-only", "--encrypt-twice"]
    paths, _ = transferred(stage, relay, film, sends=both, receives=both)
    assert {(event["path"], event["plain"]) for event in paths} == {("relay-tcp", False)}


@pytest.mark.parametrize(("options", "compressed"), [([], True), (["--no-compress"], False)])
def test_text_is_compressed_unless_that_is_turned_off(stage, relay, tmp_path, options, compressed):
    text = tmp_path / "text.txt"
    text.write_bytes(b"the quick brown fox jumps over the lazy dog\n" * (BYTES // 44))
    _, relayed = transferred(stage, relay, text, sends=["--relay-only", *options])
    assert (relayed < text.stat().st_size) == compressed


def test_direct_only_where_no_direct_path_is_found_sends_nothing_and_says_so_to_both(stage, relay, film):
    sender = stage.send("--direct-only", film, relay=relay, transport="quic")
    code = sender.wait_for("code")["code"]
    receiver = stage.receive(code, stage.folder / "out", relay=relay, transport="tcp")
    assert (receiver.end(), sender.end()) == (7, 7), (receiver.errors, sender.errors)
    assert receiver.error["error"] == sender.error["error"] == "no_path"
    assert_nothing_left(stage.folder / "out")

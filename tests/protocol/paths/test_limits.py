"""What --relay-only and --direct-only allow, between real processes on one host."""

import time
from pathlib import Path

import pytest

from tests.e2e.kit import needs_programs, stage
from tests.protocol.paths.processes import (
    MIB,
    behind,
    between,
    finished,
    over_relay,
    paths_of,
    place_of,
    source,
)

__all__ = ["between", "source", "stage"]  # pytest finds fixtures by their names here

pytestmark = needs_programs

LISTENS = "0A"


def listening_ports(process):
    """The TCP ports at which a process listens, from /proc."""
    home = Path(f"/proc/{process.child.pid}")
    sockets = {str(link.readlink()) for link in home.joinpath("fd").iterdir()}
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in home.joinpath("net", name).read_text().splitlines()[1:]
    ]
    return [
        int(row[1].rpartition(":")[2], 16)
        for row in rows
        if row[3] == LISTENS and f"socket:[{row[9]}]" in sockets
    ]


def started(stage, relay, path, out, *, sender_words=(), receiver_words=()):
    sender = stage.send(path, *sender_words, relay=relay, transport="tcp")
    code = sender.wait_for("code")
    return sender, stage.receive(code["code"], out, *receiver_words, relay=relay, transport="tcp")


def test_a_transfer_moves_from_the_relay_to_a_direct_path(stage, between, source, tmp_path):
    relay = stage.relay()
    middle = between(place_of(relay.address), rate_bytes_s=4 * MIB)
    sender, receiver = started(stage, behind(relay, middle), source(32), tmp_path / "out")
    finished(sender, receiver, tmp_path)
    assert paths_of(sender)[-1] == paths_of(receiver)[-1] == ("direct-tcp", True)
    assert sum(passage.total for passage in middle.passages) < 24 * MIB


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="asks Linux which sockets listen")
def test_with_the_relay_alone_neither_side_listens_or_goes_direct(stage, between, source, tmp_path):
    relay = stage.relay()
    middle = between(place_of(relay.address), rate_bytes_s=20 * MIB)
    sender, receiver = over_relay(stage, behind(relay, middle), source(24), tmp_path / "out")
    for process in (sender, receiver):
        process.wait_for("path", plain=True)
        assert listening_ports(process) == []
    finished(sender, receiver, tmp_path)
    assert {path for path, _ in paths_of(sender) + paths_of(receiver)} == {"relay-tcp"}


@pytest.mark.parametrize("limited", ["sender", "receiver"])
def test_one_side_that_allows_the_relay_alone_is_enough(stage, source, tmp_path, limited):
    words = {f"{limited}_words": ("--relay-only",)}
    sender, receiver = started(stage, stage.relay(), source(8), tmp_path / "out", **words)
    finished(sender, receiver, tmp_path)
    assert {path for path, _ in paths_of(sender) + paths_of(receiver)} == {"relay-tcp"}


@pytest.mark.parametrize("limited", ["sender", "receiver"])
def test_direct_only_of_one_side_keeps_file_data_off_the_relay(stage, between, source, tmp_path, limited):
    relay = stage.relay()
    middle = between(place_of(relay.address))
    words = {f"{limited}_words": ("--direct-only",)}
    sender, receiver = started(stage, behind(relay, middle), source(8), tmp_path / "out", **words)
    finished(sender, receiver, tmp_path)
    assert set(paths_of(sender) + paths_of(receiver)) == {("direct-tcp", True)}
    assert sum(passage.total for passage in middle.passages) < MIB


def test_a_small_transfer_goes_direct_where_only_that_is_allowed(stage, tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "small").write_bytes(b"x" * 100)
    sender, receiver = started(
        stage,
        stage.relay(),
        tmp_path / "source" / "small",
        tmp_path / "out",
        receiver_words=("--direct-only",),
    )
    finished(sender, receiver, tmp_path)
    assert set(paths_of(sender) + paths_of(receiver)) == {("direct-tcp", True)}


@pytest.mark.parametrize("words", [("--relay-only", "--direct-only"), ("--direct-only", "--relay-only")])
def test_limits_that_contradict_each_other_are_one_clear_error_on_both_sides_at_once(
    stage, source, tmp_path, words
):
    sender, receiver = started(
        stage,
        stage.relay(),
        source(2),
        tmp_path / "out",
        sender_words=words[:1],
        receiver_words=words[1:],
    )
    sender.wait_for("connected")
    begin = time.monotonic()
    assert (receiver.end(), sender.end()) == (7, 7)
    assert time.monotonic() - begin < 10
    assert receiver.error["error"] == sender.error["error"] == "no_path"
    assert paths_of(sender) == paths_of(receiver) == []
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())

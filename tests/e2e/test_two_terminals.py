"""Two people at two terminals: what each sees while a transfer moves to a better path, is stopped, or fails."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess

import pytest

from tests.e2e.desk import Desk, said
from tests.e2e.kit import RELAY, assert_only_partials_left, needs_programs, write_random

pytestmark = needs_programs

DEADLINE_S = 60
MIB = 24


class FilmDesk(Desk):
    """A desk with one file to send."""

    def __init__(self, folder):
        super().__init__(folder)
        write_random(folder / "film.bin", MIB)

    def received(self):
        return (self.there / "film.bin").read_bytes() == (self.folder / "film.bin").read_bytes()


@pytest.fixture
def desk(tmp_path):
    made = FilmDesk(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def relay(tmp_path):
    command = [RELAY, "serve", "--listen", "127.0.0.1:0", "--json", "--state", tmp_path / "relay"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    line = json.loads(process.stdout.readline())
    yield f"{line['listen']}#{line['fingerprint']}"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=DEADLINE_S)


def test_both_see_that_the_data_goes_directly_though_they_met_at_the_relay(desk, relay):
    # With --direct-only the data waits for the direct path, so that the screens do not depend on who is faster.
    sender, receiver = desk.pair("--direct-only", "--relay", relay, "film.bin")
    receiver.until("[y/N] ")
    receiver.type("y\n")
    assert (receiver.end(), sender.end()) == (0, 0)
    for terminal in (sender, receiver):
        lines = said(terminal)
        assert any(line.startswith("Connected through the relay over ") for line in lines)
        assert lines.count("The data goes directly over TCP now.") == 1
        assert lines[-2].endswith(", direct-tcp. All verified.")
        assert "direct-tcp" in terminal.screen.partition("The data goes")[2].rpartition("%")[2]
    assert desk.received()


def test_ctrl_c_at_one_terminal_is_told_at_the_other_and_leaves_no_final_name(desk, relay):
    options = "--relay-only", "--transport", "quic", "--relay", relay
    sender, receiver = desk.pair(*options, "film.bin")
    receiver.until("[y/N] ")
    receiver.type("y\n")
    receiver.until("%")
    receiver.type("\x03")
    assert (receiver.end(), sender.end()) == (130, 10)
    assert said(receiver)[-3] == "tallow: error: interrupted"
    assert any(line.startswith("tallow: error: the other side ") for line in said(sender))
    assert_only_partials_left(desk.there)


def test_a_wrong_code_is_told_at_both_terminals_and_the_right_one_still_works(desk):
    sender = desk.run("send", "--code", "5930-copper-lantern-tidy", "film.bin", who="sender")
    shown = sender.until("Ctrl-C ends the wait.")
    words = shlex.split(next(line for line in shown.split("\n") if "--peer" in line))[1:]
    wrong = desk.run(*words[:-1], "5930-abacus-abdomen-abide", who="stranger")
    assert wrong.end() == 6
    assert "somebody tried, 2 tries are left. Still waiting." in sender.until("Still waiting.")
    receiver = desk.run(*words, "--out", "there", who="receiver")
    receiver.until("[y/N] ")
    receiver.type("y\n")
    assert (receiver.end(), sender.end()) == (0, 0)
    assert desk.received()

"""What people do wrong or in their own way: it is met before a code is used up, said plainly, and harms nothing."""

import os
import signal
import subprocess
import time

import pytest

from tests.e2e.desk import Desk, said
from tests.e2e.kit import TALLOW, Process, local, needs_programs, stage, write_random

__all__ = ["stage"]  # pytest finds the fixture by its name here

pytestmark = needs_programs

CODE = "5931-copper-lantern-tidy"
DEADLINE_S = 60


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    (tmp_path / "letter.txt").write_text("hello\n")
    try:
        yield made
    finally:
        made.close()


def run(folder, *words):
    return subprocess.run(
        [TALLOW, *words],
        cwd=folder,
        env={**os.environ, "TALLOW_HOME": str(folder / "home"), "COLUMNS": "80"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )


@pytest.mark.parametrize(
    ("words", "exit_code", "sentence"),
    [
        (["--out", "letter.txt"], 14, "cannot write into 'letter.txt': it is no folder"),
        (["--out", "letter.txt/new"], 14, "letter.txt' is no folder"),
        (["--peer", "127.0.0.1:1", "--relay", "127.0.0.1:2"], 2, "--peer goes straight to the sender"),
        (["--select", ""], 2, "--select is a pattern"),
        (["Downloads"], 2, "one argument too many after the code: 'Downloads'"),
    ],
    ids=["a file", "in a file", "two ways", "empty pattern", "an argument more"],
)
def test_what_cannot_work_is_refused_before_anybody_is_met(tmp_path, words, exit_code, sentence):
    (tmp_path / "letter.txt").touch()
    ended = run(tmp_path, "receive", CODE, *words)
    assert ended.returncode == exit_code, ended.stderr
    assert sentence in ended.stderr
    assert "Waiting" not in ended.stderr


def test_what_is_named_twice_is_sent_once_and_a_dry_run_lists_it_as_data(tmp_path):
    (tmp_path / "letter.txt").write_text("hello\n")
    ended = run(tmp_path, "send", "--dry-run", "letter.txt", "./letter.txt")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "Offered: 1 file, 6 B\n       6 B  letter.txt\n"
    assert run(tmp_path, "send", "--dry-run", "-").stdout.startswith("Offered: 1 file, of unknown length\n")


def test_words_for_a_code_that_is_given_are_refused(tmp_path):
    (tmp_path / "letter.txt").touch()
    ended = run(tmp_path, "send", "--code", CODE, "--words", "4", "letter.txt")
    assert ended.returncode == 2
    assert ended.stderr == "tallow: error: --words is about a new code, and --code gives one\n"


def test_each_side_of_a_conflict_is_told_what_it_can_do(desk):
    desk.there.mkdir()
    (desk.there / "letter.txt").write_text("mine\n")
    sender, receiver = desk.pair("letter.txt", receiving=("--yes",))
    assert (receiver.end(), sender.end()) == (12, 12)
    assert "--on-conflict" in said(receiver)[-2]
    assert said(sender)[-2].startswith("hint: ask the receiver to choose another folder")


def test_the_end_of_input_is_a_no_on_a_line_of_its_own(desk):
    sender, receiver = desk.pair("letter.txt")
    receiver.until("[y/N] ")
    receiver.type("\x04")
    assert (receiver.end(), sender.end()) == (11, 11)
    assert said(receiver)[-2] == "tallow: error: you refused the offer; nothing was written"


def test_a_look_at_an_offer_says_that_nothing_was_taken(desk):
    sender, receiver = desk.pair("letter.txt", receiving=("--dry-run",))
    assert (receiver.end(), sender.end()) == (0, 11)
    assert said(receiver)[-2].startswith("Nothing was received, and the code is used up")
    assert said(sender)[-2] == "hint: send it again under a new code once it is wanted"
    assert not desk.there.exists()


def test_whoever_stops_a_transfer_in_the_middle_is_told_how_it_goes_on(desk):
    write_random(desk.folder / "film.bin", 8)
    sender, receiver = desk.pair("--limit", "2M", "film.bin", receiving=("--yes",))
    receiver.until("[##")
    receiver.type("\x03")
    assert (receiver.end(), sender.end()) == (130, 10)
    for terminal in (sender, receiver):
        assert said(terminal)[-2].startswith("hint: what arrived is kept: send the same paths again")


def test_a_transfer_outlives_its_terminal_where_nohup_says_so(stage, tmp_path):
    write_random(tmp_path / "film.bin", 4)
    sender = Process(
        ["nohup", TALLOW, "send", "--json", "--limit", "2M", tmp_path / "film.bin"], tmp_path / "a"
    )
    stage.processes.append(sender)
    ready = sender.wait_for("code")
    receiver = stage.receive(ready["code"], tmp_path / "out", peer=local(ready))
    sender.wait_for("started")
    sender.child.send_signal(signal.SIGHUP)
    assert (sender.end(), receiver.end()) == (0, 0), (sender.errors, receiver.errors)
    assert (tmp_path / "out" / "film.bin").read_bytes() == (tmp_path / "film.bin").read_bytes()


def test_a_side_that_is_stopped_and_goes_on_again_ends_well(desk):
    write_random(desk.folder / "film.bin", 4)
    sender, receiver = desk.pair("--limit", "2M", "film.bin", receiving=("--yes",))
    receiver.until("%")
    os.kill(receiver.process.pid, signal.SIGSTOP)
    began = time.monotonic()
    sender.until("waiting ")  # the bar counts from two seconds of silence on
    os.kill(receiver.process.pid, signal.SIGCONT)
    assert (receiver.end(), sender.end()) == (0, 0)
    assert time.monotonic() - began < DEADLINE_S
    assert (desk.there / "film.bin").read_bytes() == (desk.folder / "film.bin").read_bytes()

"""The questions of a receiver on a real terminal: what it shows, what each answer does, and Ctrl-C in each of them."""

from __future__ import annotations

import os
import random
import signal

import pytest

from tests.e2e.desk import Desk, said
from tests.e2e.kit import needs_programs

pytestmark = needs_programs

MIB = 1 << 20
CONFLICT = "Skip, rename, overwrite, take what is newer, or cancel? [s/r/o/n/C] "
NUMBERS = "Which ones (such as 1 3-5)? "


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def taken(desk):
    """A file to send whose name is taken over there, by an older one."""
    (desk.folder / "letter.txt").write_text("new")
    desk.there.mkdir()
    old = desk.there / "letter.txt"
    old.write_text("old")
    os.utime(old, ns=(1, 1))
    return desk


def contents(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("s", {"letter.txt": "old"}),
        ("r", {"letter.txt": "old", "letter (1).txt": "new"}),
        ("o", {"letter.txt": "new"}),
        ("newer", {"letter.txt": "new"}),
    ],
)
def test_the_question_about_a_taken_name_shows_it_and_does_what_is_answered(taken, answer, expected):
    sender, receiver = taken.pair("letter.txt")
    assert "letter.txt" in receiver.until("Receive 1 file, 3 B into ./there? [y/N] ")
    receiver.type("y\n")
    assert "These exist here already:\n  letter.txt\n" in receiver.until(CONFLICT)
    receiver.type(f"{answer}\n")
    assert (receiver.end(), sender.end()) == (0, 0), receiver.screen
    assert contents(taken.there) == expected


@pytest.mark.parametrize("answer", ["", "c", "y", "all"])
def test_any_other_answer_about_a_taken_name_refuses_the_offer(taken, answer):
    sender, receiver = taken.pair("letter.txt")
    receiver.until("[y/N] ")
    receiver.type("y\n")
    receiver.until(CONFLICT)
    receiver.type(f"{answer}\n")
    assert (receiver.end(), sender.end()) == (11, 11)
    assert "you refused the offer; nothing was written" in receiver.screen
    assert contents(taken.there) == {"letter.txt": "old"}


@pytest.mark.parametrize("where", ["the offer", "a taken name"])
def test_ctrl_c_in_a_question_ends_it_and_writes_nothing(taken, where):
    sender, receiver = taken.pair("letter.txt")
    receiver.until("[y/N] ")
    if where == "a taken name":
        receiver.type("y\n")
        receiver.until(CONFLICT)
    receiver.type("\x03")
    assert (receiver.end(), sender.end()) == (130, 10)
    assert said(receiver)[-2] == "tallow: error: interrupted"
    assert contents(taken.there) == {"letter.txt": "old"}


@pytest.fixture
def three(desk):
    for name in ("a.txt", "b.txt", "c.sh"):
        (desk.folder / "notes").mkdir(exist_ok=True)
        (desk.folder / "notes" / name).write_text(name)
    (desk.folder / "notes" / "c.sh").chmod(0o755)
    return desk


def test_selecting_lists_numbers_asks_again_after_a_mistake_and_takes_what_was_chosen(three):
    sender, receiver = three.pair("notes")
    assert "c.sh   [executable]" in receiver.until("Receive 3 files, 14 B into ./there? [y/N, s selects] ")
    receiver.type("s\n")
    listed = receiver.until(NUMBERS)
    lines = [line.split() for line in listed.split("\n") if "notes/" in line]
    assert [(words[0], words[3]) for words in lines] == [
        ("1", "notes/a.txt"),
        ("2", "notes/b.txt"),
        ("3", "notes/c.sh"),
    ]
    receiver.type("9\n")
    receiver.until("These are no numbers of the list.")
    receiver.until("s selects] ")
    receiver.type("s\n")
    receiver.until(NUMBERS)
    receiver.type("1 3\n")
    assert (receiver.end(), sender.end()) == (0, 0), receiver.screen
    assert contents(three.there) == {"notes/a.txt": "a.txt", "notes/c.sh": "c.sh"}


def test_ctrl_c_while_selecting_ends_it_and_writes_nothing(three):
    sender, receiver = three.pair("notes")
    receiver.until("s selects] ")
    receiver.type("s\n")
    receiver.until(NUMBERS)
    receiver.type("\x03")
    assert (receiver.end(), sender.end()) == (130, 10)
    assert not three.there.exists()


def test_what_was_interrupted_is_asked_to_be_resumed_with_how_much_of_it_is_there(desk):
    (desk.folder / "photos").mkdir()
    draw = random.Random(3)
    for number in range(8):
        (desk.folder / "photos" / f"{number}.jpg").write_bytes(draw.randbytes(MIB))
    sender, receiver = desk.pair("--limit", "3M", "--no-compress", "photos")
    receiver.until("Receive 8 files, 8.4 MB into ./there? [y/N, s selects] ")
    receiver.type("y\n")
    placed = desk.there / "photos"
    while sum(1 for _ in placed.glob("*.jpg")) < 2:
        receiver.until("%")
    receiver.process.send_signal(signal.SIGKILL)
    receiver.process.wait(20)
    sender.type("\x03")
    assert sender.end() == 130

    sender, receiver = desk.pair("photos")
    asked = receiver.until("[y/N, s selects] ").split("\n")[-1]
    share = int(asked.removeprefix("Resume photos at ").removesuffix(" %? [y/N, s selects] "))
    assert 25 <= share <= 99, asked
    receiver.type("y\n")
    assert (receiver.end(), sender.end()) == (0, 0), receiver.screen
    assert {path.name: path.read_bytes() for path in placed.iterdir()} == {
        path.name: path.read_bytes() for path in (desk.folder / "photos").iterdir()
    }

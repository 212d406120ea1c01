"""What a person answers to an offer: all of it, some of it, none; and to names that are taken."""

from __future__ import annotations

import pytest
from tallow_cli.transfer import Person
from tallow_net import PeerText
from tallow_protocol import OfferedEntry, OfferedKind, OfferReceived, OnConflict

ENTRIES = tuple(OfferedEntry(PeerText(name), OfferedKind.FILE, 1, 0o644, None) for name in "abc")
OFFER = OfferReceived(ENTRIES, 3, 3)


class Desk:
    """A terminal whose answers are known, and a screen that keeps what it shows."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.shown = []

    async def ask(self, question):
        self.shown.append(question)
        return self.answers.pop(0)

    def offer(self, _offer):
        return False

    def insist(self, line):
        self.shown.append(line)


@pytest.mark.parametrize(
    ("answers", "chosen"),
    [
        (["y"], None),
        (["n"], frozenset()),
        ([""], frozenset()),
        (["s", "1 3"], {0, 2}),
        (["s", "9", "y"], None),
        (["s", "x", "s", "2"], {1}),
    ],
)
async def test_a_yes_takes_all_s_asks_which_ones_and_everything_else_is_a_no(answers, chosen):
    desk = Desk(*answers)
    assert await Person(desk, desk).accepts(OFFER, ".") == chosen
    assert not desk.answers


@pytest.mark.parametrize(
    ("answer", "policy"),
    [
        ("s", OnConflict.SKIP),
        ("Rename", OnConflict.RENAME),
        ("o", OnConflict.OVERWRITE),
        ("newer", OnConflict.NEWER),
        ("", None),
        ("c", None),
        ("y", None),
    ],
)
async def test_names_that_are_taken_are_shown_and_only_a_plain_answer_writes(answer, policy):
    desk = Desk(answer)
    assert await Person(desk, desk).resolves([PeerText("film\x1b[2J.mp4")]) is policy
    assert "  film.mp4" in desk.shown

"""Names and texts of a peer on every way to the screen, to a program and to a log: none of them drives a terminal."""

from __future__ import annotations

import json
import unicodedata

import pytest
from tallow_cli.errors import failure_of
from tallow_cli.output.human import Screen
from tallow_cli.output.interface import ReceiveLine
from tallow_cli.output.jsonlines import JsonLines
from tallow_cli.output.offer import full_list, numbered_list, question, summary
from tallow_cli.transfer import Person
from tallow_net import PeerText, untrusted
from tallow_protocol import (
    OnConflict,
    PathKind,
    Rejoined,
    Rejoining,
    Resumed,
    ServerNotice,
    TextReceived,
    TransferDone,
    TransferProgress,
    TransferStarted,
    Warned,
)
from tallow_protocol.disk.names import check_path
from tallow_protocol.errors import BadNameError, ConflictError, IntegrityError

from tests.cli.support import file_entry, folder_entry, link_entry, offer_of, sinks

NASTY = [
    "\x1b[2J\x1b[Hgone",
    "\x1b]0;title\x07",
    "\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\",
    "\x1bP+q544e\x1b\\",
    "\x9b31mred\x9b0m",
    "\x90dcs\x9c",
    "back\x08\x08\x08over",
    "line\rover",
    "two\nlines",
    "two\x0blines\x0c",
    "next\x85line",
    "\u2028line\u2029paragraph",
    "photo\u202egpj.exe",
    "\u2066isolate\u2069",
    "\u200emark\u200f\u061c",
    "zero\u200bwidth\u2060\ufeff",
    "soft\u00adhyphen",
    "\U000e0041tag",
    "\x00nul\x7fdel",
    "\ud800lone",
]
LINE = ReceiveLine("4821-a-b-c", "tallow receive 4821-a-b-c", None, ())


def drives(text: str) -> set[str]:
    """Return what in `text`, a line or several, a terminal would act on, or that hides or turns what is read."""
    return {
        f"U+{ord(letter):04X}"
        for letter in text
        if letter not in "\n\u200c\u200d" and unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
    }


def events(nasty: str):
    text = PeerText(nasty)
    offer = offer_of(file_entry(nasty), folder_entry(f"d{nasty}"), link_entry("l", nasty))
    return [
        offer,
        TransferStarted(1, 10),
        Resumed(5, 10, text),
        TransferProgress(5, 10, 0, 1),
        Rejoining(1.0, 60.0, "network"),
        Rejoined(PathKind.DIRECT_TCP),
        ServerNotice(text),
        Warned(text),
        TextReceived(text),
        TransferDone(1, 10, 1.0),
    ]


def errors(nasty: str):
    yield ConflictError(f"{nasty} is there already")
    yield IntegrityError(f"do not trust {nasty}", hints=(nasty,))
    try:
        check_path(f"a/{nasty}:")
    except BadNameError as error:
        yield error


def shown_to_people(nasty: str) -> str:
    """Return everything that the screen of a person shows of a transfer with this name in every place."""
    written = []
    for sending in (True, False):
        out, err, stdout, stderr = sinks(terminal=False)
        screen = Screen(stdout, stderr, sending=sending, quiet=False, width=lambda: 100, height=lambda: 24)
        for event in events(nasty):
            screen.show(event, 0.0)
        offer = events(nasty)[0]
        screen.offer(offer)
        for error in errors(nasty):
            screen.failed(failure_of(error))
        screen.close(1.0)
        written += [out.getvalue(), err.getvalue()]
        many = offer_of(*(file_entry(f"d/{nasty}{n}", mode=0o755) for n in range(50)))
        for text in (offer, many):
            written += [*full_list(text.entries), *numbered_list(text.entries), *summary(text, 20).lines]
        written.append(question(offer, "./x", shortened=False))
    return "\n".join(written)


def shown_to_programs(nasty: str) -> str:
    out, _err, stdout, _stderr = sinks()
    lines = JsonLines(stdout)
    for event in events(nasty):
        lines.show(event, 0.0)
    for error in errors(nasty):
        lines.failed(failure_of(error))
    lines.close(1.0)
    return out.getvalue()


@pytest.mark.parametrize("nasty", NASTY, ids=ascii)
def test_no_name_or_text_drives_the_screen_of_a_person(nasty: str) -> None:
    assert drives(shown_to_people(nasty)) == set()


@pytest.mark.parametrize("nasty", NASTY, ids=ascii)
def test_every_event_for_a_program_is_one_line_of_plain_json(nasty: str) -> None:
    written = shown_to_programs(nasty)
    assert drives(written) == set()
    told = [json.loads(line) for line in written.splitlines()]
    assert {line["event"] for line in told} >= {"offer", "text", "warning", "error", "done"}
    paths = [entry["path"] for line in told if line["event"] == "offer" for entry in line["entries"]]
    # What a program prints of a name is harmless too. A text is given as it was typed: JSON escapes it.
    assert drives("".join(paths)) == set()


@pytest.mark.parametrize("nasty", NASTY, ids=ascii)
async def test_no_name_drives_the_question_about_what_is_taken(nasty: str) -> None:
    asked: list[str] = []

    class Asked:
        async def ask(self, question: str) -> str:
            asked.append(question)
            return "s"

    _out, err, stdout, stderr = sinks()
    screen = Screen(stdout, stderr, sending=False, quiet=False, width=lambda: 100, height=lambda: 24)
    answer = await Person(Asked(), screen).resolves([PeerText(nasty)] * 30)  # type: ignore[arg-type]  # only asks
    assert answer is OnConflict.SKIP
    assert drives(err.getvalue() + "".join(asked)) == set()


@pytest.mark.parametrize("nasty", NASTY, ids=ascii)
def test_a_refused_name_is_quoted_in_its_error_without_what_it_holds(nasty: str) -> None:
    with pytest.raises(BadNameError) as refused:
        check_path(f"a/{nasty}:b")
    assert drives(str(refused.value)) == set()


def test_these_checks_see_a_name_that_is_shown_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """The naive way: what the peer said is what is shown."""
    monkeypatch.setattr(untrusted, "_strip", lambda raw, _limit: raw)
    seen = [nasty for nasty in NASTY if drives(shown_to_people(nasty))]
    # A stream of text cannot carry half a character, and a line end is none that this check counts.
    assert set(NASTY) - set(seen) <= {"two\nlines", "\ud800lone"}

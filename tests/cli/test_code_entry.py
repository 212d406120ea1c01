"""Where the receiver's code comes from."""

from __future__ import annotations

import io
import sys

import pytest
from tallow_cli.code_entry import completions, read_code
from tallow_cli.errors import UsageError
from tallow_protocol import CodeError

from tests.cli.terminals import python

CODE = "4821-copper-lantern-tidy"

ASK = """
from tallow_cli.code_entry import read_code
print("code", read_code(None, {}).reveal(), flush=True)
"""


class Keyboard(io.StringIO):
    def isatty(self):
        return True


def test_an_argument_comes_before_the_environment():
    assert read_code([CODE], {"TALLOW_CODE": "1-abacus-abdomen-abide"}).reveal() == CODE


def test_the_environment_comes_before_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("1-abacus-abdomen-abide\n"))
    assert read_code(None, {"TALLOW_CODE": CODE}).reveal() == CODE


def test_the_first_line_of_a_pipe_is_the_code_and_the_rest_is_left(monkeypatch):
    pipe = io.StringIO(f"{CODE}\nmore\n")
    monkeypatch.setattr(sys, "stdin", pipe)
    assert read_code(None, {}).reveal() == CODE
    assert pipe.read() == "more\n"


@pytest.mark.parametrize("stdin", [io.StringIO(""), io.StringIO("\n"), None])
def test_no_code_at_all_is_a_usage_error_that_names_the_ways(monkeypatch, stdin):
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(UsageError, match="no code was given") as caught:
        read_code(None, {})
    assert "TALLOW_CODE" in caught.value.hints[0]


def test_a_word_outside_the_list_is_refused_with_suggestions():
    with pytest.raises(CodeError, match="word 3 of the code is not in the word list") as caught:
        read_code(["4821-copper-lantern-tydy"], {})
    assert "tidy" in caught.value.hints[0]


def test_a_pipe_without_line_ends_is_not_read_for_ever(monkeypatch):
    pipe = io.StringIO("1" * 100_000)
    monkeypatch.setattr(sys, "stdin", pipe)
    with pytest.raises(CodeError):
        read_code(None, {})
    assert len(pipe.read()) > 90_000


@pytest.mark.parametrize(
    ("line", "fragment", "offered"),
    [
        ("48", "48", []),
        ("4821-coppe", "coppe", ["copper-"]),
        ("4821-copper-lanter", "lanter", ["lantern-"]),
        ("4821 copper LANTER", "LANTER", ["lantern-"]),
        ("4821-copper-lantern-tidy", "tidy", ["tidy"]),
        ("4821-copper-lantern-xq", "xq", []),
    ],
)
def test_tab_completes_words_and_adds_the_dash_where_one_follows(line, fragment, offered):
    assert completions(line, fragment) == offered


def test_a_person_is_asked_again_after_a_wrong_word():
    with python(ASK) as child:
        child.until("Code from the sender's screen: ")
        child.type("4821-copper-lantern-tydy\n")
        shown = child.until("Code from the sender's screen: ")
        assert "word 3 of the code is not in the word list" in shown
        assert "did you mean" in shown
        child.type(f"{CODE}\n")
        child.until(f"code {CODE}")
        assert child.end() == 0


def test_tab_completes_on_a_real_terminal():
    with python(ASK) as child:
        child.until("Code from the sender's screen: ")
        child.type("4821-coppe\tlanter\ttid\ty\n")
        child.until(f"code {CODE}")
        assert child.end() == 0


def test_the_question_goes_to_the_screen_when_standard_output_is_a_file():
    with python(ASK, stdout_is_terminal=False) as child:
        child.until("Code from the sender's screen: ")
        child.type(f"{CODE}\n")
        assert child.process.stdout.read() == f"code {CODE}\n".encode()
        assert child.end() == 0


def test_the_end_of_input_at_the_question_is_a_usage_error():
    with python(ASK) as child:
        child.until("Code from the sender's screen: ")
        child.type("\x04")
        child.until("no code was given")
        assert child.end() == 1


def test_ctrl_c_at_the_question_has_its_error_on_a_line_of_its_own():
    source = "from tallow_cli.main import main; main()"
    with python(source, arguments=["receive", "--peer", "127.0.0.1:1"]) as child:
        child.until("Code from the sender's screen: ")
        child.type("48")
        child.until("48")
        child.type_until("\x03", "\n\rtallow: error: interrupted\n")
        assert child.end() == 130


@pytest.mark.parametrize(
    "words",
    [
        ["4821", "Copper", "lantern", "tidy"],
        ["4821 copper", "lantern tidy"],
        ["4821.copper.lantern.tidy."],
        ["4821_copper, lantern TIDY"],
    ],
)
def test_a_code_may_come_in_pieces_and_with_other_signs_between_its_words(words):
    assert read_code(words, {}).reveal() == CODE


def test_what_follows_a_whole_code_is_no_part_of_it():
    with pytest.raises(UsageError, match="one argument too many after the code: 'Downloads'") as told:
        read_code([CODE, "Downloads"], {})
    assert told.value.hints == ("the folder to receive into is given with --out",)

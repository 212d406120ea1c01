"""PeerText: the attacks it has to make harmless, and the languages it has to keep."""

import copy
import json
import pickle
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_net.errors import MisuseError
from tallow_net.limits import PEER_TEXT_CHARACTERS
from tallow_net.untrusted import PeerText

ATTACKS = {
    "colour": ("a\x1b[31mb\x1b[0mc", "abc"),
    "clear the screen": ("\x1b[2J\x1b[Hgone", "gone"),
    "private mode": ("\x1b[?1049hx\x1b[?25l", "x"),
    "intermediate": ("\x1b[0 qx\x1b[!px", "xx"),
    "CSI of 8 bits": ("\x9b31mred", "red"),
    "title, ended by BEL": ("\x1b]0;owned\x07name", "name"),
    "title, ended by ST": ("\x1b]0;owned\x1b\\name", "name"),
    "title, ended by ST of 8 bits": ("\x1b]0;owned\x9cname", "name"),
    "OSC of 8 bits": ("\x9d0;owned\x07name", "name"),
    "link": ("\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\", "click"),
    "clipboard": ("\x1b]52;c;ZXZpbA==\x07x", "x"),
    "device control": ("\x1bPq#0;2\x1b\\x", "x"),
    "device control of 8 bits": ("\x90q#0;2\x9cx", "x"),
    "application command": ("\x1b_Gi=1\x1b\\x", "x"),
    "privacy message": ("\x1b^secret\x1b\\x", "x"),
    "start of string": ("\x1bXstring\x1b\\x", "x"),
    "character set": ("\x1b(0lqqk\x1b(B", "lqqk"),
    "reset": ("\x1bcx", "x"),
    "index and keypad": ("\x1bM\x1b7\x1b8\x1b=\x1b>x", "x"),
    "unfinished CSI": ("x\x1b[31", "x[31"),
    "unfinished OSC stays readable": ("x\x1b]0;rm -rf", "x]0;rm -rf"),
    "escape at the end": ("x\x1b", "x"),
    "escape twice": ("\x1b\x1b[31mx", "x"),
    "nested": ("\x1b[3\x1b[31m1mx", "[31mx"),
    "carriage return": ("evil.exe\rinvoice.pdf", "evil.exeinvoice.pdf"),
    "lines": ("a\nb\r\nc\x0bd\x0ce\x85f", "abcdef"),
    "line and paragraph separator": ("a\u2028b\u2029c", "abc"),
    "backspace": ("safe\b\b\b\bevil", "safeevil"),
    "NUL, BEL, tab, DEL": ("a\0b\ac\td\x7fe", "abcde"),
    "right to left override": ("photo\u202egpj.exe", "photogpj.exe"),
    "embeddings": ("\u202aa\u202bb\u202cc\u202dd", "abcd"),
    "isolates": ("\u2066a\u2067b\u2068c\u2069d", "abcd"),
    "marks": ("a\u200eb\u200fc\u061cd", "abcd"),
    "zero width space": ("pass\u200bword", "password"),
    "zero width joiners between Latin letters": ("pa\u200css\u200dword", "password"),
    "word joiner and invisible operators": ("a\u2060b\u2061c\u2062d\u2063e\u2064f", "abcdef"),
    "byte order mark": ("\ufeffname", "name"),
    "soft hyphen": ("in\u00advoice", "invoice"),
    "deprecated format characters": ("a\u206ab\u206fc", "abc"),
    "annotation": ("\ufff9a\ufffab\ufffb", "ab"),
    "tags": ("x\U000e0001\U000e0041\U000e007fy", "xy"),
    "Mongolian vowel separator": ("a\u180eb", "ab"),
    "lone surrogates": ("a\udc80b\ud800", "a\ufffdb\ufffd"),
    "joiner before an override": ("\u0646\u200c\u202e\u0647", "\u0646\u0647"),
    "a row of joiners": ("\u0646\u200c\u200c\u200c\u0647", "\u0646\u0647"),
}

KEPT = [
    "plain.txt",
    "naïve café.pdf",
    "Straße.txt",
    "файл.txt",
    "αρχείο",
    "文件.txt",
    "ファイル.txt",
    "파일.txt",
    "ملف.txt",
    "קובץ.txt",
    "फ़ाइल.txt",
    "ไฟล์.txt",
    "e\u0301 decomposed",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian needs U+200C
    "ශ්\u200dරී",  # Sinhala needs U+200D
    "क्\u200dष",
    "🎉 party.png",
    "❤️",
    "a..b",
    "100% {braces} %s",
    " two  spaces ",
    "\u00a0",
]


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_stripped(name):
    raw, shown = ATTACKS[name]
    assert str(PeerText(raw)) == shown


@pytest.mark.parametrize("text", KEPT)
def test_a_language_is_kept_whole(text):
    assert str(PeerText(text)) == text


@given(
    st.text(max_size=200)
    | st.text(alphabet="\x1b[]PX^_\\\x07\x9b\x9c\x9d0;m \u200c\u200d\u202eaن", max_size=60)
)
def test_nothing_that_a_terminal_acts_on_is_left(raw):
    shown = str(PeerText(raw))
    assert not any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} for c in shown)
    assert not any(unicodedata.bidirectional(c) in {"LRE", "RLE", "LRO", "RLO", "PDF"} for c in shown)
    assert not set(shown) & set("\u200b\u200e\u200f\u061c\u2060\u2066\u2067\u2068\u2069\ufeff")
    assert str(PeerText(shown)) == shown
    shown.encode()


@given(st.text(max_size=100))
def test_raw_is_what_the_peer_said(raw):
    assert PeerText(raw).raw == raw


@given(st.binary(max_size=100))
def test_any_bytes_can_be_shown(data):
    assert str(PeerText.from_bytes(data)).isprintable() or str(PeerText.from_bytes(data))


def test_bytes_that_are_no_utf8_show_a_replacement():
    assert str(PeerText.from_bytes(b"a\xff\xfeb")) == "a\ufffd\ufffdb"
    assert str(PeerText.from_bytes(memoryview(b"\xc3\xa9"))) == "é"


def test_every_way_to_a_screen_is_the_stripped_form():
    text = PeerText("a\x1b[31mb")
    assert f"{text}" == format(text) == "%s" % text == "{}".format(text) == "ab"  # noqa: UP031, UP032 - each on purpose
    assert f"{text:>4}" == "  ab"
    assert f"{text!s} {text!r}" == "ab PeerText('ab')"
    assert json.dumps({"text": text}, default=str) == '{"text": "ab"}'
    assert "\x1b" not in repr([text]) + repr({text: text})
    assert "\x1b" not in str(ValueError(text))


def test_a_text_cannot_be_taken_for_a_string():
    assert not isinstance(PeerText("a"), str)
    with pytest.raises(TypeError):
        json.dumps(PeerText("a"))
    with pytest.raises(TypeError):
        "a" + PeerText("b")


def test_a_quote_and_a_backslash_in_repr_are_escaped():
    assert repr(PeerText("it's \\")) == 'PeerText("it\'s \\\\")'


def test_texts_are_equal_by_what_was_said_and_never_to_a_string():
    assert PeerText("a\x1b[0m") != PeerText("a")
    assert PeerText("a") == PeerText("a", limit=5)
    assert len({PeerText("a"), PeerText("a"), PeerText("b")}) == 2
    assert PeerText("a") != "a"


def test_a_text_cannot_be_changed():
    text = PeerText("a")
    with pytest.raises(AttributeError):
        text.raw = "b"
    with pytest.raises(AttributeError):
        text.other = "b"
    with pytest.raises(AttributeError):
        del text.raw
    assert pickle.loads(pickle.dumps(text)) == copy.deepcopy(text) == copy.copy(text) == text


def test_a_text_as_long_as_the_limit_is_whole_and_a_longer_one_ends_in_an_ellipsis():
    whole = "x" * PEER_TEXT_CHARACTERS
    assert str(PeerText(whole)) == whole
    assert str(PeerText(whole + "y")) == whole[:-1] + "…"
    assert len(str(PeerText("x" * 10**6))) == PEER_TEXT_CHARACTERS


def test_a_shorter_limit_can_be_asked_for():
    text = PeerText("a\x1b[31mbcdef", limit=4)
    assert str(text) == "abc…"
    assert (text.shown(6), text.shown(5), text.shown(1)) == ("abcdef", "abcd…", "…")
    with pytest.raises(MisuseError):
        text.shown(0)


def test_an_empty_text_is_false_and_a_hidden_one_is_not():
    assert not PeerText("")
    assert PeerText("\u200b")
    assert str(PeerText("\u200b")) == ""


@pytest.mark.parametrize(
    "piece", ["\x1b]", "\x9d", "\x1b[", "\x1b[0", "\x1b(", "\x90a", "\u200c", "\u0646\u200c", "\x1b]a\x1b"]
)
def test_the_time_is_linear_in_the_length(piece):
    raw = piece * 200_000
    start = time.process_time()
    PeerText(raw)
    assert time.process_time() - start < 2.0

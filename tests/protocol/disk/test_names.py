# Names in many scripts are the subject here, look-alikes among them.
# ruff: noqa: RUF001
"""The rules for names: what is refused, what is accepted, what clashes. Named after the attacks."""

import unicodedata
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_protocol.core.messages import EntryKind
from tallow_protocol.disk import names
from tallow_protocol.disk.errors import NameRefusedError
from tallow_protocol.disk.names import (
    Kind,
    NameIndex,
    check_component,
    check_link_target,
    check_offer,
    check_path,
)
from tallow_protocol.errors import FileError


@dataclass
class Named:
    path: str
    kind: EntryKind = EntryKind.FILE
    target: str | None = None


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "a/b/c",
        "a..b",
        "..a",
        "...a",
        "a...b/..c",
        ".hidden",
        ".ssh/config.example",
        "-rf",
        "~",
        "$HOME",
        "a b",
        " leading space",
        "100%",
        "quotes\"and'",
        "console",
        "conman.txt",
        "COM",
        "COM10",
        "LPT10.txt",
        "nul_",
        "Ünïcode",
        "日本語/ファイル.txt",
        "中文",
        "한국어",
        "עברית",
        "العربية",
        "ไทย",
        "हिन्दी",
        "Ελληνικά",
        "кириллица",
        "می\u200cخواهم",
        "👩\u200d👩\u200d👧",
        "❤\ufe0f",
        "screenshot at 1.00.00\u202fPM.png",
    ],
)
def test_ordinary_names_in_many_scripts_are_accepted(path):
    assert check_path(path) == tuple(path.split("/"))


@pytest.mark.parametrize(
    ("attack", "path"),
    [
        ("empty", ""),
        ("absolute", "/etc/passwd"),
        ("absolute twice", "//etc/passwd"),
        ("parent", "../x"),
        ("parent alone", ".."),
        ("parent in the middle", "a/../../x"),
        ("parent at the end", "a/.."),
        ("here", "."),
        ("here in front", "./a"),
        ("here in the middle", "a/./b"),
        ("slash at the end", "a/"),
        ("empty component", "a//b"),
        ("backslash", "a\\b"),
        ("backslash parent", "..\\..\\x"),
        ("UNC", "\\\\server\\share"),
        ("drive", "C:"),
        ("drive path", "C:/x"),
        ("alternate data stream", "a:b"),
        ("alternate data stream with type", "a.txt::$DATA"),
        ("NUL", "a\0b"),
        ("newline", "a\nb"),
        ("escape", "a\x1b[31mb"),
        ("DEL", "a\x7fb"),
        ("C1", "a\x9bb"),
        ("right-to-left override", "exe\u202egpj.scr"),
        ("bidi isolate", "a\u2066b\u2069"),
        ("right-to-left mark", "a\u200fb"),
        ("arabic letter mark", "a\u061cb"),
        ("zero-width space", "a\u200bb"),
        ("zero-width joiner in ASCII", "a\u200db"),
        ("zero-width non-joiner in ASCII", "a\u200cb"),
        ("zero-width joiner at the end", "日\u200d"),
        ("zero-width joiner in front", "\u200d日"),
        ("two joiners", "日\u200d\u200d本"),
        ("word joiner", "a\u2060b"),
        ("byte order mark", "\ufeffa"),
        ("soft hyphen", "a\u00adb"),
        ("Hangul filler", "a\u3164"),
        ("grapheme joiner", "a\u034fb"),
        ("tag character", "a\U000e0041"),
        ("private use, where some systems hide a colon", "a\uf03ab"),
        ("line separator", "a\u2028b"),
        ("paragraph separator", "a\u2029b"),
        ("noncharacter", "a\uffffb"),
        ("lone surrogate", "a\udc80b"),
        ("decomposed", unicodedata.normalize("NFD", "é")),
        ("compatibility singleton", "\u212b"),
        ("device", "CON"),
        ("device in lower case", "con"),
        ("device with extension", "nul.txt"),
        ("device with two extensions", "Aux.tar.gz"),
        ("device with a space", "NUL .txt"),
        ("device with superscript", "COM¹"),
        ("device COM1", "COM1"),
        ("device LPT9", "lpt9.log"),
        ("device CONIN$", "CONIN$"),
        ("device below a folder", "a/PRN/b"),
        ("dot at the end", "x."),
        ("dots at the end", "x..."),
        ("three dots", "..."),
        ("space at the end", "x "),
        ("space alone", " "),
        ("dot at the end of a folder", "a./b"),
    ],
)
def test_refuses(attack, path):
    with pytest.raises(NameRefusedError) as caught:
        check_path(path)
    assert caught.value.code == "bad_name"
    assert isinstance(caught.value, FileError)
    assert all(character.isprintable() for character in str(caught.value))


@pytest.mark.parametrize("letter", ["x", "é", "日", "😀"])
def test_a_component_of_255_bytes_is_the_longest(letter):
    width = len(letter.encode())
    fits = letter * (names.COMPONENT_BYTES // width)
    fits += "x" * (names.COMPONENT_BYTES - len(fits.encode()))
    check_component(fits)
    with pytest.raises(NameRefusedError, match="255 bytes"):
        check_component(fits + "x")


def test_a_path_of_4096_bytes_is_the_longest():
    path = "/".join(["x" * 127] * 32)
    assert len(path) == names.PATH_BYTES - 1
    check_path(path + "y")
    with pytest.raises(NameRefusedError, match="4096 bytes"):
        check_path(path + "yy")


def test_a_path_is_measured_in_bytes_not_characters():
    with pytest.raises(NameRefusedError, match="4096 bytes"):
        check_path("/".join(["é" * 100] * 21))


def test_a_path_of_64_levels_is_the_deepest():
    assert len(check_path("/".join(["d"] * names.PATH_DEPTH))) == 64
    with pytest.raises(NameRefusedError, match="64 levels"):
        check_path("/".join(["d"] * (names.PATH_DEPTH + 1)))


def test_a_huge_path_is_refused_without_being_quoted_whole():
    with pytest.raises(NameRefusedError) as caught:
        check_path("a/" * 10_000_000)
    assert len(str(caught.value)) < 300


@given(st.text())
def test_a_path_is_returned_unchanged_or_refused(path):
    try:
        components = check_path(path)
    except NameRefusedError:
        return
    assert "/".join(components) == path
    assert unicodedata.normalize("NFC", path) == path
    assert not {"", ".", ".."} & set(components)
    assert not any(unicodedata.category(character) == "Cc" for character in path)


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_the_quick_pattern_and_the_slow_rules_agree_on_ascii(name):
    quick = names._PLAIN_ASCII.fullmatch(name) is not None
    try:
        names._check_unusual(name)
    except NameRefusedError as error:
        slow = "longer than" in str(error)
    else:
        slow = "/" not in name
    assert quick == slow


def test_case_pair_clashes_within_an_offer():
    with pytest.raises(NameRefusedError, match="only by case"):
        check_offer([Named("top/A"), Named("top/a")])


def test_case_pair_of_folders_clashes_within_an_offer():
    with pytest.raises(NameRefusedError, match="only by case"):
        check_offer([Named("Top/x"), Named("top/y")])


@pytest.mark.parametrize(
    ("first", "second"), [("straße", "STRASSE"), ("ΣΑΣ", "σας"), ("ﬁ", "fi"), ("İ", "i\u0307")]
)
def test_full_case_folding_clashes_within_an_offer(first, second):
    with pytest.raises(NameRefusedError):
        check_offer([Named(first), Named(second)])


def test_nfc_and_nfd_of_one_name_cannot_both_be_offered():
    with pytest.raises(NameRefusedError):
        check_offer([Named("é"), Named("e\u0301")])


def test_names_that_differ_by_an_invisible_joiner_clash():
    with pytest.raises(NameRefusedError, match="only by case"):
        check_offer([Named("می\u200cخواهم"), Named("میخواهم")])


def test_the_same_path_twice_is_refused():
    with pytest.raises(NameRefusedError, match="twice"):
        check_offer([Named("a"), Named("a")])


def test_the_same_folder_twice_is_refused():
    with pytest.raises(NameRefusedError, match="twice"):
        check_offer([Named("a", EntryKind.FOLDER), Named("a", EntryKind.FOLDER)])


@pytest.mark.parametrize("turned", [False, True])
def test_a_file_that_is_a_folder_for_another_entry_is_refused(turned):
    entries = [Named("a"), Named("a/b")]
    with pytest.raises(NameRefusedError):
        check_offer(reversed(entries) if turned else entries)


@pytest.mark.parametrize("turned", [False, True])
def test_a_file_below_a_link_of_the_offer_is_refused(turned):
    entries = [Named("t/d", EntryKind.LINK, "e"), Named("t/d/x")]
    with pytest.raises(NameRefusedError):
        check_offer(reversed(entries) if turned else entries)


def test_a_link_to_tmp_and_a_file_through_it_is_refused():
    with pytest.raises(NameRefusedError, match="absolute"):
        check_offer([Named("d", EntryKind.LINK, "/tmp"), Named("d/x")])


def test_a_file_below_a_link_spelled_otherwise_is_refused():
    with pytest.raises(NameRefusedError):
        check_offer([Named("t/d", EntryKind.LINK, "e"), Named("t/D/x")])


def test_an_ordinary_offer_gives_its_components_in_order():
    entries = [
        Named("t", EntryKind.FOLDER),
        Named("t/sub/f"),
        Named("t/sub", EntryKind.FOLDER),
        Named("t/l", EntryKind.LINK, "sub/f"),
        Named("other"),
    ]
    assert check_offer(entries) == (("t",), ("t", "sub", "f"), ("t", "sub"), ("t", "l"), ("other",))


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("t/l", "x"),
        ("t/l", "a/b/c"),
        ("t/a/l", "../x"),
        ("t/a/l", ".."),
        ("t/a/b/l", "../../x"),
        ("t/l", "..x"),
        ("t/l", "日本語"),
    ],
)
def test_a_link_inside_its_own_folder_is_accepted(link, target):
    check_link_target(tuple(link.split("/")), target)


@pytest.mark.parametrize(
    ("attack", "link", "target"),
    [
        ("absolute", "t/l", "/etc/passwd"),
        ("empty", "t/l", ""),
        ("parent", "t/l", ".."),
        ("parent of the folder", "t/l", "../x"),
        ("sibling whose name begins alike", "t/l", "../tt/x"),
        ("one level too many", "t/a/l", "../../x"),
        ("up in the middle, through another link", "t/m", "a/l/../x"),
        ("up at the end", "t/a/l", "x/.."),
        ("at the top", "l", "x"),
        ("at the top, up", "l", "../x"),
        ("here", "t/l", "."),
        ("here in front", "t/l", "./x"),
        ("empty part", "t/l", "a//b"),
        ("slash at the end", "t/l", "a/"),
        ("NUL", "t/l", "a\0"),
        ("escape", "t/l", "\x1b[2J"),
        ("drive", "t/l", "C:x"),
        ("backslash", "t/l", "..\\x"),
        ("too long", "t/l", "/".join(["x" * 200] * 30)),
        ("too deep", "t/l", "/".join(["x"] * 200)),
        ("lone surrogate", "t/l", "a\udcff"),
    ],
)
def test_refuses_a_link_with_target(attack, link, target):
    with pytest.raises(NameRefusedError):
        check_link_target(tuple(link.split("/")), target)


def test_a_link_without_a_target_is_refused():
    with pytest.raises(NameRefusedError, match="no target"):
        NameIndex().add("t/l", Kind.LINK)


def test_an_index_costs_less_than_400_bytes_a_name():
    import tracemalloc

    index = NameIndex()
    tracemalloc.start()
    for number in range(20_000):
        index.add(f"top/{number // 100}/file-{number}.txt", Kind.FILE)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 20_000 * 400


@given(
    st.text(st.characters(max_codepoint=0x17F), max_size=9),
    st.sampled_from(sorted(names._DEVICES)),
    st.booleans(),
)
def test_the_pattern_for_usual_names_takes_nothing_that_the_rules_refuse(text, device, upper):
    for name in (text, device + text, (device.upper() if upper else device.lower()) + text, text + device):
        if names._USUAL.fullmatch(name):
            names._check_rules(name)


def test_names_of_the_longest_length_are_taken_by_pattern_and_rules_alike():
    assert names._USUAL.fullmatch("a" * names.COMPONENT_BYTES)
    assert not names._USUAL.fullmatch("a" * (names.COMPONENT_BYTES + 1))


@pytest.mark.parametrize("path", ["t/f/", "t/f/..", "t/f/a/", "t/f/CON", "t/f/b\\c", "t/f/" + "a" * 256])
def test_a_bad_name_beside_a_good_one_of_the_same_folder_is_refused(path):
    with pytest.raises(NameRefusedError):
        check_offer([Named("t/f/a"), Named(path)])


def test_a_path_that_is_too_long_is_refused_also_beside_another_of_its_folder():
    parent = "/".join(["a" * 250] * 16)
    check_offer([Named(f"{parent}/a"), Named(f"{parent}/" + "b" * 79)])
    with pytest.raises(NameRefusedError):
        check_offer([Named(f"{parent}/a"), Named(f"{parent}/" + "b" * 81)])

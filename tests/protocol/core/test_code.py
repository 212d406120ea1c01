from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_crypto.hashing import derive_key
from tallow_protocol.code import Code, complete_word, lan_name_of, random_nameplate, room_id_of, word_list
from tallow_protocol.errors import CodeFormatError, MisuseError, UnknownWordError

WORDS = word_list()


def test_the_list_has_7772_words():
    assert len(WORDS) == len(set(WORDS)) == 7772


def test_no_word_is_a_prefix_of_another():
    assert not any(later.startswith(earlier) for earlier, later in itertools.pairwise(WORDS))
    assert list(WORDS) == sorted(WORDS)


def test_words_are_lower_case_letters():
    assert all(word.isascii() and word.isalpha() and word.islower() for word in WORDS)


def test_three_words_hold_more_than_38_bits():
    assert 2**38 < 7772**3 < 2**39


def test_a_code_is_parsed_as_it_is_shown():
    code = Code.parse("4821-rover-tidy-abacus")
    assert code.nameplate == "4821"
    assert code.password.reveal() == b"rover-tidy-abacus"
    assert code.reveal() == "4821-rover-tidy-abacus"


@pytest.mark.parametrize(
    "typed",
    [
        "4821 rover tidy abacus",
        "  4821-ROVER-Tidy-abacus\n",
        "4821 - rover - tidy - abacus",
        "4821\u2013rover\u2014tidy\u2011abacus",
        "4821-rove-tidy-abac",
        "4821\trover  tidy--abacus",
        "4821-rover-tidy-abacus-",
    ],
)
def test_case_spaces_dashes_and_prefixes_are_forgiven(typed):
    assert Code.parse(typed) == Code.parse("4821-rover-tidy-abacus")


def test_an_ambiguous_prefix_is_refused_and_names_candidates():
    with pytest.raises(UnknownWordError, match="word 2 of the code fits several words") as caught:
        Code.parse("4821-rover-ab-tidy")
    assert all(word.startswith("ab") for word in caught.value.suggestions)
    assert caught.value.position == 2


def test_an_unknown_word_is_refused_with_suggestions():
    with pytest.raises(UnknownWordError, match="word 3 of the code is not in the word list") as caught:
        Code.parse("4821-rover-tidy-abaccus")
    assert "abacus" in caught.value.suggestions
    assert "abacus" in caught.value.hints[0]


def test_an_unknown_word_like_no_other_has_a_hint_too():
    with pytest.raises(UnknownWordError) as caught:
        Code.parse("4821-rover-tidy-xqzkwv")
    assert caught.value.suggestions == ()
    assert caught.value.hints


@pytest.mark.parametrize(
    "typed",
    [
        "",
        " ",
        "4821",
        "4821-rover",
        "4821-rover-tidy",
        "rover-tidy-abacus",
        "04821-rover-tidy-abacus",
        "0-rover-tidy-abacus",
        "-4821-rover-tidy-abacus",
        "\u0664\u0668-rover-tidy-abacus",
        "48 21-rover-tidy-abacus",
        "1234567890123-rover-tidy-abacus",
        "4821-" + "-".join(["tidy"] * 17),
        "4821-" + "tidy " * 300,
        "4821:",
        "4821:eleven char",
        "04821:twelve chars",
        "\u0664\u0668:twelve chars",
        "abc:twelve chars",
        "4821:" + "x" * 257,
        "4821:twelve \udcff chars",
    ],
)
def test_what_is_no_code_is_refused(typed):
    typed = typed.replace("eleven char", "eleven char"[:11])
    with pytest.raises((CodeFormatError, UnknownWordError)):
        Code.parse(typed)


@pytest.mark.parametrize(
    "typed", ["4821:twelve chars", "4821:" + "x" * 256, "123456789012-rover-tidy-abacus"]
)
def test_the_longest_and_shortest_codes_are_taken(typed):
    assert Code.parse(typed).reveal() == typed


def test_sixteen_words_are_taken():
    assert Code.parse("1-" + "-".join(["tidy"] * 16)).password.reveal().count(b"tidy") == 16


def test_text_of_ones_own_is_verbatim():
    code = Code.parse("7:Correct  Horse-Battery: Staple\n")
    assert code.password.reveal() == b"Correct  Horse-Battery: Staple"
    assert code.reveal() == "7:Correct  Horse-Battery: Staple"


def test_text_of_ones_own_is_compared_in_nfc():
    composed = Code.parse("7:caf\u00e9 caf\u00e9 caf\u00e9")
    decomposed = Code.parse("7:cafe\u0301 cafe\u0301 cafe\u0301")
    assert composed == decomposed


def test_twelve_characters_are_counted_after_normalisation():
    with pytest.raises(CodeFormatError, match="this one 11"):
        Code.parse("7:" + "e\u0301" * 11)


def test_the_room_depends_on_the_nameplate_alone():
    one, two = Code.parse("4821-rover-tidy-abacus"), Code.parse("4821:quite another text")
    assert one.room_id == two.room_id == room_id_of("4821") == derive_key("tallow/1 room", b"4821")
    assert room_id_of("4822") != one.room_id


def test_the_name_on_the_local_network_depends_on_the_nameplate_alone():
    assert lan_name_of("4821") == derive_key("tallow/1 lan", b"4821").hex()[:16]


def test_a_generated_code_has_as_many_words_as_asked_for():
    code = Code.generate("4821", 5, lambda n: n - 1)
    assert code.reveal() == "4821-" + "-".join([WORDS[-1]] * 5)
    assert Code.parse(code.reveal()) == code


@pytest.mark.parametrize("words", [0, 2, 17])
def test_too_few_and_too_many_words_are_refused(words):
    with pytest.raises(CodeFormatError):
        Code.generate("4821", words, lambda _: 0)


def test_a_broken_source_of_random_numbers_is_misuse():
    with pytest.raises(MisuseError):
        Code.generate("4821", 3, lambda n: n)


def test_a_random_nameplate_has_four_digits():
    assert (random_nameplate(lambda _: 0), random_nameplate(lambda n: n - 1)) == ("1000", "9999")


def test_completion_gives_the_words_with_a_prefix():
    assert complete_word("ABAC") == ("abacus",)
    assert complete_word("") == WORDS
    assert complete_word("zzzz") == ()
    assert set(complete_word("ab")) == {word for word in WORDS if word.startswith("ab")}


@given(st.lists(st.sampled_from(WORDS), min_size=3, max_size=16), st.integers(1, 10**12 - 1))
def test_any_code_survives_being_shown_and_typed(words, nameplate):
    code = Code.parse(f"{nameplate}-{'-'.join(words)}")
    assert Code.parse(code.reveal()) == code


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused_as_a_code(text):
    try:
        Code.parse(text)
    except (CodeFormatError, UnknownWordError):
        return


def test_a_code_never_shows_its_words():
    code = Code.parse("4821-rover-tidy-abacus")
    for shown in (repr(code), str(code), f"{code}", repr([code])):
        assert "rover" not in shown
        assert "4821" in shown

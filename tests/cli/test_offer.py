"""What a person sees of an offer before the yes: nothing hides."""

from __future__ import annotations

from itertools import takewhile

from hypothesis import given
from hypothesis import strategies as st
from tallow_cli.output.offer import full_list, question, summary

from tests.cli.support import file_entry, folder_entry, link_entry, offer_of

PAGE = 20


def test_a_short_offer_is_listed_whole():
    text = summary(offer_of(file_entry("a.jpg", 12_400_000), folder_entry("b"), file_entry("b/c", 3)), PAGE)
    assert text.lines == (
        "Offered: 2 files, 12.4 MB",
        "   12.4 MB  a.jpg",
        "            b/",
        "       3 B  b/c",
    )
    assert not text.shortened


def test_hidden_names_programs_and_links_are_called_out():
    lines = full_list(
        [
            file_entry(".ssh/authorized_keys"),
            file_entry("run.sh", mode=0o755),
            file_entry("a/.b/c", mode=0o755),
            link_entry("latest", "../etc"),
        ]
    )
    assert [line.rpartition("   ")[2] for line in lines] == [
        "[hidden]",
        "[executable]",
        "[hidden, executable]",
        "[link]",
    ]
    assert "latest -> ../etc" in lines[3]


def test_a_long_offer_is_counted_by_folder_and_still_calls_out():
    many = [file_entry(f"photos/{number}.jpg", 1000) for number in range(100)]
    text = summary(
        offer_of(*many, file_entry("photos/.ssh/authorized_keys"), file_entry("x.sh", mode=0o755)), PAGE
    )
    assert text.shortened
    assert "    100 KB  photos/   101 files" in text.lines
    assert any("photos/.ssh/   1 file [hidden]" in line for line in text.lines)
    assert any(line.endswith("x.sh   [executable]") for line in text.lines)


def test_an_offer_just_over_a_page_is_shortened_and_one_that_fills_it_is_not():
    entries = [file_entry(f"d/{number}") for number in range(PAGE + 1)]
    assert not summary(offer_of(*entries[:PAGE]), PAGE).shortened
    assert summary(offer_of(*entries), PAGE).shortened


def test_what_is_not_called_out_by_name_is_counted():
    hidden = [file_entry(f".hidden-{number}") for number in range(500)]
    text = summary(offer_of(*hidden), PAGE)
    assert text.lines[-1] == "  and 480 more like these"


def test_a_hidden_folder_is_one_line_and_says_if_it_holds_programs():
    git = [file_entry(f"repo/.git/objects/{number}") for number in range(300)]
    hook = file_entry("repo/.git/hooks/post-checkout", mode=0o755)
    text = summary(offer_of(*git, hook), PAGE)
    assert [line for line in text.lines if ".git" in line] == [
        "    3.0 KB  repo/.git/   301 files [hidden, holds executables]"
    ]


def test_a_long_offer_without_anything_odd_says_so():
    text = summary(offer_of(*[file_entry(f"d/{number}") for number in range(100)]), PAGE)
    assert text.lines[-1] == "  No hidden, executable or linked entries among them."


def test_a_name_cannot_drive_the_terminal():
    lines = full_list([file_entry("a\x1b[2Jb\u202egpj.exe"), link_entry("l", "x\x1b]0;t\x07y")])
    assert "\x1b" not in "".join(lines)
    assert "\u202e" not in "".join(lines)


def test_the_question_names_how_much_and_where_to():
    offer = offer_of(file_entry("a", 12_400_000), file_entry("b", 0), file_entry("c", 0))
    assert (
        question(offer, "./x", shortened=False, there_bytes=1) == "Resume 3 files at 0 %? [y/N, s selects] "
    )
    assert question(offer, "./x", shortened=False) == "Receive 3 files, 12.4 MB into ./x? [y/N, s selects] "
    assert question(offer, ".", shortened=True) == (
        "Receive 3 files, 12.4 MB into the current folder? [y/N, l lists all, s selects] "
    )


names = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="/["), min_size=1, max_size=8)
paths = st.lists(names, min_size=1, max_size=4).map("/".join)


@given(
    st.lists(
        st.builds(file_entry, paths, st.integers(0, 2**40), st.sampled_from([0o644, 0o755])), max_size=60
    )
)
def test_every_entry_is_listed_or_counted(entries):
    text = summary(offer_of(*entries), PAGE)
    if text.shortened:
        # The folders' lines end where the notes begin; a name may hold anything, so only the last column is read.
        folders = takewhile(lambda line: not line.startswith(("  Look at", "  No hidden")), text.lines[1:])
        counted = sum(
            int(line.rpartition("   ")[2].partition(" file")[0].replace(",", ""))
            for line in folders
            if not line.startswith("  and ")
        )
        assert counted == len(entries) or any("more folder" in line for line in text.lines)
    else:
        assert len(text.lines) == 1 + len(entries)

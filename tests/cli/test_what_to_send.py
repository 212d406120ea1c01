"""What the command line asks for: sources, rates, selections."""

from __future__ import annotations

import pytest
from tallow_cli.errors import UsageError
from tallow_cli.rates import bytes_per_second
from tallow_cli.selection import by_numbers, by_patterns
from tallow_cli.sources import ToSend, what_to_send
from tallow_net import PeerText
from tallow_protocol import OfferedEntry, OfferedKind

FILE, FOLDER = OfferedKind.FILE, OfferedKind.FOLDER
TREE = (("in", FOLDER), ("in/a.txt", FILE), ("in/sub", FOLDER), ("in/sub/b.jpg", FILE), ("c.jpg", FILE))
ENTRIES = tuple(
    OfferedEntry(PeerText(path), kind, None if kind is FOLDER else 1, 0o644, None) for path, kind in TREE
)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("1k", 1000), ("500K", 5e5), ("10M", 1e7), ("1.5G", 1.5e9), ("2000", 2000), ("3MB/s", 3e6)],
)
def test_a_rate_is_read_as_it_is_typed(text, rate):
    assert bytes_per_second(text) == rate


@pytest.mark.parametrize("text", ["", "0", "999", "x", "-1M", "1T", "1e9", "nan"])
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(UsageError, match="--limit is a rate"):
        bytes_per_second(text)


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        (["*.jpg"], {0, 2, 3, 4}),
        (["in/*"], {0, 1, 2, 3}),
        (["in"], {0, 1, 2, 3}),
        (["in/sub/"], {0, 2, 3}),
        (["a.txt", "c.*"], {0, 1, 4}),
        (["nothing"], set()),
    ],
)
def test_a_pattern_takes_paths_names_and_whole_folders_with_the_folders_above(patterns, chosen):
    assert by_patterns(ENTRIES, patterns) == chosen


@pytest.mark.parametrize(
    ("answer", "chosen"), [("1", {0, 1}), ("2-3", {0, 2, 3, 4}), ("1, 3", {0, 1, 4}), (" 3 ", {4})]
)
def test_numbers_and_ranges_pick_files_in_the_order_of_the_list(answer, chosen):
    assert by_numbers(ENTRIES, answer) == chosen


@pytest.mark.parametrize("answer", ["", "0", "4", "3-1", "x", "1-", "1;2"])
def test_what_is_no_number_of_the_list_picks_nothing(answer):
    assert by_numbers(ENTRIES, answer) is None


def test_paths_a_text_and_standard_input_exclude_each_other():
    assert what_to_send(["a", "b"], None, None) == ToSend(paths=("a", "b"))
    assert what_to_send([], "hello", None) == ToSend(text="hello")
    for paths, text, name in (
        (["a"], "hello", None),
        ([], None, None),
        ([], "", None),
        ([], "x" * 65_537, None),
        (["-", "a"], None, None),
        (["a"], None, "name"),
    ):
        with pytest.raises(UsageError):
            what_to_send(paths, text, name)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b"])
def test_standard_input_is_called_like_a_file(name):
    with pytest.raises(UsageError):
        what_to_send(["-"], None, name)

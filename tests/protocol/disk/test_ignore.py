"""What a scan leaves out: the user's patterns, `.tallowignore`, and `.gitignore` if asked for."""

import pytest
from tallow_protocol.disk import ignore
from tallow_protocol.disk.ignore import ScanOptions
from tallow_protocol.disk.scan import check, scan
from tallow_protocol.errors import BadPatternError, UnreadableError


@pytest.fixture
def tree(tmp_path):
    top = tmp_path / "t"
    for path in ("a.o", "a.c", ".hidden", "build/x", "build/keep", "src/b.o", "src/build", "src/deep/b.o"):
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_bytes(b"x")
    return top


def offered(top, **options):
    found = scan([top], ScanOptions(**options))
    return {scanned.entry.path.removeprefix("t").removeprefix("/") for scanned in found.entries}


def everything(top):
    return {str(path.relative_to(top)) for path in top.rglob("*")} | {""}


def test_hidden_files_come_along_and_nothing_is_left_out_by_itself(tree):
    (tree / ".gitignore").write_text("*\n")
    assert offered(tree) == everything(tree)


def test_exclude_has_the_meaning_that_git_gives_a_pattern(tree):
    assert offered(tree, exclude=("*.o",)) == everything(tree) - {"a.o", "src/b.o", "src/deep/b.o"}
    assert offered(tree, exclude=("/*.o",)) == everything(tree) - {"a.o"}
    assert offered(tree, exclude=("build/",)) == everything(tree) - {"build", "build/x", "build/keep"}
    assert offered(tree, exclude=("src/**/b.o",)) == everything(tree) - {"src/b.o", "src/deep/b.o"}
    assert offered(tree, exclude=("*.o", "!/a.o")) == everything(tree) - {"src/b.o", "src/deep/b.o"}


def test_tallowignore_counts_always_and_is_sent_itself(tree):
    (tree / ".tallowignore").write_text("*.o\n# a comment\n\n")
    assert offered(tree) == everything(tree) - {"a.o", "src/b.o", "src/deep/b.o"}


def test_gitignore_counts_if_asked_for_and_tallowignore_wins_over_it(tree):
    (tree / ".gitignore").write_text("*.o\nbuild/\n")
    (tree / ".tallowignore").write_text("!a.o\n")
    assert offered(tree, gitignore=True) == everything(tree) - {
        "src/b.o",
        "src/deep/b.o",
        "build",
        "build/x",
        "build/keep",
    }


def test_a_deeper_file_wins_over_an_outer_one_and_is_relative_to_its_own_folder(tree):
    (tree / ".tallowignore").write_text("*.o\n")
    (tree / "src" / ".tallowignore").write_text("!/b.o\n")
    assert offered(tree) == everything(tree) - {"a.o", "src/deep/b.o"}


def test_nothing_below_a_folder_that_is_left_out_comes_back(tree):
    (tree / ".tallowignore").write_text("build/\n!build/keep\n")
    assert "build/keep" not in offered(tree)


def test_the_users_own_pattern_wins_over_every_file(tree):
    (tree / ".tallowignore").write_text("!*.o\n")
    assert "a.o" not in offered(tree, exclude=("*.o",))


def test_a_path_that_was_given_is_never_left_out(tree):
    assert offered(tree / "a.o", exclude=("*.o",)) == {"a.o"}
    assert "" in offered(tree, exclude=("t",))


def test_a_name_that_cannot_be_sent_may_be_excluded(tree):
    (tree / "CON.txt").write_bytes(b"x")
    assert "CON.txt" not in offered(tree, exclude=("CON.*",))


def test_what_is_excluded_may_be_unreadable_and_is_not_looked_at(tree):
    (tree / "loop").symlink_to("/nowhere")
    assert scan([tree], ScanOptions(exclude=("loop",))).warnings == ("1 file is left out by --exclude",)


def test_what_is_no_pattern_is_said_before_anything_starts(tree):
    with pytest.raises(BadPatternError, match="'!' is no pattern"):
        check([tree], ScanOptions(exclude=("!",)))


def test_a_bad_pattern_of_a_file_names_its_line(tree):
    (tree / "src" / ".tallowignore").write_text("*.o\n!\n")
    with pytest.raises(UnreadableError, match=r"line 2 of .*src/\.tallowignore' is no pattern"):
        scan([tree])


def test_a_link_in_place_of_an_ignore_file_is_not_followed(tree, tmp_path):
    (tmp_path / "elsewhere").write_text("*\n")
    (tree / ".tallowignore").symlink_to(tmp_path / "elsewhere")
    assert offered(tree) == everything(tree) - {".tallowignore"}


def test_a_folder_or_a_huge_file_of_that_name(tree, monkeypatch):
    (tree / ".tallowignore").mkdir()
    assert offered(tree) == everything(tree)
    monkeypatch.setattr(ignore, "IGNORE_BYTES", 4)
    (tree / "src" / ".tallowignore").write_text("12345")
    with pytest.raises(UnreadableError, match="longer than 4 bytes"):
        scan([tree])
    (tree / "src" / ".tallowignore").write_text("*.o\n")
    assert "src/b.o" not in offered(tree)


def test_too_many_patterns_are_refused_and_as_many_as_may_be_are_not(tree, monkeypatch):
    monkeypatch.setattr(ignore, "IGNORE_PATTERNS", 2)
    (tree / ".tallowignore").write_text("*.o\n# a comment\n*.c\n")
    assert "a.c" not in offered(tree)
    (tree / ".tallowignore").write_text("*.o\n*.c\nx\n")
    with pytest.raises(UnreadableError, match="more than 2 patterns"):
        scan([tree])

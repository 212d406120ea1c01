"""What patterns left out is counted and said once, so that nobody misses it over there without having been told."""

import pytest
from tallow_protocol.disk.ignore import ScanOptions
from tallow_protocol.disk.scan import scan


@pytest.fixture
def tree(tmp_path):
    top = tmp_path / "t"
    for path in ("a.o", "a.c", "build/x", "build/keep", "src/b.o"):
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_bytes(b"x")
    return top


def test_nothing_is_said_where_nothing_is_left_out(tree):
    (tree / ".tallowignore").write_text("*.pyc\n")
    (tree / ".gitignore").write_text("*\n")
    assert scan([tree]).warnings == ()


def test_files_and_folders_left_out_are_counted_with_the_file_that_says_so(tree):
    (tree / ".tallowignore").write_text("*.o\nbuild/\n")
    assert scan([tree]).warnings == ("2 files and 1 folder are left out by .tallowignore",)


def test_one_file_left_out_by_an_option(tree):
    options = ScanOptions(exclude=("a.o",))
    assert scan([tree], options).warnings == ("1 file is left out by --exclude",)


def test_all_that_may_have_left_something_out_are_named_once(tree):
    (tree / ".gitignore").write_text("*.o\n")
    (tree / "src" / ".tallowignore").write_text("!b.o\n")
    options = ScanOptions(exclude=("build",), gitignore=True)
    assert scan([tree], options).warnings == (
        "1 file and 1 folder are left out by --exclude or .gitignore or .tallowignore",
    )

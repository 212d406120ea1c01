"""Patterns of ignore files: git's meaning, asked of git itself, in a time that no pattern can stretch."""

import shutil
import subprocess
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallow_protocol.disk.ignore import ScanOptions
from tallow_protocol.disk.patterns import PATTERN_CHARACTERS, Pattern, PatternError
from tallow_protocol.disk.scan import scan

SLOW = [
    "*" * 70 + "b",
    "*a" * 40 + "b",
    "**/" * 40 + "b",
    "*a*a/" * 20 + "b",
    "**/a/" * 40 + "b",
    "*a*a*a*a*b",
]
"""Each takes seconds or longer as a regular expression that tries every way. The last is short, and took 11 s."""

BOUND_S = 2.0
"""A thousand times what one takes here: a machine under load stays below it, and an exponential search never does."""


def git_leaves_out(repository, pattern, path, *, folder):
    (repository / ".git" / "info" / "exclude").write_bytes(pattern.encode() + b"\n")
    if folder:
        (repository / path).mkdir(parents=True)
    found = subprocess.run(
        ["git", "-C", repository, "check-ignore", "-q", "--no-index", "--", path],
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"},
    )
    if folder:
        shutil.rmtree(repository / path.partition("/")[0])
    assert found.returncode in {0, 1}
    return found.returncode == 0


def leaves_out(pattern, path, *, folder):
    """Return what a scan finds: a folder that is left out takes what is below it along."""
    try:
        parsed = Pattern.parse(pattern)
    except PatternError:
        return False
    if parsed is None or parsed.negated:
        return False
    names = path.split("/")
    above = ("/".join(names[:n]) for n in range(1, len(names)))
    return any(parsed.matches(one, folder=True) for one in above) or parsed.matches(path, folder=folder)


CORNERS = [
    ("*.o", "a/b.o"), ("/*.o", "a/b.o"), ("a/*.o", "a/b.o"), ("a/**", "a/b"), ("a/**", "a"), ("**/b", "a/b"), ("**/b", "b"),
    ("a/**/b", "a/b"), ("a/**/b", "a/x/y/b"), ("a**b", "axb"), ("x/a**b", "x/a/b"), ("***", "a/b"), ("/**", "a"),
    ("a/***/b", "a/x/b"), ("b/", "a/b"), ("a/b/", "a/b"), ("[!a]", "b"), ("[^a]", "a"), ("[]a]", "]"), ("[a-]", "-"),
    ("[]-]", "-"), ("[[:digit:]x]", "7"), ("[[:punct:]]", "["), ("[z-a]", "m"), ("[!z-a]", "m"), ("[\\]]", "]"), ("\\#", "#"),
    ("\\!x", "!x"), ("a\\ ", "a "), ("a  ", "a"), ("a\\\\ ", "a\\"), ("?", "ab"), ("a?b", "a/b"), ("x/a[!q]b", "x/a/b"),
    ("#a", "#a"), ("!a", "a"), ("/", "a"), ("//a", "a"), ("a//b", "a/b"), ("[a", "[a"), ("a\\", "a\\"), ("**/a/**/b/**/c", "x/a/b/y/c"),
    ("a*b*c", "abbbcbc"), ("*a*ab", "aab"), ("a*a", "a"), ("**/*a", "x/ba"), ("[[:nope:]]", "n"), ("*/b", "a/b"), ("*/b", "b"),
]  # fmt: skip


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    if shutil.which("git", path="/usr/bin:/bin") is None:
        pytest.skip("git is what these patterns are compared with")
    folder = tmp_path_factory.mktemp("git")
    subprocess.run(
        ["git", "init", "-q", folder], check=True, env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    )
    return folder


@pytest.mark.parametrize(("pattern", "path"), CORNERS, ids=ascii)
def test_the_corners_are_what_git_makes_of_them(repository, pattern, path):
    for folder in (False, True):
        assert leaves_out(pattern, path, folder=folder) == git_leaves_out(
            repository, pattern, path, folder=folder
        )


@settings(max_examples=60, deadline=None)
@given(
    st.text("ab*/?", min_size=1, max_size=9),
    st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=4).map("/".join),
    st.booleans(),
)
def test_any_pattern_is_what_git_makes_of_it(repository, pattern, path, folder):
    assert leaves_out(pattern, path, folder=folder) == git_leaves_out(
        repository, pattern, path, folder=folder
    )


@pytest.mark.parametrize("slow", SLOW, ids=lambda pattern: pattern[:12])
@pytest.mark.parametrize("where", [".tallowignore", ".gitignore", "--exclude"])
def test_no_pattern_keeps_a_scan_busy(tmp_path, where, slow):
    (tmp_path / ("a" * 250)).write_bytes(b"")
    deep = tmp_path.joinpath(*["a"] * 60)
    deep.mkdir(parents=True)
    (deep / "a").write_bytes(b"")
    if where != "--exclude":
        (tmp_path / where).write_text(slow + "\n")
    options = ScanOptions(exclude=(slow,) if where == "--exclude" else (), gitignore=True)
    before = time.process_time()
    found = scan([tmp_path], options)
    assert time.process_time() - before < BOUND_S
    assert len(found.entries) == 63 + (where != "--exclude")


def test_a_file_full_of_the_slowest_patterns_is_bounded_too(tmp_path):
    """As many and as long as an ignore file may hold, against the longest name."""
    patterns = (f"*aaaaaaaaaaaa*aaaaaaaaaaaa{n:04}b" for n in range(4096))
    (tmp_path / ".tallowignore").write_text("\n".join(patterns))
    (tmp_path / ("a" * 250)).write_bytes(b"")
    before = time.process_time()
    assert len(scan([tmp_path]).entries) == 3
    assert time.process_time() - before < 15


def test_the_longest_pattern_is_taken_and_a_longer_one_refused():
    assert Pattern.parse("a" * PATTERN_CHARACTERS) is not None
    with pytest.raises(PatternError, match="at most 1024 characters"):
        Pattern.parse("a" * (PATTERN_CHARACTERS + 1))


@pytest.mark.parametrize("line", ["!", "/", "//", "a//b", "[a", "a\\", "[[:nope:]]", "[", "[]"])
def test_what_git_would_never_match_is_no_pattern(line):
    with pytest.raises(PatternError):
        Pattern.parse(line)


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_line_is_a_pattern_or_refused(line, path):
    try:
        pattern = Pattern.parse(line)
    except PatternError:
        return
    if pattern is not None:
        pattern.matches(path, folder=True)

"""Only the gate opens anything for writing: a caller that opens a path by itself fails here."""

import ast
import re
from pathlib import Path

import pytest
import tallow_protocol

PACKAGE = Path(tallow_protocol.__file__).parent
CALLS = "disk/calls.py"
GATE = {
    CALLS,
    "disk/leftovers.py",
    "disk/partials.py",
    "disk/places.py",
    "disk/root.py",
    "disk/staging.py",
    "disk/system.py",
    "disk/unfinished.py",
}
READERS = ["disk/scan.py", "disk/ignore.py"]
MODULES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))

OF_OS = {
    "open",
    "mkdir",
    "makedirs",
    "mkfifo",
    "mknod",
    "link",
    "symlink",
    "rename",
    "renames",
    "replace",
    "remove",
}
OF_OS |= {
    "removedirs",
    "rmdir",
    "unlink",
    "truncate",
    "ftruncate",
    "pwrite",
    "pwritev",
    "chmod",
    "chown",
    "utime",
}
OF_PATHS = {
    "write_bytes",
    "write_text",
    "mkdir",
    "touch",
    "symlink_to",
    "hardlink_to",
    "rename",
    "unlink",
    "rmdir",
}
OF_PATHS |= {"chmod", "lchmod"}


def writers(tree):
    """Yield each thing in a module that could write to a path: name and line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imported = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from (
                f"{name} in line {node.lineno}" for name in imported if name in {"shutil", "tempfile", "io"}
            )
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name) and called.id == "open":
            yield f"open() in line {node.lineno}"
        if isinstance(called, ast.Attribute):
            of_os = isinstance(called.value, ast.Name) and called.value.id == "os"
            if called.attr in (OF_OS if of_os else OF_PATHS):
                yield f"{ast.unparse(called)}() in line {node.lineno}"


@pytest.mark.parametrize("module", [module for module in MODULES if module not in GATE | set(READERS)])
def test_no_other_module_opens_or_changes_a_path(module):
    assert list(writers(ast.parse((PACKAGE / module).read_text("utf-8")))) == []


@pytest.mark.parametrize("reader", READERS)
def test_the_scanner_opens_for_reading_only(reader):
    text = (PACKAGE / reader).read_text("utf-8")
    assert [found.split("(")[0] for found in writers(ast.parse(text))] == ["os.open"]
    assert "os.O_RDONLY | os.O_NOFOLLOW" in text
    assert not any(flag in text for flag in ("O_WRONLY", "O_RDWR", "O_CREAT"))


@pytest.mark.parametrize(
    "line",
    [
        "open('x')",
        "os.open('x', 1)",
        "os.rename('a', 'b')",
        "Path('x').write_bytes(b'')",
        "path.mkdir()",
        "import shutil",
        "from tempfile import mkstemp",
    ],
)
def test_this_check_sees(line):
    assert list(writers(ast.parse(line)))


def calls_of(module):
    tree = ast.parse((PACKAGE / module).read_text("utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("module", sorted(GATE - {CALLS}))
def test_the_gate_asks_the_operating_system_through_one_object_only(module):
    allowed = {"os.strerror", "os.fsencode", "os.sync"}
    called = {ast.unparse(call.func) for call in calls_of(module)}
    assert {name for name in called if name.startswith("os.")} <= allowed
    assert not called & {"open", "Path.mkdir"}


def test_the_gate_follows_no_link_and_replaces_nothing():
    modules = ("disk/places.py", "disk/root.py", "disk/staging.py")
    calls = [call for module in modules for call in calls_of(module)]
    opened = [ast.unparse(call) for call in calls if ast.unparse(call.func).endswith("calls.open")]
    assert len(opened) == 10
    # Two are the directory that the user chose, to write and to look; all others name a flag set that has O_NOFOLLOW.
    flags = ("OPEN_FOLDER", "_NEW_FILE", "_OLD_FILE")
    assert sum(any(flag in call for flag in flags) for call in opened) == 8
    text = "".join((PACKAGE / module).read_text("utf-8") for module in modules)
    assert all(re.search(rf"^{flag} = .*os.O_NOFOLLOW", text, re.MULTILINE) for flag in flags)


def test_the_gate_renames_over_what_stands_in_one_place_only_and_after_asking_the_policy():
    tree = ast.parse((PACKAGE / "disk/root.py").read_text("utf-8"))
    renaming = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and ".rename(" in ast.unparse(node)
        and ".replaceable(" in ast.unparse(node)
    ]
    assert [function.name for function in renaming] == ["_replace"]
    calls = [ast.unparse(call.func) for call in calls_of("disk/root.py")]
    assert sum(name.endswith((".rename", ".replace")) for name in calls) == 1

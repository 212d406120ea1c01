"""Cores take bytes, values and the time, and give bytes and events: they import no clock, socket, file or chance.

A core that is listed here may import the standard library's pure parts, third-party codecs and other cores. What it
may not import, not even inside a function, is what would make it act on its own.
"""

import ast
from pathlib import Path

import pytest

PACKAGES = Path(__file__).resolve().parents[2] / "packages"

# Patterns below packages/. Each must match a file: a core that moves takes its line here with it.
CORES = [
    "tallow-net/src/tallow_net/errors.py",
    "tallow-net/src/tallow_net/limits.py",
    "tallow-net/src/tallow_net/framing.py",
    "tallow-net/src/tallow_net/canonical.py",
    "tallow-net/src/tallow_net/signaling.py",
    "tallow-net/src/tallow_net/untrusted.py",
    "tallow-net/src/tallow_net/paths/candidates.py",
    "tallow-net/src/tallow_net/relay/address.py",
    "tallow-net/src/tallow_net/relay/pins.py",
    "tallow-net/src/tallow_net/relay/session.py",
    "tallow-net/src/tallow_net/relay/reconnect.py",
    "tallow-net/src/tallow_net/relay/refusals.py",
    "tallow-net/src/tallow_net/relay/events.py",
    "tallow-protocol/src/tallow_protocol/code.py",
    "tallow-protocol/src/tallow_protocol/core/*.py",
    "tallow-relay/src/tallow_relay/caps.py",
    "tallow-relay/src/tallow_relay/datatokens.py",
    "tallow-relay/src/tallow_relay/effects.py",
    "tallow-relay/src/tallow_relay/ratelimit.py",
    "tallow-relay/src/tallow_relay/rooms.py",
    "tallow-relay/src/tallow_relay/roomtable.py",
]

IMPURE = {
    "aioquic",
    "asyncio",
    "concurrent",
    "datetime",
    "io",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "secrets",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "uuid",
    "uvloop",
}


def files_of(pattern):
    return sorted(PACKAGES.glob(pattern))


def imported_modules(source):
    """Every module that the source imports at run time: `if TYPE_CHECKING` blocks name types only."""
    modules = set()
    nodes = [ast.parse(source)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            nodes += node.orelse
            continue
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module or ".")
        nodes += ast.iter_child_nodes(node)
    return modules


def impurities(source):
    modules = imported_modules(source)
    impure = {module for module in modules if module.split(".")[0] in IMPURE}
    # A shell of ours is as impure as what it imports.
    return impure | {module for module in modules if ".transport" in module or ".aio" in module}


def uses_open(source):
    calls = (node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return any(
        isinstance(func, ast.Name) and func.id in {"open", "input", "print", "__import__"} for func in calls
    )


@pytest.mark.parametrize("pattern", CORES)
def test_a_core_imports_nothing_that_acts(pattern):
    files = files_of(pattern)
    assert files, f"no file matches {pattern}"
    for file in files:
        source = file.read_text(encoding="utf-8")
        assert impurities(source) == set(), file
        assert not uses_open(source), file


@pytest.mark.parametrize(
    "source",
    [
        "import asyncio",
        "import os.path",
        "from time import monotonic",
        "from concurrent.futures import Future",
        "def f():\n    import socket",
        "try:\n    import ssl\nexcept ImportError:\n    pass",
        "from tallow_net.transport.frames import FrameStream",
        "from tallow_net.relay import session\nimport random as chance",
    ],
)
def test_the_check_finds_an_import_wherever_it_stands(source):
    assert impurities(source)


def test_the_check_leaves_types_and_pure_modules_alone():
    source = "import re\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import asyncio\n"
    assert impurities(source) == set()


def test_the_check_finds_an_opened_file():
    assert uses_open("def f(p):\n    return open(p)")

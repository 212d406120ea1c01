"""What is installed is what constraints.txt says, and the tree names no host of a package index."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from importlib.metadata import distributions

import pytest

from tests.packaging.conftest import ROOT

PIN = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[0-9][\w.]*)(?: ; [\w .'=<>!()]+)?")


def constraints():
    return (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()


def tracked_files():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_constraints_and_workspace_hold_the_same_pins():
    workspace = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["uv"]

    assert constraints() == workspace["constraint-dependencies"]


def test_a_constraint_is_a_name_and_a_version():
    assert all(PIN.fullmatch(line) for line in constraints())


def test_what_is_installed_here_is_pinned():
    pins = {match["name"]: match["version"] for match in map(PIN.fullmatch, constraints())}
    installed = {re.sub(r"[-_.]+", "-", found.name).lower(): found.version for found in distributions()}
    ours = {name for name in installed if name.startswith("tallow-")}
    # These come with a virtual environment, not with a dependency.
    seeds = {"pip", "setuptools", "wheel"}

    assert {name: version for name, version in installed.items() if name not in ours | seeds} == {
        name: version for name, version in pins.items() if name in installed
    }


def test_the_tree_holds_no_lock_file():
    assert [path for path in tracked_files() if path.name == "uv.lock"] == []


def test_the_tree_names_no_package_index_and_no_place_of_this_machine():
    # Put together here, so that this file does not name what it looks for.
    unwanted = [f"{host}.org" for host in ("py" + "pi", "python" + "hosted")] + [str(ROOT)]
    found = []
    for path in tracked_files():
        data = path.read_bytes()
        found += [
            (path.name, text) for text in unwanted if re.search(rb"(?<!\w)" + re.escape(text.encode()), data)
        ]

    assert found == []

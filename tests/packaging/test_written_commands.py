"""The commands that README.md and CONTRIBUTING.md tell people to type exist, with the files and options they name."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT

DOCUMENTS = ["README.md", "CONTRIBUTING.md"]
FENCED = re.compile(r"^```\n(.*?)^```$", re.DOTALL | re.MULTILINE)
IN_TABLE = re.compile(r"^\| `([^`]+)` \|", re.MULTILINE)
# What a reader has before anything of this is installed.
AT_HAND = {"pip", "uv"}
OURS = {"tallow", "tallow-relay"}


def commands():
    for document in DOCUMENTS:
        text = (ROOT / document).read_text(encoding="utf-8")
        for block in FENCED.findall(text):
            yield from block.splitlines()
        yield from IN_TABLE.findall(text)


def in_virtual_environment(name):
    return Path(sys.executable).with_name(name)


def program_of(word):
    """The program that `word` stands for in a checkout that is set up."""
    if word.startswith(".venv/bin/"):
        return in_virtual_environment(word.rpartition("/")[2])
    return in_virtual_environment(word) if word in OURS else ROOT / word


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_a_written_command_exists(command):
    program, *arguments = shlex.split(command)

    assert program in AT_HAND or os.access(program_of(program), os.X_OK)
    for word in arguments:
        if word.startswith(("tests/", ".ci/", "docs/")):
            assert (ROOT / word).exists(), word


@pytest.mark.parametrize(
    "command", sorted(c for c in set(commands()) if c.split()[0].rpartition("/")[2] in OURS)
)
def test_a_written_option_exists(command):
    program, subcommand, *arguments = shlex.split(command)
    shown = subprocess.run(
        [in_virtual_environment(program.rpartition("/")[2]), subcommand, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout

    for word in arguments:
        if word.startswith("-"):
            assert re.search(rf"{re.escape(word)}\b", shown), word


def test_the_first_page_has_a_quick_start_of_two_commands():
    quick_start = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Quick start\n")[2]

    first, second, *_ = FENCED.findall(quick_start)

    assert first == "./tallow send docs/protocol.md\n"
    # The gate calls the second one: it is what passes the tests.
    assert second == "./check\n"
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").endswith("\nexec ./check\n")

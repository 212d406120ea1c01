"""Every import contract of the workspace is broken once on purpose, in a copy, and must be seen to break."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "pyproject.toml"

# Contract, module that gets the line, line. A contract that is missing here fails below.
PLANTS = [
    ("layers", "tallow_protocol/api/transfer.py", "import tallow_cli.main"),
    ("layers", "tallow_net/framing.py", "def late():\n    import tallow_store"),
    (
        "relay, protocol and store are independent of each other",
        "tallow_relay/forward.py",
        "from tallow_protocol.core import messages",
    ),
    (
        "relay, protocol and store are independent of each other",
        "tallow_protocol/ports.py",
        "import tallow_store.relays",
    ),
    ("the store does not know the network", "tallow_store/relays.py", "from tallow_net import RelayPin"),
    ("crypto is pure", "tallow_crypto/kem.py", "import os"),
    ("cores do not act", "tallow_protocol/core/window.py", "import asyncio"),
    ("cores do not act", "tallow_protocol/core/records.py", "from pathlib import Path"),
    ("cores do not act", "tallow_net/relay/session.py", "from time import monotonic"),
    ("cores do not act", "tallow_relay/ratelimit.py", "def now():\n    import time"),
    ("cores do not act", "tallow_protocol/core/state.py", "from tallow_protocol.disk import root"),
    (
        "cores reach no network and no event loop through anything",
        "tallow_protocol/core/window.py",
        "from tallow_net import PeerText",
    ),
    ("disk is synchronous and knows no network", "tallow_protocol/disk/scan.py", "import asyncio"),
    ("only the command line knows the terminal", "tallow_relay/cli.py", "import rich"),
    ("only the command line knows the terminal", "tallow_protocol/api/transfer.py", "import typer"),
    ("no click or pydantic", "tallow_cli/main.py", "import click"),
]


def contracts():
    return [
        contract["name"]
        for contract in tomllib.loads(PROJECT.read_text())["tool"]["importlinter"]["contracts"]
    ]


@pytest.fixture
def workspace(tmp_path):
    """Every package's source in one folder, with the project file that holds the contracts."""
    for source in sorted(ROOT.glob("packages/*/src/tallow_*")):
        shutil.copytree(source, tmp_path / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT, tmp_path)
    return tmp_path


def lint_imports(folder):
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_every_contract_has_an_import_that_breaks_it():
    assert {contract for contract, _, _ in PLANTS} == set(contracts())


def test_the_copy_keeps_every_contract(workspace):
    result = lint_imports(workspace)

    assert result.returncode == 0, result.stdout
    for name in contracts():
        assert f"{name} KEPT" in result.stdout


@pytest.mark.parametrize(("contract", "module", "line"), PLANTS)
def test_a_planted_import_breaks_its_contract(workspace, contract, module, line):
    with (workspace / module).open("a", encoding="utf-8") as source:
        source.write(f"\n{line}\n")

    result = lint_imports(workspace)

    assert result.returncode == 1, result.stdout
    assert f"{contract} BROKEN" in result.stdout

"""The oldest versions that the packages declare pass the tests too."""

from __future__ import annotations

import tomllib

import pytest

from tests.packaging.conftest import ROOT
from tests.packaging.test_wheels import COMES_ALONG

# Tools of the gate, which no test of these parts runs: their own dependencies may be newer than our lowest.
TOOLS = ("import-linter", "mypy", "ruff", "uv")

PARTS = ["crypto", "net", "store", "protocol", "relay", "cli"]


def what_tests_import():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    return [requirement for requirement in groups["dev"] if not requirement.startswith(TOOLS)]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_lowest_declared_versions_pass_the_tests(wheels, empty_environment):
    # What a package depends on is lowest only if it is asked for by name: a project file names it, a wheel does not.
    projects = [ROOT / "packages" / package / "pyproject.toml" for package in COMES_ALONG]
    empty_environment.install(
        *("--constraint", wheels / "workspace.txt", "--no-sources"),
        *("--resolution", "lowest-direct", "--only-binary", ":all:"),
        *(word for project in projects for word in ("--requirements", project)),
        *COMES_ALONG,
    )
    lowest = empty_environment.folder / "lowest.txt"
    lowest.write_text(empty_environment.freeze())
    assert "cryptography==48.0.0\n" in lowest.read_text()
    empty_environment.install("--constraint", lowest, *what_tests_import())

    empty_environment.run(
        *("python", "-m", "pytest", "-q", "-n", "auto", "-p", "no:cacheprovider", "--rootdir", ROOT),
        *("-c", ROOT / "pyproject.toml", *(ROOT / "tests" / part for part in PARTS)),
        timeout=1700,
    )

"""The oldest versions that the packages declare pass the tests too."""

from __future__ import annotations

import pytest

from tests.packaging.conftest import ROOT, uv
from tests.packaging.test_wheels import COMES_ALONG

PARTS = ["crypto", "net", "store", "protocol", "relay", "cli"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_lowest_declared_versions_pass_the_tests(wheels, empty_environment):
    empty_environment.install(
        *("--constraint", wheels / "workspace.txt"),
        *("--resolution", "lowest-direct", "--only-binary", ":all:"),
        *COMES_ALONG,
    )
    lowest = empty_environment.folder / "lowest.txt"
    lowest.write_text(uv("pip", "freeze", "--python", empty_environment.python))
    empty_environment.install("--constraint", lowest, "--group", "dev")
    assert "cryptography==48.0.0" in lowest.read_text()

    empty_environment.run(
        *("python", "-m", "pytest", "-q", "-n", "auto", "-p", "no:cacheprovider", "--rootdir", ROOT),
        *("-c", ROOT / "pyproject.toml", *(ROOT / "tests" / part for part in PARTS)),
        timeout=1700,
    )

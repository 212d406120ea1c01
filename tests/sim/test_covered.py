"""The worlds by themselves run at least 80 of 100 lines of the code that they are about."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.sim.covered import ROOT

WORLDS = 200


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_worlds_run_four_fifths_of_the_lines() -> None:
    # In a process of its own, where nothing of it was imported before the lines are traced.
    command = [sys.executable, "-m", "tests.sim.covered", "--seeds", str(WORLDS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr

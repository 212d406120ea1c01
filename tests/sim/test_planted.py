"""A bug planted in a copy of the code is found; the code as it is, over the same worlds, breaks nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sim.planted import PLANTED, Planted, hunt
from tests.sim.scenario import run_seed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.name.replace(" ", "-"))
def test_a_planted_bug_is_found_within_a_thousand_worlds(bug: Planted, tmp_path: Path) -> None:
    found = hunt(bug, tmp_path)
    assert found is not None, f"no world noticed: {bug.name}"
    assert found.story.partition(":")[0] in bug.rules
    for seed in range(1, found.seed + 1):
        assert run_seed(seed).broken is None

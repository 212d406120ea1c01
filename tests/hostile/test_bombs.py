"""Bombs of every kind stay under a fixed peak of memory, each measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.bombs import BOMBS

ROOT = Path(__file__).resolve().parents[2]


def explode(name: str, *options: str) -> tuple[bool, int]:
    """Return whether the bomb was refused as it should be, and the MiB by which it raised the peak."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.bombs", name, *options],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=140,
    )
    return done.stderr.startswith("refused"), int(done.stdout) // 1024


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_no_more_than_its_share(name: str) -> None:
    refused, grown = explode(name)
    assert refused
    assert grown <= BOMBS[name][1]


@pytest.mark.parametrize("name", ["decompression_that_lies", "messages_ahead_of_their_turn"])
def test_the_measure_sees_what_the_naive_implementation_takes(name: str) -> None:
    _refused, grown = explode(name, "--naive")
    assert grown > BOMBS[name][1]


def test_without_its_bound_the_digests_of_chunks_ahead_are_never_refused() -> None:
    refused, _grown = explode("chunks_out_of_order", "--naive")
    assert not refused

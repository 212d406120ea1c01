"""The simulation in the gate: so many worlds, the same ones each time. A failing one is shrunk and printed with its command."""

from __future__ import annotations

import pytest

from tests.sim.scenario import run_seed, run_tape
from tests.sim.soak import report
from tests.sim.tape import Tape, shrink
from tests.sim.world import BrokenRuleError, World

WORLDS = 2000
SHARDS = 20


@pytest.mark.parametrize("shard", range(SHARDS))
def test_every_rule_holds_in_every_world(shard: int, record_property) -> None:
    each = WORLDS // SHARDS
    events = 0
    for seed in range(1 + shard * each, 1 + (shard + 1) * each):
        outcome = run_seed(seed)
        events += outcome.events
        if outcome.broken is not None:
            pytest.fail(report(seed, outcome, runs=60), pytrace=False)
    record_property("worlds", each)
    record_property("events", events)


@pytest.mark.parametrize("seed", [7, 50, 91])
def test_a_seed_replays_exactly_and_so_does_its_tape(seed: int) -> None:
    first, second = run_seed(seed), run_seed(seed)
    assert first.log == second.log
    assert first.digest == second.digest
    assert run_tape(Tape(values=first.tape), real=seed == 50).digest == first.digest


def test_a_failing_tape_is_made_smaller_and_still_fails() -> None:
    long = [3, 9, 0, 7, 5, 5, 1, 8] * 20
    assert shrink(long, lambda values: sum(value >= 7 for value in values) >= 2) in (
        [9, 7],
        [7, 8],
        [9, 8],
        [7, 7],
    )


def test_the_empty_tape_is_the_simplest_world_and_it_ends_well() -> None:
    outcome = run_tape(Tape(values=[]))
    assert outcome.broken is None
    assert outcome.attempts == 1
    assert not outcome.seen


def test_a_world_that_never_lets_time_pass_is_a_finding() -> None:
    world = World(Tape(values=[]))

    def again() -> None:
        world.after(0.0, again)

    again()
    with pytest.raises(BrokenRuleError, match="time passes"):
        world.run(lambda: False, 10.0)

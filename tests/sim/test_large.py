"""A terabyte costs nothing in a world: what is sent is made from its name, and what was received is made again."""

from __future__ import annotations

import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tallow_protocol.events import Resumed

from tests.sim.scenario import LARGE_CHUNK_BYTES, TERABYTE, Scenario, run_seed
from tests.sim.tape import Tape

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1024 * 1024
SIZE, LEFT = TERABYTE["large_bytes"], TERABYTE["left_bytes"]
SEEDS = range(1, 4)


@dataclass(frozen=True)
class Told:
    """What a process tells of the world that it ran: `memory_bytes` is the most that it ever had."""

    attempts: int
    resumed: list[int]
    sent_bytes: int
    files: dict[str, tuple[int, int]]
    kept_bytes: int
    memory_bytes: int


def alone(work: Callable[[], Told]) -> Told:
    """Run a world in a process of its own, so that the memory it takes can be told."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work).result(timeout=300)


def told(scenario: Scenario, kept_bytes: int, resumed: list[int]) -> Told:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return Told(
        scenario.attempts,
        resumed,
        scenario.sender.bulk_bytes,
        {path: (len(node.data), len(node.durable)) for path, node in scenario.disk.tree()},
        kept_bytes,
        int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[1]) * 1024,
    )


def kept(scenario: Scenario) -> int:
    """Return how many bytes the disk keeps of what is no journal."""
    folders = [scenario.disk.top]
    total = 0
    while folders:
        for name, node in folders.pop().entries.values():
            if node.folder:
                folders.append(node)
            elif not name.endswith(".journal"):
                total += node.data.kept_bytes + node.durable.kept_bytes
    return total


def interrupted_terabyte() -> Told:
    """Receive the end of a terabyte, in the middle of which the receiver dies once."""
    scenario = Scenario(Tape(values=[]), real=False, **TERABYTE)
    receivers: list[object] = []
    kept_bytes = 0

    def look() -> None:
        nonlocal kept_bytes
        kept_bytes = max(kept_bytes, kept(scenario))
        receiver = scenario.receiver
        if receiver not in receivers:
            receivers.append(receiver)
        if len(receivers) == 1 and receiver.alive and scenario.sender.bulk_bytes > LEFT * 7 // 10:
            receiver.crash()
            scenario.disk.kill()
            scenario.crashed = True
            scenario.survives = False
            scenario._trouble(frozenset({"peer_left"}))

    scenario.world.watchers.append(look)
    scenario.run()
    resumed = [event.bytes for peer in receivers for event in peer.events if isinstance(event, Resumed)]
    return told(scenario, kept_bytes, resumed)


def test_a_terabyte_whose_receiver_dies_near_its_end_comes_whole_and_takes_no_memory() -> None:
    world = alone(interrupted_terabyte)
    assert world.attempts == 2
    first, second = world.resumed
    assert 0.9998 < first / SIZE < 1
    assert first + 32 * MIB <= second  # what was synced in the first try is not sent again
    assert world.sent_bytes < SIZE - second + 2 * MIB
    assert world.files == {"secretfile-round.bin": (SIZE, SIZE)}
    assert world.kept_bytes < LARGE_CHUNK_BYTES
    assert world.memory_bytes < 320 * MIB


@pytest.mark.parametrize("seed", SEEDS)
def test_every_rule_holds_for_a_terabyte_in_trouble(seed: int) -> None:
    assert run_seed(seed, **TERABYTE).broken is None


def gibibyte() -> Told:
    """Send a file whole, and receive it."""
    scenario = Scenario(Tape(values=[3]), real=False, large_bytes=1024 * MIB + 5)
    scenario.run()
    return told(scenario, kept(scenario), [])


def test_a_gibibyte_that_travels_takes_no_memory() -> None:
    world = alone(gibibyte)
    size = 1024 * MIB + 5
    assert world.sent_bytes > size
    assert world.files == {"secretfile-round.bin": (size, size)}
    assert world.kept_bytes < LARGE_CHUNK_BYTES
    assert world.memory_bytes < 256 * MIB

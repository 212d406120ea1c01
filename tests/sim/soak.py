"""Run many worlds: `python -m tests.sim.soak --seeds 10000 --hours 8`, or one again: `--seed 17`, `--tape 0,3,1`."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

import tallow_protocol

from tests.sim.scenario import TERABYTE, Outcome, run_seed, run_tape
from tests.sim.standins import REAL_EVERY
from tests.sim.tape import Tape, shrink


def show(outcome: Outcome, *, lines: int = 60) -> None:
    """Print what happened."""
    for line in outcome.log[-lines:]:
        print(line)
    print(f"broken: {outcome.broken}" if outcome.broken else "all held")


def shrunk(seed: int, outcome: Outcome, *, runs: int = 200, **size: int) -> list[int]:
    """Return a smaller tape with the same rule broken."""
    rule = outcome.broken.rule
    real = seed % REAL_EVERY == 0

    def fails(values: list[int]) -> bool:
        broken = run_tape(Tape(values=values), real=real, **size).broken
        return broken is not None and broken.rule == rule

    return shrink(outcome.tape, fails, runs=runs)


def report(seed: int, outcome: Outcome, *, runs: int = 200, **size: int) -> str:
    """Return the shrunk failure and the command that repeats it."""
    values = shrunk(seed, outcome, runs=runs, **size)
    real = " --real" if seed % REAL_EVERY == 0 else ""
    large = " --large" if size else ""
    small = run_tape(Tape(values=values), real=bool(real), **size)
    story = "\n".join(small.log[-40:])
    tape = ",".join(map(str, values))
    return (
        f"seed {seed}: {outcome.broken}\n{story}\n"
        f"repeat: python -m tests.sim.soak --seed {seed}{large}\n"
        f"shrunk: python -m tests.sim.soak --tape '{tape}'{real}{large}\n"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run; return 1 where something broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000, help="how many worlds")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--hours", type=float, default=0.0, help="go on with further seeds for so long")
    parser.add_argument("--seed", type=int, help="one world, with its story")
    parser.add_argument("--tape", help="one world from a tape, with its story")
    parser.add_argument("--real", action="store_true", help="real cryptography, for --tape")
    parser.add_argument("--large", action="store_true", help="worlds of a terabyte, nearly all of it there")
    parser.add_argument(
        "--stop", action="store_true", help="stop at the first failure, and print its rule alone"
    )
    parser.add_argument("--under", help="fail unless the code under test lies in this folder")
    options = parser.parse_args(arguments)
    if options.under is not None and not tallow_protocol.__file__.startswith(options.under):
        parser.error(f"the code under test is {tallow_protocol.__file__}")
    size = TERABYTE if options.large else {}
    if options.seed is not None or options.tape is not None:
        if options.seed is not None:
            outcome = run_seed(options.seed, **size)
        else:
            values = [int(value) for value in options.tape.split(",") if value]
            outcome = run_tape(Tape(values=values), real=options.real, **size)
        show(outcome, lines=400)
        return outcome.broken is not None
    started = time.monotonic()
    seed, failed, events, seen = options.first, 0, 0, Counter()
    while seed < options.first + options.seeds or time.monotonic() - started < options.hours * 3600:
        outcome = run_seed(seed, **size)
        events += outcome.events
        seen.update(outcome.seen)
        if outcome.broken is not None:
            failed += 1
            if options.stop:
                print(f"seed {seed}: {outcome.broken}")
                return 1
            print(report(seed, outcome, **size), flush=True)
        seed += 1
    took = time.monotonic() - started
    print(
        f"{seed - options.first} worlds, {events} events, {failed} broken, {took:.0f} s, errors seen: {dict(seen)}"
    )
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())

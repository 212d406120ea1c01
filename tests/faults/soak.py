"""Faults by the hundred on real processes: `python -m tests.faults.soak --runs 300`.

Each run is a fault of the catalogue with a seed; `--fault NAME --seed N` repeats one. Seeds go round the catalogue, so that
--runs 100 makes each fault several times. `--write docs/reliability.md` replaces that page's table with what these runs showed.
Needs root for network namespaces and small disks; without, those faults are left out and named.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults.catalogue import Fault, load
from tests.faults.kit import Result, Run, UnusableError

BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"


async def run_one(fault: Fault, seed: int, folder: Path | None = None) -> Result:
    """Make one run and return what it showed; UnusableError where this machine cannot."""
    with tempfile.TemporaryDirectory(prefix="tallow-fault-", dir=folder) as place:
        async with Run(fault.name, seed, Path(place, "run")) as run:
            try:
                async with asyncio.timeout(fault.limit_s):
                    await fault.work(run)
                    await run.end_relay()
            except TimeoutError:
                run.problem(f"the run did not end in {fault.limit_s:.0f} s: {last_lines(run)}")
            except (AssertionError, OSError, ValueError, AttributeError) as error:
                run.problem(f"{type(error).__name__}: {error}; {last_lines(run)}")
        return run.result


def last_lines(run: Run) -> str:
    return "; ".join(f"{program.name}: {program.lines[-2:]}" for program in run.programs)


def told(result: Result) -> str:
    """One line about a run."""
    ends = f"{result.sender or '-'} / {result.receiver or '-'}"
    extra = [
        *(["rejoined"] if result.rejoined else []),
        *([f"resumed at {result.resumed_bytes}"] if result.resumed_bytes else []),
        *(["arrived when sent again"] if result.arrived_later else []),
    ]
    return (
        f"{'FAILED' if result.problems else 'ok':6} {result.fault} {result.seed}: {ends}"
        f" {', '.join(extra)} [{result.note}] {result.seconds:.1f} s"
    )


def seen(results: list[Result]) -> str:
    """How the user saw these runs: outcomes counted, the most frequent first."""
    counts: Counter[str] = Counter()
    for result in results:
        if result.arrived:
            counts["all arrived" + (" after meeting again" if result.rejoined else "")] += 1
        else:
            what = f"sender {result.sender or '-'}, receiver {result.receiver or '-'}"
            if result.arrived_later:
                what += "; sent again, it went on" if result.resumed_bytes else "; sent again, all arrived"
            counts[what] += 1
    return "; ".join(f"{count} x {what}" for what, count in counts.most_common())


def table(results: list[Result], catalogue: dict[str, Fault]) -> str:
    """The table of the page, from the results alone. A run whose fault did not bite is no run of it."""
    lines = [
        "| fault | runs | bytes lost | faults of Tallow found | how the user saw it | repeat |",
        "|---|---|---|---|---|---|",
    ]
    for name, fault in catalogue.items():
        of_it = [result for result in results if result.fault == name and result.bit]
        if of_it:
            lost, failed = sum(r.bytes_lost for r in of_it), sum(bool(r.problems) for r in of_it)
            lines.append(
                f"| {fault.title} | {len(of_it)} | {lost or 'none'} | {failed or 'none'} | {seen(of_it)}"
                f" | `python -m tests.faults.soak --fault {name} --runs {len(of_it)} --seed {of_it[0].seed}` |"
            )
    missed = sum(not result.bit for result in results)
    results = [result for result in results if result.bit]
    lost = sum(result.bytes_lost for result in results)
    held = f"bytes lost: {lost or 'none'}; runs in which something did not hold: {failed_runs(results)}"
    left_out = f"left out, because the fault did not bite: {missed or 'none'}"
    lines += ["", f"{len(results)} runs in all; {held}; {left_out}."]
    return "\n".join(lines)


def failed_runs(results: list[Result]) -> str:
    return str(sum(bool(result.problems) for result in results) or "none")


def report(result: Result, results: Path | None) -> None:
    """Print one run, and note it where all are noted."""
    print(told(result), flush=True)
    for problem in result.problems:
        print(f"    {problem}")
    if result.problems:
        print(f"    repeat: {result.repeat}", flush=True)
    if results:
        with results.open("a") as file:
            file.write(
                json.dumps({name: getattr(result, name) for name in Result.__dataclass_fields__}) + "\n"
            )


def replaced(page: str, content: str) -> str:
    """Return the page with another marked section; ValueError where it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no section between {BEGIN} and {END}")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


async def soak(options: argparse.Namespace) -> int:
    catalogue = load()
    names = options.fault or list(catalogue)
    if unknown := [name for name in names if name not in catalogue]:
        print(f"no such fault: {', '.join(unknown)}; there are: {', '.join(catalogue)}", file=sys.stderr)
        return 2
    results: list[Result] = []
    unusable: dict[str, str] = {}
    began = time.monotonic()
    for number in range(options.runs):
        name = names[number % len(names)]
        if name in unusable or (options.minutes and time.monotonic() - began > options.minutes * 60):
            continue
        try:
            result = await run_one(catalogue[name], options.seed + number // len(names))
        except UnusableError as error:
            unusable[name] = str(error)
            continue
        results.append(result)
        report(result, options.results)
    for name, reason in unusable.items():
        print(f"left out: {name}: {reason}")
    failed = sum(bool(result.problems) for result in results)
    print(f"{len(results)} runs, {failed} failed, {sum(r.bytes_lost for r in results)} bytes lost")
    if options.write:
        if options.results:  # all runs that were noted there
            results = [Result(**json.loads(line)) for line in options.results.read_text().splitlines()]
        options.write.write_text(replaced(options.write.read_text(), table(results, catalogue)))
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--runs", type=int, default=1, metavar="N", help="runs in all")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="the first seed")
    parser.add_argument("--fault", action="append", metavar="NAME", help="only this one; may be repeated")
    parser.add_argument("--minutes", type=float, default=0, help="begin no run after so long")
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="append each result, a JSON object a line"
    )
    parser.add_argument("--write", type=Path, metavar="PAGE", help="replace this page's table")
    return asyncio.run(soak(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())

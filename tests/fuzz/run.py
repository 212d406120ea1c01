"""A coverage-guided run of one target, or of all: `python -m tests.fuzz.run TARGET|all [--seconds N]`.

Needs atheris (Linux, x86_64): `uv run --group fuzz python -m tests.fuzz.run all --seconds 60`. An input that fails is
written to --findings and named; copied to tests/fuzz/corpus/TARGET/finding-WHAT it is a test of the gate from then on.
`--keep N` merges what a run found into the corpus, the N smallest inputs that reach something new. `--results FILE` notes
each run there, and `--write docs/reliability.md` makes the table of that page from all that are noted.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.docs.marked import replaced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.fuzz.kit import Target

PACKAGES = ["tallow_cli", "tallow_net", "tallow_protocol", "tallow_relay", "tallow_store"]
DONE = re.compile(r"Done \d+ runs in (\d+) second")
RUNS = re.compile(r"stat::number_of_executed_units: (\d+)")
COVERED = re.compile(r"cov: (\d+)")
KEPT_BYTES = 1024
TIMEOUT_S = 60
"""For one input, on a machine that does other things as well; the gate asks for 5 s of CPU at most."""


@dataclass(frozen=True, slots=True)
class Result:
    """One guided run of a target; `seconds` without the start, `edges` those of our own code that it reached."""

    target: str
    executions: int
    seconds: int
    edges: int
    found: bool


def fuzz(name: str, arguments: list[str]) -> None:
    """Run one target in this process, which libFuzzer ends."""
    import atheris

    with atheris.instrument_imports(include=PACKAGES):
        from tests.fuzz.targets import TARGETS

    atheris.Setup([sys.argv[0], *arguments], TARGETS[name].run)
    atheris.Fuzz()


def names() -> list[str]:
    from tests.fuzz.targets import TARGETS

    return list(TARGETS)


def seeded(name: str, folder: Path) -> None:
    """Write the seeds and the corpus of a target to a folder."""
    from tests.fuzz.targets import TARGETS, corpus

    folder.mkdir(parents=True)
    for number, seed in enumerate(TARGETS[name].seeds()):
        (folder / f"seed-{number}").write_bytes(seed)
    for path in corpus(name):
        shutil.copy(path, folder)


def child(name: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz.run", name, "--inside", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")


def keep(name: str, found: Path, most: int) -> None:
    """Put the smallest inputs that reach something which the seeds do not into the corpus."""
    from tests.fuzz.targets import CORPUS

    with tempfile.TemporaryDirectory() as scratch:
        merged = Path(scratch) / "merged"
        seeded(name, merged)
        before = {path.name for path in merged.iterdir()}
        child(name, ["-merge=1", str(merged), str(found)])
        new = [
            path for path in merged.iterdir() if path.name not in before and path.stat().st_size <= KEPT_BYTES
        ]
        (CORPUS / name).mkdir(parents=True, exist_ok=True)
        for path in sorted(new, key=lambda path: (path.stat().st_size, path.name))[:most]:
            shutil.copy(path, CORPUS / name / path.name[:16])


def guided(name: str, given: argparse.Namespace) -> Result:
    """Run one target in a process of its own, and tell what came of it."""
    with tempfile.TemporaryDirectory() as scratch:
        found = Path(scratch) / "found"
        seeded(name, found)
        limits = [
            f"-max_total_time={given.seconds}",
            f"-timeout={TIMEOUT_S}",
            "-rss_limit_mb=1500",
            "-max_len=8192",
        ]
        started = time.monotonic()
        artifacts = f"-artifact_prefix={given.findings}/{name}-"
        run = child(name, [artifacts, *limits, "-print_final_stats=1", str(found)])
        done = DONE.search(run.stderr)
        result = Result(
            name,
            executions=max(map(int, RUNS.findall(run.stderr)), default=0),
            seconds=int(done[1]) if done else round(time.monotonic() - started),
            edges=max(map(int, COVERED.findall(run.stderr)), default=0),
            found=run.returncode != 0,
        )
        if given.keep:
            keep(name, found, given.keep)
    print(
        f"{name:16} {result.executions:>9} executions in {result.seconds} s,"
        f" {result.edges} edges, {'FAILED' if result.found else 'nothing found'}",
        flush=True,
    )
    if result.found:
        print("\n".join(run.stderr.splitlines()[-40:]), file=sys.stderr, flush=True)
    if given.results:
        with given.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")
    return result


def table(results: Sequence[Result], targets: dict[str, Target]) -> str:
    """The table of the page, from the results alone: a target that was not run says so."""
    lines = [
        "| target | reads | guided executions | in seconds | edges | runs that found something |",
        "|---|---|---|---|---|---|",
    ]
    for name, target in targets.items():
        of_it = [result for result in results if result.target == name]
        executions, seconds = sum(r.executions for r in of_it), sum(r.seconds for r in of_it)
        edges, found = max((r.edges for r in of_it), default=0), sum(r.found for r in of_it)
        numbers = f"{executions:,} | {seconds:,} | {edges:,} | {found or 'none'}" if of_it else "none | | |"
        lines.append(f"| `{name}` | {target.reads} | {numbers} |")
    counted = [result for result in results if result.target in targets]
    executions, seconds = sum(r.executions for r in counted), sum(r.seconds for r in counted)
    found = sum(result.found for result in counted)
    lines += [
        "",
        f"{executions:,} executions in {seconds / 60:.0f} minutes; runs that found something: {found or 'none'}.",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--keep", type=int, default=0, metavar="N")
    parser.add_argument("--results", type=Path, metavar="FILE")
    parser.add_argument("--write", type=Path, metavar="PAGE")
    parser.add_argument("--inside", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside is not None:
        fuzz(given.target, given.inside)
        return 0
    chosen = names() if given.target == "all" else [given.target]
    if unknown := set(chosen) - set(names()):
        parser.error(f"there is no target {unknown.pop()}; there are: {', '.join(names())}")
    given.findings.mkdir(parents=True, exist_ok=True)
    results = [guided(name, given) for name in chosen]
    if given.write:
        from tests.fuzz.targets import TARGETS

        if given.results:  # all that were noted there
            results = [Result(**json.loads(line)) for line in given.results.read_text("utf-8").splitlines()]
        page = given.write.read_text("utf-8")
        given.write.write_text(replaced(page, "fuzz", table(results, TARGETS)), "utf-8")
    return 1 if any(result.found for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())

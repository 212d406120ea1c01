"""A coverage-guided run of one target, or of all: `python -m tests.fuzz.run TARGET|all [--seconds N]`.

Needs atheris (Linux, x86_64): `uv run --group fuzz python -m tests.fuzz.run all --seconds 60`. An input that fails is
written to --findings and named; copied to tests/fuzz/corpus/TARGET/finding-WHAT it is a test of the gate from then on.
`--keep N` merges what a run found into the corpus, the N smallest inputs that reach something new.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PACKAGES = ["tallow_cli", "tallow_net", "tallow_protocol", "tallow_relay", "tallow_store"]
RUNS = re.compile(r"Done (\d+) runs|stat::number_of_executed_units: (\d+)")
COVERED = re.compile(r"cov: (\d+)")
KEPT_BYTES = 1024


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--keep", type=int, default=0, metavar="N")
    parser.add_argument("--inside", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside is not None:
        fuzz(given.target, given.inside)
        return 0
    chosen = names() if given.target == "all" else [given.target]
    if unknown := set(chosen) - set(names()):
        parser.error(f"there is no target {unknown.pop()}; there are: {', '.join(names())}")
    given.findings.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in chosen:
        with tempfile.TemporaryDirectory() as scratch:
            found = Path(scratch) / "found"
            seeded(name, found)
            prefix = f"{given.findings}/{name}-"
            limits = [
                f"-max_total_time={given.seconds}",
                "-timeout=20",
                "-rss_limit_mb=1500",
                "-max_len=8192",
            ]
            started = time.monotonic()
            run = child(name, [f"-artifact_prefix={prefix}", *limits, "-print_final_stats=1", str(found)])
            runs = [int(a or b) for a, b in RUNS.findall(run.stderr)]
            covered = [int(number) for number in COVERED.findall(run.stderr)]
            print(
                f"{name:16} {max(runs, default=0):>9} executions in {time.monotonic() - started:.0f} s,"
                f" {max(covered, default=0)} edges, {'FAILED' if run.returncode else 'nothing found'}",
                flush=True,
            )
            if run.returncode:
                failed += 1
                print("\n".join(run.stderr.splitlines()[-40:]), file=sys.stderr, flush=True)
            if given.keep:
                keep(name, found, given.keep)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

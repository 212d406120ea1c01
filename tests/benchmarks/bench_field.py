"""Tallow beside every peer that is installed, on the same work in the same run; writes docs/performance.md.

    uv run --group bench tests/benchmarks/bench_field.py [--install-peers] [--quick] [--cases KEY,...] [--rounds 5]

The whole suite takes about 35 minutes on a quiet machine of two cores and wants root (network namespaces) and 40 GB of
disk; `--quick` takes about four and is for trying it out. Raw results are kept in the folder of --work, one file a case,
so that a suite may be run in parts: each run replaces its own cases and renders all. `--render` only renders. The exit
code is 1 where a target of the report was missed, 2 where nothing could be measured.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.field.cases import CASES, Settings
from tests.benchmarks.field.contenders import install_peers
from tests.benchmarks.field.machine import machine
from tests.benchmarks.field.processes import FailedError
from tests.benchmarks.field.report import write_report
from tests.benchmarks.field.special import SPECIAL

ROOT = Path(__file__).parents[2]
ALL = {case.key: case for case in (*CASES, *SPECIAL)}


def say(text: str) -> None:
    """Print progress at once."""
    print(text, flush=True)


def run_case(key: str, options: argparse.Namespace) -> None:
    """Run one case and keep its results; one that cannot be run says why in its file."""
    case = ALL[key]
    say(f"{key}: {case.title}")
    began = time.monotonic()
    data = options.work / "data"
    shutil.rmtree(data, ignore_errors=True)
    settings = Settings(options.rounds, options.quick, data, options.work / "peers", say)
    try:
        result = case.run(settings)
    except (FailedError, OSError, ValueError, KeyError, ImportError) as error:
        result = {"problem": f"{type(error).__name__}: {error}"}
    finally:
        shutil.rmtree(data, ignore_errors=True)
    took = time.monotonic() - began
    result |= {
        "key": key,
        "title": case.title,
        "quick": options.quick,
        "took_s": took,
        "machine": machine(options.work),
    }
    say(f"{key}: {result.get('problem', 'done')}, {took:.0f} s")
    folder = results_folder(options)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{key}.json").write_text(json.dumps(result, indent=1))


def results_folder(options: argparse.Namespace) -> Path:
    """Return where raw results are kept; those of the quick form never mix with the others."""
    return Path(options.work, "results-quick" if options.quick else "results")


def main() -> int:
    """Run what was asked for, then render everything that is known."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument("--cases", help=f"separated by commas: {','.join(ALL)}", default=",".join(ALL))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, one round; no figures for the record"
    )
    parser.add_argument("--render", action="store_true", help="measure nothing")
    parser.add_argument(
        "--install-peers", action="store_true", help="from Debian, PyPI and, with Go and Rust, from source"
    )
    parser.add_argument(
        "--work", type=Path, default=cache / "tallow-bench", help="peers, raw results and the data sent"
    )
    parser.add_argument(
        "--out", type=Path, help="the page; docs/performance.md, with --quick a file below --work"
    )
    options = parser.parse_args()
    keys = [key for key in options.cases.split(",") if key]
    if unknown := sorted(set(keys) - set(ALL)):
        parser.error(f"no such case: {', '.join(unknown)}")
    for name in [name for name in os.environ if name.startswith("TALLOW_")]:
        del os.environ[name]
    options.work.mkdir(parents=True, exist_ok=True)
    if options.install_peers:
        install_peers(options.work / "peers")
    if not options.render:
        for key in keys:
            run_case(key, options)
    found = {path.stem: json.loads(path.read_text()) for path in results_folder(options).glob("*.json")}
    results = {key: found[key] for key in ALL if key in found}
    if not results:
        say("nothing was measured")
        return 2
    out = options.out or (options.work / "quick.md" if options.quick else ROOT / "docs" / "performance.md")
    out.parent.mkdir(parents=True, exist_ok=True)
    targets = write_report(results, out)
    for target in targets:
        say(f"{target.verdict:12} {target.text}: {target.measured}")
    return 1 if any(target.met is False for target in targets) else 0


if __name__ == "__main__":
    sys.exit(main())

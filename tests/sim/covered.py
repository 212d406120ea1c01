"""How many lines of the code under test the worlds run by themselves: `python -m tests.sim.covered --seeds 400`.

Lines are those that the compiler made code for; docstrings, definitions of protocols (`Protocol` classes) and imports
for type checkers are left out. Nothing but the standard library is needed.
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path
from types import CodeType

ROOT = Path(__file__).resolve().parents[2]
WATCHED = (
    "packages/tallow-protocol/src/tallow_protocol/core",
    "packages/tallow-protocol/src/tallow_protocol/disk",
    "packages/tallow-relay/src/tallow_relay/rooms.py",
    "packages/tallow-relay/src/tallow_relay/roomtable.py",
    "packages/tallow-relay/src/tallow_relay/datatokens.py",
    "packages/tallow-net/src/tallow_net/relay/session.py",
    "packages/tallow-net/src/tallow_net/relay/reconnect.py",
    "packages/tallow-net/src/tallow_net/framing.py",
)
APART = {
    "core/keeping.py": "which path is tried when: aio/paths.py asks it, tests/protocol/core/test_keeping.py drives it",
    "disk/scan.py": "the sender's reading of real folders",
    "disk/ignore.py": "patterns of a scan",
    "disk/patterns.py": "the same",
    "disk/system.py": "the calls that the simulated disk replaces",
    "disk/calls.py": "the same",
}
"""Not part of a transfer's simulation, and why."""


def files() -> list[Path]:
    """Return the files whose lines count."""
    found: list[Path] = []
    for name in WATCHED:
        path = ROOT / name
        found.extend(sorted(path.glob("*.py")) if path.is_dir() else [path])
    return [path for path in found if path.name != "__init__.py" and short(path) not in APART]


def short(path: Path) -> str:
    """Return folder and name."""
    return f"{path.parent.name}/{path.name}"


def lines_of(path: Path) -> set[int]:
    """Return the lines of functions that the compiler made code for."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    left_out: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(
            isinstance(b, ast.Name) and b.id == "Protocol" for b in node.bases
        ):
            left_out.update(range(node.lineno, (node.end_lineno or 0) + 1))
    found: set[int] = set()

    def walk(code: CodeType) -> None:
        if code.co_name != "<module>" and not code.co_name[:1].isupper():
            found.update(
                line for _, _, line in code.co_lines() if line is not None and line != code.co_firstlineno
            )
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                walk(constant)

    walk(compile(text, str(path), "exec"))
    return found - left_out


def measure(seeds: int) -> dict[Path, tuple[set[int], set[int]]]:
    """Run worlds; return for each file its lines and those that ran."""
    wanted = {str(path): (lines_of(path), set[int]()) for path in files()}

    def of_line(frame, event, argument):
        if event == "line":
            wanted[frame.f_code.co_filename][1].add(frame.f_lineno)
        return of_line

    def of_call(frame, event, argument):
        return of_line if frame.f_code.co_filename in wanted else None

    sys.settrace(of_call)
    try:
        from tests.sim.scenario import run_seed

        for seed in range(1, seeds + 1):
            run_seed(seed)
    finally:
        sys.settrace(None)
    return {Path(name): (lines, ran & lines) for name, (lines, ran) in wanted.items()}


def main(arguments: list[str] | None = None) -> int:
    """Print the table; return 1 below 80 in 100."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=400)
    parser.add_argument(
        "--missing", help="print the lines of this file that did not run, such as core/session.py"
    )
    options = parser.parse_args(arguments)
    measured = measure(options.seeds)
    total = done = 0
    for path, (lines, ran) in sorted(measured.items()):
        total, done = total + len(lines), done + len(ran)
        print(
            f"{short(path):32} {len(ran):5} of {len(lines):5}  {100 * len(ran) / max(len(lines), 1):5.1f} %"
        )
        if options.missing == short(path):
            print("   ", sorted(lines - ran))
    print(f"{'all':32} {done:5} of {total:5}  {100 * done / total:5.1f} %")
    return done < 0.8 * total


if __name__ == "__main__":
    sys.exit(main())

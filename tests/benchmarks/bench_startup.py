"""How long `tallow` takes until it says something: medians of ten, in milliseconds.

    .venv/bin/python tests/benchmarks/bench_startup.py

Measured as a person feels it, from the start of the interpreter: `tallow --version` to its exit (limit 60 ms);
`tallow send` without a relay to the line with the code, for a file of 1 KiB and for a folder of 50,000 files (limit
150 ms each); and `tallow receive` of 1 KiB to its exit on loopback, with the sender waiting already (limit 450 ms),
once with `--peer` and once found by its announcement. Bytecode is written first, as after any installation.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TALLOW = Path(sys.executable).with_name("tallow")
ROUNDS = 10
FILES = 50_000
ANNOUNCED_S = 2.0
LIMITS_MS = {
    "version": 60,
    "code for 1 KiB": 150,
    "code for 50,000 files": 150,
    "1 KiB, --peer": 450,
    "1 KiB, announced": 450,
}


def environment(home: Path) -> dict[str, str]:
    """A home of its own, and no setting of the caller's that changes how Python starts."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("TALLOW_", "PYTHON"))}
    return kept | {"TALLOW_HOME": str(home)}


def version_ms(home: Path) -> float:
    """From start to exit of `tallow --version`."""
    start = time.perf_counter()
    subprocess.run([TALLOW, "--version"], env=environment(home), check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - start) * 1000


def start_sender(path: Path, home: Path) -> tuple[subprocess.Popen[str], dict[str, str], float]:
    """Start a sender; return it, its `code` event, and the milliseconds to that line."""
    start = time.perf_counter()
    child = subprocess.Popen(
        [TALLOW, "send", "--json", str(path)],
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    line = child.stdout.readline() if child.stdout is not None else ""
    took_ms = (time.perf_counter() - start) * 1000
    return child, json.loads(line), took_ms


def stop(child: subprocess.Popen[str]) -> None:
    """End a sender that nobody answered."""
    child.kill()
    child.wait()
    if child.stdout is not None:
        child.stdout.close()


def code_ms(path: Path, home: Path) -> float:
    """From start to the code."""
    child, _event, took_ms = start_sender(path, home)
    stop(child)
    return took_ms


def receive_ms(path: Path, folder: Path, *, announced: bool) -> float:
    """From the start of `receive` to its exit."""
    child, event, _took_ms = start_sender(path, folder / "home")
    # The sender is to be waiting already; nothing tells from outside when it has finished its background work.
    time.sleep(ANNOUNCED_S)
    out = folder / f"out{time.monotonic_ns()}"
    port = event["peer"].rpartition(":")[2]
    where = [] if announced else ["--peer", f"127.0.0.1:{port}"]
    command = [TALLOW, "receive", "--yes", "--quiet", *where, "--out", str(out), event["code"]]
    start = time.perf_counter()
    subprocess.run(command, env=environment(folder / "home2"), check=True, stdout=subprocess.DEVNULL)
    took_ms = (time.perf_counter() - start) * 1000
    stop(child)
    shutil.rmtree(out)
    return took_ms


def measure(rounds: int = ROUNDS, files: int = FILES) -> dict[str, list[float]]:
    """Return the milliseconds of every round of every case."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = folder / "small"
        small.write_bytes(os.urandom(1024))
        tree = folder / "tree"
        tree.mkdir()
        for number in range(files):
            (tree / str(number)).touch()
        home = folder / "home"
        cases = {
            "version": lambda: version_ms(home),
            "code for 1 KiB": lambda: code_ms(small, home),
            "code for 50,000 files": lambda: code_ms(tree, home),
            "1 KiB, --peer": lambda: receive_ms(small, folder, announced=False),
            "1 KiB, announced": lambda: receive_ms(small, folder, announced=True),
        }
        for warm in cases.values():
            warm()
        return {name: [case() for _ in range(rounds)] for name, case in cases.items()}


def main() -> None:
    """Print the medians, their ranges and limits."""
    for name, took in measure().items():
        print(
            f"{name:24} {statistics.median(took):6.0f} ms"
            f"  ({min(took):.0f} to {max(took):.0f}; limit {LIMITS_MS[name]})"
        )


if __name__ == "__main__":
    main()

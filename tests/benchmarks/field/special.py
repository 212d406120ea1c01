"""The cases that measure something else than one transfer after the other."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.field.processes import Ended, FailedError, Program
from tests.benchmarks.field.trees import MIB, difference, make_random, warm_pages

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.benchmarks.field.cases import Settings

BENCHMARKS = Path(__file__).parents[1]
RATIO = re.compile(r"^(\S+) / (\S+): ([0-9.]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Special:
    """A case with a measurement of its own."""

    key: str
    title: str
    measure: Callable[[Settings], dict[str, Any]]

    def run(self, settings: Settings) -> dict[str, Any]:
        """Measure."""
        (settings.work / self.key).mkdir(parents=True)
        return self.measure(settings)


def script(name: str, *words: object, timeout_s: float = 600) -> tuple[str, Ended]:
    """Run one of the other benchmarks to its end and return what it said; its exit code judges, so it is not ours."""
    program = Program([sys.executable, BENCHMARKS / name, *words])
    try:
        try:
            ended = program.wait(timeout_s)
        except FailedError:
            if program.child.returncode not in {0, 1} or not program.text:
                raise
            ended = Ended(0, 0, 0)
    finally:
        program.stop()
    return "".join(program.text), ended


def ticking(settings: Settings) -> dict[str, Any]:
    """Measure how late the event loops of both sides wake a task during a bulk transfer."""
    folder = settings.work / "responsive"
    source = folder / "source"
    size = (128 if settings.quick else 1024) * MIB
    make_random(source, size)
    rounds = []
    for turn in range(1 if settings.quick else settings.rounds):
        warm_pages(folder, size + 512 * MIB)
        into = folder / f"out-{turn}"
        program = BENCHMARKS / "field" / "ticking.py"
        sender = Program([sys.executable, program, "send", source])
        try:
            start = json.loads(sender.line(lambda line: '"code"' in line))
            receiver = Program([sys.executable, program, "receive", start["code"], start["peer"], into])
            try:
                receiver.wait(120)
            finally:
                receiver.stop()
            sender.wait(30)
        finally:
            sender.stop()
        if (found := difference(source, into / source.name)) is not None:
            raise FailedError(f"what arrived is not what was sent: {found}")
        shutil.rmtree(into)
        sides = {"sender": json.loads(sender.text[-1]), "receiver": json.loads(receiver.text[-1])}
        rounds.append(sides)
        late = ", ".join(f"{side} {figures['p99_ms']:.1f} ms" for side, figures in sides.items())
        settings.say(f"  round {turn + 1}: p99 {late}")
    return {"runs": rounds, "bytes": size, "rounds": len(rounds)}


def start_up(settings: Settings) -> dict[str, Any]:
    """Measure how soon the commands answer."""
    from tests.benchmarks import bench_startup

    measured = bench_startup.measure(3 if settings.quick else 10, 2000 if settings.quick else 50_000)
    for name, took in measured.items():
        settings.say(f"  {name}: {statistics.median(took):.0f} ms")
    return {"measured": measured, "limits": bench_startup.LIMITS_MS, "rounds": 3 if settings.quick else 10}


def engines(settings: Settings) -> dict[str, Any]:
    """Run the benchmark of the QUIC engines."""
    mib = ["--mib", 32, "--rounds", 1] if settings.quick else ["--mib", 512, "--rounds", 3]
    text, _ = script("bench_quic.py", *mib)
    settings.say("  " + "\n  ".join(text.splitlines()[-8:]))
    ratios = {f"{above}/{below}": float(value) for above, below, value in RATIO.findall(text)}
    return {"text": text, "ratios": ratios}


def rooms(settings: Settings) -> dict[str, Any]:
    """Run the benchmark of the relay with many rooms at once."""
    text, _ = script(
        "bench_relay.py", *(["--only", "data", "--rounds", 1, "--seconds", 1] if settings.quick else [])
    )
    settings.say("  " + "\n  ".join(text.splitlines()[-8:]))
    return {"text": text, "records": records(text)}


def records(text: str) -> list[dict[str, Any]]:
    """Return the JSON objects among the lines."""
    return [json.loads(line) for line in text.splitlines() if re.match(r"^\{.*\}$", line)]


SPECIAL = (
    Special("responsive", "The event loops during a bulk transfer of 1 GiB by the API", ticking),
    Special("start-up", "How soon the commands answer", start_up),
    Special("engines", "QUIC: our shell around both engines", engines),
    Special("rooms", "A relay with 1, 10 and 100 rooms at once", rooms),
)

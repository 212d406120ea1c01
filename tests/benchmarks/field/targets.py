"""What the benchmark must show, each as one line of the report."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.benchmarks.field import figures as f

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.benchmarks.field.figures import Results

CROC, CROC_RELAYED = "croc, no compression", "croc, relayed, no compression"
IPERF, CUBIC, SCP, RSYNC = (
    "iperf3, one stream",
    "iperf3, one CUBIC stream",
    "scp (aes256-gcm)",
    "rsync over ssh",
)
PROCESS_MB = 150


@dataclass(frozen=True, slots=True)
class Target:
    """One promise and what came of it; `met` is None where nothing was measured."""

    text: str
    measured: str
    met: bool | None

    @property
    def verdict(self) -> str:
        """The one word for it."""
        return {True: "met", False: "MISSED", None: "not measured"}[self.met]


def at_least(text: str, value: float | None, limit: float, form: str = ".2f", unit: str = "") -> Target:
    """Return a target that asks for no less than the limit."""
    return Target(text, *_judged(value, form, unit, lambda measured: measured >= limit))


def at_most(text: str, value: float | None, limit: float, form: str = ".2f", unit: str = "") -> Target:
    """Return a target that asks for no more than the limit."""
    return Target(text, *_judged(value, form, unit, lambda measured: measured <= limit))


def _judged(
    value: float | None, form: str, unit: str, judge: Callable[[float], bool]
) -> tuple[str, bool | None]:
    if value is None:
        return "-", None
    return f"{value:{form}}{unit}", judge(value)


def targets(results: Results) -> list[Target]:
    """Return every target, measured as far as the results go."""
    return [*bulk(results), *small(results), *links(results), *waiting(results), *others(results)]


def _median(found: Any, figure: Callable[[Any], f.Spread | None]) -> float | None:
    if not found:
        return None
    spread = figure(found)
    return spread.median if spread else None


def _quotient(one: float | None, two: float | None) -> float | None:
    return one / two if one is not None and two else None


def bulk(results: Results) -> Iterator[Target]:
    """Large files on one machine."""
    direct = f.entry(results, "direct", "tallow")
    yield at_least(
        "1 GiB random, direct: at least 0.45 of iperf3's single stream",
        f.ratio(results, "direct", "tallow", IPERF),
        0.45,
    )
    yield at_least("1 GiB random, direct: at least 3 times scp", f.ratio(results, "direct", "tallow", SCP), 3)
    spent = _median(direct, f.cpu_gib)
    in_all = _median(direct, lambda found: f.cpu_gib(found, with_start_up=True))
    unit = f" s ({in_all:.2f} s with start-up)" if in_all is not None else ""
    yield at_most("1 GiB random, direct: CPU of both sides under 1.5 s a GiB", spent, 1.5, unit=unit)
    if f.entry(results, "relay", CROC_RELAYED):
        text = "1 GiB random, relay: at least 1.5 times croc without its compression"
        yield at_least(text, f.ratio(results, "relay", "tallow", CROC_RELAYED), 1.5)
    else:
        text = "1 GiB random, relay: at least 0.28 of iperf3's single stream (croc was not at hand)"
        yield at_least(text, f.ratio(results, "relay", "tallow", IPERF), 0.28)
    relayed = f.entry(results, "relay", "tallow")
    yield at_most(
        "1 GiB random, relay: the relay's CPU under 0.35 s a GiB",
        _median(relayed, f.relay_cpu_gib),
        0.35,
        unit=" s",
    )
    text = "1 GiB text: no slower with compression than without by more than 5 %"
    yield at_least(text, f.ratio(results, "text", "tallow", "tallow, no compression"), 0.95)
    fairness = [
        record["jain"]
        for record in results.get("rooms", {}).get("records", [])
        if record.get("rooms") == 100 and "jain" in record
    ]
    yield at_least(
        "100 rooms at once: fairness (Jain) at least 0.95", min(fairness, default=None), 0.95, ".3f"
    )


def small(results: Results) -> Iterator[Target]:
    """Many small files."""
    files = f.entry(results, "files-5000", "tallow")
    rsync, copy = f.entry(results, "files-5000", RSYNC), f.entry(results, "files-5000", "cp -r")
    whole = _quotient(_median(files, f.whole), _median(rsync, f.whole))
    yield at_most(
        "5,000 files: the whole process no slower than rsync over ssh", whole, 1, unit=" of rsync's time"
    )
    own = _quotient(_median(files, f.own), _median(copy, f.own))
    yield at_most("5,000 files: from the yes to done at most 3 times cp -r", own, 3, unit=" times")
    far = f.entry(results, "rtt-files", "tallow")
    yield at_most("500 files at 40 ms round trip: under 2 s", _median(far, f.whole), 2, unit=" s")


def links(results: Results) -> Iterator[Target]:
    """Long and lossy paths."""
    for milliseconds in (50, 100, 200):
        key = f"link-{milliseconds}"
        measured = _median(f.entry(results, key, "tallow"), f.rate)
        share = measured * 8 / results[key]["link_mbit"] if measured else None
        yield at_least(f"200 Mbit/s at {milliseconds} ms: at least 90 % of the link", share, 0.9)
    yield at_least(
        "1 % loss: at least 3 times one CUBIC stream", f.ratio(results, "lossy", "tallow", CUBIC), 3
    )


def waiting(results: Results) -> Iterator[Target]:
    """What a person waits for."""
    tiny = _median(f.entry(results, "one-kib", "tallow"), f.whole)
    yield at_most("1 KiB: at most 0.45 s end to end", tiny, 0.45, unit=" s")
    started = results.get("start-up", {}).get("measured", {})
    names = {
        "version": ("tallow --version: under 60 ms", 60),
        "code for 1 KiB": ("code on the screen without a relay, 1 KiB: within 150 ms", 150),
        "code for 50,000 files": ("code on the screen without a relay, 50,000 files: within 150 ms", 150),
    }
    for name, (text, limit) in names.items():
        value = statistics.median(started[name]) if started.get(name) else None
        yield at_most(text, value, limit, ".0f", " ms")


def others(results: Results) -> Iterator[Target]:
    """QUIC, the event loop, memory."""
    ratios = results.get("engines", {}).get("ratios", {})
    for engine in ("aioquic", "qh3"):
        text = f"QUIC, 512 MiB: {engine} in our shell at least 0.8 of the bare engine"
        yield at_least(text, ratios.get(f"{engine}/{engine}-bare"), 0.8)
    yield at_least("QUIC: qh3 at least 6 times stock aioquic", ratios.get("qh3/aioquic-stock"), 6)
    late = [side["p99_ms"] for run in results.get("responsive", {}).get("runs", []) for side in run.values()]
    worst = (
        max(
            statistics.median(run[side]["p99_ms"] for run in results["responsive"]["runs"])
            for side in ("sender", "receiver")
        )
        if late
        else None
    )
    yield at_most("event loop during a bulk transfer: lateness p99 under 20 ms", worst, 20, ".1f", " ms")
    peaks = [
        value
        for result in results.values()
        for name, found in result.get("contenders", {}).items()
        if name.startswith("tallow") and found["runs"]
        for value in [f.peak(found)]
        if value is not None
    ]
    yield at_most(
        f"peak memory of any process under {PROCESS_MB} MB",
        max(peaks, default=None),
        PROCESS_MB,
        ".0f",
        " MB",
    )
    large, less = f.entry(results, "sparse", "tallow, 16 GiB"), f.entry(results, "sparse", "tallow, 1 GiB")
    growth = f.peak(large) - f.peak(less) if large and less and f.peak(large) and f.peak(less) else None  # type: ignore[operator]  # floats
    yield at_most("peak memory flat in file size: 16 GiB within 15 MB of 1 GiB", growth, 15, "+.0f", " MB")

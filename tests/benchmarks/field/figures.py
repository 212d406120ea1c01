"""Medians and ratios of raw results."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GIB = 1 << 30
Results = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Spread:
    """Figures of several rounds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Their median."""
        return statistics.median(self.values)

    def text(self, form: str) -> str:
        """Return the median and, of several rounds, the range."""
        if len(self.values) == 1:
            return f"{self.median:{form}}"
        return f"{self.median:{form}} ({min(self.values):{form}} to {max(self.values):{form}})"


def entry(results: Results, case: str, name: str) -> Mapping[str, Any] | None:
    """Return a contender's results in a case, None where it has no run."""
    found = results.get(case, {}).get("contenders", {}).get(name)
    return found if found and found["runs"] else None


def spread(values: Sequence[float | None]) -> Spread | None:
    """Return the spread of the values that are there."""
    there = tuple(value for value in values if value is not None)
    return Spread(there) if there else None


def whole(found: Mapping[str, Any]) -> Spread:
    """Seconds from the start of the receiving process to its exit."""
    return Spread(tuple(run["whole_s"] for run in found["runs"]))


def _start_up(found: Mapping[str, Any], name: str) -> float:
    return statistics.median(run[name] for run in found["start_ups"]) if found.get("start_ups") else 0.0


def own(found: Mapping[str, Any]) -> Spread:
    """Seconds of the transfer alone: the program's own figure, or the whole less a start-up timed with 1 KiB."""
    start_up = _start_up(found, "whole_s")
    seconds = (run["own_s"] or max(run["whole_s"] - start_up, run["whole_s"] / 10) for run in found["runs"])
    return Spread(tuple(seconds))


def rate(found: Mapping[str, Any]) -> Spread:
    """MB/s (10^6 bytes) over the transfer alone."""
    return Spread(
        tuple(
            run["bytes"] / 1e6 / seconds
            for run, seconds in zip(found["runs"], own(found).values, strict=True)
        )
    )


def cpu(found: Mapping[str, Any]) -> Spread | None:
    """CPU seconds of both sides."""
    return spread([run["cpu_s"] for run in found["runs"]])


def cpu_gib(found: Mapping[str, Any], *, with_start_up: bool = False) -> Spread | None:
    """CPU seconds of both sides for a GiB; what 1 KiB costs is taken off where it was measured."""
    if any(run["cpu_s"] is None for run in found["runs"]):
        return None
    start_up = 0.0 if with_start_up else _start_up(found, "cpu_s")
    return Spread(tuple(max(run["cpu_s"] - start_up, 0.0) * GIB / run["bytes"] for run in found["runs"]))


def relay_cpu_gib(found: Mapping[str, Any]) -> Spread | None:
    """CPU seconds of the relay for a GiB."""
    return spread(
        [
            run["relay_cpu_s"] if run["relay_cpu_s"] is None else run["relay_cpu_s"] * GIB / run["bytes"]
            for run in found["runs"]
        ]
    )


def peak(found: Mapping[str, Any]) -> float | None:
    """The largest peak memory of any process in any run, MB."""
    peaks = [value for run in found["runs"] for value in run["peak_mb"].values()]
    return max(peaks) if peaks else None


def ratio(results: Results, case: str, name: str, other: str) -> float | None:
    """Return how many times the other's rate this one has."""
    one, two = entry(results, case, name), entry(results, case, other)
    return rate(one).median / rate(two).median if one and two else None

"""docs/performance.md and its plot, whole, from raw results: no figure in it is typed by hand."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from tests.benchmarks.field import figures as f
from tests.benchmarks.field.targets import CROC, CROC_RELAYED, IPERF, SCP, Target, targets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.benchmarks.field.figures import Results

WIDTH = 118
OURS, THEIRS = "#c2410c", "#94a3b8"
HEAD = """\
# Performance

This page is written by the benchmark itself and holds one run of it; nothing here is typed by hand. To repeat it on a
quiet machine with two cores or more, as root:

    uv run --group bench tests/benchmarks/bench_field.py --install-peers

`--quick` tries it out in small sizes, `--cases` runs a part; the exit code is 1 where a target below was missed.
"""
RULES = """\
## How it is measured

Tallow is run as its real commands, `tallow send` and `tallow receive --yes`. All contenders of a case do the same work in
the same run, in turns whose order is reversed every other round, with a warm page cache; every tree that arrives is
compared byte for byte with its source. Cells are medians, with the range in brackets. MB is a million bytes.

- **Transfer** runs from Tallow's event `started` (the yes) to its `done`: all is verified, on the device, under its final
  name; the others make nothing durable. scp, rsync, magic-wormhole, croc and sendme say neither: in the cases of 1 GiB, what
  they take for 1 KiB is taken off.
- **Whole** runs from the start of the receiving process to its exit, interpreter and imports included. The sender waits.
- **CPU** is user and system time of all processes of both sides; a relay's is its own column. In the cases of 1 GiB, what
  1 KiB costs is taken off here too.
- **Peak** is the largest resident set of any one process; below about 30 MB the kernel's figure is the benchmark's own.
- A virtual machine may give free pages back to its host and get them again slowly, which alone can halve a figure. So
  before each run with large files that much memory is written and freed, and their copies are deleted after it.
- croc and sendme would look for servers of their makers, so they run in a namespace with nothing but loopback. croc runs
  with `--no-compress` where the bytes are random, which is its best; where both forms stand, the first is its default.
- Small files that were just deleted slow down the next ones on ext4. So each run has a new folder, and what is received
  stays until the case is over.
- Links are two namespaces and our own emulator (tests/netns/emulator.py), in Python, which takes a part of a core.
"""


def write_report(results: Results, out: Path) -> list[Target]:
    """Write the page and the plot beside it; return the targets."""
    judged = targets(results)
    plot = out.with_suffix(".svg")
    parts = [HEAD, _machines(results), "## What it was to show\n", _targets(judged)]
    if _draw(results, plot):
        parts.append(f"![The main cases as bars]({plot.name})\n")
    parts.append(RULES)
    parts.extend("\n".join(_case(result)) for result in results.values())
    out.write_text("\n".join(parts).rstrip() + "\n")
    return judged


def _machines(results: Results) -> str:
    described: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for key, result in results.items():
        described.setdefault(tuple(result["machine"].items()), []).append(key)
    lines = [
        ", ".join(f"{name}: {value}" for name, value in machine)
        + ("." if len(described) == 1 else f" ({', '.join(keys)}).")
        for machine, keys in described.items()
    ]
    if any(result["quick"] for result in results.values()):
        lines.append(
            "\n**Made with `--quick`: small sizes, one round. These are no figures for the record.**"
        )
    return "\n".join(lines) + "\n"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _targets(judged: list[Target]) -> str:
    return _table(["target", "measured", ""], [[one.text, one.measured, one.verdict] for one in judged])


def _case(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {result['title']}\n"
    if "problem" in result:
        yield f"Not measured: {result['problem']}.\n"
        return
    if "contenders" in result:
        yield from _transfers(result)
    elif result["key"] == "responsive":
        yield from _responsive(result)
    elif result["key"] == "start-up":
        yield from _start_up(result)
    else:
        yield "```text\n" + _without_records(result["text"]) + "\n```\n"


def _short(name: str) -> str:
    """Return a contender's name for the head of a column."""
    return (
        name.replace(", relayed", "")
        .removesuffix(", one stream")
        .removesuffix(", one CUBIC stream")
        .partition(" (")[0]
    )


def _without_records(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("{"))


def _transfers(result: Mapping[str, Any]) -> Iterator[str]:
    rounds = "one round" if result["rounds"] == 1 else f"{result['rounds']} rounds"
    versions = dict.fromkeys(
        f"{name.partition(',')[0].partition(' ')[0]} {one['version']}"
        for name, one in result["contenders"].items()
    )
    yield f"{result['place'][0].upper()}{result['place'][1:]}; {rounds}. Versions: {', '.join(versions)}.\n"
    found = {name: one for name, one in result["contenders"].items() if one["runs"]}
    by_rate = result["sources"]["main"]["files"] == 1 and result["sources"]["main"]["bytes"] > 1 << 20
    references = [
        name
        for name in (
            IPERF,
            "iperf3, one CUBIC stream",
            SCP,
            "rsync over ssh",
            "cp -r",
            "croc",
            CROC,
            CROC_RELAYED,
            "sendme",
        )
        if name in found
    ]
    head = [
        "",
        "MB/s, transfer" if by_rate else "transfer, s",
        "whole, s",
        "CPU, s a GiB" if by_rate else "CPU, s",
    ]
    has_relay = any(run["relay_cpu_s"] is not None for one in found.values() for run in one["runs"])
    head += ["relay's CPU, s a GiB"] if has_relay else []
    head += ["peak, MB", *(f"of {_short(name)}" for name in references)]
    rows = [
        _row(name, one, found, references, result, by_rate=by_rate, has_relay=has_relay)
        for name, one in found.items()
    ]
    yield _table(head, rows)
    if references:
        what = "rates" if by_rate else "times of the whole process (for cp, of the transfer)"
        yield f"The last columns are ratios of {what}.\n"
    failed = [f"{name}: {one['problem']}" for name, one in result["contenders"].items() if "problem" in one]
    if failed:
        yield "Failed: " + "; ".join(failed) + ".\n"
    if result["left_out"]:
        yield "Left out: " + "; ".join(f"{name} ({why})" for name, why in result["left_out"].items()) + ".\n"


def _row(
    name: str,
    one: Mapping[str, Any],
    found: Mapping[str, Mapping[str, Any]],
    references: list[str],
    result: Mapping[str, Any],
    *,
    by_rate: bool,
    has_relay: bool,
) -> list[str]:
    label = name
    if one["source"] != "main":
        label += f", {result['sources'][one['source']]['bytes'] >> 20} MiB"
    if by_rate and result.get("link_mbit"):
        label += f" ({f.rate(one).median * 8 / result['link_mbit']:.0%} of the link)"
    if len(one["runs"]) < result["rounds"]:
        label += f", {len(one['runs'])} of the rounds"
    has_own = by_rate or any(run["own_s"] is not None for run in one["runs"])
    spent = f.cpu_gib(one) if by_rate else f.cpu(one)
    relay = f.relay_cpu_gib(one)
    peak = f.peak(one)
    cells = [
        label,
        (
            f.rate(one).text(".0f" if f.rate(one).median >= 20 else ".2f")
            if by_rate
            else f.own(one).text(".3f")
        )
        if has_own
        else "",
        f.whole(one).text(".2f"),
        spent.text(".2f") if spent else "",
    ]
    cells += [relay.text(".2f") if relay else ""] if has_relay else []
    cells.append("" if peak is None else f"{peak:.0f}")
    for reference in references:
        other = found[reference]
        if by_rate:
            value = f.rate(one).median / f.rate(other).median
        elif reference == "cp -r":
            value = f.own(one).median / f.own(other).median
        else:
            value = f.whole(one).median / f.whole(other).median
        cells.append("" if name == reference else f"{value:.2f}")
    return cells


def _responsive(result: Mapping[str, Any]) -> Iterator[str]:
    yield "A task beside each side sleeps five milliseconds at a time; lateness is what came on top, in milliseconds.\n"
    rows = []
    for side in ("sender", "receiver"):
        runs = [run[side] for run in result["runs"]]
        p99 = f.Spread(tuple(run["p99_ms"] for run in runs))
        rows.append(
            [
                side,
                p99.text(".1f"),
                f"{max(run['max_ms'] for run in runs):.1f}",
                f"{sum(run['ticks'] for run in runs)}",
            ]
        )
    yield _table(["", "p99", "longest", "ticks"], rows)


def _start_up(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"Milliseconds from the start of the interpreter; {result['rounds']} rounds.\n"
    rows = [
        [name, f.Spread(tuple(took)).text(".0f"), str(result["limits"].get(name, ""))]
        for name, took in result["measured"].items()
    ]
    yield _table(["", "ms", "limit"], rows)


PANELS = (
    ("direct", "1 GiB direct, MB/s", True),
    ("relay", "1 GiB through a relay, MB/s", True),
    ("files-5000", "5,000 files of 4 KiB, whole process, s (shorter is better)", False),
    ("one-kib", "1 KiB, whole process, s (shorter is better)", False),
)


def _draw(results: Results, path: Path) -> bool:
    """Draw the main cases; say whether there is a plot."""
    panels = [
        panel
        for panel in PANELS
        if any(one["runs"] for one in results.get(panel[0], {}).get("contenders", {}).values())
    ]
    if not panels:
        return False
    try:
        import matplotlib as mpl
    except ImportError:
        sys.stderr.write("no plot: matplotlib is not installed (uv run --group bench ...)\n")
        return path.exists()
    mpl.use("svg")
    # Text stays text and identifiers do not change from run to run: the file is small and its diff readable.
    mpl.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "tallow", "font.family": "sans-serif", "font.size": 9}
    )
    from matplotlib import pyplot as plt

    counts = [sum(bool(one["runs"]) for one in results[key]["contenders"].values()) for key, _, _ in panels]
    figure, axes = plt.subplots(
        len(panels),
        1,
        figsize=(8, 0.6 * len(panels) + 0.26 * sum(counts)),
        height_ratios=counts,
        squeeze=False,
    )
    for axis, (key, title, by_rate) in zip(axes[:, 0], panels, strict=True):
        found = {name: one for name, one in results[key]["contenders"].items() if one["runs"]}
        spreads = {name: f.rate(one) if by_rate else f.whole(one) for name, one in found.items()}
        names = sorted(spreads, key=lambda name: spreads[name].median, reverse=not by_rate)
        values = [spreads[name].median for name in names]
        colours = [OURS if name.startswith("tallow") else THEIRS for name in names]
        bars = axis.barh(names, values, color=colours, height=0.7)
        axis.bar_label(
            bars, [f"{value:.0f}" if value >= 20 else f"{value:.2f}" for value in values], padding=3
        )
        axis.set_title(title, loc="left", fontsize=9, fontweight="bold")
        axis.spines[["top", "right", "bottom"]].set_visible(False)
        axis.tick_params(bottom=False, labelbottom=False, left=False)
        axis.set_xlim(0, max(values) * 1.12)
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    plt.close(figure)
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
    return True

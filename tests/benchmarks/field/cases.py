"""The cases: what is sent, where, by whom, and what was to be shown."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.benchmarks.field import contenders as c
from tests.benchmarks.field.places import Emulated, Loopback
from tests.benchmarks.field.processes import FailedError
from tests.benchmarks.field.trees import (
    MIB,
    amount,
    difference,
    made_aside,
    make_random,
    make_sparse,
    make_text,
    make_tree,
    warm_pages,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.benchmarks.field.places import Place

GIB = 1 << 30
CROC_COMPRESSES = {
    "croc as it is by default": "it compresses, which random bytes do not repay: it runs at its best"
}
ONCE_AFTER_S = 40.0  # a peer that takes longer is not run again: five rounds of it would be minutes
TALLOW_TRIES = 2  # of the first failure that is ours one more try tells an accident from a fault


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run of the suite is made."""

    rounds: int
    quick: bool
    work: Path
    peers: Path
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Case:
    """One piece of work for several contenders. Sizes are pairs: for the full form, for the quick one."""

    key: str
    title: str
    make: dict[
        str, tuple[Callable[[Path, int], None], int, int]
    ]  # source's name to maker, size, size in short
    contenders: tuple[type[c.Contender], ...]
    place: Callable[[], Place] = Loopback
    warm: bool = False  # page supply before each run, and outputs deleted after it: for few large files
    start_up: bool = (
        False  # time a file of 1 KiB too, to take start-up off programs without a figure of their own
    )
    rounds: int = 0  # 0: what was asked for
    timeout_s: float = 300.0
    link_mbit: float = 0.0
    left_out: dict[str, str] = field(default_factory=dict)

    def run(self, settings: Settings) -> dict[str, Any]:
        """Run every round and return the results as JSON can hold them."""
        folder = settings.work / self.key
        folder.mkdir(parents=True)
        place = self.place()
        result: dict[str, Any] = {"left_out": dict(self.left_out), "contenders": {}, "sources": {}}
        if (reason := place.missing()) is not None:
            return {**result, "problem": reason}
        result["place"] = place.describe()
        result["link_mbit"] = self.link_mbit
        sources = {}
        for name, (maker, full, short) in self.make.items():
            sources[name] = folder / f"source-{name}"
            made_aside(maker, sources[name], short if settings.quick else full)
            files, size = amount(sources[name])
            result["sources"][name] = {"files": files, "bytes": size}
        tiny = folder / "source-tiny"
        make_random(tiny, 1024)
        rounds = 1 if settings.quick else self.rounds or settings.rounds
        with place:
            made = [self._opened(kind, place, settings, folder, result) for kind in self.contenders]
            running = [one for one in made if one is not None]
            try:
                for turn in range(rounds):
                    for one in running if turn % 2 == 0 else running[::-1]:
                        self._turn(one, turn, sources[one.source], tiny, folder, result, settings.say)
            finally:
                for one in running:
                    one.close()
        return {**result, "rounds": rounds}

    def _opened(
        self, kind: type[c.Contender], place: Place, settings: Settings, folder: Path, result: dict[str, Any]
    ) -> c.Contender | None:
        one = kind(place, settings.peers, folder)
        if (reason := one.missing()) is not None:
            result["left_out"][one.name] = reason
            return None
        entry = {"version": one.version(), "source": one.source, "reference": one.is_reference, "runs": []}
        entry["start_ups"] = []
        result["contenders"][one.name] = entry
        try:
            one.open()
        except (FailedError, OSError) as error:
            entry["problem"] = f"its servers did not start: {error}"
            settings.say(f"  {one.name}: {entry['problem']}")
            one.close()
            return None
        return one

    def _turn(
        self,
        one: c.Contender,
        turn: int,
        source: Path,
        tiny: Path,
        folder: Path,
        result: dict[str, Any],
        say: Callable[[str], None],
    ) -> None:
        entry = result["contenders"][one.name]
        if "problem" in entry or entry.get("once") or (one.most_rounds and turn >= one.most_rounds):
            return
        for attempt in range(TALLOW_TRIES if isinstance(one, c.Tallow) else 1):
            try:
                run = self._run(one, source, folder)
                if self.start_up and not one.is_reference:
                    entry["start_ups"].append(self._run(one, tiny, folder).plain())
            except (FailedError, OSError, KeyError, ValueError, StopIteration) as error:
                entry.setdefault("failures", []).append(f"{type(error).__name__}: {error}")
                say(f"  round {turn + 1}, {one.name}: failed, {error}")
                if attempt + 1 == (TALLOW_TRIES if isinstance(one, c.Tallow) else 1):
                    entry["problem"] = str(error)
            else:
                entry["runs"].append(run.plain())
                entry["once"] = (
                    run.whole_s > ONCE_AFTER_S and not isinstance(one, c.Tallow) and not one.is_reference
                )
                rate = run.bytes / 1e6 / (run.own_s or run.whole_s)
                say(f"  round {turn + 1}, {one.name}: {run.whole_s:.2f} s whole, {rate:.0f} MB/s")
                return

    def _run(self, one: c.Contender, source: Path, folder: Path) -> c.Run:
        """Run one transfer into a new folder and compare what arrived."""
        out = folder / f"out-{time.monotonic_ns()}"
        _, size = amount(source)
        if self.warm:
            warm_pages(folder, min(size, 3 * GIB) + 512 * MIB)
        run = one.run(c.Job(source, out, size, self.timeout_s))
        if one.compares and (found := difference(source, out / source.name)) is not None:
            raise FailedError(f"what arrived is not what was sent: {found}")
        if self.warm:
            for path in out.glob("*"):
                if path.is_file():
                    path.unlink()
        return run


def tree(files: int, folders: int) -> Callable[[Path, int], None]:
    """Return a maker of a tree; its size argument is the number of bytes a file, or, negative, of a tenth of the files."""

    def make(path: Path, size: int) -> None:
        count = files if size > 0 else files // 10
        make_tree(path, count, abs(size), folders)

    return make


def link(round_trip_ms: float) -> Case:
    """Return the case of a 200 Mbit/s link."""
    return Case(
        key=f"link-{round_trip_ms:.0f}",
        title=f"512 MiB over a link of 200 Mbit/s, {round_trip_ms:.0f} ms round trip",
        make={"main": (make_random, 512 * MIB, 64 * MIB)},
        contenders=(c.Tallow, c.iperf("iperf3, one CUBIC stream", most_rounds=2)),
        place=lambda: Emulated(round_trip_ms, rate_mbit=200),
        link_mbit=200,
        left_out={"other tools": "a round takes each of them half a minute and more; see the cases at 40 ms"},
    )


CASES = (
    Case(
        key="direct",
        title="1 GiB of random bytes, direct",
        make={"main": (make_random, GIB, 128 * MIB), "smaller": (make_random, 256 * MIB, 16 * MIB)},
        contenders=(
            c.Tallow, c.tallow("tallow, QUIC", options=("--transport", "quic"), source="smaller"),
            c.PlainCroc, c.Wormhole, c.Sendme, c.Scp, c.Rsync, c.Iperf,
        ),
        warm=True,
        start_up=True,
        left_out=CROC_COMPRESSES,
    ),
    Case(
        key="relay",
        title="1 GiB of random bytes through a relay over TCP",
        make={"main": (make_random, GIB, 128 * MIB)},
        contenders=(
            c.tallow("tallow", route="relay", options=("--transport", "tcp")),
            c.tallow("tallow, data inside TLS", route="relay", options=("--transport", "tcp", "--encrypt-twice")),
            c.RelayedPlainCroc, c.RelayedWormhole, c.Iperf,
        ),
        warm=True,
        start_up=True,
        left_out=CROC_COMPRESSES,
    ),
    Case(
        key="text",
        title="1 GiB of text, direct",
        make={"main": (make_text, GIB, 128 * MIB)},
        contenders=(
            c.Tallow, c.tallow("tallow, no compression", options=("--no-compress",)),
            c.Croc, c.PlainCroc, c.Wormhole, c.Sendme, c.Scp, c.Rsync, c.Iperf,
        ),
        warm=True,
        start_up=True,
    ),
    Case(
        key="files-5000",
        title="5,000 files of 4 KiB in 50 folders, direct",
        make={"main": (tree(5000, 50), 4096, -4096)},
        contenders=(c.Tallow, c.Croc, c.Wormhole, c.Sendme, c.Scp, c.Rsync, c.Copy),
    ),
    Case(
        key="files-100000",
        title="100,000 files of 1 KiB in 100 folders, direct",
        make={"main": (tree(100_000, 100), 1024, -1024)},
        contenders=(c.Tallow, c.Rsync, c.Copy),
        left_out={"croc, magic-wormhole, scp": "five rounds of each would double the time of the whole suite"},
    ),
    Case(
        key="one-kib",
        title="1 KiB, from the start of receiving to its exit",
        make={"main": (make_random, 1024, 1024)},
        contenders=(
            c.Tallow, c.tallow("tallow, through a relay", route="relay"),
            c.Croc, c.RelayedCroc, c.Wormhole, c.Sendme, c.Scp, c.Rsync,
        ),
        rounds=10,
    ),
    Case(
        key="rtt-files",
        title="500 files of 4 KiB at 40 ms round trip",
        make={"main": (tree(500, 10), 4096, 4096)},
        contenders=(c.Tallow, c.Croc, c.Wormhole, c.Scp, c.Rsync),
        place=lambda: Emulated(40),
    ),
    Case(
        key="rtt-file",
        title="64 MiB at 40 ms round trip",
        make={"main": (make_random, 64 * MIB, 16 * MIB)},
        contenders=(
            c.Tallow, c.PlainCroc, c.Wormhole, c.Scp, c.Rsync, c.iperf("iperf3, one CUBIC stream"),
        ),
        place=lambda: Emulated(40),
        left_out=CROC_COMPRESSES,
    ),
    link(50),
    link(100),
    link(200),
    Case(
        key="lossy",
        title="A link of 200 Mbit/s that loses 1 % of the packets, 50 ms round trip",
        make={"main": (make_random, 16 * MIB, 4 * MIB)},
        contenders=(c.Tallow, c.iperf("iperf3, one CUBIC stream", 12)),
        place=lambda: Emulated(50, rate_mbit=200, loss=0.01),
        link_mbit=200,
        timeout_s=120,
        left_out={"512 MiB": "a CUBIC stream would need half an hour: 16 MiB here, and twelve seconds of iperf3"},
    ),
    Case(
        key="sparse",
        title="A sparse file of 16 GiB, for memory, beside one of 1 GiB",
        make={"main": (make_sparse, 16 * GIB, 2 * GIB), "smaller": (make_sparse, GIB, 256 * MIB)},
        contenders=(c.tallow("tallow, 16 GiB"), c.tallow("tallow, 1 GiB", source="smaller")),
        warm=True,
        rounds=1,
        timeout_s=600,
    ),
)  # fmt: skip

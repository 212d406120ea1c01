"""Nine bugs, planted one at a time into a copy of the code: a simulator that finds none of them proves nothing.

Each is a replacement of text in one file, so that a change of that text fails loudly instead of planting nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROTOCOL = "tallow-protocol/src/tallow_protocol"
RUN_S = 140
_FOUND = re.compile(r"^seed (\d+): (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Planted:
    """One bug: in `file`, `right` becomes `wrong`; `rules` are what a world then breaks, the one or the other."""

    name: str
    file: str
    right: str
    wrong: str
    rules: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """The first seed that found it, and what it says."""

    seed: int
    story: str


PLANTED = (
    Planted(
        "fsync dropped",
        f"{PROTOCOL}/disk/partials.py",
        "            self._calls.sync_data(self._data)\n            root.finish_file",
        "            root.finish_file",
        ("a final name never holds wrong bytes",),
    ),
    Planted(
        "rename early",
        f"{PROTOCOL}/core/receiving.py",
        "        arriving.place.write_at(header.index * arriving.chunk_size, data)\n",
        "        if header.last and arriving.hashed == header.index:\n"
        "            arriving.place.write_at(header.index * arriving.chunk_size, bytes(len(data)))\n"
        "            arriving.place.commit(entry.permissions, entry.mtime_ns)\n"
        "            arriving.place.commit = lambda mode, mtime_ns: None\n"
        "        else:\n"
        "            arriving.place.write_at(header.index * arriving.chunk_size, data)\n",
        ("a final name never holds wrong bytes", "what is done is there"),
    ),
    Planted(
        "ack before write",
        f"{PROTOCOL}/core/receiving.py",
        "        arriving.place.write_at(header.index * arriving.chunk_size, data)\n",
        "        late, self._late = getattr(self, '_late', None), None\n"
        "        if late is not None:\n"
        "            late[0].write_at(late[1], late[2])\n"
        "        if header.last:\n"
        "            arriving.place.write_at(header.index * arriving.chunk_size, data)\n"
        "        else:\n"
        "            self._late = arriving.place, header.index * arriving.chunk_size, bytes(data)\n",
        ("the journal is a subset of what was verified and durable",),
    ),
    Planted(
        "nonce reuse after rejoin",
        f"{PROTOCOL}/core/keyschedule.py",
        "number, side_byte(side) + opener_nonce + acceptor_nonce)",
        "0, side_byte(side))",
        ("no (key, nonce) twice",),
    ),
    Planted(
        "window off by one",
        f"{PROTOCOL}/core/window.py",
        "if self.in_flight_bytes + size_bytes > self.bytes:",
        "if self.in_flight_bytes > self.bytes:",
        ("buffers within window times chunk",),
    ),
    Planted(
        "journal ahead of data",
        f"{PROTOCOL}/disk/partials.py",
        "            self._calls.sync_data(self._data)\n            with self._guard:",
        "            with self._guard:",
        ("the journal is a subset of what was verified and durable",),
    ),
    Planted(
        "token reused",
        "tallow-relay/src/tallow_relay/datatokens.py",
        "return self._places.pop(derive_key(_CONTEXT, token), None)",
        "return self._places.get(derive_key(_CONTEXT, token))",
        ("a token opens one connection",),
    ),
    Planted(
        "timer not re-armed",
        f"{PROTOCOL}/core/rejoining.py",
        "        tried.trying = False\n",
        "",
        ("a session outlives its connections",),
    ),
    Planted(
        "job order",
        f"{PROTOCOL}/core/receiver.py",
        "                pipeline.hear_from(message)\n                session.ask(pipeline.take_heard,",
        "                session.ask(lambda: (pipeline.hear_from(message), pipeline.take_heard())[1],",
        ("a failure has a cause",),
    ),
)


def plant(bug: Planted, folder: Path) -> list[Path]:
    """Copy the packages into `folder` with the bug in them; return what comes first on the path."""
    sources = []
    for source in sorted(ROOT.glob("packages/*/src")):
        target = folder / source.relative_to(ROOT)
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        sources.append(target)
    file = folder / "packages" / bug.file
    text = file.read_text(encoding="utf-8")
    if text.count(bug.right) != 1:
        raise AssertionError(f"{bug.name}: {bug.file} has changed, plant the bug anew")
    file.write_text(text.replace(bug.right, bug.wrong), encoding="utf-8")
    return sources


def hunt(bug: Planted, folder: Path, *, seeds: int = 1000) -> Found | None:
    """Return the first of `seeds` worlds that breaks with the bug planted, None where all hold."""
    sources = plant(bug, folder)
    path = os.pathsep.join(map(str, [*sources, ROOT]))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [
        sys.executable,
        "-m",
        "tests.sim.soak",
        "--seeds",
        str(seeds),
        "--stop",
        "--under",
        str(folder),
    ]
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=RUN_S, check=False
    )
    found = _FOUND.search(done.stdout)
    if found is None:
        if done.returncode:
            raise AssertionError(done.stdout + done.stderr)
        return None
    return Found(int(found[1]), found[2])


def table() -> str:
    """Return the table of docs/reliability.md, from a run."""
    import tempfile

    lines = ["| planted bug | in | found by seed | what the world says |", "|---|---|---|---|"]
    for bug in PLANTED:
        with tempfile.TemporaryDirectory() as folder:
            found = hunt(bug, Path(folder))
        seed, says = (found.seed, found.story.split(":")[0]) if found else ("none", "")
        lines.append(f"| {bug.name} | `{Path(bug.file).name}` | {seed} | {says} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())

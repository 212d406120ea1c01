"""Whatever names an offer has, and whatever way of writing it the user chose: nothing outside is touched, ever.

A property over every mode: a new folder, one that stands, one with things of the user's in it under each policy, one that
is a link, partial files of before, and standard output. The same property fails for a sink that joins paths.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallow_crypto import Fingerprint
from tallow_protocol.core.chunking import packed_root
from tallow_protocol.core.messages import Entry, EntryKind
from tallow_protocol.core.receiving import ReceivePipeline
from tallow_protocol.core.records import PackHeader, pack_entry_header
from tallow_protocol.disk.output import OutputFolder
from tallow_protocol.errors import ProtocolError
from tallow_protocol.events import OnConflict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tallow_protocol.core.receiving import Sink

SENDER = Fingerprint(bytes(32))
MODES = ["new", "standing", "link", *OnConflict]
WORDS = [
    "a",
    "b",
    "d",
    "x.txt",
    "..",
    ".",
    "",
    "foobar",
    "outside",
    "out",
    ".ssh",
    "d..",
    "~",
    "\x00",
    "C:",
    "secret",
]


def parts(most: int) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(WORDS), min_size=1, max_size=most).map("/".join)


paths = st.one_of(
    parts(4),
    st.sampled_from(
        [
            "../outside/secret",
            "/tmp/x",
            "d/../../outside/secret",
            "../outbar/x",
            "l/secret",
            "l",
            "d/l/secret",
            "../out",
        ]
    ),
    st.text(st.sampled_from("ab./\\\0~:é\u0301"), min_size=1, max_size=12),
)


@st.composite
def offers(draw: st.DrawFn) -> list[tuple[Entry, bytes]]:
    """Return entries with their contents: files, folders, and links to wherever."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        path = draw(paths)
        kind = draw(st.sampled_from(list(EntryKind)))
        data = draw(st.binary(max_size=20)) if kind is EntryKind.FILE else b""
        size = len(data) if kind is EntryKind.FILE else None
        target = draw(st.sampled_from(["../outside", "..", "/tmp", "a", "../a", "../../outside/secret"]))
        found.append((Entry(path, kind, size, 0o777, 1, target if kind is EntryKind.LINK else None), data))
    return found


def world(folder: Path, mode: object) -> Path:
    """Make what stands around and inside the output directory; return that directory."""
    outside = folder / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"mine")
    (folder / "outbar").mkdir()  # its name begins with the other's
    (folder / "outbar" / "x").write_bytes(b"mine")
    output = folder / "out"
    if mode == "link":
        real = folder / "elsewhere"
        real.mkdir()
        output.symlink_to(real)
    elif mode != "new":
        output.mkdir()
    if isinstance(mode, OnConflict):
        (output / "a").write_bytes(b"mine")
        (output / "d").mkdir()
        (output / "d" / "b").write_bytes(b"mine")
        (output / "l").symlink_to("../outside")
        (output / "d" / "l").symlink_to("../../outside")
        os.utime(output / "a", ns=(0, 0))
    return output


def snapshot(folder: Path, *, without: Path) -> dict[str, tuple[int, bytes]]:
    """Return everything in `folder` but below `without`: type and mode, and contents or target."""
    seen = {}
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if Path(place, name) != without]
        for name in [*folders, *files]:
            path = Path(place, name)
            found = path.lstat()
            content = b""
            if stat.S_ISLNK(found.st_mode):
                content = os.fsencode(path.readlink())
            elif stat.S_ISREG(found.st_mode):
                content = path.read_bytes()
            seen[str(path.relative_to(folder))] = found.st_mode, content
    return seen


def receive(sinks, offer: Sequence[tuple[Entry, bytes]]) -> None:
    """Do what a session does with an accepted offer whose files travel packed."""
    entries = [entry for entry, _data in offer]
    sinks.check(entries)
    sink: Sink = sinks.open(SENDER)
    pipeline = ReceivePipeline(entries, sink)
    try:
        pipeline.begin()
        for number, (entry, data) in enumerate(offer):
            if entry.kind is EntryKind.FILE and number not in sink.left_out:
                body = pack_entry_header(number, len(data), packed_root(memoryview(data))) + data
                pipeline.store(PackHeader(1, len(body)), memoryview(body))
        pipeline.finish()
    finally:
        pipeline.close()


def damage(offer: Sequence[tuple[Entry, bytes]], mode: object, make=OutputFolder) -> set[str]:
    """Return what changed outside the output directory, and which folders of the user's are gone inside."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        output = world(folder, mode)
        inside = output.resolve() if mode == "link" else output
        before = snapshot(folder, without=inside)
        folders = [path for path in output.rglob("*") if path.is_dir() and not path.is_symlink()]
        with contextlib.suppress(ProtocolError):
            receive(make(output, on_conflict=mode if isinstance(mode, OnConflict) else OnConflict.ASK), offer)
        after = snapshot(folder, without=inside)
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        gone = {str(path.relative_to(folder)) for path in folders if not path.is_dir() or path.is_symlink()}
        if isinstance(mode, OnConflict) and mode in {OnConflict.ASK, OnConflict.SKIP, OnConflict.RENAME}:
            mine = {output / "a", output / "d" / "b"}
            gone |= {str(path) for path in mine if path.is_symlink() or path.read_bytes() != b"mine"}
        return changed | gone


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_nothing_outside_is_touched_and_no_folder_is_lost(mode: object) -> None:
    @settings(max_examples=60)
    @given(offers())
    def holds(offer: list[tuple[Entry, bytes]]) -> None:
        assert damage(offer, mode) - {"out"} == set()

    holds()


class Naive:
    """A sink that joins the output directory and the name, as one would write it in an evening."""

    def __init__(self, directory: Path, *, on_conflict: OnConflict) -> None:
        del on_conflict
        self.directory = directory
        self.left_out: frozenset[int] = frozenset()

    def check(self, entries: Sequence[Entry]) -> None: ...

    def open(self, sender: Fingerprint) -> Naive:
        self.directory.mkdir(exist_ok=True)
        return self

    def place(self, path: str) -> Path:
        return self.directory / path

    def begin_offer(self, entries: Sequence[Entry], chosen: object = None) -> None: ...
    def check_space(self, size_bytes: int) -> None: ...
    def have(self, number: int, entry: Entry) -> None: ...
    def finish_folders(self, folders: object) -> None: ...
    def discard(self) -> None: ...
    def close(self) -> None: ...

    def make_folder(self, path: str) -> None:
        self.place(path).mkdir(parents=True, exist_ok=True)

    def make_link(self, path: str, target: str, mtime_ns: int) -> None:
        self.place(path).symlink_to(target)

    def write_small(self, path: str, data: memoryview, mode: int, mtime_ns: int) -> None:
        self.place(path).parent.mkdir(parents=True, exist_ok=True)
        self.place(path).write_bytes(data)


class Prefixed(Naive):
    """The same with a look at the beginning of the joined path, which `out` and `outbar` share."""

    def place(self, path: str) -> Path:
        joined = os.path.normpath(self.directory / path)
        if not joined.startswith(str(self.directory)):
            raise ProtocolError
        return Path(joined)


def one_file(path: str) -> list[tuple[Entry, bytes]]:
    return [(Entry(path, EntryKind.FILE, 3, 0o644, 1), b"bad")]


@pytest.mark.parametrize(
    ("sinks", "path", "mode"),
    [
        (Naive, "../outside/secret", "new"),
        (Naive, "d/../../outside/secret", OnConflict.ASK),
        (Naive, "l/secret", OnConflict.OVERWRITE),
        (Naive, "a", OnConflict.ASK),
        (Prefixed, "../outbar/x", "standing"),
        (Prefixed, "l/secret", OnConflict.OVERWRITE),
    ],
)
def test_the_property_fails_where_a_caller_goes_round_the_gate(sinks: type, path: str, mode: object) -> None:
    assert damage(one_file(path), mode, sinks) - {"out"}
    assert damage(one_file(path), mode) - {"out"} == set()

"""A folder that the same sender's transfer left unfinished is gone on with; whatever is in doubt is a conflict."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_crypto import Fingerprint, chunk_digest
from tallow_protocol.core.entries import Entry, EntryKind
from tallow_protocol.core.unfinished import RecordWriter, decode_record, record_name
from tallow_protocol.disk import unfinished
from tallow_protocol.disk.calls import SYSTEM
from tallow_protocol.disk.leftovers import clean_partials, is_unfinished
from tallow_protocol.disk.output import OutputFolder
from tallow_protocol.disk.partials import PartialFolder
from tallow_protocol.disk.root import OutputRoot
from tallow_protocol.disk.staging import clean_staging
from tallow_protocol.errors import ConflictError
from tallow_protocol.events import OnConflict

from tests.protocol.disk.machine import open_descriptors, run_unprivileged, snapshot

SENDER, STRANGER = Fingerprint(bytes(32)), Fingerprint(b"\1" * 32)
TIME_NS = 1_600_000_000_123_456_789


def folder(path):
    return Entry(path, EntryKind.FOLDER, None, 0o750, TIME_NS)


def file(path, size=3, mtime_ns=TIME_NS):
    return Entry(path, EntryKind.FILE, size, 0o640, mtime_ns)


def link(path, target):
    return Entry(path, EntryKind.LINK, None, 0o777, TIME_NS, target)


TREE = (folder("d"), file("d/a"), file("d/b"), folder("d/e"), file("d/e/c"), link("d/l", "a"), file("top"))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def begun(out, entries=TREE, *, sender=SENDER, policy=OnConflict.ASK, calls=SYSTEM):
    place = OutputFolder(out, on_conflict=policy, calls=calls)
    place.check(entries)
    sink = place.open(sender)
    try:
        sink.begin_offer(entries)
    except BaseException:
        sink.close()
        raise
    return sink


def run(sink, entries=TREE, *, write=None, data=b"new"):
    """Write folders, then the files of `write` (all), skipping those that are the same already."""
    asked = {
        entry.path: sink.have(number, entry)
        for number, entry in enumerate(entries)
        if entry.kind is EntryKind.FILE
    }
    for entry in entries:
        if entry.kind is EntryKind.FOLDER:
            sink.make_folder(entry.path)
    for number, entry in enumerate(entries):
        if (
            entry.kind is EntryKind.FILE
            and number not in sink.left_out
            and (write is None or entry.path in write)
        ):
            standing = sink._standing.get(entry.path)
            if (
                standing is not None
                and sink._root.directory.joinpath(*sink._place(entry.path)).read_bytes() == data
            ):
                place = sink.begin_file(entry.path, 3, asked[entry.path].chunk_size, resume=asked[entry.path])
                place.commit(entry.mode, entry.mtime_ns)
            else:
                sink.write_small(entry.path, memoryview(data), entry.mode, entry.mtime_ns)


def finish(sink, entries=TREE):
    for entry in entries:
        if entry.kind is EntryKind.LINK:
            sink.make_link(entry.path, entry.target, entry.mtime_ns)
    sink.finish_folders(
        [(entry.path, entry.mode, entry.mtime_ns) for entry in entries if entry.kind is EntryKind.FOLDER]
    )
    sink.close()


def interrupted(out, entries=TREE, *, write=("d/a", "top"), **more):
    sink = begun(out, entries, **more)
    run(sink, entries, write=write)
    sink.close()


def attempted(out):
    sink = begun(out)
    try:
        run(sink)
    finally:
        sink.close()


def assert_whole(out, top="d", data=b"new"):
    assert [(out / top / name).read_bytes() for name in ("a", "b", "e/c")] == [data] * 3
    for name in (top, f"{top}/e"):
        status = (out / name).stat()
        assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o750, TIME_NS), name
    assert {path.name for path in out.iterdir()} == {top, "top"}


@pytest.mark.parametrize("policy", list(OnConflict))
def test_what_the_same_senders_unfinished_transfer_made_is_no_conflict(out, policy):
    interrupted(out)
    kept = (out / "d" / "a").stat()
    place = OutputFolder(out)
    place.check(TREE)
    assert place.conflicts(SENDER) == ()
    sink = begun(out, policy=policy)
    run(sink)
    finish(sink)
    assert_whole(out)
    assert (out / "d" / "a").stat().st_ino == kept.st_ino  # not written again


def test_a_look_says_how_much_is_there_and_changes_nothing(out):
    interrupted(out, write=("d/a", "d/e/c"))
    (out / "d" / "e" / "c").write_bytes(b"mine")
    with OutputRoot.open(out) as root:
        partials = PartialFolder(root, SENDER)
        partial = partials.begin("big", 3 << 20, 1 << 20, ("big",), resumes=False)
        partial.write_at(0, bytes(1 << 20))
        partial.sync(0, chunk_digest(bytes(1 << 20)))
        partials.close()
    place = OutputFolder(out)
    place.check((*TREE, file("big", 3 << 20)))
    before = snapshot(out)
    assert place.unfinished_bytes(SENDER) == (1 << 20) + 3
    assert place.unfinished_bytes(STRANGER) == 0
    assert snapshot(out) == before
    assert OutputFolder(out / "missing").unfinished_bytes(SENDER) == 0


def test_it_goes_on_from_the_very_end_too(out):
    sink = begun(out)
    run(sink)
    sink._unfinished.end = lambda: None
    finish(sink)
    sink = begun(out)
    run(sink)
    finish(sink)
    assert_whole(out)


def test_another_senders_unfinished_transfer_is_a_conflict(out):
    interrupted(out)
    place = OutputFolder(out)
    place.check(TREE)
    assert place.conflicts(STRANGER) == ("d", "top")
    with pytest.raises(ConflictError):
        begun(out, sender=STRANGER)
    finish_again = begun(out)
    run(finish_again)
    finish(finish_again)


def test_another_folder_under_the_name_is_a_conflict(out):
    interrupted(out, write=())
    (out / "d").rename(out / "moved")
    (out / "d").mkdir()
    with pytest.raises(ConflictError, match="'d'; nothing"):
        begun(out)


def test_a_link_under_the_name_is_a_conflict(out, tmp_path):
    interrupted(out, write=())
    (out / "d").rename(tmp_path / "moved")
    (out / "d").symlink_to(tmp_path / "moved")
    with pytest.raises(ConflictError, match="'d'; nothing"):
        begun(out)
    assert list((tmp_path / "moved").rglob("*"))


@pytest.mark.parametrize("content", [b"mine", b"old"])
def test_a_file_that_the_user_changed_meanwhile_stays_and_is_a_conflict(out, content):
    interrupted(out)
    (out / "d" / "a").write_bytes(content)
    with pytest.raises(ConflictError, match="d/a"):
        attempted(out)
    assert (out / "d" / "a").read_bytes() == content


def test_a_file_of_the_users_that_is_the_same_is_left(out):
    interrupted(out)
    (out / "d" / "b").write_bytes(b"new")
    kept = (out / "d" / "b").stat()
    sink = begun(out)
    run(sink)
    finish(sink)
    assert (out / "d" / "b").stat().st_ino == kept.st_ino


def test_a_source_that_changed_meanwhile_takes_the_place_of_what_was_written(out):
    interrupted(out)
    later = tuple(entry._replace(mtime_ns=TIME_NS + 1) if entry.path == "d/a" else entry for entry in TREE)
    sink = begun(out, later)
    run(sink, later, data=b"NEW")
    finish(sink, later)
    assert (out / "d" / "a").read_bytes() == b"NEW"
    assert (out / "d" / "a").stat().st_mtime_ns == TIME_NS + 1


def test_a_file_that_a_power_cut_left_torn_is_written_again(out):
    interrupted(out)
    (out / "d" / "a").write_bytes(b"")
    os.utime(out / "d" / "a", ns=(TIME_NS, TIME_NS))
    sink = begun(out)
    run(sink)
    finish(sink)
    assert_whole(out)


def test_a_new_name_that_was_chosen_is_kept(out):
    (out / "d").mkdir(parents=True)
    interrupted(out, policy=OnConflict.RENAME)
    for policy in (OnConflict.RENAME, OnConflict.ASK):
        sink = begun(out, policy=policy)
        run(sink, write=("d/b",))
        sink.close()
    sink = begun(out, policy=OnConflict.OVERWRITE)
    run(sink)
    finish(sink)
    assert (out / "d (1)" / "b").read_bytes() == b"new"
    assert list((out / "d").iterdir()) == []
    assert sorted(path.name for path in out.iterdir()) == ["d", "d (1)", "top"]


def test_killed_before_it_was_noted_what_was_made_an_empty_folder_goes_on_and_a_full_one_does_not(out):
    sink = begun(out)
    sink._unfinished.made = lambda *_: None
    sink.make_folder("d")
    sink.close()
    begun(out).close()
    (out / "d" / "mine").touch()
    with pytest.raises(ConflictError):
        begun(out)


def test_what_stood_before_is_not_the_transfers_own(out):
    (out / "d").mkdir(parents=True)
    interrupted(out, policy=OnConflict.OVERWRITE)
    with pytest.raises(ConflictError, match="'d'; nothing"):
        begun(out)
    assert (out / "d").stat().st_mtime_ns != TIME_NS


def test_two_unfinished_transfers_of_one_sender_do_not_forget_each_other(out):
    other = (folder("x"), file("x/a"))
    interrupted(out)
    interrupted(out, other, write=())
    sink = begun(out, other)
    run(sink, other)
    finish(sink, other)
    assert is_unfinished(out, SENDER)
    with pytest.raises(ConflictError, match="'x'"):
        begun(out, other)
    sink = begun(out)
    run(sink)
    finish(sink)
    assert not is_unfinished(out, SENDER)
    assert sorted(path.name for path in out.iterdir()) == ["d", "top", "x"]


def test_while_a_transfer_runs_another_of_the_same_sender_finds_a_conflict(out):
    first = begun(out)
    run(first, write=())
    with pytest.raises(ConflictError):
        begun(out)
    run(first)
    finish(first)
    assert_whole(out)


def test_a_refused_or_empty_begin_leaves_nothing(out):
    begun(out).close()
    assert list(out.iterdir()) == []


def test_the_same_offer_is_told_once(out):
    interrupted(out, write=())
    (record,) = (out / ".tallow-partial").iterdir()
    size = record.stat().st_size
    interrupted(out, write=())
    assert record.stat().st_size == size


def test_it_is_cleaned_and_grows_old(out):
    interrupted(out)
    assert is_unfinished(out, SENDER)
    assert not is_unfinished(out, STRANGER)
    (record,) = (out / ".tallow-partial").iterdir()
    assert record.stat().st_mode & 0o777 == 0o600
    clean_partials(out, older_than_s=60)
    assert record.exists()
    os.utime(record, ns=(1, 1))
    with pytest.raises(ConflictError):
        begun(out)
    assert not (out / ".tallow-partial").exists()


def test_clean_leaves_a_record_in_use(out):
    sink = begun(out)
    run(sink, write=())
    clean_partials(out)
    assert is_unfinished(out, SENDER)
    sink.close()
    clean_partials(out)
    assert not (out / ".tallow-partial").exists()


@pytest.mark.parametrize("damage", ["flip", "cut", "other sender", "no record"])
def test_a_damaged_record_is_believed_as_far_as_it_checks(out, damage):
    interrupted(out)
    (record,) = (out / ".tallow-partial").iterdir()
    data = bytearray(record.read_bytes())
    if damage == "flip":
        data[len(data) // 3] ^= 1
    elif damage == "cut":
        del data[200:]
    elif damage == "other sender":
        data = bytearray(RecordWriter(STRANGER).first() + RecordWriter(STRANGER).tops({"d": "d"}))
    else:
        data = bytearray(b"\xff" * 5000)
    record.write_bytes(data)
    descriptors = open_descriptors()
    with pytest.raises(ConflictError):
        begun(out)
    assert open_descriptors() == descriptors


def test_a_planted_link_in_place_of_the_record_is_not_followed(out, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"mine")
    (out / ".tallow-partial").mkdir(parents=True, mode=0o700)
    (out / ".tallow-partial" / f"{record_name(SENDER)}.unfinished").symlink_to(secret)
    sink = begun(out)
    run(sink)
    finish(sink)
    assert secret.read_bytes() == b"mine"


class NoRecords:
    """The real disk, that refuses to write a record."""

    def __init__(self):
        self.handles = set()

    def open(self, name, flags, mode=0o777, *, dir_fd=None):
        handle = SYSTEM.open(name, flags, mode, dir_fd=dir_fd)
        self.handles.discard(handle)
        if name.endswith(".unfinished"):
            self.handles.add(handle)
        return handle

    def pwrite(self, handle, data, offset):
        if handle in self.handles:
            raise OSError(28, "No space left on device")
        return SYSTEM.pwrite(handle, data, offset)

    def __getattr__(self, name):
        return getattr(SYSTEM, name)


def test_a_record_that_cannot_be_written_fails_no_transfer(out):
    sink = begun(out, calls=NoRecords())
    run(sink)
    finish(sink)
    assert_whole(out)


@pytest.mark.parametrize(("size", "synced"), [(3, 0), (unfinished.SETTLED_BYTES, 1)])
def test_the_record_of_much_is_on_the_device_before_the_first_name(out, monkeypatch, size, synced):
    entries = (folder("d"), file("d/a"), file("d/big", size))
    seen = []
    sink = begun(out, entries)
    sink.make_folder("d")
    (record,) = (out / ".tallow-partial").iterdir()
    sync = os.fdatasync

    def watch(handle):
        if os.fstat(handle).st_ino == record.stat().st_ino:
            seen.append([path.name for path in (out / "d").iterdir()])
        sync(handle)

    monkeypatch.setattr(os, "fdatasync", watch)
    sink.write_small("d/a", memoryview(b"new"), 0o640, TIME_NS)
    sink.write_small("d/big", memoryview(b"new"), 0o640, TIME_NS)
    sink.close()
    assert seen == [[]] * synced


CLOSED = """
import os, sys
from tallow_protocol.disk.partials import PartialFolder
from tallow_protocol.disk.root import OutputRoot
with OutputRoot.open(sys.argv[1]) as root:
    root.make_folder(("t",))
    root.finish_folders([(("t",), 0o500, 7)])
made = os.stat(sys.argv[1] + "/t")
with OutputRoot.open(sys.argv[1]) as root:
    root.go_on({"t": (made.st_dev, made.st_ino)}, {})
    root.write_small(("t", "f"), b"x", 0o600, 0)
    root.finish_folders([(("t",), 0o500, 7)])
print(oct(os.stat(sys.argv[1] + "/t").st_mode), os.listdir(sys.argv[1] + "/t"))
"""


def test_a_folder_that_had_its_final_mode_already_is_opened_for_what_is_missing(open_directory):
    child = run_unprivileged(CLOSED, open_directory / "out")
    assert child.stdout == "0o40500 ['f']\n", child.stderr
    (open_directory / "out" / "t").chmod(0o700)


def test_a_record_keeps_only_what_is_asked_for():
    writer = RecordWriter(SENDER)
    data = writer.first() + b"".join(writer.offer(TREE, set()))
    record = decode_record([data[:100], data[100:]], SENDER, {"d/a": TIME_NS, "d/b": 5})
    assert record.wrote == {"d/a"}
    assert record.good_bytes == len(data)
    assert list(writer.offer(TREE, record.offers)) == []


@given(
    data=st.binary(max_size=300),
    at=st.integers(0, 400),
    said=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.sampled_from(["a", "wrote"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["tops", "made", "wrote", "offer", "ended"]), inner, max_size=2)
        ),
        max_leaves=8,
    ),
)
def test_no_bytes_are_more_than_the_lines_that_check(data, at, said):
    writer = RecordWriter(SENDER)
    good = writer.first() + writer.tops({"a": "b"}) + writer.made("b", 1, 2)
    whole = decode_record([good, writer._line(said), data], SENDER, {"a": 1})
    assert whole.good_bytes >= len(good)
    torn = bytearray(good)
    torn[at % len(good) : at % len(good) + len(data)] = data
    record = decode_record([bytes(torn)], SENDER, {"a": 1})
    assert good.startswith(bytes(torn[: record.good_bytes]))
    assert set(record.tops.items()) <= {("a", "b")}


@pytest.mark.parametrize(
    "said",
    [
        [],
        "x",
        {"tops": 5},
        {"tops": [["a"]]},
        {"made": ["a", "b", "c"]},
        {"wrote": [[[], 1]]},
        {"more": 1},
        7,
    ],
)
def test_a_line_that_says_something_else_ends_the_record(said):
    writer = RecordWriter(SENDER)
    good = writer.first()
    data = good + writer._line(said) + writer.tops({"a": "a"})
    record = decode_record([data], SENDER, {})
    assert record.good_bytes == len(good)
    assert record.tops == {}
    assert json.loads(good[17:]) == {"version": 1, "sender": "00" * 32}


def left_staging(out, name="a" * 32, *, mode=0o700):
    out.mkdir(exist_ok=True, parents=True)
    staging = out / f".tallow-{name}"
    staging.mkdir()
    for content in ("small", "small-7", "link-3"):
        (staging / content).write_bytes(b"left")
    staging.chmod(mode)
    return staging


def test_staging_that_a_killed_transfer_left_goes_with_the_next_one(out):
    staging = left_staging(out)
    sink = begun(out)
    assert staging.exists()  # nothing is done before something is written
    run(sink)
    assert not staging.exists()
    finish(sink)
    assert_whole(out)


def test_staging_goes_when_partial_files_are_cleaned_however_young(out):
    left_staging(out)
    clean_partials(out, older_than_s=3600)
    assert list(out.iterdir()) == []


def test_staging_of_a_transfer_that_runs_stays(out):
    sink = begun(out)
    run(sink, write=("d/a",))
    (staging,) = (path for path in out.glob(".tallow-*") if path.name != ".tallow-partial")
    clean_partials(out)
    assert staging.exists()
    run(sink, write=("d/b", "d/e/c", "top"))
    finish(sink)


@pytest.mark.parametrize("kind", ["open to others", "another name", "a link", "a file", "foreign content"])
def test_what_only_looks_like_staging_stays(out, tmp_path, kind):
    out.mkdir()
    if kind == "a link":
        elsewhere = left_staging(tmp_path / "elsewhere")
        staging = out / elsewhere.name
        staging.symlink_to(elsewhere)
    elif kind == "a file":
        staging = out / f".tallow-{'a' * 32}"
        staging.touch()
    else:
        name = "a" * 31 if kind == "another name" else "a" * 32
        staging = left_staging(out, name, mode=0o755 if kind == "open to others" else 0o700)
    if kind == "foreign content":
        (staging / "letter.txt").write_bytes(b"mine")
    clean_partials(out)
    assert staging.lstat()
    if kind == "foreign content":
        assert [path.name for path in staging.iterdir()] == ["letter.txt"]
    if kind == "a link":
        assert len(list(elsewhere.iterdir())) == 3


def test_staging_that_is_cleaned_before_it_is_locked_is_made_anew(out):
    lock, cleaned = SYSTEM.lock, []

    class Raced:
        def lock(self, handle):
            if not cleaned:
                cleaned.append(handle)
                clean_staging(SYSTEM, outer)
            return lock(handle)

        def __getattr__(self, name):
            return getattr(SYSTEM, name)

    out.mkdir()
    outer = os.open(out, os.O_RDONLY)
    with OutputRoot.open(out, calls=Raced()) as root:
        root.write_small(("f",), b"x", 0o600, 0)
    os.close(outer)
    assert cleaned
    assert [path.name for path in out.iterdir()] == ["f"]

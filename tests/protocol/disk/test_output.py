"""OfferSink: what becomes of each entry of an offer under each policy, and whether there is room."""

import os
from types import SimpleNamespace

import pytest
from tallow_crypto import Fingerprint, file_root
from tallow_protocol.core.chunking import PACK_CHUNK_BYTES, packed_root
from tallow_protocol.core.entries import Entry, EntryKind
from tallow_protocol.core.receiving import Existing
from tallow_protocol.core.selection import accepted_ranges, expanded
from tallow_protocol.disk.calls import SYSTEM
from tallow_protocol.disk.output import SYNC_EACH, OutputFolder
from tallow_protocol.errors import ConflictError, NoSpaceError
from tallow_protocol.events import OnConflict

SENDER = Fingerprint(bytes(32))
NEW_NS = 4 * 10**18


def file(path, size=3, mtime_ns=NEW_NS):
    return Entry(path, EntryKind.FILE, size, 0o644, mtime_ns)


def folder(path):
    return Entry(path, EntryKind.FOLDER, None, 0o755, NEW_NS)


TREE = (folder("d"), file("d/a"), file("d/b"), folder("d/e"), file("d/e/c"), file("f.txt"))


@pytest.fixture
def out(tmp_path):
    directory = tmp_path / "out"
    (directory / "d").mkdir(parents=True)
    (directory / "d" / "a").write_bytes(b"old")
    (directory / "f.txt").write_bytes(b"old")
    return directory


def begun(out, policy, entries=TREE, chosen=None, **more):
    place = OutputFolder(out, on_conflict=policy, **more)
    place.check(entries)
    sink = place.open(SENDER)
    try:
        sink.begin_offer(entries, chosen)
    except BaseException:
        sink.close()
        raise
    return sink


def written(sink, entries=TREE):
    for entry in entries:
        if entry.kind is EntryKind.FOLDER:
            sink.make_folder(entry.path)
        else:
            sink.write_small(entry.path, memoryview(b"new"), entry.mode, entry.mtime_ns)
    sink.finish_folders([(entry.path, 0o700, 1) for entry in entries if entry.kind is EntryKind.FOLDER])
    sink.close()


def contents(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_ask_names_what_stands_and_writes_nothing(out):
    assert OutputFolder(out).conflicts(SENDER) == ()
    place = OutputFolder(out)
    place.check(TREE)
    assert place.conflicts(SENDER) == ("d", "f.txt")
    before = contents(out)
    with pytest.raises(ConflictError, match=r"'d', 'f\.txt'; nothing was written"):
        begun(out, OnConflict.ASK)
    assert contents(out) == before


def test_looking_for_conflicts_makes_no_directory(tmp_path):
    place = OutputFolder(tmp_path / "missing")
    place.check(TREE)
    assert place.conflicts(SENDER) == ()
    assert list(tmp_path.iterdir()) == []


def test_skip_leaves_what_stands_and_writes_what_is_missing(out):
    sink = begun(out, OnConflict.SKIP)
    assert sink.left_out == {1, 5}
    written(sink)
    assert contents(out) == {"d/a": b"old", "f.txt": b"old", "d/b": b"new", "d/e/c": b"new"}


def test_overwrite_replaces_files_and_merges_folders(out):
    (out / "d" / "mine").write_bytes(b"mine")
    sink = begun(out, OnConflict.OVERWRITE)
    assert sink.left_out == frozenset()
    written(sink)
    assert contents(out) == {
        "d/a": b"new",
        "f.txt": b"new",
        "d/b": b"new",
        "d/e/c": b"new",
        "d/mine": b"mine",
    }


def test_newer_replaces_only_what_is_older(out):
    os.utime(out / "f.txt", ns=(NEW_NS, NEW_NS))
    sink = begun(out, OnConflict.NEWER)
    assert sink.left_out == {5}
    written(sink)
    assert contents(out)["f.txt"] == b"old"
    assert contents(out)["d/a"] == b"new"


def test_rename_writes_each_taken_top_level_name_beside_what_stands(out):
    written(begun(out, OnConflict.RENAME))
    assert contents(out) == {
        "d/a": b"old",
        "f.txt": b"old",
        "d (1)/a": b"new",
        "d (1)/b": b"new",
        "d (1)/e/c": b"new",
        "f (1).txt": b"new",
    }


def test_rename_takes_no_name_that_the_offer_has_as_well(out):
    entries = (file("f.txt"), file("F (1).txt"))
    written(begun(out, OnConflict.RENAME, entries), entries)
    assert contents(out)["f (2).txt"] == b"new"


@pytest.mark.parametrize("target", ["a", "b"])
def test_a_link_is_replaced_only_by_one_that_leads_elsewhere(out, target):
    entries = (folder("d"), Entry("d/l", EntryKind.LINK, None, 0o777, NEW_NS, target))
    (out / "d" / "l").symlink_to("a")
    os.utime(out / "d", ns=(5, 5))
    kept = (out / "d" / "l").lstat().st_ino
    sink = begun(out, OnConflict.OVERWRITE, entries)
    sink.make_folder("d")
    sink.make_link("d/l", target, NEW_NS)
    sink.finish_folders([])
    sink.close()
    assert str((out / "d" / "l").readlink()) == target
    assert ((out / "d" / "l").lstat().st_ino == kept) is (target == "a")
    assert ((out / "d").stat().st_mtime_ns == 5) is (target == "a")


@pytest.mark.parametrize("policy", [OnConflict.OVERWRITE, OnConflict.NEWER])
def test_a_clash_of_file_and_folder_is_refused_before_anything_is_written(out, policy):
    (out / "d" / "e").write_bytes(b"a file")
    (out / "d" / "b").mkdir()
    before = contents(out)
    with pytest.raises(ConflictError, match=r"'d/b', 'd/e', 'd/e/c'; neither"):
        begun(out, policy)
    assert contents(out) == before


def test_skip_leaves_out_what_would_be_below_a_file_or_a_link(out, tmp_path):
    (out / "d" / "e").symlink_to(tmp_path)
    sink = begun(out, OnConflict.SKIP)
    assert sink.left_out == {1, 3, 4, 5}
    written(sink)
    assert not (tmp_path / "c").exists()


def test_what_was_not_chosen_conflicts_with_nothing_and_is_not_written(out):
    sink = begun(out, OnConflict.ASK, (*TREE, file("new")), chosen={6})
    assert sink.left_out == {0, 1, 2, 3, 4, 5}
    written(sink, (*TREE, file("new")))
    assert contents(out) == {"d/a": b"old", "f.txt": b"old", "new": b"new"}


@pytest.mark.parametrize("size", [3, PACK_CHUNK_BYTES + 1, 5 * 1024 * 1024])
def test_a_standing_file_of_the_same_size_is_offered_by_its_digests(out, size):
    data = bytes(range(256)) * (size // 256 + 1)
    (out / "f.txt").write_bytes(data[:size])
    entries = (file("f.txt", size),)
    sink = begun(out, OnConflict.OVERWRITE, entries)
    found = sink.have(0, entries[0])
    assert isinstance(found, Existing)
    assert not found.partial
    if size <= 4 * PACK_CHUNK_BYTES:
        digests = [found.digests[at : at + 32] for at in range(0, len(found.digests), 32)]
        assert file_root(size, found.chunk_size, digests) == packed_root(memoryview(data[:size]))
    before = (out / "f.txt").stat()
    place = sink.begin_file("f.txt", size, found.chunk_size, resume=found)
    place.commit(0o777, NEW_NS)
    assert (out / "f.txt").stat() == before
    sink.close()


def test_a_standing_file_that_changed_after_it_was_compared_is_a_conflict(out):
    entries = (file("f.txt"),)
    sink = begun(out, OnConflict.OVERWRITE, entries)
    found = sink.have(0, entries[0])
    place = sink.begin_file("f.txt", 3, found.chunk_size, resume=found)
    os.utime(out / "f.txt", ns=(5, 5))
    with pytest.raises(ConflictError, match="changed since"):
        place.commit(0o644, NEW_NS)
    sink.close()


@pytest.mark.parametrize("policy", [OnConflict.SKIP, OnConflict.RENAME])
def test_a_policy_that_replaces_nothing_reads_no_standing_file(out, policy):
    entries = (file("f.txt"),)
    sink = begun(out, policy, entries)
    assert sink.have(0, entries[0]) is None
    sink.close()


def test_a_file_of_another_size_and_a_link_are_not_offered(out):
    entries = (file("f.txt", 4), file("d/a"))
    (out / "d" / "a").unlink()
    (out / "d" / "a").symlink_to("../f.txt")
    sink = begun(out, OnConflict.OVERWRITE, entries)
    assert sink.have(0, entries[0]) is None
    assert sink.have(1, entries[1]) is None
    sink.close()


class Full:
    """The real disk with so many blocks of 1 KiB free."""

    def __init__(self, free, blocks=1000):
        self.space = SimpleNamespace(f_frsize=1024, f_bavail=free, f_blocks=blocks)

    def fstatvfs(self, handle):
        del handle
        return self.space

    def __getattr__(self, name):
        return getattr(SYSTEM, name)


def test_space_is_checked_and_the_sentence_says_how_much_is_missing(tmp_path):
    sink = begun(tmp_path / "o", OnConflict.ASK, calls=Full(2))
    sink.check_space(2048)
    with pytest.raises(NoSpaceError, match=r"3\.1 KB would come, 2\.0 KB are free, 1\.0 KB are missing"):
        sink.check_space(3072)
    sink.close()


def test_a_file_system_that_does_not_count_is_not_refused(tmp_path):
    sink = begun(tmp_path / "o", OnConflict.ASK, calls=Full(0, blocks=0))
    sink.check_space(10**15)
    sink.close()


def test_force_passes_the_check(tmp_path):
    sink = begun(tmp_path / "o", OnConflict.ASK, calls=Full(0), force_space=True)
    sink.check_space(10**15)
    sink.close()


def test_ranges_hold_every_file_that_is_wanted_and_join_over_folders():
    assert accepted_ranges(TREE, frozenset()) is None
    assert accepted_ranges(TREE, {0, 3}) is None
    assert accepted_ranges(TREE, {1, 5}) == ((2, 3),)
    assert accepted_ranges(TREE, {2}) == ((1, 1), (4, 2))
    assert accepted_ranges(TREE, {1, 2, 4, 5}) == ()
    assert expanded(((2, 3),), 6) == {2, 3, 4}


def test_too_many_ranges_are_joined_over_the_fewest_bytes():
    entries = tuple(file(str(number), size) for number, size in enumerate([9, 50, 9, 1, 9, 70, 9]))
    assert accepted_ranges(entries, {1, 3, 5}, most=3) == ((0, 1), (2, 3), (6, 1))
    assert accepted_ranges(entries, {1, 3, 5}, most=1) == ((0, 7),)


class Syncs(type(SYSTEM)):
    """Counts the syncs of the whole file system."""

    whole = 0

    def sync_file_system(self, handle):
        self.whole += 1
        super().sync_file_system(handle)


@pytest.mark.parametrize("count", [SYNC_EACH, SYNC_EACH + 1])
def test_only_a_few_entries_are_synced_one_by_one(tmp_path, count):
    calls = Syncs()
    entries = tuple(file(f"file-{number}") for number in range(count))
    written(begun(tmp_path / "new", OnConflict.ASK, entries, calls=calls), entries)
    assert calls.whole == (count > SYNC_EACH)
    assert len(list((tmp_path / "new").iterdir())) == count


def test_a_file_that_came_in_chunks_is_synced_with_its_former_name(tmp_path):
    calls = Syncs()
    sink = begun(tmp_path / "new", OnConflict.ASK, (file("big", 3),), calls=calls)
    place = sink.begin_file("big", 3, PACK_CHUNK_BYTES)
    place.write_at(0, memoryview(b"new"))
    place.commit(0o644, NEW_NS)
    sink.finish_folders([])
    sink.close()
    assert calls.whole == 1


def test_what_was_left_as_it_stood_is_not_synced(out):
    entries = (folder("d"), file("d/a"), file("d/b"))
    synced = []

    class Syncs(type(SYSTEM)):
        def open(self, name, flags, mode=0o777, *, dir_fd=None):
            synced.append(name)
            return super().open(name, flags, mode, dir_fd=dir_fd)

    sink = begun(out, OnConflict.SKIP, entries, calls=Syncs())
    written(sink, entries)
    assert "a" not in synced
    assert "b" in synced

"""The gate as a receiver uses it: files, folders, links, modes, times, conflicts, and what failure leaves."""

import errno
import os
import stat
import sys
from pathlib import Path

import pytest
from tallow_protocol.core.messages import Entry, EntryKind
from tallow_protocol.disk import root as root_module
from tallow_protocol.disk import system
from tallow_protocol.disk.calls import SYSTEM
from tallow_protocol.disk.root import OutputRoot
from tallow_protocol.errors import ConflictError, IntegrityError, MisuseError, NoSpaceError, NotWritableError

from tests.protocol.disk.machine import arriving, open_descriptors

TIME_NS = 1_234_567_890_123_456_789


def entry(path, kind=EntryKind.FILE):
    return Entry(path, kind, 0 if kind is EntryKind.FILE else None, 0o644, 0, None)


def mode_of(path):
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_missing_output_directory_is_created_with_its_parents(tmp_path):
    with OutputRoot.open(tmp_path / "a" / "b") as root:
        assert root.directory == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()


def test_an_output_directory_that_is_a_link_is_the_users_choice(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with OutputRoot.open(tmp_path / "link") as root:
        root.write_small(("f",), b"x", 0o644, TIME_NS)
    assert (tmp_path / "real" / "f").read_bytes() == b"x"


@pytest.mark.parametrize("below", ["", "below"])
def test_an_output_directory_that_is_a_file_is_one_clear_error(tmp_path, below):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotWritableError, match="is not a directory"):
        OutputRoot.open(tmp_path / "file" / below)


def test_an_output_directory_with_nul_is_one_clear_error():
    with pytest.raises(NotWritableError):
        OutputRoot.open("a\0b")


def test_nothing_is_made_before_the_first_entry(root):
    assert root.conflicts([entry("a/b")]) == ()
    assert root.free_bytes() > 0
    assert list(root.directory.iterdir()) == []


def test_an_arriving_file_gets_its_name_mode_and_time_only_when_it_is_whole(root):
    placed = root.directory / "d" / "f"
    with arriving(root, ("d", "f"), 8) as file:
        file.write_at(4, b"5678")
        assert not placed.exists()
        file.write_at(0, memoryview(b"1234"))
        file.commit(0o754, TIME_NS)
    assert placed.read_bytes() == b"12345678"
    assert mode_of(placed) == 0o754
    assert placed.stat().st_mtime_ns == TIME_NS
    assert placed.stat().st_nlink == 1


def test_staging_is_private_and_beside_its_place(root):
    root.write_small(("f",), b"x", 0o666, 0)
    (staging,) = root.directory.glob(".tallow-*")
    assert len(staging.name) == len(".tallow-") + 32
    assert mode_of(staging) == 0o700
    assert list(staging.iterdir()) == []


def test_two_transfers_into_one_directory_stage_apart(tmp_path):
    with OutputRoot.open(tmp_path) as one, OutputRoot.open(tmp_path) as two:
        one.write_small(("a",), b"", 0o600, 0)
        two.write_small(("b",), b"", 0o600, 0)
        assert len(list(tmp_path.glob(".tallow-*"))) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("mode", [0o000, 0o200, 0o400, 0o600, 0o644, 0o755, 0o777])
def test_every_permission_is_kept_whatever_the_umask(root, mode):
    root.write_small(("small",), b"x", mode, 0)
    with arriving(root, ("big",), 1) as file:
        file.write_at(0, b"x")
        file.commit(mode, 0)
    assert mode_of(root.directory / "small") == mode
    assert mode_of(root.directory / "big") == mode


def test_set_user_id_set_group_id_and_sticky_never_arrive(root):
    root.write_small(("f",), b"x", 0o7755, 0)
    root.make_folder(("d",))
    root.finish_folders([(("d",), 0o7777, 0)])
    assert mode_of(root.directory / "f") == 0o755
    assert mode_of(root.directory / "d") == 0o777


@pytest.mark.parametrize("mtime_ns", [-1, 0, 1, TIME_NS, 4_102_444_800_000_000_001])
def test_times_are_kept_to_the_nanosecond_before_1970_too(root, mtime_ns):
    root.write_small(("f",), b"", 0o644, mtime_ns)
    assert (root.directory / "f").stat().st_mtime_ns == mtime_ns


def test_a_time_beyond_the_system_is_counted_and_the_file_kept(root):
    root.write_small(("f",), b"x", 0o644, 2**200)
    assert (root.directory / "f").read_bytes() == b"x"
    assert root.attributes_lost == 1


def test_an_empty_file_and_an_empty_folder(root):
    root.write_small(("empty",), b"", 0o600, 0)
    root.make_folder(("folder",))
    root.finish_folders([(("folder",), 0o750, TIME_NS)])
    assert (root.directory / "empty").read_bytes() == b""
    assert (root.directory / "folder").stat().st_mtime_ns == TIME_NS
    assert mode_of(root.directory / "folder") == 0o750


def test_folder_modes_and_times_survive_what_is_written_into_them(root):
    folders = [(("t",), 0o755, 1_000), (("t", "a"), 0o711, 2_000), (("t", "a", "b"), 0o700, 3_000)]
    for components, _, _ in folders:
        root.make_folder(components)
    root.write_small(("t", "a", "b", "f"), b"x", 0o644, 0)
    root.write_small(("t", "a", "g"), b"x", 0o644, 0)
    root.finish_folders(folders)
    seen = [
        (
            mode_of(root.directory.joinpath(*components)),
            root.directory.joinpath(*components).stat().st_mtime_ns,
        )
        for components, _, _ in folders
    ]
    assert seen == [(0o755, 1_000), (0o711, 2_000), (0o700, 3_000)]


def test_folders_are_private_until_the_end(root):
    root.make_folder(("t",))
    assert mode_of(root.directory / "t") == 0o700


def test_parents_without_an_entry_are_made_with_the_users_umask(root):
    before = os.umask(0o027)
    try:
        root.write_small(("implied", "f"), b"x", 0o600, 0)
    finally:
        os.umask(before)
    assert mode_of(root.directory / "implied") == 0o750


def test_a_folder_entry_after_its_content_is_fine(root):
    root.write_small(("t", "f"), b"x", 0o600, 0)
    root.make_folder(("t",))
    root.make_folder(("t",))
    root.finish_folders([(("t",), 0o500, 5)])
    assert mode_of(root.directory / "t") == 0o500


def test_a_link_inside_its_folder_is_made_with_its_time(root):
    root.make_link(("t", "l"), "a/b", mtime_ns=TIME_NS)
    link = root.directory / "t" / "l"
    assert link.readlink() == Path("a/b")
    assert link.lstat().st_mtime_ns == TIME_NS


def test_conflicts_names_what_exists_at_the_top(root):
    (root.directory / "file").write_bytes(b"")
    (root.directory / "folder").mkdir()
    (root.directory / "dangling").symlink_to("nowhere")
    offer = [entry("new"), entry("folder/x"), entry("dangling"), entry("file"), entry("folder/y")]
    assert root.conflicts(offer) == ("dangling", "file", "folder")


@pytest.mark.parametrize("existing", ["file", "folder", "dangling link", "link to a file"])
def test_an_existing_target_is_a_conflict_and_stays(root, existing):
    target = root.directory / "f"
    if existing == "file":
        target.write_bytes(b"mine")
    elif existing == "folder":
        target.mkdir()
    else:
        (root.directory / "other").write_bytes(b"mine")
        target.symlink_to("other" if existing == "link to a file" else "nowhere")
    before = target.lstat()
    with pytest.raises(ConflictError):
        root.write_small(("f",), b"theirs", 0o644, 0)
    with pytest.raises(ConflictError):
        root.claim(("f",))
    with pytest.raises(ConflictError):
        root.make_folder(("f",))
    with pytest.raises(ConflictError):
        root.make_link(("t", "l"), "x") or root.make_link(("t", "l"), "x")
    assert target.lstat() == before


def test_a_target_that_appears_before_commit_is_a_conflict_and_stays(root):
    with arriving(root, ("f",), 6) as file:
        file.write_at(0, b"theirs")
        (root.directory / "f").write_bytes(b"mine")
        with pytest.raises(ConflictError) as caught:
            file.commit(0o644, 0)
    assert caught.value.code == "conflict"
    assert (root.directory / "f").read_bytes() == b"mine"
    root.close()
    assert [path.name for path in root.directory.iterdir()] == ["f"]


def test_an_existing_folder_is_never_written_into(root):
    (root.directory / "t").mkdir()
    with pytest.raises(ConflictError):
        root.write_small(("t", "f"), b"x", 0o644, 0)
    with pytest.raises(ConflictError):
        root.claim(("t", "f"))
    assert list((root.directory / "t").iterdir()) == []


@pytest.mark.parametrize("missing", ["link", "link and renameat2"])
def test_without_hard_links_a_file_is_still_placed_and_never_replaces(root, monkeypatch, missing):
    def refused(*_, **__):
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refused)
    if missing == "link and renameat2":
        monkeypatch.setattr(system, "_libc", lambda: None)
    root.write_small(("f",), b"1", 0o640, TIME_NS)
    with pytest.raises(ConflictError):
        root.write_small(("f",), b"2", 0o640, TIME_NS)
    assert (root.directory / "f").read_bytes() == b"1"
    assert mode_of(root.directory / "f") == 0o640
    root.close()
    assert [path.name for path in root.directory.iterdir()] == ["f"]


def test_a_placement_that_fails_in_every_way_leaves_no_empty_file_under_the_final_name(root, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(errno.EPERM, "this directory is append-only")

    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(os, "rename", refused)
    monkeypatch.setattr(system, "_libc", lambda: None)
    with pytest.raises(NotWritableError):
        root.write_small(("f",), b"x", 0o600, 0)
    root.close()
    assert list(root.directory.iterdir()) == []


def test_a_placed_file_is_no_failure_when_its_staged_name_cannot_be_removed(root, monkeypatch):
    def refused(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", refused)
        root.write_small(("f",), b"x", 0o600, 0)
    assert (root.directory / "f").read_bytes() == b"x"


def test_a_file_system_without_modes_and_times_keeps_the_data(root, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(errno.EPERM, "no modes here")

    monkeypatch.setattr(os, "fchmod", refused)
    monkeypatch.setattr(os, "utime", refused)
    root.write_small(("f",), b"x", 0o640, TIME_NS)
    assert (root.directory / "f").read_bytes() == b"x"
    assert root.attributes_lost == 1


def test_a_file_that_is_too_short_never_gets_its_name(root):
    with arriving(root, ("f",), 10) as file:
        file.write_at(0, b"short")
        with pytest.raises(IntegrityError, match="shorter"):
            file.commit(0o644, 0)
    root.close()
    assert list(root.directory.iterdir()) == []


@pytest.mark.parametrize(("offset", "data"), [(0, b"12345"), (4, b"1"), (-1, b"1")])
def test_a_write_beyond_the_size_is_refused(root, offset, data):
    with arriving(root, ("f",), 4) as file, pytest.raises(MisuseError):
        file.write_at(offset, data)


def test_an_arriving_file_ends_once(root):
    with arriving(root, ("f",), 1) as file:
        file.write_at(0, b"x")
        file.commit(0o600, 0)
        file.abandon()
        with pytest.raises(MisuseError):
            file.write_at(0, b"y")
    assert (root.directory / "f").read_bytes() == b"x"


def test_one_file_can_be_begun_again_after_it_was_abandoned(root):
    with arriving(root, ("f",), 1) as first:
        first.write_at(0, b"a")
        first.abandon()
        first.abandon()
    with arriving(root, ("f",), 1) as second:
        second.write_at(0, b"b")
        second.commit(0o600, 0)
    assert (root.directory / "f").read_bytes() == b"b"


def test_discard_removes_what_is_staged_and_nothing_else(root):
    (root.directory / "mine").mkdir()
    (root.directory / "mine" / "f").write_bytes(b"x")
    root.write_small(("t", "whole"), b"whole", 0o600, 0)
    with arriving(root, ("t", "half"), 10) as file:
        file.write_at(0, b"half")
    root.discard()
    root.discard()
    found = sorted(str(path.relative_to(root.directory)) for path in root.directory.rglob("*"))
    assert found == ["mine", "mine/f", "t", "t/whole"]


def test_discard_leaves_a_staging_directory_that_holds_something_foreign(root):
    root.write_small(("f",), b"x", 0o600, 0)
    (staging,) = root.directory.glob(".tallow-*")
    (staging / "foreign").mkdir()
    root.discard()
    assert [path.name for path in staging.iterdir()] == ["foreign"]


def test_a_closed_gate_opens_nothing(root):
    root.close()
    with pytest.raises(MisuseError):
        root.make_folder(("d",))
    with pytest.raises(MisuseError):
        root.write_small(("f",), b"", 0o600, 0)
    with pytest.raises(MisuseError):
        root.claim(("f",))


def test_a_tree_of_2000_files_in_more_folders_than_handles(root, monkeypatch):
    monkeypatch.setattr(root_module, "FOLDER_HANDLES", 8)
    before = open_descriptors()
    for number in range(2_000):
        root.write_small(
            ("t", f"d{number % 40}", f"e{number % 3}", f"f{number}"), b"%d" % number, 0o640, number
        )
    assert open_descriptors() <= before + 10
    folders = [(("t", f"d{number}"), 0o555, number) for number in range(40)]
    root.finish_folders(folders)
    for number in range(2_000):
        placed = root.directory / "t" / f"d{number % 40}" / f"e{number % 3}" / f"f{number}"
        assert placed.read_bytes() == b"%d" % number
    assert all((root.directory / "t" / f"d{number}").stat().st_mtime_ns == number for number in range(40))


def test_a_path_of_64_levels_works_with_few_handles(root, monkeypatch):
    monkeypatch.setattr(root_module, "FOLDER_HANDLES", 2)
    components = ("d" * 50,) * 63
    root.write_small((*components, "f"), b"deep", 0o600, 0)
    assert root.directory.joinpath(*components, "f").read_bytes() == b"deep"


def test_no_descriptor_stays_open(tmp_path):
    before = open_descriptors()
    root = OutputRoot.open(tmp_path)
    root.write_small(("a", "b", "f"), b"x", 0o600, 0)
    root.make_link(("a", "l"), "f")
    root.close()
    assert open_descriptors() == before


def test_a_write_past_4_gib_lands_where_it_belongs(root):
    size = 5 * 2**30
    with arriving(root, ("big",), size) as file:
        file.write_at(2**32 + 5, b"past four gigabytes")
        file.write_at(size - 3, b"end")
        file.commit(0o600, 0)
    placed = root.directory / "big"
    assert placed.stat().st_size == size
    with placed.open("rb") as file:
        file.seek(2**32 + 5)
        assert file.read(19) == b"past four gigabytes"
        file.seek(size - 3)
        assert file.read() == b"end"


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, NoSpaceError),
        (errno.EDQUOT, NoSpaceError),
        (errno.EROFS, NotWritableError),
        (errno.EACCES, NotWritableError),
        (errno.EIO, NotWritableError),
    ],
)
def test_a_failed_write_is_one_clear_error_and_leaves_nothing(root, monkeypatch, number, expected):
    def failing(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", failing)
    with arriving(root, ("t", "big"), 1) as file, pytest.raises(expected):
        file.write_at(0, b"x")
    with pytest.raises(expected, match="small"):
        root.write_small(("t", "small"), b"x", 0o600, 0)
    root.discard()
    assert [str(path.relative_to(root.directory)) for path in root.directory.rglob("*")] == ["t"]


def test_short_writes_are_continued(root, monkeypatch):
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: whole(descriptor, data[:3], offset))
    root.write_small(("f",), b"0123456789", 0o600, 0)
    assert (root.directory / "f").read_bytes() == b"0123456789"


def test_sync_waits_for_the_device(root, monkeypatch):
    root.write_small(("f",), b"x", 0o600, 0)
    root.sync()
    monkeypatch.setattr(system, "_libc", lambda: None)
    monkeypatch.setattr(os, "sync", lambda: None)
    root.sync()


class Syncs(type(SYSTEM)):
    """The operating system, and what was synced: names of files and folders, or "all"."""

    def __init__(self):
        self.synced = []

    def sync_file(self, handle):
        super().sync_file(handle)
        self.synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)

    def sync_file_system(self, handle):
        super().sync_file_system(handle)
        self.synced.append("all")


@pytest.fixture
def syncs(tmp_path):
    with OutputRoot.open(tmp_path / "out", calls=Syncs()) as root:
        root.make_folder(("d",))
        root.write_small(("d", "deep", "f"), b"x", 0o644, 0)
        root.write_small(("g",), b"x", 0o644, 0)
        root.make_link(("d", "l"), "deep")
        yield root


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names open files by /proc")
def test_little_is_synced_by_itself_files_before_the_names_in_their_folders(syncs):
    syncs.sync([("d",), ("d", "deep", "f"), ("d", "l"), ("g",)])
    assert syncs.calls.synced == ["f", "g", "deep", "d", "out"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names open files by /proc")
@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.chmod(0)])
def test_what_cannot_be_synced_by_itself_is_synced_with_all(syncs, harm, monkeypatch):
    harm(syncs.directory / "g")
    opened = os.open

    def refused(path, flags, mode=0o777, *, dir_fd=None):  # root may read what nobody may
        if path == "g" and not (syncs.directory / "g").stat().st_mode & 0o400:
            raise PermissionError
        return opened(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refused)
    syncs.sync([("d", "deep", "f"), ("g",)])
    assert syncs.calls.synced == ["f", "all"]


def test_a_small_file_that_stayed_in_staging_is_in_the_way_of_no_other(root):
    root.write_small(("a",), b"1", 0o644, TIME_NS)
    (staging,) = root.directory.glob(".tallow-*")
    (staging / "small").write_bytes(b"left over")
    root.write_small(("b",), b"22", 0o640, TIME_NS)
    root.write_small(("c",), b"333", 0o755, TIME_NS)
    assert [(root.directory / name).read_bytes() for name in "abc"] == [b"1", b"22", b"333"]
    assert [mode_of(root.directory / name) for name in "abc"] == [0o644, 0o640, 0o755]
    assert (staging / "small").read_bytes() == b"left over"
    (staging / "small").unlink()


def test_a_small_file_whose_place_is_taken_leaves_nothing_for_the_next(root):
    (root.directory / "a").write_bytes(b"theirs")
    with pytest.raises(ConflictError):
        root.write_small(("a",), b"ours", 0o644, TIME_NS)
    root.write_small(("b",), b"ours", 0o644, TIME_NS)
    (staging,) = root.directory.glob(".tallow-*")
    assert list(staging.iterdir()) == []
    assert (root.directory / "a").read_bytes() == b"theirs"

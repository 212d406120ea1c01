"""What a sender finds under the paths it is given, and the files behind the entries."""

import os
import socket
import unicodedata
from pathlib import Path

import pytest
from tallow_protocol.core.messages import EntryKind
from tallow_protocol.disk.errors import NameClashError, NameRefusedError
from tallow_protocol.disk.names import check_offer
from tallow_protocol.disk.scan import check, open_source, scan
from tallow_protocol.errors import PathMissingError, SourceChangedError, UnreadableError


def paths_of(found):
    return [scanned.entry.path for scanned in found.entries]


@pytest.fixture
def tree(tmp_path):
    top = tmp_path / "top"
    (top / "b").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "b" / "z.txt").write_bytes(b"zz")
    (top / "a.txt").write_bytes(b"a")
    return top


def test_parents_come_before_children_and_names_are_sorted(tree):
    found = scan([tree])
    assert paths_of(found) == ["top", "top/a.txt", "top/b", "top/b/z.txt", "top/empty"]
    assert found.files == 2
    assert found.total_bytes == 3
    assert found.warnings == ()


def test_two_scans_of_one_tree_are_equal(tree):
    assert list(scan([tree]).entries) == list(scan([str(tree)]).entries)


def test_entries_carry_kind_size_mode_and_time(tree):
    (tree / "a.txt").chmod(0o4750)
    os.utime(tree / "a.txt", ns=(0, 1_234_567_890_123_456_789))
    tree.chmod(0o1711)
    os.utime(tree, ns=(0, -5))
    top, first = (scanned.entry for scanned in scan([tree]).entries[:2])
    assert (top.kind, top.size, top.mode, top.mtime_ns, top.target) == (
        EntryKind.FOLDER,
        None,
        0o711,
        -5,
        None,
    )
    assert (first.kind, first.size, first.mode) == (EntryKind.FILE, 1, 0o750)
    assert first.mtime_ns == 1_234_567_890_123_456_789


def test_what_a_scan_offers_passes_the_receivers_rules(tree):
    for name in ("日本語.txt", "é", "👩\u200d👩\u200d👧", "a..b", " lead"):
        (tree / name).write_bytes(b"")
    (tree / "link").symlink_to("b/z.txt")
    check_offer([scanned.entry for scanned in scan([tree]).entries])


def test_several_paths_become_several_top_entries_in_the_order_given(tree):
    (tree.parent / "one").write_bytes(b"1")
    assert paths_of(scan([tree / "b", tree.parent / "one"])) == ["b", "b/z.txt", "one"]


@pytest.mark.parametrize("given", ["top/", "./top", "top/.", "top/b/..", "top//", "top/./"])
def test_a_folder_is_sent_under_its_real_name_however_it_is_spelled(tree, monkeypatch, given):
    monkeypatch.chdir(tree.parent)
    assert paths_of(scan([given]))[0] == "top"


@pytest.mark.parametrize(("given", "name"), [(".", "b"), ("..", "top"), ("../..", None)])
def test_here_and_parent_resolve_to_their_real_names(tree, monkeypatch, given, name):
    monkeypatch.chdir(tree / "b")
    assert paths_of(scan([given]))[0] == (name or tree.parent.name)


def test_the_root_folder_has_no_name_to_be_sent_under():
    with pytest.raises(NameRefusedError, match="no name of its own"):
        scan(["/"])


@pytest.mark.parametrize("given", ["missing", "top/a.txt/x", "a\0b", ""])
def test_a_missing_path_is_one_clear_error(tree, monkeypatch, given):
    monkeypatch.chdir(tree.parent)
    with pytest.raises(PathMissingError, match="there is no file or folder"):
        scan([given])


def test_a_link_to_nothing_on_the_command_line_is_one_clear_error(tree):
    (tree / "dangling").symlink_to("nowhere")
    with pytest.raises(PathMissingError, match="link to nothing"):
        scan([tree / "dangling"])


def test_a_link_on_the_command_line_is_followed_under_its_own_name(tree):
    (tree.parent / "latest").symlink_to("top")
    (tree.parent / "file").symlink_to("top/a.txt")
    found = scan([tree.parent / "latest", tree.parent / "file"])
    assert paths_of(found)[0] == "latest"
    assert "latest/b/z.txt" in paths_of(found)
    with open_source(found.entries[-1]) as source:
        buffer = bytearray(1)
        assert source.read_into(0, memoryview(buffer)) == 1
    assert buffer == b"a"


@pytest.mark.parametrize("second", ["b/top", "b/TOP"])
def test_two_paths_with_one_base_name_clash(tree, second):
    (tree / second).write_bytes(b"")
    with pytest.raises(NameClashError, match="would both be sent as"):
        scan([tree, tree / second])


def test_the_same_path_twice_clashes(tree):
    with pytest.raises(NameClashError):
        scan([tree, tree])


def test_links_inside_the_tree_stay_links(tree):
    (tree / "in").symlink_to("b/z.txt")
    (tree / "b" / "up").symlink_to("../a.txt")
    (tree / "b" / "spelled").symlink_to(".././/empty/")
    (tree / "dangling").symlink_to("not-there")
    found = scan([tree])
    targets = {scanned.entry.path: scanned.entry.target for scanned in found.entries if scanned.entry.target}
    assert targets == {
        "top/in": "b/z.txt",
        "top/b/up": "../a.txt",
        "top/b/spelled": "../empty",
        "top/dangling": "not-there",
    }
    assert found.warnings == ()


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "..", "../outside", "../top2/x", "b/../../x", "b/../a.txt"]
)
def test_links_that_may_lead_out_are_left_out_with_a_warning(tree, target):
    (tree / "link").symlink_to(target)
    found = scan([tree])
    assert "top/link" not in paths_of(found)
    assert len(found.warnings) == 1
    assert "link" in found.warnings[0]


def test_a_loop_of_links_is_no_loop(tree):
    (tree / "b" / "loop").symlink_to("../b")
    (tree / "self").symlink_to("self")
    assert "top/b/loop" in paths_of(scan([tree]))


def test_sockets_and_pipes_are_left_out_with_a_warning(tree):
    os.mkfifo(tree / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tree / "sock"))
        found = scan([tree])
    assert sorted(found.warnings) == [
        f"'{tree}/pipe' is a pipe and is left out",
        f"'{tree}/sock' is a socket and is left out",
    ]
    assert found.files == 2


def test_a_pipe_on_the_command_line_is_one_clear_error(tree):
    os.mkfifo(tree / "pipe")
    with pytest.raises(UnreadableError, match="is a pipe"):
        scan([tree / "pipe"])


def test_a_device_on_the_command_line_is_one_clear_error():
    with pytest.raises(UnreadableError, match="is a device"):
        scan(["/dev/null"])


def test_decomposed_names_are_offered_composed(tree):
    decomposed = unicodedata.normalize("NFD", "é.txt")
    (tree / decomposed).write_bytes(b"accent")
    (tree / "to").symlink_to(decomposed)
    found = scan([tree])
    assert unicodedata.normalize("NFC", "top/é.txt") in paths_of(found)
    (link,) = (scanned.entry for scanned in found.entries if scanned.entry.kind is EntryKind.LINK)
    assert link.target == unicodedata.normalize("NFC", "é.txt")
    (file,) = (scanned for scanned in found.entries if scanned.source.name == decomposed)
    with open_source(file) as source:
        assert source.size_bytes == 6


def test_a_decomposed_name_on_the_command_line_is_offered_composed(tree):
    (tree / "e\u0301").mkdir()
    assert paths_of(scan([tree / "e\u0301"])) == ["\u00e9"]


@pytest.mark.parametrize(("first", "second"), [("é", "e\u0301"), ("A", "a"), ("straße", "STRASSE")])
def test_two_names_that_one_place_would_hold_clash(tree, first, second):
    (tree / first).write_bytes(b"")
    (tree / second).write_bytes(b"")
    with pytest.raises(NameClashError, match="differ only"):
        scan([tree])


@pytest.mark.parametrize("name", ["a:b", "CON", "x.", "a\nb", "exe\u202egpj", "a\\b", "nul.txt"])
def test_a_name_that_the_receiver_would_refuse_is_a_clear_error_naming_it(tree, name):
    (tree / "b" / name).write_bytes(b"")
    with pytest.raises(NameRefusedError, match="cannot be sent") as caught:
        scan([tree])
    assert str(caught.value).isprintable()
    assert "top/b" in str(caught.value)
    assert "rename it" in caught.value.hints[0]


@pytest.mark.parametrize("where", ["inside", "on the command line"])
def test_a_name_that_is_not_utf8_is_a_clear_error_naming_it(tree, where):
    path = os.fsencode(tree / "b") + b"/bad-\xff-name"
    Path(os.fsdecode(path)).write_bytes(b"")
    with pytest.raises(NameRefusedError, match="not UTF-8") as caught:
        scan([tree if where == "inside" else os.fsdecode(path)])
    assert str(caught.value).isprintable()
    str(caught.value).encode()


def test_a_tree_too_deep_for_an_offer_is_a_clear_error(tree):
    deep = tree.joinpath(*["d"] * 63)
    deep.mkdir(parents=True)
    scan([tree])
    (deep / "f").write_bytes(b"")
    with pytest.raises(NameRefusedError, match="64 levels"):
        scan([tree])


def test_a_file_that_disappears_during_the_scan_is_left_out_with_a_warning(tree, monkeypatch):
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: [*listed(folder), "gone"])
    found = scan([tree / "b"])
    assert paths_of(found) == ["b", "b/z.txt"]
    assert "disappeared" in found.warnings[0]


def test_a_scan_costs_less_than_400_bytes_an_entry(tmp_path):
    import tracemalloc

    for number in range(2000):
        if number % 100 == 0:
            (tmp_path / f"folder-{number}").mkdir()
        (tmp_path / f"folder-{number // 100 * 100}" / f"file-{number:06}.txt").write_bytes(b"x" * number)
    tracemalloc.start()
    found = scan([tmp_path])
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.files == 2000
    assert size < 2000 * 400


def test_entries_are_made_alike_each_time_they_are_asked_for(tree):
    found = scan([tree / "b", tree / "a.txt"])
    assert list(found.entries) == [found.entries[number] for number in range(len(found.entries))]
    assert found.entries[1:] == tuple(found.entries)[1:]
    assert found.entries[-1] == list(found.entries)[-1]
    for scanned in found.entries:
        status = scanned.source.lstat()
        assert (scanned.identity is None) == scanned.source.is_dir()
        if scanned.identity is not None:
            assert scanned.identity[:3] == (status.st_dev, status.st_ino, status.st_size)
            assert scanned.identity[3:] == (status.st_mtime_ns, status.st_ctime_ns)


@pytest.fixture
def scanned(tree):
    (tree / "data").write_bytes(bytes(range(256)) * 4)
    return scan([tree / "data"]).entries[0]


def test_reading_fills_the_callers_buffer_from_any_offset(scanned):
    buffer = bytearray(100)
    with open_source(scanned) as source:
        assert source.size_bytes == 1024
        assert source.read_into(250, memoryview(buffer)) == 100
        assert bytes(buffer) == (bytes(range(256)) * 2)[250:350]
        assert source.read_into(1000, memoryview(buffer)) == 24
        assert source.read_into(1024, memoryview(buffer)) == 0
        assert source.read_into(5000, memoryview(buffer)) == 0
        assert source.read_into(0, memoryview(b"")) == 0
        assert not source.changed()


def test_short_reads_are_continued(scanned, monkeypatch):
    whole = os.preadv
    monkeypatch.setattr(
        os, "preadv", lambda descriptor, buffers, offset: whole(descriptor, [buffers[0][:7]], offset)
    )
    buffer = bytearray(1024)
    with open_source(scanned) as source:
        assert source.read_into(0, memoryview(buffer)) == 1024
    assert bytes(buffer) == bytes(range(256)) * 4


def test_a_file_that_shrinks_while_it_is_read_is_source_changed(scanned):
    with open_source(scanned) as source:
        os.truncate(scanned.source, 1000)
        with pytest.raises(SourceChangedError) as caught:
            source.read_into(0, memoryview(bytearray(1024)))
        assert source.changed()
    assert caught.value.code == "source_changed"


def test_a_file_that_grows_is_read_to_its_offered_size_and_seen_as_changed(scanned):
    with open_source(scanned) as source:
        with scanned.source.open("ab") as file:
            file.write(b"more")
        assert source.read_into(1000, memoryview(bytearray(1024))) == 24
        assert source.changed()


def test_a_new_mode_or_name_is_no_change(scanned):
    scanned.source.chmod(0o600)
    os.link(scanned.source, scanned.source.parent / "second name")
    with open_source(scanned) as source:
        assert not source.changed()


@pytest.mark.parametrize("replacement", ["longer", "touched", "other file", "link", "pipe", "folder"])
def test_what_is_no_longer_the_scanned_file_is_source_changed(scanned, replacement):
    path = scanned.source
    if replacement == "longer":
        path.write_bytes(bytes(2000))
    elif replacement == "touched":
        os.utime(path, ns=(0, 1))
    else:
        path.rename(path.parent / "moved")
        if replacement == "other file":
            path.write_bytes((path.parent / "moved").read_bytes())
        elif replacement == "link":
            path.symlink_to("moved")
        elif replacement == "pipe":
            os.mkfifo(path)
        else:
            path.mkdir()
    with pytest.raises(SourceChangedError, match="changed while it was being sent"):
        open_source(scanned)


def test_a_file_that_is_gone_is_path_missing(scanned):
    scanned.source.unlink()
    with pytest.raises(PathMissingError, match="is gone"):
        open_source(scanned)


def test_a_folder_is_no_source(tree):
    with pytest.raises(ValueError, match="only files"):
        open_source(scan([tree]).entries[0])


def test_a_disk_error_while_reading_is_one_clear_error(scanned, monkeypatch):
    def failing(*_):
        raise OSError(5, "Input/output error")

    with open_source(scanned) as source:
        monkeypatch.setattr(os, "preadv", failing)
        with pytest.raises(UnreadableError, match="Input/output error"):
            source.read_into(0, memoryview(bytearray(10)))


def test_a_source_closes_once_and_keeps_no_descriptor(scanned):
    from tests.protocol.disk.machine import open_descriptors

    before = open_descriptors()
    source = open_source(scanned)
    source.close()
    source.close()
    assert source.changed()
    os.utime(scanned.source, ns=(0, 1))
    with pytest.raises(SourceChangedError):
        open_source(scanned)
    assert open_descriptors() == before


def test_a_pipe_that_was_given_is_refused_with_the_way_to_send_what_it_gives(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnreadableError, match="is a pipe; only files and folders can be sent") as caught:
        check([tmp_path / "pipe"])
    assert caught.value.hints == ("what it gives can be sent: tallow send - < FILE",)

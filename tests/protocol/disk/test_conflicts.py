"""What stands in the output directory already, under each policy: the pure rules, then the gate itself."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallow_protocol.disk import conflicts, names
from tallow_protocol.disk.conflicts import Decision, Standing
from tallow_protocol.disk.errors import NameRefusedError
from tallow_protocol.disk.root import OutputRoot
from tallow_protocol.errors import ConflictError, ProtocolError
from tallow_protocol.events import OnConflict

from tests.protocol.disk.machine import snapshot
from tests.protocol.disk.test_root_attacks import STEP, attempt

MERGING = [OnConflict.SKIP, OnConflict.OVERWRITE, OnConflict.NEWER]
REPLACING = [OnConflict.OVERWRITE, OnConflict.NEWER]
NEW_NS = 4 * 10**18
"""After anything that a test makes now."""


def opened(tmp_path, policy):
    return OutputRoot.open(tmp_path / "out", on_conflict=policy)


@pytest.mark.parametrize("policy", list(OnConflict))
@pytest.mark.parametrize("there", [Standing.FOLDER, Standing.OTHER])
@pytest.mark.parametrize("kind", [names.Kind.FILE, names.Kind.LINK])
def test_neither_file_nor_link_takes_the_place_of_a_folder_or_a_device(policy, there, kind):
    decision = conflicts.decide(policy, kind, there, there_mtime_ns=0, mtime_ns=1)
    assert decision is (Decision.LEAVE if policy is OnConflict.SKIP else Decision.REFUSE)


@pytest.mark.parametrize("policy", list(OnConflict))
@pytest.mark.parametrize("there", [Standing.FILE, Standing.LINK, Standing.OTHER])
def test_a_folder_takes_the_place_of_nothing(policy, there):
    decision = conflicts.decide(policy, names.Kind.FOLDER, there, there_mtime_ns=0, mtime_ns=1)
    assert decision is (Decision.LEAVE if policy is OnConflict.SKIP else Decision.REFUSE)


@pytest.mark.parametrize(
    ("policy", "offered_ns", "expected"),
    [
        (OnConflict.ASK, 2, Decision.REFUSE),
        (OnConflict.RENAME, 2, Decision.REFUSE),
        (OnConflict.SKIP, 2, Decision.LEAVE),
        (OnConflict.OVERWRITE, 0, Decision.WRITE),
        (OnConflict.NEWER, 2, Decision.WRITE),
        (OnConflict.NEWER, 1, Decision.LEAVE),
        (OnConflict.NEWER, 0, Decision.LEAVE),
    ],
)
def test_a_file_where_a_file_stands(policy, offered_ns, expected):
    decision = conflicts.decide(policy, names.Kind.FILE, Standing.FILE, there_mtime_ns=1, mtime_ns=offered_ns)
    assert decision is expected


@pytest.mark.parametrize(
    ("name", "folder", "taken", "expected"),
    [
        ("report.pdf", False, set(), "report (1).pdf"),
        ("report.pdf", False, {"report (1).pdf", "report (2).pdf"}, "report (3).pdf"),
        ("v1.2", True, set(), "v1.2 (1)"),
        (".bashrc", False, set(), ".bashrc (1)"),
        ("a.tar.gz", False, set(), "a (1).tar.gz"),
        (".tar.gz", False, set(), ".tar (1).gz"),
        ("plain", False, set(), "plain (1)"),
        ("é" * 127 + "x", False, set(), "é" * 125 + " (1)"),
        ("x" * 251 + ".txt", False, set(), "x" * 247 + " (1).txt"),
        ("a." + "x" * 253, False, set(), "a." + "x" * 249 + " (1)"),
    ],
)
def test_a_free_name(name, folder, taken, expected):
    assert conflicts.free_name(name, folder=folder, taken=taken.__contains__) == expected
    names.check_component(expected)


def test_no_free_name_is_looked_for_for_ever():
    assert conflicts.free_name("a", folder=False, taken=lambda _: True) is None


@pytest.mark.parametrize("policy", MERGING)
def test_a_merging_policy_writes_beside_what_stands_and_leaves_the_folder_as_it_is(tmp_path, policy):
    standing = tmp_path / "out" / "photos"
    standing.mkdir(parents=True, mode=0o750)
    (standing / "mine").write_bytes(b"mine")
    with opened(tmp_path, policy) as root:
        root.make_folder(("photos",))
        root.write_small(("photos", "new"), b"new", 0o600, 1)
        root.make_folder(("photos", "more"))
        root.finish_folders([(("photos",), 0o777, 1), (("photos", "more"), 0o711, 1)])
    assert standing.stat().st_mode & 0o7777 == 0o750
    assert standing.stat().st_mtime_ns != 1
    assert (standing / "mine").read_bytes() == b"mine"
    assert (standing / "new").read_bytes() == b"new"
    assert (standing / "more").stat().st_mode & 0o7777 == 0o711


@pytest.mark.parametrize("policy", REPLACING)
def test_a_replacing_policy_puts_a_new_file_in_the_old_ones_place(tmp_path, policy):
    out = tmp_path / "out"
    out.mkdir()
    (out / "f").write_bytes(b"old")
    os.link(out / "f", tmp_path / "other name")
    with opened(tmp_path, policy) as root:
        root.write_small(("f",), b"new", 0o640, NEW_NS)
    assert (out / "f").read_bytes() == b"new"
    assert (out / "f").stat().st_mtime_ns == NEW_NS
    assert (tmp_path / "other name").read_bytes() == b"old"
    assert [path.name for path in out.iterdir()] == ["f"]


def test_newer_does_not_replace_a_file_that_became_newer_meanwhile(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "f").write_bytes(b"old")
    with opened(tmp_path, OnConflict.NEWER) as root, pytest.raises(ConflictError):
        root.write_small(("f",), b"new", 0o640, 1)
    assert (tmp_path / "out" / "f").read_bytes() == b"old"


@pytest.mark.parametrize("policy", REPLACING)
def test_a_replacing_policy_replaces_a_link_and_not_what_it_leads_to(tmp_path, policy):
    (tmp_path / "out").mkdir()
    (tmp_path / "outside").write_bytes(b"outside")
    (tmp_path / "out" / "f").symlink_to(tmp_path / "outside")
    with opened(tmp_path, policy) as root:
        root.write_small(("f",), b"new", 0o600, NEW_NS)
    assert (tmp_path / "outside").read_bytes() == b"outside"
    assert not (tmp_path / "out" / "f").is_symlink()


@pytest.mark.parametrize("policy", REPLACING)
def test_a_link_takes_the_place_of_a_file(tmp_path, policy):
    standing = tmp_path / "out" / "d"
    standing.mkdir(parents=True)
    (standing / "l").write_bytes(b"old")
    with opened(tmp_path, policy) as root:
        root.make_folder(("d",))
        root.make_link(("d", "l"), "target", mtime_ns=NEW_NS)
    assert str((standing / "l").readlink()) == "target"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["d"]


@pytest.mark.parametrize("policy", list(OnConflict))
def test_remote_deletion_no_policy_lets_a_file_or_a_link_take_a_folders_place(tmp_path, policy):
    standing = tmp_path / "out" / "d" / "Documents"
    standing.mkdir(parents=True)
    (standing / "f").write_bytes(b"mine")
    before = snapshot(standing)
    with opened(tmp_path, policy) as root:
        for attack in (
            lambda: root.write_small(("d",), b"x", 0o600, NEW_NS),
            lambda: root.write_small(("d", "Documents"), b"x", 0o600, NEW_NS),
            lambda: root.make_link(("d", "Documents"), "x", mtime_ns=NEW_NS),
            lambda: root.make_folder(("d", "Documents", "f")),
            lambda: root.write_small(("d", "Documents", "f", "x"), b"x", 0o600, NEW_NS),
        ):
            with pytest.raises(ConflictError):
                attack()
    assert snapshot(standing) == before


def test_a_folder_planted_between_the_look_and_the_rename_is_not_replaced(tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "f").write_bytes(b"old")
    rename = os.rename

    def plant(*names, **handles):
        (out / "f").unlink()
        (out / "f").mkdir()
        monkeypatch.setattr(os, "rename", rename)
        rename(*names, **handles)

    monkeypatch.setattr(os, "rename", plant)
    with opened(tmp_path, OnConflict.OVERWRITE) as root, pytest.raises(ConflictError):
        root.write_small(("f",), b"new", 0o600, 1)
    assert (out / "f").is_dir()


@pytest.mark.parametrize("policy", MERGING)
def test_write_via_a_symlinked_parent_is_refused_where_folders_merge(tmp_path, policy):
    outside = tmp_path / "outside"
    (outside / "e").mkdir(parents=True)
    inner = tmp_path / "out" / "d"
    inner.mkdir(parents=True)
    (tmp_path / "out" / "link").symlink_to(outside)
    (inner / "link").symlink_to(outside)
    before = snapshot(outside)
    with opened(tmp_path, policy) as root:
        root.make_folder(("d",))
        for top in ((), ("d",)):
            for write in (
                lambda top=top: root.write_small((*top, "link", "x"), b"x", 0o600, NEW_NS),
                lambda top=top: root.claim((*top, "link", "x")),
                lambda top=top: root.make_folder((*top, "link", "e")),
                lambda top=top: root.look((*top, "link", "e")),
                lambda top=top: root.make_link((*top, "link", "e", "l"), "x"),
            ):
                with pytest.raises(ConflictError):
                    write()
    assert snapshot(outside) == before


@pytest.mark.parametrize("policy", MERGING)
def test_a_symlink_planted_between_check_and_open_of_a_standing_folder(tmp_path, policy, monkeypatch):
    (tmp_path / "outside").mkdir()
    standing = tmp_path / "out" / "d"
    standing.mkdir(parents=True)
    make = os.mkdir

    def plant(name, mode=0o777, *, dir_fd=None):
        if name == "d":
            standing.rmdir()
            standing.symlink_to(tmp_path / "outside")
        make(name, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", plant)
    with opened(tmp_path, policy) as root, pytest.raises(ConflictError):
        root.write_small(("d", "x"), b"x", 0o600, 1)
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user's folder")
def test_a_strangers_folder_in_a_shared_directory_is_not_written_into(tmp_path):
    (tmp_path / "out" / "d").mkdir(parents=True)
    os.chown(tmp_path / "out" / "d", 65534, 65534)
    with opened(tmp_path, OnConflict.OVERWRITE) as root, pytest.raises(ConflictError):
        root.write_small(("d", "x"), b"x", 0o600, 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user's folder")
def test_a_folder_of_the_output_directorys_owner_is_written_into(tmp_path):
    (tmp_path / "out" / "d").mkdir(parents=True)
    os.chown(tmp_path / "out", 65534, 65534)
    os.chown(tmp_path / "out" / "d", 65534, 65534)
    with opened(tmp_path, OnConflict.OVERWRITE) as root:
        root.write_small(("d", "x"), b"x", 0o600, 1)
    assert (tmp_path / "out" / "d" / "x").exists()


def merged(tmp_path, policy=OnConflict.SKIP):
    standing = tmp_path / "out" / "d"
    (standing / "sub").mkdir(parents=True)
    (standing / "escape").symlink_to(tmp_path)
    (standing / "sub" / "escape").symlink_to("../..")
    (standing / "inner").symlink_to("sub")
    root = opened(tmp_path, policy)
    root.make_folder(("d",))
    return root


@pytest.mark.parametrize("target", ["escape", "escape/x", "sub/escape", "inner/escape", "sub/escape/x"])
def test_a_link_through_a_standing_link_that_leads_out_is_refused(tmp_path, target):
    with merged(tmp_path) as root, pytest.raises(NameRefusedError, match="would lead out"):
        root.make_link(("d", "l"), target)
    assert not (tmp_path / "out" / "d" / "l").is_symlink()


@pytest.mark.parametrize("target", ["sub", "inner", "inner/x", "missing/x", "l", "sub/../x"])
def test_a_link_that_stays_inside_is_made_beside_standing_links_or_refused_by_its_form(tmp_path, target):
    with merged(tmp_path) as root:
        if ".." in target:
            with pytest.raises(NameRefusedError):
                root.make_link(("d", "l"), target)
        else:
            root.make_link(("d", "l"), target)


@pytest.mark.parametrize("folder", [False, True])
def test_links_that_lead_out_together_are_refused_whichever_came_first(tmp_path, folder):
    via = ("d", "later", "b") if folder else ("d", "b")
    with merged(tmp_path) as root:
        root.make_link(("d", "a"), "/".join(via[1:]) + "/escape")
        if folder:
            root.make_folder(("d", "later"))
        with pytest.raises(NameRefusedError, match="would lead out"):
            root.make_link(via, "../sub" if folder else "sub")


def test_a_link_that_was_not_made_is_not_taken_for_ours(tmp_path):
    with merged(tmp_path) as root:
        with pytest.raises(ConflictError):
            root.make_link(("d", "escape"), "sub")
        with pytest.raises(NameRefusedError):
            root.make_link(("d", "l"), "escape/x")


@settings(max_examples=150, deadline=None)
@given(policy=st.sampled_from(list(OnConflict)), steps=st.lists(STEP, max_size=12))
def test_nothing_outside_the_output_directory_is_touched_under_any_policy(policy, steps):
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        for sibling in ("outside", "out-sibling"):
            (base / sibling / "d").mkdir(parents=True)
            (base / sibling / "d" / "f").write_bytes(b"outside")
        out = base / "out"
        (out / "folder" / "a").mkdir(parents=True)
        (out / "t").mkdir()
        (out / "kept").write_bytes(b"kept")
        (out / "folder" / "kept").write_bytes(b"kept")
        (out / "escape").symlink_to(base / "outside")
        (out / "t" / "escape").symlink_to(base / "outside")
        theirs = {out / "escape", out / "t" / "escape"}
        siblings = [base / "outside", base / "out-sibling"]
        before = [snapshot(sibling) for sibling in siblings]
        folders = {path: path.stat().st_mode for path in (out / "folder", out / "folder" / "a", out / "t")}
        with OutputRoot.open(out, on_conflict=policy) as root:
            for action, components, target in steps:
                try:
                    attempt(root, action, components, target)
                except ProtocolError:
                    continue
        assert [snapshot(sibling) for sibling in siblings] == before
        assert sorted(path.name for path in base.iterdir()) == ["out", "out-sibling", "outside"]
        assert {path: path.stat().st_mode for path in folders} == folders
        assert (out / "kept").exists()
        assert (out / "folder" / "kept").exists()
        if policy is not OnConflict.OVERWRITE:  # what is offered here is older than what stands
            assert (out / "kept").read_bytes() == (out / "folder" / "kept").read_bytes() == b"kept"
        for folder, inner, files in os.walk(out):
            for link in (Path(folder) / entry for entry in inner + files):
                if link.is_symlink() and link not in theirs:
                    assert Path(os.path.realpath(link)).is_relative_to(out.resolve())

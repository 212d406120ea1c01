"""Attacks on the gate, each under the name it is known by, and a property over all of them."""

import contextlib
import os
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallow_protocol.disk import names
from tallow_protocol.disk import root as root_module
from tallow_protocol.disk.errors import NameRefusedError
from tallow_protocol.disk.root import OutputRoot
from tallow_protocol.errors import ConflictError, ProtocolError

from tests.protocol.disk.machine import arriving, snapshot


@pytest.fixture
def outside(tmp_path):
    """A tree beside the output directory, whose name begins like it: what no attack may touch."""
    directory = tmp_path / "outside"
    (directory / "d").mkdir(parents=True)
    (directory / "d" / "secret").write_bytes(b"secret")
    return directory


@pytest.mark.parametrize(
    "components",
    [
        ("..", "outside", "x"),
        ("t", "..", "..", "outside", "x"),
        ("/etc/passwd",),
        ("../outside/x",),
        ("t/../../outside/x",),
        ("",),
        (".",),
        (),
        ("t", ""),
        ("t", "a\0b"),
        ("CON",),
        ("x.",),
        ("a:b",),
        ("e\u0301",),
        ("d",) * 65,
    ],
)
def test_path_traversal_is_refused_by_every_way_in(root, outside, components):
    before = snapshot(outside)
    with pytest.raises(NameRefusedError):
        root.claim(components)
    with pytest.raises(NameRefusedError):
        root.write_small(components, b"x", 0o600, 0)
    with pytest.raises(NameRefusedError):
        root.make_folder(components)
    with pytest.raises(NameRefusedError):
        root.make_link(components, "x")
    with pytest.raises(NameRefusedError):
        root.finish_folders([(components, 0o700, 0)])
    assert snapshot(outside) == before
    assert list(root.directory.iterdir()) == []


def test_a_link_out_of_the_offer_is_never_made(root):
    for target in ["/tmp", "..", "../outside", "../../outside", "a/../../../outside"]:
        with pytest.raises(NameRefusedError):
            root.make_link(("t", "d"), target)
    with pytest.raises(NameRefusedError):
        root.make_link(("d",), "t")
    assert list(root.directory.iterdir()) == []


def test_a_file_through_a_link_of_the_same_offer_is_refused(root):
    root.make_folder(("t", "real"))
    root.make_link(("t", "d"), "real")
    for write in (
        lambda: root.write_small(("t", "d", "x"), b"x", 0o600, 0),
        lambda: root.claim(("t", "d", "x")),
        lambda: root.make_folder(("t", "d", "x")),
        lambda: root.make_folder(("t", "d")),
    ):
        with pytest.raises(ConflictError):
            write()
    assert list((root.directory / "t" / "real").iterdir()) == []


def test_links_together_do_not_leave_the_offer(root):
    root.make_folder(("t", "a", "b"))
    root.make_link(("t", "a", "b", "up"), "../..")
    root.make_link(("t", "same"), "a/b/up")
    with pytest.raises(NameRefusedError):
        root.make_link(("t", "out"), "a/b/up/../x")
    top = (root.directory / "t").resolve()
    assert (root.directory / "t" / "same").resolve() == top


def test_write_via_a_symlinked_parent_that_was_there_before(root, outside):
    (root.directory / "d").symlink_to(outside)
    before = snapshot(outside)
    for write in (
        lambda: root.write_small(("d", "x"), b"x", 0o600, 0),
        lambda: root.claim(("d", "x")),
        lambda: root.make_folder(("d",)),
        lambda: root.make_folder(("d", "d")),
        lambda: root.finish_folders([(("d",), 0o777, 0)]),
    ):
        with pytest.raises(ConflictError):
            write()
    assert snapshot(outside) == before


def test_write_through_a_final_component_that_is_a_link(root, outside):
    (root.directory / "f").symlink_to(outside / "d" / "secret")
    (root.directory / "g").symlink_to(outside / "new")
    before = snapshot(outside)
    for name in ("f", "g"):
        with pytest.raises(ConflictError):
            root.write_small((name,), b"x", 0o600, 0)
    assert snapshot(outside) == before


def test_a_symlink_planted_between_making_and_opening_a_folder(root, outside, monkeypatch):
    make = os.mkdir

    def plant(name, mode=0o777, *, dir_fd=None):
        make(name, mode, dir_fd=dir_fd)
        if name == "d":
            os.rmdir(name, dir_fd=dir_fd)
            os.symlink(outside, name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", plant)
    before = snapshot(outside)
    with pytest.raises(ConflictError, match="replaced"):
        root.write_small(("d", "x"), b"x", 0o600, 0)
    assert snapshot(outside) == before


def test_a_symlink_planted_in_place_of_a_folder_whose_handle_was_given_up(root, outside, monkeypatch):
    monkeypatch.setattr(root_module, "FOLDER_HANDLES", 1)
    root.make_folder(("t", "d"))
    root.make_folder(("t", "e"))
    (root.directory / "t" / "d").rename(root.directory / "t" / "moved")
    (root.directory / "t" / "d").symlink_to(outside / "d")
    before = snapshot(outside)
    with pytest.raises(ConflictError, match="replaced"):
        root.write_small(("t", "d", "x"), b"x", 0o600, 0)
    with pytest.raises(ConflictError, match="replaced"):
        root.finish_folders([(("t", "d"), 0o777, 1)])
    assert snapshot(outside) == before


def test_another_folder_in_place_of_ours_is_not_written_into(root, outside, monkeypatch):
    monkeypatch.setattr(root_module, "FOLDER_HANDLES", 1)
    root.make_folder(("t", "d"))
    root.make_folder(("t", "e"))
    (root.directory / "t" / "d").rename(root.directory / "t" / "moved")
    (outside / "d").rename(root.directory / "t" / "d")
    with pytest.raises(ConflictError, match="replaced"):
        root.write_small(("t", "d", "x"), b"x", 0o600, 0)
    assert [path.name for path in (root.directory / "t" / "d").iterdir()] == ["secret"]


def test_a_folder_moved_away_while_its_handle_is_open_takes_its_files_with_it(root, outside):
    root.make_folder(("t", "d"))
    (root.directory / "t" / "d").rename(root.directory / "t" / "moved")
    (root.directory / "t" / "d").symlink_to(outside / "d")
    before = snapshot(outside)
    root.write_small(("t", "d", "x"), b"x", 0o600, 0)
    assert snapshot(outside) == before
    assert (root.directory / "t" / "moved" / "x").exists()


def test_a_symlink_planted_in_place_of_the_staging_directory(root, outside, monkeypatch):
    make = os.mkdir

    def plant(name, mode=0o777, *, dir_fd=None):
        make(name, mode, dir_fd=dir_fd)
        if str(name).startswith(".tallow-"):
            os.rmdir(name, dir_fd=dir_fd)
            os.symlink(outside, name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", plant)
    before = snapshot(outside)
    with pytest.raises(ProtocolError):
        root.write_small(("f",), b"x", 0o600, 0)
    root.discard()
    assert snapshot(outside) == before


def test_discard_does_not_remove_what_took_the_staging_directorys_place(root, outside):
    root.write_small(("f",), b"x", 0o600, 0)
    (staging,) = root.directory.glob(".tallow-*")
    staging.rename(root.directory / "moved")
    staging.mkdir()
    root.discard()
    assert staging.is_dir()


def test_a_racing_symlink_never_leads_outside(tmp_path, outside, monkeypatch):
    monkeypatch.setattr(root_module, "FOLDER_HANDLES", 1)
    before = snapshot(outside)
    stop = threading.Event()
    directory = tmp_path / "out"

    def swap():
        while not stop.is_set():
            for name in ("d0", "d1", "d2"):
                with contextlib.suppress(OSError):
                    (directory / "t" / name).rename(directory / "t" / f"was-{name}")
                    (directory / "t" / name).symlink_to(outside / "d")
                with contextlib.suppress(OSError):
                    (directory / "t" / name).unlink()
                    (directory / "t" / f"was-{name}").rename(directory / "t" / name)

    with OutputRoot.open(directory) as root:
        attacker = threading.Thread(target=swap)
        attacker.start()
        try:
            for number in range(600):
                with contextlib.suppress(ProtocolError):
                    root.write_small(("t", f"d{number % 3}", f"secret{number}"), b"x", 0o600, 0)
                with contextlib.suppress(ProtocolError):
                    root.make_link(("t", f"d{number % 3}", f"l{number}"), "x")
        finally:
            stop.set()
            attacker.join(30)
    assert snapshot(outside) == before


def test_silent_overwrite_of_a_users_file(root):
    (root.directory / "authorized_keys").write_bytes(b"mine")
    with pytest.raises(ConflictError):
        root.write_small(("authorized_keys",), b"theirs", 0o600, 0)
    assert (root.directory / "authorized_keys").read_bytes() == b"mine"


def test_remote_deletion_by_a_sender_named_folder(root):
    (root.directory / "Documents").mkdir()
    (root.directory / "Documents" / "f").write_bytes(b"mine")
    with pytest.raises(ConflictError):
        root.make_folder(("Documents",))
    root.discard()
    assert (root.directory / "Documents" / "f").read_bytes() == b"mine"


HOSTILE = st.sampled_from(
    [
        "..",
        ".",
        "",
        "/",
        "../..",
        "../outside",
        "/tmp",
        "outside",
        "out",
        "escape",
        "kept",
        "folder",
        "t",
        "a",
        "A",
        "e\u0301",
        "é",
        "CON",
        "x.",
        "x ",
        "a:b",
        "a\\b",
        "a\0b",
        "a\nb",
        "\u202e",
        "-rf",
        "~",
        "a..b",
        "x" * 256,
        "日本",
    ]
)
COMPONENT = HOSTILE | st.text(max_size=6)
COMPONENTS = st.lists(COMPONENT, max_size=5).map(tuple)
TARGET = st.lists(COMPONENT, max_size=5).map("/".join) | st.just("/tmp")
STEP = st.tuples(
    st.sampled_from(["small", "arriving", "folder", "link", "finish", "abandon", "checked"]),
    COMPONENTS,
    TARGET,
)


def attempt(root, action, components, target):
    if action == "small":
        root.write_small(components, b"data", 0o7777, 1)
    elif action == "arriving":
        with arriving(root, components, 4) as file:
            file.write_at(0, b"data")
            file.commit(0o7777, 1)
    elif action == "folder":
        root.make_folder(components)
    elif action == "link":
        root.make_link(components, target, mtime_ns=1)
    elif action == "finish":
        root.finish_folders([(components, 0o7777, 1)])
    elif action == "abandon":
        with arriving(root, components, 4):
            pass
    else:
        root.write_small(names.check_path("/".join(components)), b"data", 0o600, 1)


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(STEP, max_size=12), discard=st.booleans())
def test_nothing_outside_the_output_directory_is_created_changed_or_deleted(steps, discard):
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        for sibling in ("outside", "out-sibling"):
            (base / sibling / "d").mkdir(parents=True)
            (base / sibling / "d" / "f").write_bytes(b"outside")
        out = base / "out"
        (out / "folder").mkdir(parents=True)
        (out / "kept").write_bytes(b"kept")
        (out / "folder" / "kept").write_bytes(b"kept")
        (out / "escape").symlink_to(base / "outside")
        siblings = [base / "outside", base / "out-sibling"]
        before = [snapshot(sibling) for sibling in siblings]
        inside = snapshot(out)
        inside.pop(str(out / "."))
        with OutputRoot.open(out) as root:
            for action, components, target in steps:
                with contextlib.suppress(ProtocolError):
                    attempt(root, action, components, target)
            if discard:
                root.discard()
        assert [snapshot(sibling) for sibling in siblings] == before
        assert sorted(path.name for path in base.iterdir()) == ["out", "out-sibling", "outside"]
        after = snapshot(out)
        assert {path: after[path] for path in inside} == inside
        for path in set(after) - set(inside):
            relative = str(Path(path).relative_to(out))
            if relative != ".":
                names.check_path(relative)
        for folder, folders, files in os.walk(out):
            for link in (Path(folder) / entry for entry in folders + files):
                if link.is_symlink() and link != out / "escape":
                    assert link.resolve().is_relative_to(out.resolve())

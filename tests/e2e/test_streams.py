"""Standard input and output, texts, and what a receiver asks for: in real processes."""

from __future__ import annotations

import os
import random
import subprocess
import time

import pytest

from tests.e2e.kit import TALLOW, local, needs_programs, stage

__all__ = ["stage"]  # pytest finds the fixture by its name here

pytestmark = needs_programs


def environment(stage):
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TALLOW_")}
    return kept | {"TALLOW_HOME": str(stage.folder / "home")}


def send_stream(stage, content, *words):
    """Start a sender of `content` on its standard input; return it and the code's event."""
    path = stage.folder / "input"
    path.write_bytes(content)
    with path.open("rb") as stream:
        command = ["sh", "-c", 'exec "$0" send --json --name data.bin "$@" - <"$IN"', TALLOW, *words]
        os.environ["IN"] = str(path)
        try:
            sender = stage.start(command)
        finally:
            del os.environ["IN"]
        del stream
    return sender, sender.wait_for("code")


def receive_plain(stage, event, *words, **options):
    command = [TALLOW, "receive", "--peer", local(event), *words, event["code"]]
    return subprocess.run(
        list(map(str, command)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(stage),
        timeout=60,
        check=False,
        **options,
    )


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 5_000_001])
def test_what_goes_into_standard_input_comes_out_of_standard_output(stage, size):
    content = random.Random(size).randbytes(size)
    sender, event = send_stream(stage, content)
    received = receive_plain(stage, event, "--yes", "--stdout")
    assert (received.returncode, sender.end()) == (0, 0), (received.stderr, sender.errors)
    assert received.stdout == content


def test_a_stream_becomes_a_file_of_the_name_that_was_given(stage):
    sender, event = send_stream(stage, b"x" * 300_000)
    received = receive_plain(stage, event, "--yes", "--out", stage.folder / "out")
    assert (received.returncode, sender.end()) == (0, 0), (received.stderr, sender.errors)
    assert (stage.folder / "out" / "data.bin").read_bytes() == b"x" * 300_000
    assert [entry.name for entry in (stage.folder / "out").iterdir()] == ["data.bin"]


def test_progress_of_a_stream_has_no_total_until_its_end_is_known(stage):
    sender, event = send_stream(stage, bytes(3_000_000))
    receiver = stage.receive(event["code"], stage.folder / "out", peer=local(event))
    assert (receiver.end(), sender.end()) == (0, 0)
    for side in (sender, receiver):
        (started,) = [seen for seen in side.events if seen["event"] == "started"]
        assert started["bytes"] is None
        last = [seen for seen in side.events if seen["event"] == "progress"][-1]
        assert last["total"] == last["bytes"] == 3_000_000


def test_a_reader_that_goes_away_ends_both_sides(stage):
    sender, event = send_stream(stage, random.Random(1).randbytes(60 << 20))
    command = '"$0" "$@" | head -c 10 >/dev/null; exit "${PIPESTATUS[0]}"'
    words = ["receive", "--yes", "--stdout", "--peer", local(event), event["code"]]
    received = subprocess.run(
        ["bash", "-c", command, str(TALLOW), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(stage),
        timeout=60,
        check=False,
    )
    assert received.returncode == 141, received.stderr
    assert sender.end() == 10


def test_an_offer_of_several_files_does_not_go_to_standard_output(stage):
    for name in ("a", "b"):
        (stage.folder / name).write_text(name)
    sender = stage.send(stage.folder / "a", stage.folder / "b")
    received = receive_plain(stage, sender.wait_for("code"), "--yes", "--stdout")
    assert received.returncode == 2
    assert b"--stdout takes one file, and the offer has 2" in received.stderr
    assert received.stdout == b""
    assert sender.end() == 11


def test_a_text_is_shown_without_what_could_drive_a_terminal(stage):
    sender = stage.send("--text", "one\x1b[31m\ntwo\ttabbed\n")
    received = receive_plain(stage, sender.wait_for("code"), "--yes", cwd=stage.folder)
    assert (received.returncode, sender.end()) == (0, 0), received.stderr
    assert received.stdout == b"one\ntwo     tabbed\n"
    assert not (stage.folder / "text.txt").exists()


def test_a_text_is_an_event_for_programs_and_a_file_where_one_is_asked_for(stage):
    sender = stage.send("--text", "hello")
    event = sender.wait_for("code")
    command = [TALLOW, "receive", "--json", "--yes", "--peer", local(event), event["code"]]
    receiver = stage.start(command)
    assert (receiver.end(), sender.end()) == (0, 0)
    assert [seen["text"] for seen in receiver.events if seen["event"] == "text"] == ["hello"]
    sender = stage.send("--text", "hello")
    event = sender.wait_for("code")
    receiver = stage.receive(event["code"], stage.folder / "out", peer=local(event))
    assert (receiver.end(), sender.end()) == (0, 0)
    assert (stage.folder / "out" / "text.txt").read_text() == "hello"
    assert (stage.folder / "out" / "text.txt").stat().st_mode & 0o7777 == 0o644


def test_only_what_is_selected_is_sent_and_written(stage):
    source = stage.folder / "photos"
    (source / "raw").mkdir(parents=True)
    (source / "one.jpg").write_bytes(b"1" * 1000)
    (source / "raw" / "two.jpg").write_bytes(b"2" * 1000)
    (source / "notes.txt").write_bytes(b"3" * 400_000)
    sender = stage.send(source)
    event = sender.wait_for("code")
    out = stage.folder / "out"
    receiver = stage.receive(event["code"], out, "--select", "*.jpg", peer=local(event))
    assert (receiver.end(), sender.end()) == (0, 0), receiver.errors
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert written == ["photos/one.jpg", "photos/raw/two.jpg"]
    (done,) = [seen for seen in sender.events if seen["event"] == "done"]
    assert (done["files"], done["bytes"]) == (2, 2000)


@pytest.mark.parametrize(
    ("policy", "content", "code"),
    [("ask", "old", 12), ("skip", "old", 0), ("overwrite", "new", 0), ("rename", "old", 0)],
)
def test_what_stands_already_is_treated_as_the_option_says(stage, policy, content, code):
    (stage.folder / "file").write_text("new")
    out = stage.folder / "out"
    out.mkdir()
    (out / "file").write_text("old")
    sender = stage.send(stage.folder / "file")
    event = sender.wait_for("code")
    receiver = stage.receive(event["code"], out, "--on-conflict", policy, peer=local(event))
    assert (receiver.end(), sender.end()) == (code, code), receiver.errors
    assert (out / "file").read_text() == content
    assert len(list(out.iterdir())) == (2 if policy == "rename" else 1)


@pytest.mark.parametrize(("age_s", "content"), [(-60, "new"), (60, "old")], ids=["older", "newer"])
def test_newer_takes_a_file_only_in_the_place_of_an_older_one(stage, age_s, content):
    source, out = stage.folder / "file", stage.folder / "out"
    source.write_text("new")
    out.mkdir()
    (out / "file").write_text("old")
    there_ns = source.stat().st_mtime_ns + age_s * 1_000_000_000
    os.utime(out / "file", ns=(there_ns, there_ns))
    sender = stage.send(source)
    event = sender.wait_for("code")
    receiver = stage.receive(event["code"], out, "--on-conflict", "newer", peer=local(event))
    assert (receiver.end(), sender.end()) == (0, 0), receiver.errors
    assert (out / "file").read_text() == content
    assert [path.name for path in out.iterdir()] == ["file"]


@pytest.mark.parametrize("force", [False, True])
def test_a_disk_that_seems_too_small_is_refused_before_the_start_unless_forced(stage, force):
    source, out = stage.folder / "sparse", stage.folder / "out"
    space = os.statvfs(stage.folder)
    with source.open("wb") as file:  # all hole: it fits, though its size says that it does not
        file.truncate(space.f_bavail * space.f_frsize + (1 << 30))
    sender = stage.send("--expire", "1m", source)
    event = sender.wait_for("code")
    receiver = stage.receive(event["code"], out, *(["--force"] if force else []), peer=local(event))
    if force:
        assert receiver.wait_for("progress")["bytes"] >= 0
        receiver.interrupt()
        assert receiver.end() == 130
        return
    assert receiver.end() == 13, receiver.raw
    assert "not enough space in the output directory" in receiver.error["message"]
    assert any("--force" in hint for hint in receiver.error["hints"])
    assert not any(event["event"] == "started" for event in receiver.events)
    assert list(out.iterdir()) == []


def test_a_look_writes_nothing_and_the_sender_is_told(stage):
    (stage.folder / "file").write_text("x")
    sender = stage.send(stage.folder / "file")
    received = receive_plain(stage, sender.wait_for("code"), "--dry-run", "--out", stage.folder / "out")
    assert received.returncode == 0
    assert b"file" in received.stdout
    assert not (stage.folder / "out").exists()
    assert sender.end() == 11
    assert "only looked" in sender.error["message"]


def test_a_dry_run_of_the_sender_lists_and_makes_no_code(stage):
    (stage.folder / "file").write_text("x" * 10)
    sender = stage.send("--dry-run", stage.folder / "file")
    assert sender.end() == 0
    assert [seen["event"] for seen in sender.events] == ["offer"]


def test_a_code_that_nobody_used_in_its_time_has_expired(stage):
    relay = stage.relay()
    (stage.folder / "file").write_text("x")
    sender = stage.send("--expire", "1s", stage.folder / "file", relay=relay)
    code = sender.wait_for("code")["code"]
    assert sender.end() == 4
    assert sender.error["error"] == "expired"
    receiver = stage.receive(code, stage.folder / "out", relay=relay)
    assert receiver.end() in {3, 4}


def test_the_rate_is_the_one_that_was_asked_for(stage):
    rate, seconds = 4_000_000, 3
    (stage.folder / "file").write_bytes(random.Random(2).randbytes(rate * seconds))
    sender = stage.send("--limit", "4M", stage.folder / "file")
    event = sender.wait_for("code")
    receiver = stage.receive(event["code"], stage.folder / "out", peer=local(event))
    receiver.wait_for("started")
    begun = time.monotonic()
    assert (receiver.end(), sender.end()) == (0, 0)
    (done,) = [seen for seen in sender.events if seen["event"] == "done"]
    assert 0.9 * rate <= done["bytes"] / done["seconds"] <= 1.05 * rate
    assert time.monotonic() - begun >= 0.9 * seconds


def test_what_is_excluded_is_neither_listed_nor_sent(stage):
    source = stage.folder / "code"
    source.mkdir()
    for name in ("a.o", "b.c", "c.txt"):
        (source / name).write_text(name)
    (source / ".gitignore").write_text("c.txt\n")
    options = ["--exclude", "*.o", "--gitignore", source]
    look = stage.send("--dry-run", *options)
    assert look.end() == 0
    warning, offer = look.events
    assert warning["text"] == "2 files are left out by --exclude or .gitignore"
    assert {entry["path"] for entry in offer["entries"]} == {"code", "code/b.c", "code/.gitignore"}
    sender = stage.send(*options)
    event = sender.wait_for("code")
    receiver = stage.receive(event["code"], stage.folder / "out", peer=local(event))
    assert (receiver.end(), sender.end()) == (0, 0)
    assert [seen["text"] for seen in sender.events if seen["event"] == "warning"] == [warning["text"]]
    assert sorted(path.name for path in (stage.folder / "out" / "code").iterdir()) == [".gitignore", "b.c"]

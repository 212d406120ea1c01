"""Killed in the middle of a folder and started again: the folder goes on by itself, whatever was to be asked of conflicts."""

import json
import random

import pytest

from tests.e2e.kit import assert_same, needs_programs, stage, stamp
from tests.e2e.test_resume import Both

__all__ = ["stage"]

pytestmark = needs_programs

MIB = 1 << 20


@pytest.fixture
def both(stage, tmp_path):
    return Both(stage, tmp_path)


def make_small(folder):
    draw = random.Random(1)
    for number in range(1200):
        below = folder / f"d{number % 30:02}"
        below.mkdir(parents=True, exist_ok=True)
        (below / f"f{number:04}").write_bytes(draw.randbytes(16_000 + number))
    (folder / "d00" / "link").symlink_to("../d01")
    (folder / "d01").chmod(0o750)


def make_large(folder):
    draw = random.Random(2)
    folder.mkdir(parents=True)
    for number in range(10):
        (folder / f"film{number}").write_bytes(draw.randbytes(2 * MIB + number))
    folder.chmod(0o711)


def contents(folder):
    return {path.relative_to(folder): path.stat().st_ino for path in folder.rglob("f*") if path.is_file()}


@pytest.mark.parametrize("victim", ["receiver", "sender"])
@pytest.mark.parametrize("make", [make_small, make_large], ids=["small", "large"])
def test_a_folder_of_which_one_side_was_killed_goes_on_without_a_question(both, tmp_path, make, victim):
    folder = tmp_path / "offered" / "photos"
    make(folder)
    stamp(tmp_path / "offered")
    both.interrupted(folder, victim, rate="8M", at_bytes=8 * MIB)
    there = contents(both.out / "photos")
    assert 0 < len(there) < len(contents(folder))

    sender, receiver = both.start(folder)
    ended = [(side.end(), side.errors, side.raw[-1]) for side in (sender, receiver)]
    assert [code for code, *_ in ended] == [0, 0], ended
    resumed = [event for event in receiver.events if event["event"] == "resumed"]
    assert resumed
    assert resumed[0]["bytes"] >= 4 * MIB
    assert_same(tmp_path / "offered", both.out)
    assert [path.name for path in both.out.iterdir()] == ["photos"]  # no staging, no record, no partial file
    after = contents(both.out / "photos")
    assert {name: after[name] for name in there} == there  # what was there was not written again


def test_what_somebody_changed_meanwhile_is_a_conflict_and_stays(both, tmp_path):
    folder = tmp_path / "offered" / "photos"
    make_large(folder)
    stamp(tmp_path / "offered")
    sender, receiver = both.start(folder, limit=("--limit", "8M"))
    while receiver.wait_for("progress")["files_done"] < 2:
        pass
    receiver.child.kill()
    receiver.child.wait(20)
    sender.interrupt()
    sender.end()
    changed = both.out / "photos" / min(path.name for path in (both.out / "photos").glob("film*"))
    changed.write_bytes(b"mine")

    sender, receiver = both.start(folder)
    assert (sender.end(), receiver.end()) == (12, 12), (sender.raw, receiver.raw)
    assert "photos/" + changed.name in receiver.error["message"]
    assert changed.read_bytes() == b"mine"


def test_an_interrupted_folder_is_listed_and_what_arrived_outlives_cleaning(both, tmp_path):
    folder = tmp_path / "offered" / "photos"
    make_large(folder)
    both.interrupted(folder, "receiver", rate="8M", at_bytes=5 * MIB)
    there = contents(both.out / "photos")

    shown = both.resume("list").stdout  # the store remembers the place
    assert f"photos/  {len(there)} of 10 files, " in shown
    assert f"in {both.out}, from " in shown
    (told, *partials) = [
        json.loads(line) for line in both.resume("list", "--json", both.out).stdout.split("\n") if line
    ]
    assert (told["event"], told["names"], told["files"], told["total_files"]) == (
        "interrupted",
        ["photos/"],
        len(there),
        10,
    )
    assert {event["event"] for event in partials} <= {"partial"}

    assert "what was noted of 1 interrupted transfer" in both.resume("clean").stderr
    assert both.resume("list").stderr == "Nothing is left of interrupted transfers.\n"
    assert [path.name for path in both.out.iterdir()] == ["photos"]
    assert contents(both.out / "photos") == there

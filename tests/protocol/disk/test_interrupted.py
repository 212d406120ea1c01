"""What an interrupted transfer left under final names is listed: whose it is, what is there, how much is missing."""

import os

from tallow_protocol.disk.interrupted import list_interrupted
from tallow_protocol.disk.leftovers import CleanedPartials, clean_partials

from tests.protocol.disk.test_unfinished import (
    SENDER,
    STRANGER,
    begun,
    file,
    finish,
    folder,
    interrupted,
    out,
    run,
)

__all__ = ["out"]  # pytest finds the fixture by its name here


def test_what_is_there_is_counted_by_names_files_and_bytes(out):
    interrupted(out, write=("d/a", "top"))
    (left,) = list_interrupted(out)
    assert (left.directory, left.sender) == (out, SENDER)
    assert left.names == ("d/", "top")
    assert (left.files_there, left.files, left.bytes_there) == (2, 5, 6)
    assert 0 <= left.age_s < 60


def test_a_transfer_that_ended_well_is_not_listed_and_neither_is_a_folder_that_is_none(out, tmp_path):
    sink = begun(out)
    run(sink)
    finish(sink)
    assert list_interrupted(out) == ()
    assert list_interrupted(tmp_path / "nowhere") == ()


def test_what_somebody_changed_or_replaced_does_not_count(out):
    interrupted(out, write=("d/a", "d/b", "top"))
    (out / "d" / "a").write_bytes(b"somebody's")
    (out / "top").unlink()
    (left,) = list_interrupted(out)
    assert (left.names, left.files_there, left.bytes_there) == (("d/",), 1, 3)
    (out / "d").rename(out / "moved")
    (out / "d").mkdir()
    assert list_interrupted(out) == ()


def test_a_link_in_place_of_a_folder_is_not_followed(out, tmp_path):
    interrupted(out, write=("d/a", "d/e/c"))
    status = (out / "d" / "e" / "c").stat()
    (out / "d" / "e").rename(tmp_path / "elsewhere")
    (out / "d" / "e").symlink_to(tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "c").stat().st_mtime_ns == status.st_mtime_ns
    (left,) = list_interrupted(out)
    assert left.files_there == 1


def test_each_sender_has_a_line_the_oldest_first(out):
    interrupted(out, (folder("x"), file("x/1")), sender=STRANGER, write=("x/1",))
    interrupted(out, write=("d/a",))
    for record in (out / ".tallow-partial").iterdir():
        os.utime(record, (0, 1000 if b"0101" in record.read_bytes()[:99] else 2000))
    assert [(left.sender, left.age_s) for left in list_interrupted(out, now_s=5000)] == [
        (STRANGER, 4000),
        (SENDER, 3000),
    ]


def test_a_record_that_does_not_check_or_is_somebody_elses_is_not_listed(out):
    interrupted(out, write=("d/a",))
    (record,) = (out / ".tallow-partial").iterdir()
    told = record.read_bytes()
    for damaged in (b"", b"x" * 300, told[:10] + b"!" + told[11:], b'0123456789abcdef {"sender":"00"}\n'):
        record.write_bytes(damaged)
        assert list_interrupted(out) == ()
    record.write_bytes(told)
    record.rename(record.with_name("0" * 32 + ".unfinished"))
    assert list_interrupted(out) == ()


def test_cleaning_counts_what_was_noted_and_leaves_what_arrived(out):
    interrupted(out, write=("d/a",))
    (out / (".tallow-" + "0" * 32)).mkdir(mode=0o700)
    assert clean_partials(out) == CleanedPartials(records=1, staging=1)
    assert list_interrupted(out) == ()
    assert [path.name for path in out.iterdir()] == ["d"]
    assert (out / "d" / "a").exists()

"""What many small files cost in memory: a bound on each more file, and one on a hundred thousand of them.

The source is one file under many names, which a test makes and deletes quickly; what is received is files of their own.
"""

import os

import pytest

from tests.e2e.kit import local, needs_programs, stage

__all__ = ["stage"]  # pytest finds the fixture by its name here

pytestmark = needs_programs

FEW, MANY = 2_000, 30_000
NAMES_A_FOLDER = 500
BYTES_A_FILE = 800
"""Measured: 530 sending and 500 receiving; 1,180 sending when each file was four objects and its root lay in two tables."""

PROCESS_MB = 150


def tree(folder, files):
    """Make `files` names of one file of 1 KiB below `folder`; return the folder."""
    folder.mkdir(parents=True)
    one = folder.with_suffix(".one")
    one.write_bytes(os.urandom(1024))
    for number in range(files):
        below = folder / f"d{number // NAMES_A_FOLDER:03}"
        if number % NAMES_A_FOLDER == 0:
            below.mkdir()
        os.link(one, below / f"file-{number:06}.txt")
    return folder


def peaks(stage, sources, out, files, seconds):
    """Send trees of so many files; return the peak resident KiB of sender and receiver."""
    sender = stage.send(*sources, transport="tcp")
    code = sender.wait_for("code")
    receiver = stage.receive(code["code"], out, peer=local(code), transport="tcp")
    assert receiver.wait_for("done", seconds)["files"] == files
    assert receiver.end() == sender.end() == 0
    return sender.peak_kib, receiver.peak_kib


def test_each_more_file_costs_either_side_less_than_800_bytes(stage, tmp_path):
    measured = {}
    for files in (FEW, MANY):
        source = tree(tmp_path / f"source-{files}", files)
        measured[files] = peaks(stage, [source], tmp_path / f"out-{files}", files, 120)
    for few, many in zip(measured[FEW], measured[MANY], strict=True):
        assert (many - few) * 1024 / (MANY - FEW) < BYTES_A_FILE


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_thousand_files_stay_under_150_mb_on_either_side(stage, tmp_path):
    files = 100_000  # in two trees: some systems give a file 65,000 names at most
    sources = [tree(tmp_path / name, files // 2) for name in ("one", "other")]
    for peak_kib in peaks(stage, sources, tmp_path / "out", files, 600):
        assert peak_kib < PROCESS_MB * 1000

"""The real `tallow send` against a receiver that was written from docs/protocol.md alone."""

import pathlib
import random
import subprocess
import sys

import pytest

from tests.e2e.kit import local, needs_programs, stage

__all__ = ["stage"]  # pytest finds the fixture by its name here

RECEIVER = pathlib.Path(__file__).with_name("independent_receiver.py")
RECEIVE_S = 50

pytestmark = needs_programs


def receive(event, out, *options, code=None):
    command = [sys.executable, RECEIVER, local(event), code or event["code"], out, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=RECEIVE_S, check=False)


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    small = folder / "folder"
    (small / "below" / "empty").mkdir(parents=True)
    draw = random.Random(7)
    (folder / "random.bin").write_bytes(draw.randbytes(3 << 20))
    (folder / "text.txt").write_text("The same line, many times over.\n" * 60_000)
    (folder / "nothing").write_bytes(b"")
    for number in range(300):
        (small / f"{number}.txt").write_bytes(draw.randbytes(number))
    (small / "below" / "spaced name.txt").write_text("below " * 40_000)
    return folder


@pytest.mark.parametrize(("options", "suite"), [((), "suite "), (("--no-fast-aes",), "suite 2")])
def test_receiver_from_the_document_gets_every_byte(stage, tmp_path, source, options, suite):
    out = tmp_path / "out"
    sender = stage.send(*sorted(source.iterdir()), transport="tcp")
    result = receive(sender.wait_for("code"), out, *options)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(suite)
    assert sender.end() == 0
    assert tree(out) == tree(source)


def test_wrong_word_ends_with_the_abort_and_the_sender_waits_on(stage, tmp_path, source):
    out = tmp_path / "out"
    sender = stage.send(source / "text.txt", transport="tcp")
    event = sender.wait_for("code")
    head, _, last = event["code"].rpartition("-")
    result = receive(event, out, code=f"{head}-{'abacus' if last != 'abacus' else 'zoom'}")
    assert (result.returncode, result.stderr.strip()) == (3, "abort: wrong_code")
    assert not out.exists()
    assert sender.child.poll() is None

    result = receive(event, out)
    assert result.returncode == 0, result.stderr
    assert sender.end() == 0
    assert tree(out) == {"text.txt": (source / "text.txt").read_bytes()}

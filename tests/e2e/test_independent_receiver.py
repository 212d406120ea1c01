"""The real `tallow send` against a receiver that was written from docs/protocol.md alone."""

import contextlib
import json
import os
import pathlib
import random
import subprocess
import sys
import time

import pytest

TALLOW = pathlib.Path(sys.executable).with_name("tallow")
RECEIVER = pathlib.Path(__file__).with_name("independent_receiver.py")
START_S, RECEIVE_S, END_S = 60, 50, 30

pytestmark = pytest.mark.skipif(
    not TALLOW.exists(), reason="the tallow command is not installed beside Python"
)


class Sender:
    def __init__(self, process, events):
        self.process, self.events = process, events

    def seen(self):
        lines = self.events.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def wait_for(self, name, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for event in self.seen():
                if event["event"] == name:
                    return event
            assert self.process.poll() is None, self.events.read_text()
            time.sleep(0.05)
        raise AssertionError(f"no {name} event: {self.events.read_text()}")

    def receive(self, out, *options, code=None):
        event = self.wait_for("code", START_S)
        peer = "127.0.0.1:" + event["peer"].rpartition(":")[2]
        command = [sys.executable, RECEIVER, peer, code or event["code"], out, *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=RECEIVE_S, check=False)


@contextlib.contextmanager
def sending(tmp_path, *paths):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TALLOW_")}
    environment["TALLOW_HOME"] = str(tmp_path / "home")
    events, errors = tmp_path / "events.jsonl", tmp_path / "errors.txt"
    with events.open("wb") as out, errors.open("wb") as err:
        command = [TALLOW, "send", "--json", "--transport", "tcp", *paths]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment)
        try:
            yield Sender(process, events)
        finally:
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(END_S)


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
def test_receiver_from_the_document_gets_every_byte(tmp_path, source, options, suite):
    out = tmp_path / "out"
    with sending(tmp_path, *sorted(source.iterdir())) as sender:
        result = sender.receive(out, *options)
        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith(suite)
        assert sender.process.wait(END_S) == 0
    assert tree(out) == tree(source)


def test_wrong_word_ends_with_the_abort_and_the_sender_waits_on(tmp_path, source):
    out = tmp_path / "out"
    with sending(tmp_path, source / "text.txt") as sender:
        code = sender.wait_for("code", START_S)["code"]
        head, _, last = code.rpartition("-")
        result = sender.receive(out, code=f"{head}-{'abacus' if last != 'abacus' else 'zoom'}")
        assert (result.returncode, result.stderr.strip()) == (3, "abort: wrong_code")
        assert not out.exists()
        assert sender.process.poll() is None

        result = sender.receive(out)
        assert result.returncode == 0, result.stderr
        assert sender.process.wait(END_S) == 0
    assert tree(out) == {"text.txt": (source / "text.txt").read_bytes()}

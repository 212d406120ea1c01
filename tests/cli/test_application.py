"""The border: every failure is one sentence and an exit code, and nothing is imported before it is needed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import tallow_cli
from tallow_cli.errors import OutputClosedError, UsageError, failure_of, printable
from tallow_cli.version import VERSION

DEADLINE_S = 60


def run_python(source, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", source, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env={**os.environ, **environment},
    )


def run_tallow(*arguments, **environment):
    return run_python("from tallow_cli.main import main; main()", *arguments, **environment)


def run_broken(body, *arguments, **environment):
    """Run `tallow send` with a command that does `body` in place of the real one."""
    source = f"""
import sys, typer
import tallow_cli.commands.send as module
from tallow_cli.main import run

def replaced(context: typer.Context) -> None:
    {body}

module.send = replaced
sys.exit(run(["send", "--", *sys.argv[1:]]))
"""
    return run_python(source, *arguments, **environment)


def test_the_constant_is_the_version_of_the_package():
    assert metadata.version("tallow-cli") == VERSION


def test_exported_members():
    assert tallow_cli.__all__ == ["VERSION"]


def test_the_version_is_answered_before_anything_heavy_is_imported():
    source = "import sys; from tallow_cli.main import run; run(['--version']); print(sorted(sys.modules))"
    told = run_python(source).stdout
    assert told.startswith(f"tallow {VERSION}\n")
    assert not {"typer", "typing", "asyncio", "logging", "tallow_protocol", "rich"} & set(
        told.partition("\n")[2].strip("[]\n'").split("', '")
    )


def test_help_imports_neither_the_protocol_nor_the_store():
    source = """
import sys
from tallow_cli.main import run
code = run(sys.argv[1:])
heavy = {"asyncio", "tallow_protocol", "tallow_store", "tallow_net", "sqlite3", "rich", "cryptography", "uvloop"}
print("loaded", sorted(heavy & set(sys.modules)))
"""
    for arguments in (["--help"], ["send", "--help"], ["receive", "--help"]):
        assert run_python(source, *arguments).stdout.endswith("loaded []\n")


def test_a_fault_of_ours_is_one_sentence_with_the_way_to_report_it():
    ended = run_broken('raise ValueError("4821-copper-lantern-tidy")')
    assert ended.returncode == 1
    assert ended.stderr == (
        "tallow: error: something went wrong inside Tallow (ValueError)\n"
        "hint: run the command again with TALLOW_DEBUG=1 and report what it prints\n"
    )


def test_debugging_shows_where_it_came_from_and_no_code():
    ended = run_broken(
        'raise ValueError("4821-copper-lantern-tidy, 12:correct-horse-battery")', TALLOW_DEBUG="1"
    )
    assert "Traceback" in ended.stderr
    assert "ValueError: [code]" in ended.stderr
    assert "lantern" not in ended.stderr


def test_with_json_a_failure_is_an_event_too():
    ended = run_tallow("receive", "--json", "--trnsport", "tcp")
    event = json.loads(ended.stdout)
    assert ended.returncode == 2
    assert (event["event"], event["error"]) == ("error", "usage")
    assert ended.stderr.startswith("tallow: error: no such option")


def test_ctrl_c_in_a_command_is_exit_code_130():
    ended = run_broken("raise KeyboardInterrupt")
    assert (ended.returncode, ended.stderr) == (130, "tallow: error: interrupted\n")


def test_a_signal_that_asks_to_end_is_ctrl_c():
    for name in ("SIGTERM", "SIGHUP"):
        ended = run_broken(f"import os, signal; os.kill(os.getpid(), signal.{name}); signal.pause()")
        assert (ended.returncode, ended.stderr) == (130, "tallow: error: interrupted\n")


def test_a_reader_that_went_away_ends_the_command_without_a_word():
    ended = run_broken(
        "import os; read, write = os.pipe(); os.close(read); os.dup2(write, 1); "
        "from tallow_cli.output.interface import Sink; Sink.stdout().line('x')"
    )
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["send", "--help"],
        ["receive", "--help"],
        ["resume", "--help"],
        ["resume", "clean", "--help"],
        ["resume", "clean", "--json"],
        ["send", "--dry-run", "--json", "."],
        ["receive", "--json", "--trnsport", "tcp"],
    ],
    ids=" ".join,
)
def test_whatever_a_reader_that_went_away_was_to_read_the_code_says_so(tmp_path, words):
    read, write = os.pipe()
    os.close(read)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "tallow_cli", *words],
            check=False,
            timeout=DEADLINE_S,
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "TALLOW_HOME": str(tmp_path / "home")},
        )
    finally:
        os.close(write)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_an_error_that_nobody_reads_keeps_its_code():
    read, write = os.pipe()
    os.close(read)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "tallow_cli", "sned"], check=False, timeout=DEADLINE_S, stderr=write
        )
    finally:
        os.close(write)
    assert ended.returncode == 2


@pytest.mark.parametrize(
    ("words", "sentence", "hint"),
    [
        (["resume"], "a command is missing", "see tallow resume --help"),
        (["send", "--text"], "option '--text' requires an argument", "see tallow send --help"),
        (
            ["resume", "clean", "--older-than", "-1"],
            "--older-than is a number of days such as 7, not '-1'",
            "",
        ),
    ],
)
def test_a_wrong_command_line_is_told_where_help_is(words, sentence, hint):
    ended = run_tallow(*words)
    assert ended.returncode == 2
    assert ended.stderr == f"tallow: error: {sentence}\n" + (f"hint: {hint}\n" if hint else "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_standard_output_is_said():
    ended = run_broken(
        "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1); "
        "from tallow_cli.output.interface import Sink; Sink.stdout().line('x')"
    )
    assert ended.returncode == 13
    assert ended.stderr == (
        "tallow: error: standard output cannot be written: No space left on device\n"
        "hint: make room where it goes, then start again\n"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("option", ["--version", "--help"])
def test_a_full_disk_under_what_asks_for_help_is_said_too(option):
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "tallow_cli", option],
            check=False,
            timeout=DEADLINE_S,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert ended.returncode == 13
    assert ended.stderr.startswith(
        "tallow: error: standard output cannot be written: No space left on device\n"
    )
    assert "Traceback" not in ended.stderr


def test_a_standard_output_that_cannot_be_written_is_said():
    ended = run_broken(
        "import os; os.dup2(os.open('/dev/null', os.O_RDONLY), 1); "
        "from tallow_cli.output.interface import Sink; Sink.stdout().line('x')"
    )
    assert ended.returncode == 14
    assert ended.stderr == (
        "tallow: error: standard output cannot be written: Bad file descriptor\n"
        "hint: let it go elsewhere, then start again\n"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_with_json_a_full_disk_under_standard_output_is_said_once():
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "tallow_cli", "receive", "--json", "--trnsport", "tcp"],
            check=False,
            timeout=DEADLINE_S,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert ended.stderr.startswith("tallow: error: ")


def test_standard_streams_may_be_closed_from_the_start():
    ended = subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -m tallow_cli send no-such-file >&- 2>&-"],
        check=False,
        timeout=DEADLINE_S,
        capture_output=True,
    )
    assert ended.returncode == 14


FAULTS_BEHIND_OUR_BACK = """
    class Bad:
        def __del__(self):
            raise ValueError("x")
    Bad()
    import threading
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
"""


def test_faults_in_finalizers_and_threads_show_nothing():
    ended = run_broken(FAULTS_BEHIND_OUR_BACK)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_sentences_of_all_packages_are_brought_into_one_style():
    assert failure_of(UsageError("The port is wrong.")).sentence == "the port is wrong"
    assert failure_of(UsageError("TALLOW_HOME is wrong")).sentence == "TALLOW_HOME is wrong"
    assert failure_of(UsageError("A port. Nothing was sent.")).sentence == "a port. Nothing was sent."
    assert failure_of(UsageError("x", hints=("Ask the operator.",))).hints == ("ask the operator",)


def test_an_error_cannot_drive_the_terminal_or_fake_a_second_line():
    failure = failure_of(UsageError("no file 'a\x1b[2J\nhint: run rm'"))
    assert failure.lines() == ("tallow: error: no file 'a?[2J hint: run rm'",)
    assert printable("\u202egpj.exe") == "?gpj.exe"


def test_an_error_of_the_output_is_found_by_its_code():
    assert failure_of(OutputClosedError("x")).code == "output_closed"


def test_signals_have_the_exit_code_that_a_shell_shows():
    assert 128 + signal.SIGINT == 130
    assert 128 + signal.SIGPIPE == 141

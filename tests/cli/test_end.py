"""The quick way out of the process leaves out nothing that the interpreter's own would do for a user."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

END_S = 30


def ended(source):
    command = [sys.executable, "-c", source]
    return subprocess.run(command, capture_output=True, text=True, timeout=END_S, check=False)


@pytest.mark.parametrize("code", [0, 1, 130])
def test_output_is_flushed_and_the_exit_code_kept(code):
    done = ended(
        "import sys; from tallow_cli.main import end;"
        f"sys.stdout.write('out'); sys.stderr.write('err'); end({code})"
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "out", "err")


def test_what_was_registered_for_the_end_runs_once_and_nothing_after_it():
    done = ended(
        "import atexit; from tallow_cli.main import end; atexit.register(print, 'registered')\n"
        "class Left:\n"
        "    def __del__(self): print('taken apart')\n"
        "left = Left(); end(0)"
    )
    assert done.stdout == "registered\n"


def test_a_thread_that_has_to_end_first_is_waited_for():
    done = ended(
        "import sys, threading; from tallow_cli.main import end\n"
        "def work(): main.join(); print('worked'); sys.stdout.flush()\n"
        "main = threading.main_thread()\n"
        "threading.Thread(target=work).start(); end(3)"
    )
    assert (done.returncode, done.stdout) == (3, "worked\n")


def test_a_thread_that_nobody_waits_for_does_not_hold_the_process():
    done = ended(
        "import threading; from tallow_cli.main import end\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start(); end(0)"
    )
    assert done.returncode == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full is Linux's")
def test_output_that_cannot_be_written_is_no_success():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", "from tallow_cli.main import end; print('lost'); end(0)"],
            env={**os.environ, "PYTHONUNBUFFERED": ""},
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=END_S,
            check=False,
        )
    assert done.returncode == 13


def test_a_closed_standard_output_is_no_failure():
    closed = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "from tallow_cli.main import end; end(5)" >&- 2>&-', sys.executable],
        timeout=END_S,
        check=False,
    )
    assert closed.returncode == 5

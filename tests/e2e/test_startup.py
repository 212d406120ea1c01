"""How soon `tallow` answers: at most twice what the benchmark allows, on a machine that may be doing other work.

What else runs here makes every process slower. How much, a process beside it tells that does nothing but compute: by as
much as that one takes longer than its own CPU time, a try may take longer too. The best of several tries counts.
"""

import os
import subprocess
import sys
import time

import pytest

from tests.benchmarks.bench_startup import LIMITS_MS, code_ms, receive_ms, version_ms
from tests.e2e.kit import needs_programs

pytestmark = needs_programs

TRIES = 10
FILES = 2000
COMPUTE = [sys.executable, "-S", "-c", "sum(range(3_000_000))"]


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small"
    path.write_bytes(os.urandom(1024))
    return path


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "tree"
    folder.mkdir()
    for number in range(FILES):
        (folder / str(number)).touch()
    return folder


def stretch():
    """How many times its CPU time a process takes here and now, at least 1."""
    began = time.perf_counter()
    child = subprocess.Popen(COMPUTE, stdout=subprocess.DEVNULL)
    _pid, status, used = os.wait4(child.pid, 0)
    took = time.perf_counter() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return max(1.0, took / (used.ru_utime + used.ru_stime))


def assert_soon(name, measure):
    """Try once for the bytecode, then until one try is soon enough, or none of many was."""
    measure()
    tries = []
    while len(tries) < TRIES:
        before = stretch()
        took_ms = measure()
        tries.append((took_ms, (before + stretch()) / 2))
        if took_ms <= 2 * LIMITS_MS[name] * tries[-1][1]:
            return
    raise AssertionError(f"{name}: the limit is {2 * LIMITS_MS[name]} ms, times the second figure: {tries}")


def test_the_version_and_the_code_of_a_small_file_and_of_a_folder_come_at_once(tmp_path, small, tree):
    home = tmp_path / "home"
    assert_soon("version", lambda: version_ms(home))
    assert_soon("code for 1 KiB", lambda: code_ms(small, home))
    assert_soon("code for 50,000 files", lambda: code_ms(tree, home))


def test_a_small_file_is_received_within_a_second(tmp_path, small):
    assert_soon("1 KiB, announced", lambda: receive_ms(small, tmp_path, announced=True))

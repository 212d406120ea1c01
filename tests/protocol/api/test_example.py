"""The example of docs/embedding.md, run as its reader would run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "examples" / "send_and_receive.py"


def test_the_example_sends_a_file_and_has_thirty_lines(tmp_path: Path) -> None:
    source = tmp_path / "report.txt"
    source.write_bytes(b"all is well\n" * 1000)
    target = tmp_path / "out"
    command = [sys.executable, "-X", "dev", "-W", "error", str(EXAMPLE), str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "offered: report.txt\nreceived 1 file, 12000 bytes\n"), (
        done.stderr
    )
    assert (target / "report.txt").read_bytes() == source.read_bytes()
    assert len(EXAMPLE.read_text().splitlines()) <= 35

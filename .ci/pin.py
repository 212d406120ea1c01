#!/usr/bin/env python3
"""Move every pin to the newest version that the bounds allow, or (with --keep) only add what is missing.

Writes constraints.txt and the same lines into [tool.uv] constraint-dependencies of pyproject.toml. Run it after a bound
was changed, with the Python of this checkout: .venv/bin/python .ci/pin.py
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PINS = re.compile(r"^constraint-dependencies = \[.*?\]$", re.DOTALL | re.MULTILINE)
EXPORT = ["--no-hashes", "--no-emit-workspace", "--all-groups", "--no-header", "--no-annotate"]


def pinned(project: str, *, keep: bool) -> list[str]:
    """Return the lines `name==version ; marker` of a fresh resolution of the workspace."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(ROOT / "packages", copy / "packages")
        text = project if keep else PINS.sub("constraint-dependencies = []", project)
        (copy / "pyproject.toml").write_text(text, encoding="utf-8")
        uv = shutil.which("uv") or str(ROOT / ".uv/bin/uv")
        subprocess.run([uv, "lock", "-q"], cwd=copy, check=True)
        export = subprocess.run(
            [uv, "export", "-q", "--frozen", *EXPORT], cwd=copy, check=True, stdout=subprocess.PIPE, text=True
        )
        return export.stdout.splitlines()


def main() -> None:
    """Write both files."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lines = pinned(project, keep="--keep" in sys.argv[1:])
    block = "\n".join(["constraint-dependencies = [", *(f'    "{line}",' for line in lines), "]"])
    (ROOT / "pyproject.toml").write_text(PINS.sub(lambda _: block, project), encoding="utf-8")
    (ROOT / "constraints.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Wheels of all packages, built once for all workers, and empty environments to install them into."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def uv(*arguments: str | Path, folder: Path, timeout: float = 140) -> str:
    """Run uv in `folder` and return what it prints: in the workspace it reads the settings and pins there."""
    command = shutil.which(
        "uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    )
    assert command, "uv is in the dev group: run `uv sync`, or ./check"
    done = subprocess.run(
        [command, "-q", *arguments],
        cwd=folder,
        # Settings of an environment around this run must not decide what is installed, or where.
        env={name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "UV_PYTHON"}}
        | {"UV_SYSTEM_CERTS": "true"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class Environment:
    """A virtual environment: what is in it, and running it."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def install(self, *arguments: str | Path, timeout: float = 140) -> None:
        uv("pip", "install", "--python", self.python, *arguments, folder=self.folder, timeout=timeout)

    def check(self) -> None:
        """Fail where a requirement of what is installed is not met."""
        uv("pip", "check", "--python", self.python, folder=self.folder)

    def freeze(self) -> str:
        """Return what is installed, one requirement a line."""
        return uv("pip", "freeze", "--python", self.python, folder=self.folder)

    def distributions(self) -> set[str]:
        """Return the names of what is installed."""
        return {line.partition("==")[0].partition(" @ ")[0] for line in self.freeze().splitlines()}

    def run(self, *arguments: str | Path, timeout: float = 60) -> str:
        """Run a program of the environment outside the workspace, and return what it prints."""
        program, *rest = arguments
        done = subprocess.run(
            [self.folder / "bin" / program, *rest],
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "TALLOW_HOME": str(self.folder / "home")},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def wheels(tmp_path_factory) -> Path:
    """A folder with a wheel of each package, and `workspace.txt`, which constrains each package to its wheel."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "wheels"
    with (shared / "wheels.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "workspace.txt").exists():
            uv("build", "--all-packages", "--wheel", "--out-dir", folder, folder=ROOT)
            lines = [f"{wheel.name.split('-')[0]} @ {wheel.as_uri()}\n" for wheel in folder.glob("*.whl")]
            (folder / "workspace.txt").write_text("".join(sorted(lines)))
    return folder


@pytest.fixture
def empty_environment(tmp_path) -> Environment:
    """A virtual environment with nothing in it, of the Python that runs the tests."""
    folder = tmp_path / "environment"
    uv("venv", "--python", sys.executable, folder, folder=tmp_path)
    return Environment(folder)

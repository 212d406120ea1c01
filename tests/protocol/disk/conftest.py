import tempfile
from pathlib import Path

import pytest
from tallow_protocol.disk.root import OutputRoot


@pytest.fixture
def open_directory():
    """A directory that a child under another user can reach and write; pytest's own are closed to it."""
    with tempfile.TemporaryDirectory(prefix="tallow-test-") as name:
        path = Path(name)
        path.chmod(0o777)
        yield path


@pytest.fixture
def root(tmp_path):
    with OutputRoot.open(tmp_path / "out") as opened:
        yield opened

"""Snapshots of a tree, and children without root's rights."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from tallow_crypto import Fingerprint
from tallow_protocol.disk.partials import PartialFolder

NOBODY = 65534


def snapshot(directory):
    """Return everything about a tree that an attack could change: names, kinds, inodes, modes, times, bytes."""
    seen = {}
    for folder, folders, files in os.walk(directory):
        for name in [".", *folders, *files]:
            path = Path(folder) / name
            status = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else None
            if path.is_symlink():
                content = path.readlink()
            seen[str(path)] = (status.st_ino, status.st_mode, status.st_mtime_ns, status.st_nlink, content)
    return seen


@contextlib.contextmanager
def arriving(root, components, size):
    """Give a file on its way to a place, as a transfer begins it; its folder is closed at the end."""
    folder = PartialFolder(root, Fingerprint(bytes(32)))
    try:
        yield folder.begin("/".join(components), size, 65536, components, resumes=False)
    finally:
        folder.close()


def open_descriptors():
    """Return how many file descriptors this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def run_unprivileged(script, *arguments):
    """Run Python text in a child that has no right of root; return the finished process."""
    # The interpreter's own files may be closed to that user, so what the text needs is imported before.
    drop = (
        "import os\n"
        "import tallow_protocol.disk.root, tallow_protocol.disk.partials, tallow_protocol.disk.scan\n"
        "if os.geteuid() == 0:\n"
        f"    os.setgroups([])\n    os.setgid({NOBODY})\n    os.setuid({NOBODY})\n"
    )
    return subprocess.run(
        [sys.executable, "-c", drop + script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
    )

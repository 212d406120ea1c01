"""What is sent: made once for a case, compared byte for byte with every copy that arrives."""

from __future__ import annotations

import multiprocessing
import os
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MIB = 1 << 20
WORDS = 5000
TEXT_BLOCK = 8 * MIB


def made_aside(make: Callable[[Path, int], None], path: Path, size: int) -> None:
    """Make a source in a child process: the kernel counts our own peak as that of every program that we start."""
    child = multiprocessing.get_context("fork").Process(target=make, args=(path, size))
    child.start()
    child.join()
    if child.exitcode != 0:
        raise OSError(f"{path.name} could not be made")


def make_random(path: Path, size: int) -> None:
    """Write a file that does not compress."""
    with path.open("wb") as file:
        while size:
            piece = min(size, MIB)
            file.write(os.urandom(piece))
            size -= piece


def make_text(path: Path, size: int) -> None:
    """Write lines of made-up words, some far more frequent than others, that compress to about a third.

    The same 8 MiB come again and again: farther apart than any compressor here looks back.
    """
    draw = random.Random(4)
    letters = "etaoinshrdlucmfw"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 10))) for _ in range(WORDS)]
    weights = [1 / (rank + 3) for rank in range(WORDS)]
    lines = []
    length = 0
    while length < min(size, TEXT_BLOCK):
        lines.append(" ".join(draw.choices(words, weights, k=12)) + "\n")
        length += len(lines[-1])
    block = "".join(lines).encode()
    with path.open("wb") as file:
        for start in range(0, size, len(block)):
            file.write(block[: size - start])


def make_sparse(path: Path, size: int) -> None:
    """Make a file that is one hole."""
    with path.open("wb") as file:
        file.truncate(size)


def make_tree(path: Path, files: int, size: int, folders: int) -> None:
    """Write small random files, evenly into folders."""
    for folder in range(folders):
        (path / f"d{folder:04}").mkdir(parents=True)
    for number in range(files):
        (path / f"d{number % folders:04}" / f"f{number:06}").write_bytes(os.urandom(size))


def amount(path: Path) -> tuple[int, int]:
    """Return the number of files and their bytes."""
    if path.is_file():
        return 1, path.stat().st_size
    sizes = [entry.stat().st_size for entry in path.rglob("*") if entry.is_file()]
    return len(sizes), sum(sizes)


def difference(source: Path, copy: Path) -> str | None:
    """Return the first difference in names or bytes between a file or folder and what arrived of it, None if equal."""
    if source.is_file():
        if not copy.is_file():
            return f"{copy.name} is missing"
        return None if _same_bytes(source, copy) else f"{copy.name} differs"
    if not copy.is_dir():
        return f"{copy.name} is missing"
    names, copied = (sorted(entry.name for entry in folder.iterdir()) for folder in (source, copy))
    if names != copied:
        return f"{copy.name} holds other names"
    for name in names:
        if (found := difference(source / name, copy / name)) is not None:
            return found
    return None


def _same_bytes(one: Path, other: Path) -> bool:
    size = one.stat().st_size
    if size != other.stat().st_size:
        return False
    if size <= MIB:
        return one.read_bytes() == other.read_bytes()
    with one.open("rb", buffering=0) as first, other.open("rb", buffering=0) as second:
        while piece := first.read(MIB):
            if piece != second.read(len(piece)):
                return False
    return True


def warm_pages(folder: Path, size: int) -> None:
    """Make the machine hold this much memory ready: a guest that gives free pages back gets them again slowly."""
    path = folder / "warm"
    piece = bytes(MIB)
    with path.open("wb", buffering=0) as file:
        for _ in range(size // MIB):
            file.write(piece)
    path.unlink()

"""Whether there is room for what comes, and the sentence that says how much is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallow_protocol.errors import NoSpaceError, NotWritableError

if TYPE_CHECKING:
    from tallow_protocol.disk.root import OutputRoot

__all__ = ["check_space"]

_UNITS = ("bytes", "KB", "MB", "GB", "TB", "PB")


def check_space(root: OutputRoot, size_bytes: int) -> None:
    """Raise NoSpaceError where the output directory's file system has fewer than `size_bytes` bytes left.

    One that does not say how large it is (ramfs) is taken to have room; so is one that cannot be asked.
    """
    try:
        free = root.free_bytes()
    except NotWritableError:
        return
    if free is None or size_bytes <= free:
        return
    raise NoSpaceError(
        f"there is not enough space in the output directory: {amount(size_bytes)} would come, "
        f"{amount(free)} are free, {amount(size_bytes - free)} are missing",
        hints=("make room, or choose another directory", "--force tries all the same"),
    )


def amount(size_bytes: int) -> str:
    """Return a number of bytes for a sentence, in units of 1,000, as the offer is shown: "1.5 GB"."""
    value, unit = float(size_bytes), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{size_bytes} bytes" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"

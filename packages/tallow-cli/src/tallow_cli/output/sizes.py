"""Sizes, rates and times as people read them: decimal units, three figures."""

from __future__ import annotations

__all__ = ["count", "duration", "rate", "size"]

_UNITS = ("KB", "MB", "GB", "TB", "PB", "EB")


def size(size_bytes: float) -> str:
    """Return "999 B", "1.5 KB", "12.4 MB", "512 MB": powers of 1000, one decimal below 100."""
    if size_bytes < 1000:
        return f"{int(size_bytes)} B"
    power = 1
    while power < len(_UNITS) and size_bytes >= 999.5 * 1000**power:
        power += 1
    value = size_bytes / 1000**power
    return f"{value:.1f} {_UNITS[power - 1]}" if value < 99.95 else f"{value:.0f} {_UNITS[power - 1]}"


def rate(bytes_per_s: float) -> str:
    """Return a rate such as "148 MB/s"."""
    return f"{size(bytes_per_s)}/s"


def duration(seconds: float) -> str:
    """Return "0.8 s", "12 s", "3:05" (minutes) or "2:10:00" (hours)."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def count(number: int, thing: str) -> str:
    """Return "1 file", "2,000 files"."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"

"""Lengths of time as people type them: 90, 90s, 10m, 2h, 1d."""

from __future__ import annotations

import re

from tallow_cli.errors import UsageError

__all__ = ["seconds_of"]

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_TIME = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd]?)")


def seconds_of(text: str, option: str, *, most_s: float) -> float:
    """Return the seconds of a time typed for `option`, 0 to `most_s`. Raises UsageError."""
    match = _TIME.fullmatch(text.strip().lower())
    seconds = float(match[1]) * _UNITS[match[2]] if match else -1.0
    if not 0 <= seconds <= most_s:
        raise UsageError(
            f"{option} is a time such as 90s, 10m or 2h, not {text!r}",
            hints=(f"0 switches it off; the most is {most_s / 86400:g} days",),
        )
    return seconds

"""Rates as people type them: 500k, 10M, 1.5G bytes a second."""

from __future__ import annotations

import re

from tallow_cli.errors import UsageError

__all__ = ["bytes_per_second"]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_RATE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([kmg]?)(?:b?(?:/s)?)")

LEAST = 1000
"""Below this a handshake's own messages would outweigh the data."""


def bytes_per_second(text: str) -> float:
    """Return the bytes a second of `text`; k, M and G are powers of 1000. Raises UsageError."""
    match = _RATE.fullmatch(text.strip().lower())
    rate = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if rate < LEAST:
        raise UsageError(
            f"--limit is a rate such as 500k, 10M or 1.5G bytes a second, not {text!r}",
            hints=("k, M and G are thousands, millions and thousand millions; the least is 1k",),
        )
    return rate

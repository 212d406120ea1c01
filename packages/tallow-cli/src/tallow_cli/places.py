"""Whether a folder can be received into, before anybody is met: what fails later has used up the code."""

from __future__ import annotations

import os
from pathlib import Path

from tallow_protocol import NotWritableError

__all__ = ["check_out"]


def check_out(out: str) -> None:
    """Raise NotWritableError where `out` is no folder, or neither it nor what it would be made in can be written."""
    place = Path(out).absolute()
    shown = ascii(out) if not out.isprintable() else f"'{out}'"
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        what = "it" if place == Path(out).absolute() else f"'{place}'"
        raise NotWritableError(f"cannot write into {shown}: {what} is no folder")
    if not os.access(place, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise NotWritableError(f"cannot write into {shown}: permission denied")

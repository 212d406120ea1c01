"""Every decoder that reads what somebody else wrote, as one function of bytes each, with what must hold of it.

A target returns if all is well, whether the bytes were taken or refused, and raises where a property does not hold: an
error that is no documented one, a value that is not encoded back to the same bytes, a name or an address that leads where
none may. `tests/fuzz/test_targets.py` runs them in the gate, `python -m tests.fuzz.run TARGET` guided by coverage.
"""

from __future__ import annotations

from tests.fuzz import inside, own_files, texts, wire
from tests.fuzz.kit import CORPUS, TARGETS, Target, corpus

__all__ = ["CORPUS", "FAMILIES", "TARGETS", "Target", "corpus"]

FAMILIES = (wire, inside, own_files, texts)
"""Each registers its targets as it is imported."""

"""Reads the tables of a document: what stands in docs/protocol.md is compared with the code."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROTOCOL = ROOT / "docs" / "protocol.md"


def table(name: str, document: Path = PROTOCOL) -> list[dict[str, str]]:
    """Return the rows under `<!-- table: name -->`, each as column name and text, backticks left out."""
    lines = document.read_text(encoding="utf-8").splitlines()
    start = lines.index(f"<!-- table: {name} -->") + 1
    rows: list[list[str]] = []
    for line in lines[start:]:
        if line.startswith("|"):
            rows.append([cell.strip().strip("`") for cell in line.strip().strip("|").split("|")])
        elif rows:
            break
    head, rule, *body = rows
    assert all(re.fullmatch(r":?-+:?", cell) for cell in rule), name
    assert all(len(row) == len(head) for row in body), name
    return [dict(zip(head, row, strict=True)) for row in body]


def code_of(number_and_name: list[dict[str, str]]) -> dict[int, str]:
    """Return code to name of a table that has these two columns."""
    return {int(row["code"]): row["name"] for row in number_and_name}

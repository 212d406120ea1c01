"""Every row of what went wrong elsewhere has its tests here, and the document says which."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

from tests.hostile.rows import ROWS, Row, table

TESTS = Path(__file__).resolve().parents[1]
DOCUMENT = TESTS.parent / "docs" / "threat-model.md"


@functools.cache
def names_in(file: str) -> frozenset[str]:
    tree = ast.parse((TESTS / file).read_text("utf-8"))
    found = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in found if node.name.startswith("test_"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.known_from)
def test_each_test_of_a_row_exists(row: Row) -> None:
    assert row.tests
    for test in (*row.tests, *row.naive):
        file, _, name = test.partition("::")
        assert name in names_in(file), test


def test_a_test_that_is_not_there_would_be_seen() -> None:
    assert "test_of_nothing" not in names_in("hostile/test_rows.py")


def test_each_test_that_the_document_names_exists() -> None:
    """Those of its other table too."""
    named = [
        part for part in DOCUMENT.read_text("utf-8").split("`") if part.startswith("tests/") and "::" in part
    ]
    assert len(named) > 150
    for test in named:
        file, _, name = test.removeprefix("tests/").partition("::")
        assert name in names_in(file), test


def test_the_document_has_these_rows() -> None:
    lines = DOCUMENT.read_text("utf-8").splitlines()
    start = lines.index(table()[0])
    assert lines[start : start + len(table())] == table()
    assert lines[start + len(table()) :] == [], "the table ends the document"

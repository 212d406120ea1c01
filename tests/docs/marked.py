"""The parts of a page that a command writes from what it measured: between `<!-- NAME: begin -->` and `<!-- NAME: end -->`."""

from __future__ import annotations


def replaced(page: str, name: str, content: str) -> str:
    """Return the page with another content of that part; ValueError where it has no such part."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the page has no part between {begin} and {end}")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


def part(page: str, name: str) -> str:
    """Return the content of that part; ValueError where the page has none."""
    _, found, rest = page.partition(f"<!-- {name}: begin -->")
    content, closed, _ = rest.partition(f"<!-- {name}: end -->")
    if not found or not closed:
        raise ValueError(f"the page has no part {name}")
    return content.strip()

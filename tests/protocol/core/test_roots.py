from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_protocol.core.roots import Roots
from tallow_protocol.errors import MisuseError

from tests.protocol.core.material import octets

ENTRIES = 12

sets = st.lists(st.sets(st.integers(0, ENTRIES - 1), min_size=1).map(sorted), max_size=6)


@given(sets)
def test_roots_are_what_a_dictionary_would_hold(packs):
    roots, plain = Roots(ENTRIES), {}
    for turn, files in enumerate(packs):
        made = [octets(f"{turn} {file}") for file in files]
        roots.put_all(files, made)
        plain.update(zip(files, made, strict=True))
    assert roots == plain
    assert len(roots) == len(plain)
    assert roots.joined == b"".join(plain.get(file, bytes(32)) for file in range(ENTRIES))
    assert list(roots.known) == [file in plain for file in range(ENTRIES)]


def test_what_is_no_entry_has_no_root():
    roots = Roots(2)
    roots.put(1, octets("root"))
    assert 1 in roots
    for file in (-1, 0, 2, "1"):
        assert file not in roots
        with pytest.raises(KeyError):
            roots[file]


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_root_has_32_bytes(length):
    roots = Roots(2)
    for put in (
        lambda: roots.put(0, bytes(length)),
        lambda: roots.put_all([0, 1], [bytes(length), bytes(32)]),
    ):
        with pytest.raises(MisuseError):
            put()
    assert not roots


def test_an_entry_costs_33_bytes():
    import tracemalloc

    tracemalloc.start()
    roots = Roots(100_000)
    for file in range(100_000):
        roots.put(file, bytes(32))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 34 * 100_000

"""What a simulated file holds is what was written into it, kept as bytes or not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.sim.offers import Contents
from tests.sim.stretches import Made, Stretches

MADE = [Made(Contents([]), path, other) for path, other in (("a", 0), ("a", 1), ("zeros", 0))]
WRITES = st.lists(
    st.tuples(
        st.integers(0, 90),
        st.integers(0, 40),
        st.sampled_from([b"x", b"yz", *MADE, "cut", "copy"]),
    ),
    max_size=25,
)


@given(WRITES)
def test_stretches_hold_what_plain_bytes_would(writes: list) -> None:
    held, plain = Stretches(), bytearray()
    for start, length, what in writes:
        if what == "cut":
            held.cut(min(start, len(plain)))
            del plain[start:]
        elif what == "copy":
            held, before = held.copy(), held
            before.put(0, b"of no account")
        else:
            data = what.piece(start, start + length) if isinstance(what, Made) else (what * length)[:length]
            plain.extend(bytes(max(start + length - len(plain), 0)))
            plain[start : start + length] = data
            held.put(start, what if isinstance(what, Made) else data, start + length)
        assert bytes(held) == plain
        assert held.piece(7, 30) == plain[7:37]
        for made in MADE:
            same = made.piece(0, len(plain)) == plain
            assert held.differs(made, 0, len(plain)) != same
        assert held.kept_bytes <= len(plain)


def test_what_is_made_is_kept_as_one_stretch_in_whatever_order_it_comes() -> None:
    held = Stretches()
    for chunk in (3, 0, 2, 1, 2):
        held.put(chunk << 40, MADE[0], (chunk + 1) << 40)
    assert len(held) == 4 << 40
    assert held._starts == [0]
    assert held.kept_bytes == 0
    held.put(5, b"spoiled")
    assert held.kept_bytes == 7
    assert held.differs(MADE[0], 0, 100)
    assert not held.differs(MADE[0], 100, len(held))

"""A dozen faults on real processes, each with a seed; hundreds: `python -m tests.faults.soak --runs 300`."""

import pytest

from tests.faults.catalogue import load
from tests.faults.kit import TALLOW, Result, UnusableError
from tests.faults.soak import BEGIN, END, replaced, run_one, table

CATALOGUE = load()
GATE = [(name, seed) for name, fault in CATALOGUE.items() for seed in fault.gate]

pytestmark = [
    pytest.mark.skipif(not TALLOW.exists(), reason="the programs are not installed beside Python"),
    pytest.mark.timeout(400),  # a run says by itself what did not end
]


@pytest.mark.parametrize(("name", "seed"), GATE, ids=str)
async def test_nothing_is_lost_and_nothing_wrong_is_written_by(name, seed):
    try:
        result = await run_one(CATALOGUE[name], seed)
    except UnusableError as reason:
        pytest.skip(str(reason))
    assert not result.problems, f"{result.problems}; repeat: {result.repeat}"
    assert result.bytes_lost == 0


def test_the_table_counts_what_the_runs_showed_and_replaces_only_its_section():
    results = [
        Result("cut", 5, sender="0", receiver="0", arrived=True, rejoined=True),
        Result("cut", 6, sender="10 peer_left", receiver="7 no_path", bytes_lost=3, problems=["wrong"]),
        Result("cut", 7, sender="0", receiver="0", arrived=True, bit=False, problems=["did not bite"]),
    ]
    page = replaced(f"before {BEGIN} old {END} after", table(results, CATALOGUE))
    assert page.startswith(f"before {BEGIN}")
    assert page.endswith(f"{END} after")
    assert "| 2 | 3 | 1 | 1 x all arrived after meeting again; 1 x sender 10 peer_left" in page
    assert "--fault cut --runs 2 --seed 5" in page
    assert "left out, because the fault did not bite: 1." in page
    assert " old " not in page

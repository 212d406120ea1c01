"""The benchmark's own parts: what it sends, how it compares, how it judges and what it writes."""

import sys

import pytest

from tests.benchmarks.field import trees
from tests.benchmarks.field.cases import CASES
from tests.benchmarks.field.figures import own, rate
from tests.benchmarks.field.processes import FailedError, Program
from tests.benchmarks.field.report import write_report
from tests.benchmarks.field.special import SPECIAL, records
from tests.benchmarks.field.targets import targets

MACHINE = {"processor": "a processor, 2 cores", "date": "2026-01-01"}


def ran(whole_s, own_s=None, size=1 << 30, **more):
    return {
        "whole_s": whole_s, "bytes": size, "own_s": own_s, "cpu_s": 1.0,
        "peak_mb": {"sender": 60.0}, "relay_cpu_s": None, "facts": {}, **more,
    }  # fmt: skip


def contender(*runs, start_ups=()):
    return {
        "version": "1",
        "source": "main",
        "reference": False,
        "runs": list(runs),
        "start_ups": list(start_ups),
    }


def case(key, **contenders):
    return {
        "key": key, "title": "A case", "quick": False, "machine": MACHINE, "rounds": 1, "place": "loopback",
        "sources": {"main": {"files": 1, "bytes": 1 << 30}}, "left_out": {"croc": "it is not on PATH"},
        "contenders": {name.replace("_", " "): one for name, one in contenders.items()},
    }  # fmt: skip


@pytest.fixture
def sent(tmp_path):
    source = tmp_path / "source"
    trees.make_tree(source, 20, 300, 4)
    return source


def copied(source, to):
    to.mkdir()
    for folder in source.iterdir():
        (to / folder.name).mkdir()
        for file in folder.iterdir():
            (to / folder.name / file.name).write_bytes(file.read_bytes())
    return to


def test_a_tree_has_the_files_that_were_asked_for(sent):
    assert trees.amount(sent) == (20, 6000)
    assert len(list(sent.iterdir())) == 4


@pytest.mark.parametrize("size", [1, 1000, 2500])
def test_text_has_the_size_that_was_asked_for(tmp_path, monkeypatch, size):
    monkeypatch.setattr(trees, "TEXT_BLOCK", 1000)
    trees.make_text(tmp_path / "text", size)

    assert (tmp_path / "text").stat().st_size == size


def test_a_true_copy_has_no_difference(sent, tmp_path):
    assert trees.difference(sent, copied(sent, tmp_path / "copy")) is None


@pytest.mark.parametrize("harm", ["change", "cut", "remove", "add"])
def test_a_harmed_copy_is_found(sent, tmp_path, harm):
    copy = copied(sent, tmp_path / "copy")
    victim = sorted(copy.rglob("f*"))[7]
    data = victim.read_bytes()
    {
        "change": lambda: victim.write_bytes(data[:-1] + bytes([data[-1] ^ 1])),
        "cut": lambda: victim.write_bytes(data[:-1]),
        "remove": victim.unlink,
        "add": lambda: victim.with_name("more").touch(),
    }[harm]()

    assert trees.difference(sent, copy) is not None


def test_a_program_gives_its_lines_and_its_cost():
    program = Program([sys.executable, "-c", "print('ready', flush=True); sum(range(3_000_000))"])
    try:
        assert program.line(lambda line: "ready" in line) == "ready\n"
        ended = program.wait(30)
    finally:
        program.stop()

    assert ended.cpu_s > 0
    assert ended.peak_mb > 1


@pytest.mark.parametrize(
    ("program", "said"),
    [("raise SystemExit('no luck')", "no luck"), ("import time; time.sleep(60)", "was ended after")],
)
def test_a_program_that_fails_or_hangs_says_why(program, said):
    started = Program([sys.executable, "-c", program])
    try:
        with pytest.raises(FailedError, match=said):
            started.wait(2)
    finally:
        started.stop()


def test_start_up_is_taken_off_where_a_program_has_no_figure_of_its_own():
    found = contender(ran(3.0), ran(5.0), start_ups=[ran(1.0), ran(1.0)])

    assert own(found).values == (2.0, 4.0)
    assert rate(found).values[0] == pytest.approx((1 << 30) / 2e6)


def test_a_target_is_met_missed_or_not_measured():
    iperf = contender(ran(1.0, own_s=0.5))
    fast = targets(
        {"direct": case("direct", tallow=contender(ran(1.0, own_s=1.0)), **{"iperf3,_one_stream": iperf})}
    )
    slow = targets(
        {"direct": case("direct", tallow=contender(ran(2.0, own_s=2.0)), **{"iperf3,_one_stream": iperf})}
    )

    assert [fast[0].verdict, slow[0].verdict] == ["met", "MISSED"]
    assert fast[1].verdict == "not measured"


def test_the_page_names_targets_figures_failures_and_what_was_left_out(tmp_path):
    failed = contender()
    failed["problem"] = "it fell over"
    results = {
        "direct": case("direct", tallow=contender(ran(1.25, own_s=1.0)), rsync_over_ssh=failed),
        "rooms": {
            "key": "rooms", "title": "Rooms", "quick": False, "machine": MACHINE,
            "text": 'one line\n{"rooms": 100, "jain": 0.5}',
            "records": records('one line\n{"rooms": 100, "jain": 0.5}'),
        },
        "engines": {"key": "engines", "title": "Engines", "quick": False, "machine": MACHINE, "problem": "no luck"},
    }  # fmt: skip

    judged = write_report(results, tmp_path / "performance.md")
    page = (tmp_path / "performance.md").read_text()

    assert "| tallow | 1074 | 1.25 | 1.00 | 60 |" in page
    assert "Versions: tallow 1, rsync 1." in page
    assert "rsync over ssh: it fell over" in page
    assert "croc (it is not on PATH)" in page
    assert "Not measured: no luck." in page
    assert "one line\n```" in page
    assert next(target for target in judged if "Jain" in target.text).met is False


def test_every_case_has_a_key_of_its_own():
    keys = [case.key for case in (*CASES, *SPECIAL)]

    assert len(set(keys)) == len(keys)

"""Each decoder, in the gate: its seeds, its corpus with every past finding, and a few hundred mutations of both."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.docs.marked import part
from tests.fuzz.run import Result, table
from tests.fuzz.targets import CORPUS, TARGETS, corpus

SLOW = {
    "hello",
    "reply",
    "confirm",
    "session",
    "attach",
    "ignore_file",
    "mdns",
    "store_config",
    "key_file",
    "data_door",
}
"""A handshake or a file each time: fewer examples."""

AT_MOST_S = 5.0
"""For one input, on a busy machine: what takes longer grows with more than the length of the input."""

INTERESTING = (0, 1, 2, 0x17, 0x1F, 0x7F, 0x80, 0x9A, 0xA0, 0xBF, 0xF6, 0xFB, 0xFF)


def run(name: str, data: bytes) -> None:
    started = time.process_time()
    TARGETS[name].run(data)
    assert time.process_time() - started < AT_MOST_S


@st.composite
def mutations(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """Return an input like one that is taken: bytes changed, cut out, repeated, or two inputs spliced."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 5)):
            case 0 if data:
                data[at % len(data)] = draw(st.sampled_from(INTERESTING))
            case 1 if data:
                data[at % len(data)] ^= 1 << draw(st.integers(0, 7))
            case 2:
                del data[at : at + draw(st.integers(1, 40))]
            case 3:
                data[at:at] = data[at : at + draw(st.integers(1, 40))]
            case 4:
                data[at:at] = draw(st.binary(min_size=1, max_size=12))
            case _:
                other = draw(st.sampled_from(seeds))
                data[at:] = other[draw(st.integers(0, len(other))) :]
    return bytes(data[:100_000])


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_hold(name: str) -> None:
    for seed in TARGETS[name].seeds():
        run(name, seed)


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_found_once_stays_found(name: str) -> None:
    """The corpus has inputs of coverage-guided runs; those named finding-* failed before something was mended."""
    for path in corpus(name):
        run(name, path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_inputs_are_refused_or_taken_as_they_are(name: str) -> None:
    examples = 40 if name in SLOW else 250
    seeds = TARGETS[name].seeds() + [path.read_bytes() for path in corpus(name)]

    @settings(max_examples=examples)
    @given(mutations(seeds))
    def mutated(data: bytes) -> None:
        run(name, data)

    @settings(max_examples=examples // 2)
    @given(st.binary(max_size=2000))
    def noise(data: bytes) -> None:
        run(name, data)

    mutated()
    noise()


def test_every_corpus_belongs_to_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= set(TARGETS)


def test_each_decoder_that_reads_what_somebody_else_wrote_stands_in_the_page_with_a_guided_run() -> None:
    """The rows of the fuzzing section of docs/reliability.md are the targets, no other, and each was run."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "reliability.md").read_text("utf-8")
    rows = [line.split(" | ") for line in part(page, "fuzz").splitlines() if line.startswith("| `")]
    assert {row[0].strip("| `"): row[1] for row in rows} == {name: t.reads for name, t in TARGETS.items()}
    assert [row[0] for row in rows if not int(row[2].replace(",", ""))] == []


def test_the_table_is_what_the_runs_showed_and_names_what_was_not_run() -> None:
    results = [Result("frames", 1000, 60, 20, found=False), Result("frames", 500, 30, 23, found=True)]
    made = table(results, {name: TARGETS[name] for name in ("frames", "hello")})
    assert "| `frames` | frames of any cut | 1,500 | 90 | 23 | 1 |" in made
    assert "| `hello` | the handshake's first message | none | | | |" in made
    assert made.endswith("1,500 executions in 2 minutes; runs that found something: 1.")

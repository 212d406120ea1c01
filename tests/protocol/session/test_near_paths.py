"""How the first file is cut, before anything was measured: for a fast path where the round trip is short."""

import pytest
from tallow_net import Side
from tallow_protocol.core.chunking import ChunkConfig
from tallow_protocol.core.sender import NEAR_S
from tallow_protocol.core.sending import SendPipeline
from tallow_protocol.testing import Pair

CHUNKS = ChunkConfig()


@pytest.mark.parametrize(
    ("round_trip_s", "chunk_bytes"),
    [(None, CHUNKS.usual_bytes), (NEAR_S, CHUNKS.largest_bytes), (NEAR_S + 0.001, CHUNKS.usual_bytes)],
    ids=["unknown", "short", "longer"],
)
def test_the_first_file_is_cut_by_the_round_trip_that_the_kernel_knows(
    round_trip_s, chunk_bytes, monkeypatch
):
    planned = []

    def plan(pipeline, *arguments, **options):
        made = original(pipeline, *arguments, **options)
        planned.extend([] if made is None else [made.length])
        return made

    original = SendPipeline.plan
    monkeypatch.setattr(SendPipeline, "plan", plan)
    content = bytes(8 * CHUNKS.largest_bytes)
    pair = Pair({"film": content}, chunks=CHUNKS, window_bytes=len(content))
    for link in pair.sessions[Side.A].links:
        link.round_trip_s = round_trip_s
    pair.run()
    assert pair.folder.files["film"] == content
    assert planned == [chunk_bytes] * (len(content) // chunk_bytes)

"""Plain data connections through a whole relay over real sockets, with both engines."""

import asyncio
import os

import pytest
from tallow_relay.carriers import CopyEngine, Engine, SpliceEngine

from tests.relay.data_kit import hear, joined, say
from tests.relay.relay_kit import paired, relay

MIB = 1 << 20
ENGINES = [SpliceEngine, CopyEngine]
both_engines = pytest.mark.parametrize("engine", ENGINES)


@both_engines
async def test_mebibytes_arrive_identical_both_ways_at_once(engine: type[Engine]) -> None:
    there, back = os.urandom(24 * MIB), os.urandom(24 * MIB)
    async with (
        relay(engine=engine()) as server,
        paired(server.port) as (a, b),
        joined(server.port, a, b) as (one, other),
    ):
        _, _, got_there, got_back = await asyncio.gather(
            say(one, there), say(other, back), hear(other, len(there)), hear(one, len(back))
        )
        assert (got_there == there, got_back == back) == (True, True)

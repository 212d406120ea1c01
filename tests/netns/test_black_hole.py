"""Paths that swallow packets above a size and say nothing: a tunnel or PPPoE behind a firewall that drops ICMP."""

import asyncio
import contextlib
import re

import pytest
from tallow_net.limits import SMALL_SEGMENT_BYTES

from tests.netns.kit import Conditions, network
from tests.netns.test_rejoin import RELAY as RELAY_PROGRAM
from tests.netns.test_rejoin import RELAY_PLACE, TALLOW, Pair, Program, emulated

MIB = 16
HOLE_BYTES = 1350
"""Less than any system's own packets, more than the 1,280 that every path carries."""

ON_S = 15.0
"""Data flows again within this: four seconds of silence on the data connection, a turn of a busy loop, one more dial."""

pytestmark = [
    pytest.mark.skipif(not TALLOW.exists(), reason="the programs are not installed beside Python"),
    pytest.mark.timeout(240),
]


@pytest.mark.parametrize("transport", ["tcp", pytest.param("quic", marks=pytest.mark.slow)])
async def test_a_path_that_never_carried_large_packets_carries_a_transfer(tmp_path, transport):
    async with emulated(tmp_path) as made:
        await made.link.tell(f"mtu {HOLE_BYTES}")
        await made.pair.begin(MIB, "--transport", transport, peer="10.88.0.1")
        await made.pair.ended_well(lost=False)
        await holed(made.link)


@pytest.mark.parametrize("transport", ["tcp", pytest.param("quic", marks=pytest.mark.slow)])
async def test_a_transfer_goes_on_when_its_path_begins_to_swallow_large_packets(tmp_path, transport):
    async with emulated(tmp_path) as made:
        pair = made.pair
        await pair.begin(MIB, "--transport", transport, peer="10.88.0.1")
        before = await pair.arrived(6)
        await made.link.tell(f"mtu {HOLE_BYTES}")
        on = await pair.arrived(MIB - 4)
        assert on["at"] - before["at"] < 2 * ON_S + MIB  # at a MiB/s at least
        listed = await pair.b.run("ss", "-Htin", "state", "established")
        assert all(int(size) <= SMALL_SEGMENT_BYTES for size in re.findall(r"\bmss:(\d+)", listed.out)), (
            listed
        )
        await pair.ended_well(lost=False)
        await holed(made.link)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("--relay-only",), id="plain", marks=pytest.mark.slow),
        pytest.param(("--relay-only", "--encrypt-twice"), id="inside"),
    ],
)
async def test_through_a_relay_the_senders_large_packets_may_begin_to_vanish(tmp_path, words):
    async with relayed(tmp_path) as (pair, link, relay):
        await pair.begin(MIB, *relay, "--transport", "tcp", *words)
        before = await pair.arrived(6)
        await link.tell(f"mtu {HOLE_BYTES}")
        on = await pair.arrived(MIB - 4)
        assert on["at"] - before["at"] < 3 * ON_S + MIB
        await pair.ended_well(lost=False)
        await holed(link)


async def holed(link):
    """The hole was met."""
    assert sum(way["oversized"] for way in (await link.stats()).values()) > 0


@contextlib.asynccontextmanager
async def relayed(folder):
    """A sender on an emulated link to a relay's machine, a receiver on a cable to it."""
    async with network() as net:
        middle, a, b = (net.namespace(name) for name in ("relay", "a", "b"))
        middle.ip("addr", "add", "10.87.0.1/32", "dev", "lo")
        conditions = Conditions(delay_s=0.005, rate_bits=60e6, queue_packets=600)
        link = await net.emulate((a, "10.87.1.2/24"), (middle, "10.87.1.1/24"), conditions)
        net.wire((b, "10.87.2.2/24"), (middle, "10.87.2.1/24"))
        a.ip("route", "add", "10.87.0.1/32", "via", "10.87.1.1")
        b.ip("route", "add", "10.87.0.1/32", "via", "10.87.2.1")
        words = (RELAY_PROGRAM, "serve", "--listen", RELAY_PLACE, "--json", "--state", folder / "relay state")
        relay = await Program.start(middle, folder / "relay", *words)
        pair = Pair(folder, a, b)
        try:
            line = await relay.wait_for("listening")
            yield pair, link, ("--relay", f"{line['listen']}#{line['fingerprint']}")
        finally:
            await asyncio.gather(pair.close(), relay.close())

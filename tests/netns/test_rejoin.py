"""Transfers that lose their network and find each other again, between real processes on networks of their own.

Each is told by both sides (`rejoining` with a limit that counts down, `rejoined`), ends with exit code 0 and the same
bytes, and puts no more on the wire again than what was under way.
"""

import asyncio
import contextlib
import json
import random
import sys
import time
from pathlib import Path

import pytest

from tests.netns.kit import Conditions, network

TALLOW = Path(sys.executable).with_name("tallow")
RELAY = Path(sys.executable).with_name("tallow-relay")
MIB = 1 << 20
EVENT_S, END_S = 60, 120
RELAY_PLACE = "10.87.0.1:4433"
LIMIT_S = 600
UNDER_WAY_MIB = 20
"""What may go twice: the window that was not acknowledged, what stood in socket buffers, headers and retransmissions."""

NOTICED_S = 14.0
"""A silence while data flows is noticed within this: twelve seconds, and a turn of a busy loop."""

pytestmark = [
    pytest.mark.skipif(not TALLOW.exists(), reason="the programs are not installed beside Python"),
    pytest.mark.timeout(240),
]


class Program:
    """A running program in a namespace; what it writes is read as it comes, with the time at which it came."""

    def __init__(self, child):
        self.child = child
        self.events = []
        self.errors = b""
        self._news = asyncio.Event()
        self._over = False
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._read_errors())]

    @classmethod
    async def start(cls, namespace, home, *words):
        home.mkdir(mode=0o700, exist_ok=True)
        environment = {"TALLOW_HOME": str(home), "TALLOW_RELAY": ""}
        return cls(await namespace.start(*words, environment=environment))

    async def _read(self):
        while line := await self.child.stdout.readline():
            self.events.append(json.loads(line) | {"at": time.monotonic()})
            self._news.set()
        self._over = True
        self._news.set()

    async def _read_errors(self):
        self.errors = await self.child.stderr.read()

    async def wait_for(self, name, holds=lambda event: True, since=0):
        """Return the first event of this name, from number `since` on, for which `holds` is true."""
        try:
            async with asyncio.timeout(EVENT_S):
                while True:
                    self._news.clear()
                    for event in self.events[since:]:
                        if event["event"] == name and holds(event):
                            return event
                    assert not self._over, (name, self.events[-5:], self.errors)
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"no {name} in {self.events[-8:]} {self.errors}") from None

    async def end(self):
        async with asyncio.timeout(END_S):
            await asyncio.gather(*self._tasks)
            return await self.child.wait()

    async def close(self):
        """Kill it if it runs; its pipes then end, and with them who reads them."""
        with contextlib.suppress(ProcessLookupError):
            self.child.kill()
        await asyncio.gather(*self._tasks)

    def all(self, name):
        return [event for event in self.events if event["event"] == name]


class Pair:
    """A sender and a receiver of one random file."""

    def __init__(self, folder, a, b):
        self.folder, self.a, self.b = folder, a, b
        self.source = folder / "source" / "big"
        self.sender = self.receiver = None

    async def close(self):
        for side in self.both:
            if side is not None:
                await side.close()

    async def begin(self, mib, *words, code_words=(), peer=None):
        self.bytes = mib * MIB
        self.source.parent.mkdir()
        self.source.write_bytes(random.Random(mib).randbytes(self.bytes))
        command = (TALLOW, "send", "--json", *words, self.source)
        self.sender = await Program.start(self.a, self.folder / "home a", *command)
        code = (await self.sender.wait_for("code"))["code"]
        if peer is not None:
            place = next(text for text in (await self.sender.wait_for("code"))["peers"] if peer in text)
            words = (*words, "--peer", place)
        command = (TALLOW, "receive", "--json", *words, "--yes", "--out", self.folder / "out", code)
        self.receiver = await Program.start(self.b, self.folder / "home b", *command)

    @property
    def both(self):
        return self.sender, self.receiver

    async def arrived(self, mib):
        with self.both_told():
            return await self.receiver.wait_for("progress", lambda event: event["bytes"] >= mib * MIB)

    @contextlib.contextmanager
    def both_told(self):
        """Show what both sides said where one of them does not go on."""
        try:
            yield
        except AssertionError as error:
            said = [[event for event in side.events if event["event"] != "progress"] for side in self.both]
            raise AssertionError(said) from error

    async def both_say(self, name):
        with self.both_told():
            return await asyncio.gather(*(side.wait_for(name) for side in self.both))

    async def ended_well(self, *, lost=True):
        codes = await asyncio.gather(*(side.end() for side in self.both))
        assert codes == [0, 0], [(side.events[-4:], side.errors) for side in self.both]
        assert (self.folder / "out" / "big").read_bytes() == self.source.read_bytes()
        for side in self.both:
            assert [event["bytes"] for event in side.all("done")] == [self.bytes]
            if lost:
                assert side.all("rejoining"), side.events
                assert side.all("rejoined"), side.events
                self.counted_down(side)
        shown = [event["bytes"] for event in self.receiver.all("progress")]
        assert shown == sorted(shown), "progress went back"

    def counted_down(self, side):
        """Each absence has a limit that falls as time passes."""
        for before, after in zip(side.all("rejoining"), side.all("rejoining")[1:], strict=False):
            assert 0 < after["left_s"] <= LIMIT_S
            if not any(before["at"] < back["at"] < after["at"] for back in side.all("rejoined")):
                assert after["left_s"] < before["left_s"]
                assert after["left_s"] == pytest.approx(
                    before["left_s"] - (after["at"] - before["at"]), abs=2.0
                )
        assert side.all("rejoining")[0]["left_s"] == pytest.approx(LIMIT_S, abs=1.0)


def sent_mib(namespace, device):
    """How much a device has sent, retransmissions and all."""
    links = json.loads(namespace.ip("-s", "-j", "link", "show", "dev", device))
    return links[0]["stats64"]["tx"]["bytes"] / MIB


async def limited(namespace, device):
    limit = ("rate", "80mbit", "burst", "256kb", "latency", "100ms")
    done = await namespace.run("tc", "qdisc", "add", "dev", device, "root", "tbf", *limit)
    if done.code != 0:
        pytest.skip(f"no rate limit in this kernel: {done.err}")


class Emulated:
    """Two machines on one emulated link; the sender's device counts what it sends."""

    def __init__(self, pair, link):
        self.pair, self.link = pair, link

    async def sent_mib(self):
        return (await self.link.stats())["a"]["bytes"] / MIB


@contextlib.asynccontextmanager
async def emulated(folder, *, delay_s=0.005):
    async with network() as net:
        a, b = net.namespace("a"), net.namespace("b")
        conditions = Conditions(delay_s=delay_s, rate_bits=60e6, queue_packets=600)
        link = await net.emulate((a, "10.88.0.1/24"), (b, "10.88.0.2/24"), conditions)
        pair = Pair(folder, a, b)
        try:
            yield Emulated(pair, link)
        finally:
            await pair.close()


@contextlib.asynccontextmanager
async def wired(folder):
    """Two machines and a cable of a limited rate, between devices that can be switched off."""
    async with network() as net:
        a, b = net.namespace("a"), net.namespace("b")
        devices = net.wire((a, "10.88.0.1/24"), (b, "10.88.0.2/24"))
        await limited(a, devices[0])
        pair = Pair(folder, a, b)
        try:
            yield pair, devices
        finally:
            await pair.close()


class Relayed:
    """Two machines that reach each other through a relay's machine alone."""

    def __init__(self, net, folder):
        self.net, self.folder = net, folder
        self.middle, self.a, self.b = (net.namespace(name) for name in ("relay", "a", "b"))
        self.middle.ip("addr", "add", "10.87.0.1/32", "dev", "lo")
        self.pair = Pair(folder, self.a, self.b)
        self.devices = {}

    async def wire(self, peer, subnet):
        ends = (peer, f"10.87.{subnet}.2/24"), (self.middle, f"10.87.{subnet}.1/24")
        self.devices[peer] = self.net.wire(*ends)
        await limited(peer, self.devices[peer][0])
        peer.ip("route", "add", "10.87.0.1/32", "via", f"10.87.{subnet}.1")

    async def start_relay(self):
        words = (RELAY, "serve", "--listen", RELAY_PLACE, "--json", "--state", self.folder / "relay state")
        self.relay = await Program.start(self.middle, self.folder / "relay", *words)
        line = await self.relay.wait_for("listening")
        self.words = ("--relay", f"{line['listen']}#{line['fingerprint']}", "--transport", "tcp")

    async def begin(self, mib, *words):
        await self.pair.begin(mib, *self.words, *words)


@contextlib.asynccontextmanager
async def relayed(folder):
    async with network() as net:
        made = Relayed(net, folder)
        await made.wire(made.a, 1)
        await made.wire(made.b, 2)
        await made.start_relay()
        try:
            yield made
        finally:
            await made.pair.close()
            await made.relay.close()


async def test_a_link_that_is_off_for_some_time_is_come_back_to_within_seconds(tmp_path):
    async with wired(tmp_path) as (pair, (device, far)):
        await pair.begin(64, "--transport", "tcp", peer="10.88.0.1")
        await pair.arrived(8)
        pair.a.down(device)
        off_at = time.monotonic()
        lost = await pair.both_say("rejoining")
        assert max(event["at"] for event in lost) - off_at < NOTICED_S
        pair.a.up(device)
        on_at = time.monotonic()
        back = await pair.both_say("rejoined")
        assert max(event["at"] for event in back) - on_at < 6.0
        await pair.ended_well()
        assert sent_mib(pair.a, device) < 64 * 1.06 + UNDER_WAY_MIB
    del far


@pytest.mark.parametrize("transport", ["tcp", pytest.param("quic", marks=pytest.mark.slow)])
async def test_a_link_that_swallows_every_packet_is_noticed_and_come_back_to(tmp_path, transport):
    mib = 48 if transport == "tcp" else 24
    async with emulated(tmp_path) as made:
        pair = made.pair
        await pair.begin(mib, "--transport", transport, peer="10.88.0.1")
        await pair.arrived(6)
        await made.link.tell("down")
        silent_at = time.monotonic()
        lost = await pair.both_say("rejoining")
        assert max(event["at"] for event in lost) - silent_at < NOTICED_S + 2
        assert {event["reason"] for event in lost} == {"network"}
        await made.link.tell("up")
        up_at = time.monotonic()
        back = await pair.both_say("rejoined")
        assert max(event["at"] for event in back) - up_at < 8.0
        await pair.ended_well()
        assert await made.sent_mib() < mib * 1.06 + UNDER_WAY_MIB


async def test_connections_that_are_half_open_while_the_network_works_are_replaced(tmp_path):
    """Somebody between forgot them (a NAT box that restarted): their packets vanish, those of new ones pass."""
    async with emulated(tmp_path) as made:
        pair = made.pair
        await pair.begin(48, "--transport", "tcp", peer="10.88.0.1")
        await pair.arrived(8)
        listed = await pair.b.run("ss", "-Htn", "state", "established")
        ports = {line.split()[2].rpartition(":")[2] for line in listed.out.splitlines()}
        assert ports, listed
        await made.link.tell("forget " + " ".join(ports))
        forgotten_at = time.monotonic()
        on = await pair.arrived(24)  # by another data connection, or by coming back
        assert on["at"] - forgotten_at < NOTICED_S + 8
        await pair.ended_well(lost=False)
        assert await made.sent_mib() < 48 * 1.06 + UNDER_WAY_MIB


async def test_at_300_ms_a_silence_is_no_more_than_a_silence(tmp_path):
    async with emulated(tmp_path, delay_s=0.15) as made:
        pair = made.pair
        await pair.begin(24, "--transport", "tcp", peer="10.88.0.1")
        await pair.arrived(4)
        await made.link.tell("down")
        await pair.both_say("rejoining")
        await made.link.tell("up")
        up_at = time.monotonic()
        back = await pair.both_say("rejoined")
        assert max(event["at"] for event in back) - up_at < 9.0
        await pair.ended_well()
        assert await made.sent_mib() < 24 * 1.06 + UNDER_WAY_MIB
        assert len(pair.receiver.all("rejoined")) == 1


def move(namespace, device, old, new):
    """Give a device another address in the place of its old one, as a new lease does."""
    namespace.ip("addr", "del", old, "dev", device)
    namespace.ip("addr", "add", new, "dev", device)


async def test_a_receiver_whose_address_changes_dials_again_from_the_new_one(tmp_path):
    async with wired(tmp_path) as (pair, (device, far)):
        await pair.begin(64, "--transport", "tcp", peer="10.88.0.1")
        await pair.arrived(8)
        move(pair.b, far, "10.88.0.2/24", "10.88.0.9/24")
        moved_at = time.monotonic()
        assert (await pair.receiver.wait_for("rejoining"))["at"] - moved_at < 3.0
        assert (await pair.receiver.wait_for("rejoined"))["at"] - moved_at < 5.0
        codes = [await side.end() for side in pair.both]
        assert codes == [0, 0], [side.events[-4:] for side in pair.both]
        assert (tmp_path / "out" / "big").read_bytes() == pair.source.read_bytes()
        assert sent_mib(pair.a, device) < 64 * 1.06 + UNDER_WAY_MIB


@pytest.mark.parametrize("found_by", ["code", pytest.param("peer", marks=pytest.mark.slow)])
async def test_a_sender_whose_address_changes_is_found_again_by_the_name_of_its_code(tmp_path, found_by):
    async with wired(tmp_path) as (pair, (device, _)):
        peer = "10.88.0.1" if found_by == "peer" else None
        await pair.begin(64, "--transport", "tcp", peer=peer)
        await pair.arrived(8)
        move(pair.a, device, "10.88.0.1/24", "10.88.0.7/24")
        moved_at = time.monotonic()
        assert (await pair.sender.wait_for("rejoining"))["at"] - moved_at < 3.0
        back = await pair.both_say("rejoined")
        assert max(event["at"] for event in back) - moved_at < NOTICED_S + 6
        await pair.ended_well()
        assert sent_mib(pair.a, device) < 64 * 1.06 + UNDER_WAY_MIB


async def test_a_sender_that_is_without_any_address_for_a_while_is_found_again(tmp_path):
    async with wired(tmp_path) as (pair, (device, _)):
        await pair.begin(64, "--transport", "tcp")
        await pair.arrived(8)
        pair.a.ip("addr", "del", "10.88.0.1/24", "dev", device)
        await pair.both_say("rejoining")
        pair.a.ip("addr", "add", "10.88.0.7/24", "dev", device)
        on_at = time.monotonic()
        back = await pair.both_say("rejoined")
        assert max(event["at"] for event in back) - on_at < 12.0
        await pair.ended_well()


@pytest.mark.parametrize("who", ["receiver", pytest.param("sender", marks=pytest.mark.slow)])
async def test_through_a_relay_either_side_may_come_back_from_another_address(tmp_path, who):
    async with relayed(tmp_path) as made:
        await made.begin(64)
        await made.pair.arrived(8)
        peer, subnet = (made.a, 1) if who == "sender" else (made.b, 2)
        device = made.devices[peer][0]
        side = made.pair.sender if who == "sender" else made.pair.receiver
        move(peer, device, f"10.87.{subnet}.2/24", f"10.87.{subnet}.9/24")
        peer.ip("route", "replace", "10.87.0.1/32", "via", f"10.87.{subnet}.1")
        moved_at = time.monotonic()
        assert (await side.wait_for("rejoining"))["at"] - moved_at < 3.0
        back = await made.pair.both_say("rejoined")
        assert max(event["at"] for event in back) - moved_at < NOTICED_S + 4
        await made.pair.ended_well()
        assert sent_mib(made.a, made.devices[made.a][0]) < 64 * 1.06 + UNDER_WAY_MIB


async def test_a_relay_that_is_started_again_is_met_again_within_seconds(tmp_path):
    async with relayed(tmp_path) as made:
        await made.begin(64)
        await made.pair.arrived(8)
        made.relay.child.kill()
        await made.relay.child.wait()
        killed_at = time.monotonic()
        lost = await made.pair.both_say("rejoining")
        assert max(event["at"] for event in lost) - killed_at < 2.0
        await made.start_relay()
        on_at = time.monotonic()
        back = await made.pair.both_say("rejoined")
        assert max(event["at"] for event in back) - on_at < 6.0
        await made.pair.ended_well()
        assert sent_mib(made.a, made.devices[made.a][0]) < 64 * 1.06 + UNDER_WAY_MIB

"""Transfers between real processes on networks of their own: the path moves in the middle of a file, and back.

Two peers and a relay, each in a namespace. Both peers reach the relay over wires of a limited rate; where there is a
direct link it is an emulated one, which can turn into a black hole: silence, and no RST.
"""

import asyncio
import contextlib
import json
import random
import sys
from pathlib import Path

import pytest

from tests.netns.kit import Conditions, network

TALLOW = Path(sys.executable).with_name("tallow")
RELAY = Path(sys.executable).with_name("tallow-relay")
MIB = 1 << 20
EVENT_S, END_S = 40, 90
RELAY_PLACE = "10.77.0.1:4433"
DIRECT_TCP = {"path": "direct-tcp", "plain": True}
RELAY_TCP = {"path": "relay-tcp", "plain": True}

pytestmark = pytest.mark.skipif(not TALLOW.exists(), reason="the programs are not installed beside Python")


class Program:
    """A running program in a namespace, and the JSON lines that it has written."""

    def __init__(self, child):
        self.child = child
        self.events = []

    @classmethod
    async def start(cls, namespace, home, *words):
        environment = {"TALLOW_HOME": str(home)}
        return cls(await namespace.start(*words, environment=environment))

    async def next(self):
        line = await self.child.stdout.readline()
        if line:
            self.events.append(json.loads(line))
        return self.events[-1] if line else None

    async def wait_for(self, name, **fields):
        """Return the next event of this name with these fields."""
        try:
            async with asyncio.timeout(EVENT_S):
                while event := await self.next():
                    if event["event"] == name and fields.items() <= event.items():
                        return event
        except TimeoutError:
            raise AssertionError(f"no {name} {fields} in {self.events}") from None
        raise AssertionError(f"it ended without {name} {fields}: {self.events}")

    async def end(self):
        """Wait for the program's end and return its exit code."""
        async with asyncio.timeout(END_S):
            while await self.next():
                pass
            return await self.child.wait()

    def paths(self):
        """The paths in use, one after another."""
        return [{"path": e["path"], "plain": e["plain"]} for e in self.events if e["event"] == "path"]


class Scene:
    """A relay, a sender and a receiver on three machines."""

    def __init__(self, net, folder):
        self.net = net
        self.folder = folder
        self.relay_host, self.a, self.b = (net.namespace(name) for name in ("relay", "a", "b"))
        self.relay_host.ip("addr", "add", "10.77.0.1/32", "dev", "lo")

    async def wire(self, peer, subnet):
        """Join a peer and the relay's machine by a wire of a limited rate each way."""
        ends = (self.relay_host, f"10.77.{subnet}.1/24"), (peer, f"10.77.{subnet}.2/24")
        for (namespace, _), device in zip(ends, self.net.wire(*ends), strict=True):
            await limited(namespace, device)
        peer.ip("route", "add", "10.77.0.1/32", "via", f"10.77.{subnet}.1")

    async def start_relay(self):
        words = (RELAY, "serve", "--listen", RELAY_PLACE, "--json")
        self.relay = await Program.start(self.relay_host, self.folder / "relay", *words)
        line = await self.relay.wait_for("listening")
        self.address = f"{line['listen']}#{line['fingerprint']}"

    async def transfer(self, mib, *words, receiver_words=None, stream=False):
        """Start both sides on a random file of this size; as a `stream` it comes through a pipe."""
        self.source = self.folder / "big"
        draw = random.Random(mib)
        self.source.write_bytes(b"".join(draw.randbytes(MIB) for _ in range(mib)))
        options = ("--json", "--relay", self.address)
        command = (TALLOW, "send", *options, *words)
        if stream:
            pipe = ("sh", "-c", 'exec cat "$0" | exec "$@"', self.source)
            command = (*pipe, *command, "--name", self.source.name, "-")
        else:
            command = (*command, self.source)
        sender = await Program.start(self.a, self.folder / "home a", *command)
        code = (await sender.wait_for("code"))["code"]
        words = words if receiver_words is None else receiver_words
        command = (TALLOW, "receive", *options, *words, "--yes", "--out", self.folder / "out", code)
        return sender, await Program.start(self.b, self.folder / "home b", *command)

    async def arrived(self, sender, receiver):
        codes = await receiver.end(), await sender.end()
        assert codes == (0, 0), (sender.events[-3:], receiver.events[-3:])
        assert (self.folder / "out" / "big").read_bytes() == self.source.read_bytes()


async def limited(namespace, device):
    """Send at most 100 Mbit/s through a device."""
    limit = ("rate", "100mbit", "burst", "256kb", "latency", "100ms")
    done = await namespace.run("tc", "qdisc", "add", "dev", device, "root", "tbf", *limit)
    if done.code != 0:
        pytest.skip(f"no rate limit in this kernel: {done.err}")


@contextlib.asynccontextmanager
async def scene(folder):
    async with network() as net:
        made = Scene(net, folder)
        await made.wire(made.a, 1)
        await made.wire(made.b, 2)
        await made.start_relay()
        yield made


def in_order(paths, *wanted):
    """Whether `wanted` come in this order among `paths`."""
    rest = iter(paths)
    return all(path in rest for path in wanted)


async def direct_link(made):
    ends = (made.a, "10.78.0.1/24"), (made.b, "10.78.0.2/24")
    return await made.net.emulate(*ends, Conditions(delay_s=0.001, rate_bits=100e6, queue_packets=300))


@pytest.mark.parametrize(("mib", "stream"), [(192, False), (128, True)], ids=["file", "stream"])
async def test_a_transfer_moves_from_the_relay_to_a_direct_path_and_back_when_that_falls_silent(
    tmp_path, mib, *, stream
):
    async with scene(tmp_path) as made:
        link = await direct_link(made)
        await link.tell("down")
        sender, receiver = await made.transfer(mib, stream=stream)
        await receiver.wait_for("path", **RELAY_TCP)
        await link.tell("up")
        await receiver.wait_for("path", **DIRECT_TCP)
        moved_at = (await receiver.wait_for("progress"))["bytes"]
        await link.tell("down")
        await receiver.wait_for("path", path="relay-tcp")
        back_at = (await receiver.wait_for("progress"))["bytes"]
        await made.arrived(sender, receiver)
        assert 0 < moved_at < back_at < mib * MIB
        for side in (sender, receiver):
            assert in_order(side.paths(), RELAY_TCP, DIRECT_TCP, RELAY_TCP), side.paths()


async def test_a_direct_link_whose_device_is_switched_off_loses_nothing(tmp_path):
    async with scene(tmp_path) as made:
        ends = (made.a, "10.78.0.1/24"), (made.b, "10.78.0.2/24")
        device, _ = made.net.wire(*ends)
        await limited(made.a, device)
        sender, receiver = await made.transfer(96)
        await receiver.wait_for("path", **DIRECT_TCP)
        made.a.down(device)
        await receiver.wait_for("path", **RELAY_TCP)
        at = (await receiver.wait_for("progress"))["bytes"]
        await made.arrived(sender, receiver)
        assert at < 96 * MIB
        assert in_order(sender.paths(), DIRECT_TCP, RELAY_TCP), sender.paths()


async def test_a_transfer_that_moved_to_a_direct_path_goes_on_when_the_relay_is_killed(tmp_path):
    async with scene(tmp_path) as made:
        await direct_link(made)
        sender, receiver = await made.transfer(96)
        await receiver.wait_for("path", **DIRECT_TCP)
        made.relay.child.kill()
        await made.relay.child.wait()
        at = (await receiver.wait_for("progress"))["bytes"]
        await made.arrived(sender, receiver)
        assert at < 96 * MIB
        for side in (sender, receiver):
            assert side.paths()[-1] == DIRECT_TCP


@pytest.mark.parametrize("stream", [False, True], ids=["file", "stream"])
async def test_peers_on_separate_networks_go_through_the_relay_alone(tmp_path, *, stream):
    async with scene(tmp_path) as made:
        sender, receiver = await made.transfer(24, stream=stream)
        await made.arrived(sender, receiver)
        for side in (sender, receiver):
            assert side.paths()[-1] == RELAY_TCP
            assert {path["path"].partition("-")[0] for path in side.paths()} == {"relay"}


async def test_direct_only_ends_with_one_clear_error_where_there_is_no_direct_path(tmp_path):
    async with scene(tmp_path) as made:
        sender, receiver = await made.transfer(2, "--direct-only")
        codes = await receiver.end(), await sender.end()
        assert codes == (7, 7), (sender.events, receiver.events)
        for side in (sender, receiver):
            assert side.events[-1]["error"] == "no_path"
            assert side.paths() == []
        assert list(tmp_path.glob("out/*")) == []


async def test_direct_only_sends_no_file_data_through_the_relay(tmp_path):
    async with scene(tmp_path) as made:
        await direct_link(made)
        sender, receiver = await made.transfer(24, "--direct-only")
        await made.arrived(sender, receiver)
        for side in (sender, receiver):
            assert {path["path"] for path in side.paths()} == {"direct-tcp"}


async def test_with_the_relay_alone_a_direct_link_is_left_alone(tmp_path):
    async with scene(tmp_path) as made:
        link = await direct_link(made)
        sender, receiver = await made.transfer(16, "--relay-only", receiver_words=())
        await made.arrived(sender, receiver)
        stats = await link.stats()
        # The kernels say hello to each other (IPv6); nobody of ours asks for a connection.
        assert max(stats[way]["bytes"] for way in ("a", "b")) < 2000
        for side in (sender, receiver):
            assert {path["path"].partition("-")[0] for path in side.paths()} == {"relay"}


async def test_limits_that_contradict_each_other_end_both_sides_at_once(tmp_path):
    async with scene(tmp_path) as made:
        await direct_link(made)
        sender, receiver = await made.transfer(8, "--relay-only", receiver_words=("--direct-only",))
        codes = await receiver.end(), await sender.end()
        assert codes == (7, 7), (sender.events, receiver.events)
        for side in (sender, receiver):
            assert side.events[-1]["error"] == "no_path"
            assert [e for e in side.events if e["event"] == "progress"] == []

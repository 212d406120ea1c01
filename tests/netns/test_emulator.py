"""The emulator does what it is told, and the same again for the same seed."""

import asyncio
import socket
import statistics
import time

import pytest

from tests.netns.kit import Conditions, network

A, B = "10.78.0.1", "10.78.0.2"
PORT = 9


class Wires:
    """Two joined namespaces with a UDP socket in each."""

    def __init__(self, net, link, a, b):
        self.net, self.link = net, link
        self.a, self.b = a.inside(bound, A), b.inside(bound, B)

    async def round_trip(self):
        loop, start = asyncio.get_running_loop(), time.monotonic()
        self.a.send(b"ping")
        async with asyncio.timeout(5):
            assert await loop.sock_recv(self.b, 100) == b"ping"
            self.b.send(b"pong")
            assert await loop.sock_recv(self.a, 100) == b"pong"
        return time.monotonic() - start

    async def push(self, count, size=100):
        """Send numbered datagrams, the first packets of this link; return the numbers as they come."""
        for number in range(count):
            self.a.send(number.to_bytes(4, "big") + bytes(size - 4))
            if number % 20 == 19:
                await self.caught_up(number + 1)
        await self.caught_up(count)
        return await self.drained()

    async def caught_up(self, count):
        """Wait until the emulator has read that many: a full device drops without its knowledge."""
        async with asyncio.timeout(5):
            while (await self.link.stats())["a"]["packets"] < count:
                pass

    async def drained(self):
        async with asyncio.timeout(10):
            while (await self.link.stats())["a"]["flying"]:
                pass
        numbers = []
        while True:
            try:
                numbers.append(int.from_bytes(self.b.recv(2000)[:4], "big"))
            except BlockingIOError:
                return numbers

    def close(self):
        self.a.close()
        self.b.close()


def bound(address):
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    made.bind((address, PORT))
    made.connect((B if address == A else A, PORT))
    return made


@pytest.fixture
async def wires(request):
    conditions, seed = getattr(request, "param", (Conditions(), 1))
    async with network() as net:
        a, b = net.namespace("a"), net.namespace("b")
        for namespace in (a, b):  # so that nothing but the test's own packets is counted
            namespace.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
            namespace.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
        link = await net.emulate((a, f"{A}/24"), (b, f"{B}/24"), conditions, seed=seed)
        made = Wires(net, link, a, b)
        try:
            yield made
        finally:
            made.close()


def given(seed=1, **conditions):
    return pytest.mark.parametrize("wires", [(Conditions(**conditions), seed)], indirect=True)


@given(delay_s=0.03)
async def test_a_round_trip_takes_the_delay_twice(wires):
    trips = [await wires.round_trip() for _ in range(11)]

    assert min(trips) >= 0.06
    assert statistics.median(trips) < 0.075


async def test_without_conditions_everything_arrives_once_and_in_order(wires):
    assert await wires.push(500) == list(range(500))


@given(loss=0.2)
async def test_the_part_that_is_lost_is_near_what_was_asked(wires):
    arrived = await wires.push(2000)

    assert 320 <= 2000 - len(arrived) <= 480
    assert (await wires.link.stats())["a"]["lost"] == 2000 - len(arrived)


@pytest.mark.parametrize("seed", [7, 8])
async def test_the_same_seed_loses_the_same_packets(seed):
    runs = []
    for drawn in (seed, seed, seed + 100):
        async with network() as net:
            a, b = net.namespace("a"), net.namespace("b")
            for namespace in (a, b):
                namespace.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
                namespace.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
            link = await net.emulate((a, f"{A}/24"), (b, f"{B}/24"), Conditions(loss=0.3), seed=drawn)
            wires = Wires(net, link, a, b)
            runs.append(await wires.push(200))
            wires.close()

    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@given(rate_bits=8e6)
async def test_a_rate_spreads_packets_over_the_time_that_they_need(wires):
    start = time.monotonic()
    arrived = await wires.push(300, size=972)  # 1,000 bytes each with the headers: 1 ms at 8 Mbit/s
    took = time.monotonic() - start

    assert len(arrived) == 300
    assert 0.29 <= took < 0.6


@given(rate_bits=80_000, queue_packets=10)
async def test_a_full_queue_drops_what_comes_last(wires):
    arrived = await wires.push(40, size=72)  # 100 bytes each: 10 ms

    assert arrived[:10] == list(range(10))
    assert 10 <= len(arrived) < 40
    assert (await wires.link.stats())["a"]["overflowed"] == 40 - len(arrived)


@given(rate_bits=80_000, queue_bytes=1000)
async def test_a_queue_may_be_counted_in_bytes(wires):
    arrived = await wires.push(40, size=72)

    assert arrived[:9] == list(range(9))
    assert 9 <= len(arrived) < 40


@given(duplicate=1.0)
async def test_a_duplicated_packet_comes_twice(wires):
    assert await wires.push(5) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


@given(delay_s=0.05, reorder=0.3, seed=3)
async def test_a_reordered_packet_overtakes_the_ones_before_it(wires):
    arrived = await wires.push(60)

    assert sorted(arrived) == list(range(60))
    assert arrived != sorted(arrived)


async def test_a_black_hole_swallows_both_ways_until_it_is_ended(wires):
    await wires.link.tell("down")
    assert await wires.push(5) == []

    await wires.link.tell("up")
    assert await wires.round_trip() < 1
    assert (await wires.link.stats())["a"]["swallowed"] == 5


async def test_one_way_may_fail_alone(wires):
    await wires.link.tell("b down")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await wires.round_trip()
    assert (await wires.link.stats())["b"]["swallowed"] == 1


async def test_packets_over_the_mtu_vanish(wires):
    await wires.link.tell("mtu 1280")

    wires.a.send(bytes(1280 - 28))
    wires.a.send(bytes(1281 - 28))
    await wires.caught_up(2)

    assert len(await wires.drained()) == 1
    assert (await wires.link.stats())["a"]["oversized"] == 1


@pytest.mark.parametrize("command", ["los 0.1", "loss", "loss much", "c down", "mtu 1.5", ""])
async def test_a_command_without_sense_is_refused(wires, command):
    with pytest.raises(ValueError, match="error"):
        await wires.link.tell(command)


async def test_a_program_in_a_namespace_ends_with_the_network():
    async with network() as net:
        child = await net.namespace().start("sleep", "1000")

    assert child.returncode == -9


async def test_members_of_a_bridge_reach_each_other():
    async with network() as net:
        members = [(net.namespace(), f"10.9.0.{number}/24") for number in (1, 2, 3)]
        net.bridge(members)
        server = members[2][0].inside(socket.create_server, ("10.9.0.3", 0))
        with server:
            for namespace, _ in members[:2]:
                client = namespace.inside(lambda: socket.create_connection(server.getsockname(), timeout=5))
                client.close()


async def test_a_forgotten_connection_is_silent_while_a_new_one_is_not():
    async with network() as net:
        a, b = net.namespace(), net.namespace()
        link = await net.emulate((a, f"{A}/24"), (b, f"{B}/24"))
        server = b.inside(socket.create_server, (B, 0))

        def dialled():
            client = a.inside(lambda: socket.create_connection(server.getsockname(), timeout=5))
            accepted, _ = server.accept()
            accepted.settimeout(0.5)
            client.sendall(b"1")
            assert accepted.recv(1) == b"1"
            return client, accepted

        old, old_far = await asyncio.to_thread(dialled)
        with server, old, old_far:
            await link.tell(f"forget {old.getsockname()[1]}")
            old.sendall(b"2")
            with pytest.raises(TimeoutError):
                await asyncio.to_thread(old_far.recv, 1)
            new, new_far = await asyncio.to_thread(dialled)
            new.close()
            new_far.close()
        assert (await link.stats())["a"]["swallowed"] > 0


async def test_congestion_control_is_chosen_for_each_namespace():
    async with network() as net:
        a, b = net.namespace(), net.namespace()
        a.congestion_control("cubic")
        b.congestion_control("reno")
        net.wire((a, "10.9.0.1/24"), (b, "10.9.0.2/24"))
        server = b.inside(socket.create_server, ("10.9.0.2", 0))
        client = a.inside(lambda: socket.create_connection(server.getsockname(), timeout=5))
        accepted, _ = server.accept()
        with server, client, accepted:
            chosen = [
                end.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")
                for end in (client, accepted)
            ]

    assert chosen == [b"cubic", b"reno"]

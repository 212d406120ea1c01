"""Transfers on one network without relay or address: `tallow send` and `tallow receive CODE`, found over mDNS."""

import asyncio
import contextlib
import json
import socket
import sys
from pathlib import Path

from tests.netns.kit import network

TALLOW = Path(sys.executable).with_name("tallow")
IMPOSTOR = Path(__file__).with_name("lan_impostor.py")
A4, B4 = "10.79.0.1/24", "10.79.0.2/24"
A6, B6 = "fd79::1/64", "fd79::2/64"
DEADLINE_S = 60
CONTENT = b"found without an address\n" * 41


class Program:
    """A `tallow` with --json in a namespace, with a home of its own."""

    def __init__(self, child):
        self._child = child
        self.events = []

    @classmethod
    async def start(cls, namespace, home, *words):
        home.mkdir(mode=0o700, exist_ok=True)
        command, *rest = words
        child = await namespace.start(
            TALLOW, command, "--json", *rest, environment={"TALLOW_HOME": str(home), "TALLOW_RELAY": ""}
        )
        return cls(child)

    async def wait_for(self, name):
        async with asyncio.timeout(DEADLINE_S):
            while line := await self._child.stdout.readline():
                self.events.append(json.loads(line))
                if self.events[-1]["event"] == name:
                    return self.events[-1]
        raise AssertionError(f"it ended without {name}: {self.events}")

    async def end(self):
        async with asyncio.timeout(DEADLINE_S):
            rest, _errors = await self._child.communicate()
        self.events += map(json.loads, rest.splitlines())
        return self._child.returncode

    def names(self):
        return [event["event"] for event in self.events]


async def send(namespace, tmp_path, name="letter.txt", content=CONTENT, options=()):
    folder = tmp_path / f"from-{name}"
    folder.mkdir()
    (folder / name).write_bytes(content)
    sender = await Program.start(namespace, folder / "home", "send", *options, folder / name)
    return sender, (await sender.wait_for("code"))["code"]


async def receive(namespace, tmp_path, code, out="out", options=()):
    return await Program.start(
        namespace, tmp_path / f"home-{out}", "receive", "--yes", *options, "--out", tmp_path / out, code
    )


async def both_end_well(sender, receiver):
    assert await receiver.end() == 0, receiver.events
    assert await sender.end() == 0, sender.events


async def test_over_ipv4_alone_the_code_is_enough(tmp_path):
    async with network() as net:
        a, b = net.namespace("a"), net.namespace("b")
        net.bridge([(a, A4), (b, B4)])
        sender, code = await send(a, tmp_path)
        await both_end_well(sender, await receive(b, tmp_path, code))
    assert (tmp_path / "out" / "letter.txt").read_bytes() == CONTENT


async def test_over_ipv6_alone_the_code_is_enough(tmp_path):
    async with network() as net:
        a, b = net.namespace("a"), net.namespace("b")
        net.bridge([(a, A6), (b, B6)])
        sender, code = await send(a, tmp_path)
        await both_end_well(sender, await receive(b, tmp_path, code))
    assert (tmp_path / "out" / "letter.txt").read_bytes() == CONTENT


async def test_a_machine_on_no_network_at_all_finds_its_own_sender(tmp_path):
    async with network() as net:
        alone = net.namespace("alone")
        sender, code = await send(alone, tmp_path)
        await both_end_well(sender, await receive(alone, tmp_path, code))
    assert (tmp_path / "out" / "letter.txt").read_bytes() == CONTENT


async def test_two_senders_on_one_machine_do_not_get_into_each_others_way(tmp_path):
    async with network() as net:
        a, b = net.namespace("a"), net.namespace("b")
        net.bridge([(a, A4), (b, B4)])
        first, one = await send(a, tmp_path, "one", b"1")
        second, two = await send(a, tmp_path, "two", b"2")
        await both_end_well(second, await receive(b, tmp_path, two, "out2"))
        await both_end_well(first, await receive(b, tmp_path, one, "out1"))
    assert (tmp_path / "out1" / "one").read_bytes() == b"1"
    assert (tmp_path / "out2" / "two").read_bytes() == b"2"


async def test_a_sender_on_two_networks_is_found_from_either(tmp_path):
    async with network() as net:
        a, b, c = net.namespace("a"), net.namespace("b"), net.namespace("c")
        net.bridge([(a, A4), (b, B4)])
        net.bridge([(a, "10.80.0.1/24"), (c, "10.80.0.2/24")])
        first, one = await send(a, tmp_path, "one", b"1")
        await both_end_well(first, await receive(b, tmp_path, one, "out1"))
        second, two = await send(a, tmp_path, "two", b"2")
        await both_end_well(second, await receive(c, tmp_path, two, "out2"))
    assert (tmp_path / "out2" / "two").read_bytes() == b"2"


async def test_quic_alone_is_found_too(tmp_path):
    async with network() as net:
        a, b = net.namespace("a"), net.namespace("b")
        net.bridge([(a, A4), (b, B4)])
        sender, code = await send(a, tmp_path, options=("--transport", "quic"))
        receiver = await receive(b, tmp_path, code, options=("--transport", "quic"))
        await both_end_well(sender, receiver)
    assert (tmp_path / "out" / "letter.txt").read_bytes() == CONTENT


async def test_a_receiver_that_starts_a_second_before_the_sender_finds_it(tmp_path):
    code = "4821-copper-lantern-tidy"
    async with network() as net:
        a, b = net.namespace("a"), net.namespace("b")
        net.bridge([(a, A4), (b, B4)])
        questions = b.inside(listening, B4)
        receiver = await receive(b, tmp_path, code)
        async with asyncio.timeout(DEADLINE_S):
            for _ in range(4):  # asked at 0, 0.1, 0.35 and 0.85 s
                await asyncio.get_running_loop().sock_recv(questions, 9000)
        questions.close()
        sender, _code = await send(a, tmp_path, options=("--code", code))
        await both_end_well(sender, receiver)
    assert (tmp_path / "out" / "letter.txt").read_bytes() == CONTENT


async def test_an_impostor_that_answers_first_costs_a_guess_and_no_more(tmp_path):
    code = "4821-copper-lantern-tidy"
    async with network() as net:
        a, b, c = net.namespace("a"), net.namespace("b"), net.namespace("impostor")
        net.bridge([(a, A4), (b, B4), (c, "10.79.0.3/24")])
        impostor = await c.start(sys.executable, IMPOSTOR, "4821", cwd=Path(__file__).parents[2])
        async with asyncio.timeout(DEADLINE_S):
            assert await impostor.stdout.readline() == b"answering\n"
        receiver = await receive(b, tmp_path, code)
        assert (await receiver.wait_for("wrong_code"))["left"] == 2
        sender, _code = await send(a, tmp_path, options=("--code", code))
        await both_end_well(sender, receiver)
    assert (tmp_path / "out" / "letter.txt").read_bytes() == CONTENT
    assert receiver.names().count("wrong_code") == 1
    assert "wrong_code" not in sender.names()


async def test_where_nobody_is_the_receiver_says_what_to_do(tmp_path):
    async with network() as net:
        a, b = net.namespace("a"), net.namespace("b")
        net.bridge([(a, A4), (b, B4)])
        receiver = await receive(b, tmp_path, "4821-copper-lantern-tidy")
        assert await receiver.end() == 3
    error = receiver.events[-1]
    assert error["error"] == "no_such_code"
    assert "--peer HOST:PORT" in " ".join(error["hints"])


async def test_a_wrong_code_is_said_soon_and_counted_on_both_sides(tmp_path):
    async with network() as net:
        a, b = net.namespace("a"), net.namespace("b")
        net.bridge([(a, A4), (b, B4)])
        sender, code = await send(a, tmp_path)
        wrong = f"{code.partition('-')[0]}-abacus-abdomen-abide"
        receiver = await receive(b, tmp_path, wrong)
        assert await receiver.end() == 6
        assert (await sender.wait_for("wrong_code"))["left"] == 2
        await both_end_well(sender, await receive(b, tmp_path, code, "out2"))
    assert receiver.names().count("wrong_code") == 1


async def test_what_is_announced_names_neither_user_nor_machine(tmp_path):
    async with network() as net:
        a, b = net.namespace("a"), net.namespace("b")
        net.bridge([(a, A4), (b, B4)])
        heard = b.inside(listening, B4)
        _sender, code = await send(a, tmp_path)
        packets = []
        async with asyncio.timeout(DEADLINE_S):
            while not any(b"_tallow" in packet for packet in packets):
                packets.append(await asyncio.get_running_loop().sock_recv(heard, 9000))
        heard.close()
    said = b"".join(packets)
    nameplate, *words = code.split("-")
    for secret in (nameplate, *words, "letter", socket.gethostname().partition(".")[0]):
        assert secret.encode() not in said


def listening(address):
    """Return a socket that hears every mDNS packet on the network of `address`."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(AttributeError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("224.0.0.251", 5353))
        group = socket.inet_aton("224.0.0.251") + socket.inet_aton(address.partition("/")[0])
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock

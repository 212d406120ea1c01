"""Finding a sender by the code alone: which answers are tried, in what order, and how it ends."""

from __future__ import annotations

import asyncio
import socket
import sys
from ipaddress import ip_address

import pytest
from tallow_net import TransportChoice
from tallow_net.interfaces import Network
from tallow_net.transport.interface import TransportKind
from tallow_net.transport.listener import listen
from tallow_protocol import (
    CodeBurnedError,
    NoSuchCodeError,
    Receiver,
    TransferOptions,
    UnreachableError,
    Warned,
    WrongCode,
    WrongCodeError,
)
from tallow_protocol.aio import lan
from tallow_protocol.aio.lan import Announcer, LanReceiverRoute, hosts_to_announce
from tallow_protocol.aio.routes import ListeningRoute
from tallow_protocol.code import Code
from tallow_protocol.core.budget import GuessBudget

CODE = Code.parse("4821-copper-lantern-tidy")
OTHER = Code.parse("4821-abacus-abdomen-abide")
DEADLINE_S = 20
HOME = (Network(ip_address("192.168.1.20"), 24), Network(ip_address("fd00::2"), 64))


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch):
    monkeypatch.setattr(lan, "FIND_S", 0.5)
    monkeypatch.setattr(lan, "AFTER_WRONG_S", 0.4)
    monkeypatch.setattr(lan, "UNCONNECTED_TURN_S", 0.2)
    monkeypatch.setattr(lan, "TURN_S", 0.2)


@pytest.fixture
def found(monkeypatch):
    """The places that a search gives, one after another; then it waits."""
    places = []

    class Search:
        def __init__(self, name):
            assert name == "1f91952210dcbca3"  # docs/protocol.md, appendix A

        async def __aenter__(self):
            return self

        async def __aexit__(self, *_):
            pass

        async def next(self):
            if not places:
                await asyncio.Event().wait()
            return places.pop(0)

    monkeypatch.setattr("tallow_net.discovery.Search", Search)
    return places


@pytest.fixture
async def listening():
    """Start somebody who listens as a sender does, under a code; return where."""
    routes, tasks = [], []

    async def close_who_comes(route):
        met = await route.next()
        await met.frames.transport.close()

    async def start(code):
        listener = await listen("127.0.0.1", 0, tcp=TransportKind.TCP, quic=False, certificate=None)
        routes.append(ListeningRoute(listener, code, GuessBudget(), lambda _event: None))
        tasks.append(asyncio.create_task(close_who_comes(routes[-1])))
        return "127.0.0.1", listener.port

    yield start
    for route in routes:
        await route.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Seeker:
    """A route and what it told."""

    def __init__(self):
        self.events = []
        self.budget = GuessBudget()
        self._route = LanReceiverRoute(CODE, TransportChoice.TCP, self.budget, self.events.append)

    async def find(self):
        async with asyncio.timeout(DEADLINE_S):
            met = await self._route.next()
        await met.frames.transport.close()


def refusing():
    """Return a place where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()


async def test_where_nobody_answers_it_is_no_such_code(found):
    with pytest.raises(NoSuchCodeError) as error:
        await Seeker().find()
    assert any("--peer HOST:PORT" in hint for hint in error.value.hints)


async def test_a_place_that_refuses_is_passed_over(found, listening):
    found += [refusing(), await listening(CODE)]
    seeker = Seeker()
    await seeker.find()
    assert seeker.events == []
    assert seeker.budget.left == 3


async def test_where_who_answered_cannot_be_reached_the_sender_is_unreachable(found):
    found.append(refusing())
    with pytest.raises(UnreachableError):
        await Seeker().find()


async def test_an_impostor_costs_a_guess_and_the_sender_is_found_behind_it(found, listening):
    found += [await listening(OTHER), await listening(CODE)]
    seeker = Seeker()
    await seeker.find()
    assert seeker.events == [WrongCode(2)]


async def test_a_wrong_code_ends_the_search_before_its_time(found, listening, monkeypatch):
    monkeypatch.setattr(lan, "FIND_S", DEADLINE_S)
    found.append(await listening(OTHER))
    seeker = Seeker()
    async with asyncio.timeout(DEADLINE_S / 2):
        with pytest.raises(WrongCodeError):
            await seeker.find()
    assert seeker.events == [WrongCode(2)]


async def test_the_third_impostor_burns_the_code(found, listening):
    found += [await listening(OTHER) for _ in range(3)] + [await listening(CODE)]
    with pytest.raises((CodeBurnedError, WrongCodeError)):
        await Seeker().find()


async def test_somebody_who_accepts_and_says_nothing_does_not_hold_the_search_up(found, listening):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found += [silent.getsockname(), await listening(CODE)]
        seeker = Seeker()
        await seeker.find()
    assert seeker.budget.left == 3


async def test_one_sender_at_two_addresses_costs_no_guess(found, listening):
    place = await listening(CODE)
    found += [place, place]
    seeker = Seeker()
    await seeker.find()
    assert seeker.budget.left == 3


async def test_without_zeroconf_it_is_said_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "zeroconf", None)
    async with asyncio.timeout(DEADLINE_S), Receiver(CODE, tmp_path) as receiver:
        with pytest.raises(UnreachableError) as error:
            async for _event in receiver:
                pass
    assert error.value.code == "no_discovery"
    assert any("--peer HOST:PORT" in hint for hint in error.value.hints)


async def test_with_the_network_switched_off_there_is_no_way_to_the_sender(tmp_path):
    with pytest.raises(UnreachableError):
        async with Receiver(CODE, tmp_path, options=TransferOptions(lan=False)):
            pass


async def test_an_announcement_that_cannot_be_made_is_a_warning(monkeypatch):
    monkeypatch.setitem(sys.modules, "zeroconf", None)
    monkeypatch.setattr("tallow_net.interfaces.own_networks", lambda: HOME)
    warned = asyncio.Event()
    events = []

    def take(event):
        events.append(event)
        warned.set()

    async with (
        asyncio.timeout(DEADLINE_S),
        await listen("", 0, tcp=TransportKind.TCP, quic=False, certificate=None) as listener,
    ):
        announcer = Announcer(CODE, listener, take)
        await warned.wait()
        await announcer.close()
    assert [type(event) for event in events] == [Warned]


@pytest.mark.parametrize(
    ("bound", "networks", "announced"),
    [
        (("0.0.0.0", "::"), HOME, ("192.168.1.20", "fd00::2")),
        (("0.0.0.0",), HOME, ("192.168.1.20",)),
        (("192.168.1.20",), HOME, ("192.168.1.20",)),
        (("127.0.0.1",), HOME, ()),
        (("127.0.0.1", "::1"), (), ("127.0.0.1", "::1")),
        (("0.0.0.0", "::"), (), ("127.0.0.1",)),
        (("0.0.0.0", "192.168.1.20"), HOME, ("192.168.1.20",)),
    ],
)
def test_a_listener_is_announced_where_others_reach_it(bound, networks, announced):
    assert hosts_to_announce(bound, networks) == announced

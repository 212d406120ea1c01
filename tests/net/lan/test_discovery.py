"""Announcing and searching with real multicast, on the networks of this machine."""

from __future__ import annotations

import asyncio
import secrets
import sys

import pytest
from tallow_net import DiscoveryUnavailableError, MisuseError
from tallow_net.discovery import CLOSE_S, Search, announce

DEADLINE_S = 10


def random_name():
    return secrets.token_hex(8)


async def test_a_name_that_is_announced_is_found_with_its_port():
    name = random_name()
    async with asyncio.timeout(DEADLINE_S):
        announcement = await announce(name, 4821)
        async with Search(name) as search:
            _host, port = await search.next()
        await announcement.close()
    assert port == 4821


async def test_a_search_that_began_before_the_announcement_finds_it():
    name = random_name()
    async with asyncio.timeout(DEADLINE_S), Search(name) as search:
        early = asyncio.create_task(search.next())
        announcement = await announce(name, 4821)
        assert (await early)[1] == 4821
        await announcement.close()


async def test_of_several_names_on_one_machine_each_search_finds_its_own():
    names = [random_name() for _ in range(3)]
    async with asyncio.timeout(DEADLINE_S):
        announcements = [await announce(name, 4000 + number) for number, name in enumerate(names)]
        ports = []
        for name in names:
            async with Search(name) as search:
                ports.append((await search.next())[1])
        for announcement in announcements:
            await announcement.close()
    assert ports == [4000, 4001, 4002]


async def test_after_goodbye_a_name_is_not_found():
    name = random_name()
    async with asyncio.timeout(DEADLINE_S):
        await (await announce(name, 4821)).close()
        async with Search(name) as search:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(search.next(), 0.5)


async def test_closing_twice_is_one_bounded_goodbye():
    announcement = await announce(random_name(), 4821)
    async with asyncio.timeout(CLOSE_S + 1):
        await announcement.close()
        await announcement.close()


@pytest.mark.parametrize(
    "name", ["", "4821", "0123456789ABCDEF", "0123456789abcdef0", "0123456789abcde.", "x" * 16]
)
async def test_only_sixteen_hex_digits_are_a_name(name):
    with pytest.raises(MisuseError):
        Search(name)
    with pytest.raises(MisuseError):
        await announce(name, 4821)


async def test_without_zeroconf_both_say_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "zeroconf", None)
    with pytest.raises(DiscoveryUnavailableError) as announcing:
        await announce(random_name(), 4821)
    with pytest.raises(DiscoveryUnavailableError) as searching:
        async with Search(random_name()):
            pass
    assert "--peer HOST:PORT" in "".join(announcing.value.hints)
    assert announcing.value.hints == searching.value.hints


async def test_where_the_port_cannot_be_had_both_say_so(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise OSError(98, "Address already in use")

    monkeypatch.setattr("zeroconf._core.create_sockets", refuse)
    with pytest.raises(DiscoveryUnavailableError, match="Address already in use"):
        await announce(random_name(), 4821)
    with pytest.raises(DiscoveryUnavailableError):
        async with Search(random_name()):
            pass

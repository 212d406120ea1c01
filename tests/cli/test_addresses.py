"""Which address the printed command names."""

from __future__ import annotations

import ipaddress

from tallow_cli.addresses import host_port, own_addresses, reachable


def test_this_machine_has_an_address_and_the_loopback_only_if_there_is_no_other():
    own = own_addresses()
    loopback = [ipaddress.ip_address(address).is_loopback for address in own]
    assert 1 <= len(own) <= 4
    assert loopback == [False] * len(own) or own == ("127.0.0.1",)


def test_the_address_that_the_listener_names_comes_first_and_the_others_follow():
    assert reachable("10.0.0.5:4000", ("fd00::1", "10.0.0.5")) == ("10.0.0.5:4000", "[fd00::1]:4000")


def test_the_loopback_is_named_only_where_there_is_nothing_else():
    assert reachable("127.0.0.1:4000", ("fd00::1",)) == ("[fd00::1]:4000",)
    assert reachable("127.0.0.1:4000", ("127.0.0.1",)) == ("127.0.0.1:4000",)


def test_ipv6_stands_in_brackets():
    assert (host_port("fd00::1", "1"), host_port("10.0.0.5", "1")) == ("[fd00::1]:1", "10.0.0.5:1")

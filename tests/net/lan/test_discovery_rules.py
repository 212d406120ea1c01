"""What may be tried of what arrives over mDNS, where anybody on the network can speak."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_net.discovery import ADDRESSES, SERVERS, Places, acceptable
from tallow_net.interfaces import Network

HOME = (Network(ip_address("192.168.1.20"), 24, "eth0", 2), Network(ip_address("fd00::2"), 64, "eth0", 2))


def packed(text):
    return ip_address(text).packed


@pytest.mark.parametrize(
    "address", ["192.168.1.30", "192.168.7.30", "198.51.100.4", "fd00::9", "2001:470::1"]
)
def test_a_hosts_address_may_be_dialled(address):
    assert acceptable(ip_address(address), HOME)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "::",
        "0.1.2.3",
        "224.0.0.251",
        "239.1.2.3",
        "ff02::fb",
        "255.255.255.255",
        "240.0.0.1",
        "192.168.1.255",
        "169.254.1.1",
        "fe80::1",
        "::ffff:127.0.0.1",
        "::ffff:192.168.1.30",
    ],
)
def test_an_address_of_no_single_host_is_never_dialled(address):
    assert not acceptable(ip_address(address), HOME)
    assert not acceptable(ip_address(address), HOME[:1])


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1"])
def test_loopback_is_dialled_only_by_a_machine_on_no_network(address):
    assert not acceptable(ip_address(address), HOME)
    assert acceptable(ip_address(address), ())


def test_a_link_local_address_needs_its_interface():
    assert acceptable(ip_address("fe80::1"), HOME, scoped=True)
    places = Places(HOME)
    places.service("host.local.", 4821)
    places.address("host.local.", packed("fe80::1"), 3)
    assert places.new() == [("fe80::1%3", 4821)]


@given(st.ip_addresses())
def test_the_rule_never_lets_an_unroutable_address_through(address):
    if acceptable(address, HOME):
        assert not (address.is_multicast)
        assert not (address.is_unspecified)
        assert not (address.is_loopback)
        assert not (address.is_link_local)


def test_the_order_of_service_and_address_does_not_matter():
    forward, backward = Places(HOME), Places(HOME)
    forward.service("a.local.", 1)
    forward.address("a.local.", packed("10.0.0.1"))
    backward.address("a.local.", packed("10.0.0.1"))
    backward.service("a.local.", 1)
    assert forward.new() == backward.new() == [("10.0.0.1", 1)]


def test_a_place_is_given_once():
    places = Places(HOME)
    places.service("a.local.", 1)
    places.address("a.local.", packed("10.0.0.1"))
    places.new()
    places.service("a.local.", 1)
    places.address("a.local.", packed("10.0.0.1"))
    assert places.new() == []


def test_an_impostor_does_not_displace_the_sender():
    places = Places(HOME)
    for server, port, address in (("liar.local.", 9, "192.168.1.66"), ("true.local.", 1, "192.168.1.30")):
        places.service(server, port)
        places.address(server, packed(address))
    assert places.new() == [("192.168.1.66", 9), ("192.168.1.30", 1)]


def test_an_address_under_the_senders_own_label_is_one_more_to_try():
    places = Places(HOME)
    places.service("true.local.", 1)
    places.address("true.local.", packed("192.168.1.66"))
    places.address("true.local.", packed("192.168.1.30"))
    assert places.new() == [("192.168.1.66", 1), ("192.168.1.30", 1)]


def test_addresses_on_our_own_networks_come_first():
    places = Places(HOME)
    places.service("a.local.", 1)
    for address in ("10.9.9.9", "2001:470::1", "fd00::9", "192.168.1.30"):
        places.address("a.local.", packed(address))
    assert [host for host, _port in places.new()] == ["fd00::9", "192.168.1.30", "10.9.9.9", "2001:470::1"]


def test_sixteen_places_are_given_and_not_one_more():
    places = Places(HOME)
    places.service("a.local.", 1)
    for number in range(1, 40):
        places.address("a.local.", packed(f"10.0.0.{number}"))
    assert len(places.new()) == ADDRESSES == 16
    places.service("b.local.", 2)
    places.address("b.local.", packed("10.0.1.1"))
    assert places.new() == []


def test_a_flood_of_servers_is_bounded():
    places = Places(HOME)
    for number in range(100):
        places.service(f"{number}.local.", 1)
        places.address(f"x{number}.local.", packed("10.0.0.1"))
    assert len(places.without_address) == SERVERS


@pytest.mark.parametrize(("port", "taken"), [(0, False), (1, True), (65535, True), (65536, False)])
def test_a_port_is_from_1_to_65535(port, taken):
    places = Places(HOME)
    places.service("a.local.", port)
    places.address("a.local.", packed("10.0.0.1"))
    assert bool(places.new()) is taken


@pytest.mark.parametrize("length", [0, 3, 5, 15, 17])
def test_bytes_of_another_length_are_no_address(length):
    places = Places(HOME)
    places.service("a.local.", 1)
    places.address("a.local.", bytes(length))
    assert places.new() == []


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("service"), st.sampled_from("abc"), st.integers(-1, 70000)),
            st.tuples(st.just("address"), st.sampled_from("abc"), st.binary(max_size=16)),
        ),
        max_size=200,
    )
)
def test_whatever_arrives_at_most_sixteen_acceptable_places_are_given(records):
    places, given_ = Places(HOME), []
    for kind, server, value in records:
        getattr(places, kind)(server, value)
        given_ += places.new()
    assert len(given_) == len(set(given_)) <= ADDRESSES
    assert all(acceptable(ip_address(host), HOME) and 0 < port < 65536 for host, port in given_)

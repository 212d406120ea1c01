"""Which of our addresses are offered, and which of a peer's are tried."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_net.paths.candidates import Candidate, CandidateKind, acceptable, gather

TCP, QUIC = CandidateKind.TCP, CandidateKind.QUIC
BOTH = (TCP, QUIC)
HOME = (
    ipaddress.ip_interface("192.168.1.10/24"),
    ipaddress.ip_interface("2001:db8:5::10/64"),
    ipaddress.ip_interface("fd00:5::10/64"),
)


def place(address: str, kind: CandidateKind = TCP, port: int = 4000) -> Candidate:
    return Candidate(kind, ipaddress.ip_address(address).packed, port)


def tried(*addresses: str, own=HOME, one_host: bool = False) -> list[str]:
    offered = [place(address) for address in addresses]
    return [str(found.ip) for found in acceptable(offered, own, BOTH, one_host=one_host)]


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "::5",
        "169.254.1.1",
        "fe80::1",
        "fec0::1",
        "224.0.0.251",
        "239.1.2.3",
        "ff02::1",
        "ff0e::1",
        "255.255.255.255",
        "240.0.0.1",
        "192.168.1.255",
        "192.168.1.0",
        "::ffff:203.0.113.5",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::1",
    ],
)
def test_an_address_that_is_no_single_host_elsewhere_is_never_tried(address):
    assert tried(address) == []


@pytest.mark.parametrize(
    "address", ["203.0.113.5", "128.0.0.1", "223.255.255.254", "169.253.255.255", "2001:db8::1", "2003::1"]
)
def test_a_public_address_is_tried(address):
    assert tried(address) == [address]


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("192.168.1.1", True),
        ("192.168.1.254", True),
        ("192.168.2.1", False),
        ("192.168.0.255", False),
        ("10.0.0.1", False),
        ("9.255.255.255", True),
        ("11.0.0.0", True),
        ("172.16.0.1", False),
        ("172.31.255.255", False),
        ("172.15.255.255", True),
        ("172.32.0.0", True),
        ("100.64.0.1", False),
        ("100.127.255.255", False),
        ("100.63.255.255", True),
        ("100.128.0.0", True),
        ("fd00:5::20", True),
        ("fd00:6::20", False),
        ("fc00::1", False),
        ("fe00::1", True),
    ],
)
def test_a_private_address_is_tried_on_a_subnet_of_our_own_only(address, good):
    assert tried(address) == ([address] if good else [])


def test_a_carriers_private_address_is_tried_where_we_are_behind_the_same_one():
    own = (ipaddress.ip_interface("100.64.0.9/10"),)
    assert tried("100.127.3.4", own=own) == ["100.127.3.4"]


def test_without_a_network_of_our_own_no_private_address_is_tried():
    assert tried("192.168.1.1", "203.0.113.5", own=()) == ["203.0.113.5"]


@pytest.mark.parametrize(("prefix", "good"), [(30, False), (31, True), (32, True)])
def test_a_point_to_point_network_has_no_broadcast_address(prefix, good):
    own = (ipaddress.ip_interface(f"203.0.113.6/{prefix}"),)
    assert tried("203.0.113.7", own=own) == (["203.0.113.7"] if good else [])


def test_loopback_is_tried_first_where_both_are_on_one_host():
    assert tried("192.168.1.10", "127.0.0.1", one_host=True) == ["127.0.0.1", "192.168.1.10"]


def test_our_own_subnets_come_first_and_families_take_turns():
    addresses = ("203.0.113.1", "203.0.113.2", "2001:db8:9::1", "192.168.1.1", "192.168.1.2", "2001:db8:5::1")
    assert tried(*addresses) == [
        "2001:db8:5::1",
        "192.168.1.1",
        "192.168.1.2",
        "2001:db8:9::1",
        "203.0.113.1",
        "203.0.113.2",
    ]


def test_every_place_of_tcp_comes_before_quic():
    offered = [place("203.0.113.1", QUIC), place("203.0.113.1"), place("192.168.1.1", QUIC)]
    assert [found.kind for found in acceptable(offered, HOME, BOTH)] == [TCP, QUIC, QUIC]


def test_a_kind_that_we_do_not_use_is_left_out():
    offered = [place("203.0.113.1", QUIC), place("203.0.113.1")]
    assert [found.kind for found in acceptable(offered, HOME, (TCP,))] == [TCP]
    assert [found.kind for found in acceptable(offered, HOME, (QUIC,))] == [QUIC]


def test_two_ports_of_one_address_are_two_places_and_a_repetition_is_none():
    offered = [place("203.0.113.1", port=1), place("203.0.113.1", port=2), place("203.0.113.1", port=1)]
    assert [found.port for found in acceptable(offered, HOME, BOTH)] == [1, 2]


@pytest.mark.parametrize(("count", "tried_count"), [(16, 16), (17, 16)])
def test_no_more_than_16_places_are_tried(count, tried_count):
    offered = [place(f"203.0.113.{n}") for n in range(1, count + 1)]
    assert len(acceptable(offered, HOME, BOTH)) == tried_count


def test_each_address_is_offered_with_every_kind_that_listens():
    offered = gather(HOME, {TCP: 1000, QUIC: 2000})
    assert [(found.kind, str(found.ip), found.port) for found in offered] == [
        (TCP, "2001:db8:5::10", 1000),
        (TCP, "192.168.1.10", 1000),
        (TCP, "fd00:5::10", 1000),
        (QUIC, "2001:db8:5::10", 2000),
        (QUIC, "192.168.1.10", 2000),
        (QUIC, "fd00:5::10", 2000),
    ]


def test_what_a_relay_says_our_address_is_comes_last():
    offered = gather(HOME[:1], {TCP: 1000}, observed=ipaddress.ip_address("203.0.113.9"))
    assert [str(found.ip) for found in offered] == ["192.168.1.10", "203.0.113.9"]


@pytest.mark.parametrize("observed", ["127.0.0.1", "::1", "10.9.9.9", "fe80::1", "::ffff:203.0.113.9"])
def test_what_no_peer_would_try_is_not_offered(observed):
    assert gather((), {TCP: 1000}, observed=ipaddress.ip_address(observed)) == ()


def test_an_address_that_a_relay_confirms_is_offered_once():
    assert len(gather(HOME[:1], {TCP: 1000}, observed=HOME[0].ip)) == 1


def test_on_one_host_the_loopback_is_offered_first():
    offered = gather(HOME[:1], {TCP: 1000}, one_host=True)
    assert [str(found.ip) for found in offered] == ["127.0.0.1", "192.168.1.10"]


@pytest.mark.parametrize(("kinds", "addresses"), [((TCP,), 16), (BOTH, 8)])
def test_no_more_than_16_places_are_offered_and_each_address_whole(kinds, addresses):
    own = [ipaddress.ip_interface(f"203.0.113.{n}/32") for n in range(1, 30)]
    offered = gather(own, dict.fromkeys(kinds, 1000))
    assert len(offered) == 16
    assert len({found.address for found in offered}) == addresses


def test_where_nothing_listens_nothing_is_offered():
    assert gather(HOME, {}) == ()


ips = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
places = st.lists(
    st.builds(Candidate, st.sampled_from(CandidateKind), ips.map(lambda a: a.packed), st.integers(1, 65535))
)


@given(places, st.booleans())
def test_whatever_is_offered_what_is_tried_keeps_the_rules(offered, one_host):
    chosen = acceptable(offered, HOME, BOTH, one_host=one_host)
    assert len(chosen) <= 16
    assert set(chosen) <= set(offered[:16])
    for found in chosen:
        ip = found.ip
        assert not any((ip.is_multicast, ip.is_link_local, ip.is_unspecified))
        assert one_host or not ip.is_loopback
        if ip.is_private and any(ip in net.network for net in HOME if net.version == ip.version):
            continue
        assert not any(
            ip in ipaddress.ip_network(n)
            for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
            if ip.version == 4
        )


@given(places)
def test_what_is_offered_to_a_neighbour_is_tried_by_it(offered):
    mine = gather(HOME, {TCP: 1, QUIC: 2}, observed=offered[0].ip if offered else None)
    neighbour = tuple(ipaddress.ip_interface((str(net.ip + 1), net.network.prefixlen)) for net in HOME)
    assert set(acceptable(mine, neighbour, BOTH)) == set(mine)

"""Which of this machine's addresses are of any use to others."""

from __future__ import annotations

import sys
from ipaddress import ip_address
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_net import interfaces
from tallow_net.interfaces import Network, host_port, own_networks, reachable_hosts


def adapter(name, *addresses, nice_name=None, index=2):
    ips = [SimpleNamespace(ip=address, network_prefix=prefix) for address, prefix in addresses]
    return SimpleNamespace(name=name, nice_name=nice_name or name, ips=ips, index=index)


@pytest.fixture
def machine(monkeypatch):
    """Set this machine's adapters and the addresses of its default routes."""

    def have(*adapters, routed=()):
        monkeypatch.setitem(sys.modules, "ifaddr", SimpleNamespace(get_adapters=lambda: adapters))
        monkeypatch.setattr(interfaces, "_routed_addresses", lambda: [ip_address(a) for a in routed])

    return have


def test_both_families_are_found_with_their_networks(machine):
    machine(adapter("eth0", ("192.168.1.20", 24), (("2001:db8::5", 0, 0), 64), index=7))
    assert own_networks() == (
        Network(ip_address("192.168.1.20"), 24, "eth0", 7),
        Network(ip_address("2001:db8::5"), 64, "eth0", 7),
    )


@pytest.mark.parametrize(
    "name",
    [
        "docker0",
        "br-0a1b2c3d4e5f",
        "veth12ab",
        "virbr0",
        "lxcbr0",
        "podman1",
        "cni0",
        "tun0",
        "tap1",
        "wg0",
        "utun4",
        "tailscale0",
        "ztabcdef",
        "ppp0",
        "awdl0",
        "vboxnet0",
        "vmnet8",
    ],
)
def test_networks_inside_this_machine_and_tunnels_are_left_out(machine, name):
    machine(adapter(name, ("10.0.0.1", 24)), adapter("eth0", ("192.168.1.20", 24)))
    assert [network.interface for network in own_networks()] == ["eth0"]


@pytest.mark.parametrize("name", ["eth0", "enp3s0", "wlan0", "en0", "br0", "bond0", "Ethernet", "w0"])
def test_ordinary_interfaces_stay(machine, name):
    machine(adapter(name, ("192.168.1.20", 24)))
    assert [network.interface for network in own_networks()] == [name]


def test_on_windows_the_long_name_tells(machine):
    machine(adapter("{1F}", ("172.20.0.1", 20), nice_name="vEthernet (WSL)"))
    assert own_networks() == ()


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.3.4", "::1", "fe80::1", "0.0.0.0"])
def test_loopback_and_link_local_addresses_are_left_out(machine, address):
    machine(adapter("eth0", (address if "." in address else (address, 0, 2), 16)))
    assert own_networks() == ()


def test_the_default_routes_addresses_come_first(machine):
    machine(
        adapter("eth1", ("10.0.0.5", 8)),
        adapter("eth0", (("fd00::2", 0, 0), 64), ("192.168.1.20", 24)),
        routed=("192.168.1.20", "fd00::2"),
    )
    assert reachable_hosts() == ("192.168.1.20", "fd00::2", "10.0.0.5")


def test_at_most_four_addresses_are_shown(machine):
    machine(adapter("eth0", *((f"192.168.1.{number}", 24) for number in range(1, 8))))
    assert len(reachable_hosts()) == 4


def test_a_machine_on_no_network_shows_its_loopback(machine):
    machine(adapter("lo", ("127.0.0.1", 8)))
    assert reachable_hosts() == ("127.0.0.1",)


@pytest.mark.parametrize("host", ["192.0.2.7", "::1", "localhost"])
def test_a_listener_at_one_address_is_reached_there(host):
    assert reachable_hosts(host) == (host,)


def test_without_ifaddr_the_default_routes_addresses_are_what_is_known(machine, monkeypatch):
    machine(routed=("192.168.1.20", "fd00::2"))
    monkeypatch.setitem(sys.modules, "ifaddr", None)
    assert own_networks() == (Network(ip_address("192.168.1.20"), 32), Network(ip_address("fd00::2"), 128))


def test_this_machine_can_be_asked():
    assert all(network.address in range_of(network) for network in own_networks())


def range_of(network):
    class Range:
        def __contains__(self, address):
            return network.holds(address)

    return Range()


@given(st.ip_addresses(v=4), st.integers(0, 30))
def test_the_broadcast_address_of_a_network_is_known(address, prefix):
    network = Network(address, prefix)
    last = ip_address(int(address) | (1 << (32 - prefix)) - 1)
    assert network.holds(last)
    assert network.is_broadcast(last)


@pytest.mark.parametrize("prefix", [31, 32])
def test_a_network_of_two_or_one_has_no_broadcast_address(prefix):
    address = ip_address("192.0.2.1")
    assert not Network(address, prefix).is_broadcast(address)


def test_families_do_not_mix():
    network = Network(ip_address("0.0.0.0"), 0)
    assert not network.holds(ip_address("::1"))


def test_an_ipv6_host_stands_in_brackets():
    assert host_port("fd00::1", 4821) == "[fd00::1]:4821"
    assert host_port("10.0.0.1", 4821) == "10.0.0.1:4821"

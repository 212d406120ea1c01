"""The caps of connections: who is served, who is told, and who is dropped unheard."""

import pytest
from tallow_relay.caps import REFUSALS_AT_ONCE, REFUSALS_PER_ADDRESS, CapLimits, ConnectionCaps
from tallow_relay.errors import RoomRefusedError


def established(caps: ConnectionCaps, key: str) -> bool:
    admitted = caps.admit(key)
    if admitted:
        caps.established(key)
    return admitted


def refused(caps: ConnectionCaps, key: str) -> str:
    with pytest.raises(RoomRefusedError) as error:
        caps.check(key)
    assert error.value.retry_after_s > 0
    return error.value.code


def test_the_last_connection_below_the_cap_is_served_and_the_next_is_told() -> None:
    caps = ConnectionCaps(CapLimits(connections=3))
    for number in range(3):
        assert established(caps, str(number))
        caps.check(str(number))
    assert established(caps, "3")
    assert refused(caps, "3") == "relay_full"


def test_an_address_has_its_own_cap() -> None:
    caps = ConnectionCaps(CapLimits(connections_per_address=2))
    for _ in range(2):
        assert established(caps, "x")
        caps.check("x")
    assert established(caps, "x")
    assert refused(caps, "x") == "rate_limited"
    assert established(caps, "y")
    caps.check("y")


def test_beyond_the_places_that_tell_newcomers_are_dropped() -> None:
    caps = ConnectionCaps(CapLimits(connections=1))
    assert [established(caps, str(n)) for n in range(REFUSALS_AT_ONCE + 2)] == [True] * (
        REFUSALS_AT_ONCE + 1
    ) + [False]
    caps = ConnectionCaps(CapLimits(connections_per_address=1))
    assert [established(caps, "x") for _ in range(REFUSALS_PER_ADDRESS + 2)].count(False) == 1


def test_handshakes_in_flight_have_a_cap() -> None:
    caps = ConnectionCaps(CapLimits(handshakes=2))
    assert [caps.admit("x"), caps.admit("y"), caps.admit("z")] == [True, True, False]
    caps.established("x")
    assert caps.admit("z")


def test_a_place_is_free_again_when_its_connection_is_gone() -> None:
    caps = ConnectionCaps(CapLimits(connections=1, handshakes=1))
    assert caps.admit("x")
    caps.gone("x")
    assert established(caps, "y")
    caps.check("y")
    caps.gone("y")
    assert (caps.connections, caps.handshakes, dict(caps._per_address), dict(caps._handshakes)) == (
        0,
        0,
        {},
        {},
    )


def test_counts_come_to_nothing_whatever_the_order_of_ends() -> None:
    caps = ConnectionCaps(CapLimits())
    established(caps, "x")
    caps.admit("x")
    caps.gone("x")  # the established one, which cannot be told from the other
    caps.established("x")
    caps.gone("x")
    assert (caps.connections, caps.handshakes) == (0, 0)

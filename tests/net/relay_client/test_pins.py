"""check_relay: every row of its table, and that nothing remembered is ever weakened."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_net.errors import CertificateChangedError, CertificateRefusedError, MisuseError
from tallow_net.relay.address import RelayAddress
from tallow_net.relay.pins import ForgetfulRelays, RelayPin, asks_authority, check_relay

KEY, OTHER = b"k" * 32, b"o" * 32
PLAIN = RelayAddress("relay.example")
PINNED = RelayAddress("relay.example", 443, KEY)
SPKI, AUTHORITY = RelayPin("spki", KEY), RelayPin("authority")
CHANGED = CertificateChangedError

TABLE = [
    # address, known, presented, authority_ok, pin_from_user -> remembered, or an error
    (PINNED, None, KEY, False, True, SPKI),
    (PINNED, None, OTHER, True, True, CHANGED),
    (PINNED, AUTHORITY, KEY, False, True, SPKI),
    (PINNED, RelayPin("spki", OTHER), KEY, False, True, SPKI),
    (PINNED, RelayPin("spki", OTHER), OTHER, True, True, CHANGED),
    (PLAIN, SPKI, KEY, False, True, SPKI),
    (PLAIN, SPKI, KEY, True, True, SPKI),
    (PLAIN, SPKI, OTHER, False, True, CHANGED),
    (PLAIN, SPKI, OTHER, True, True, CHANGED),
    (PLAIN, AUTHORITY, KEY, True, True, AUTHORITY),
    (PLAIN, AUTHORITY, OTHER, True, True, AUTHORITY),
    (PLAIN, AUTHORITY, KEY, False, True, CHANGED),
    (PLAIN, None, KEY, True, True, AUTHORITY),
    (PLAIN, None, KEY, False, True, SPKI),
    # a pin that another relay gave
    (PINNED, None, KEY, False, False, SPKI),
    (PINNED, None, OTHER, True, False, CHANGED),
    (PINNED, SPKI, KEY, False, False, SPKI),
    (PINNED, RelayPin("spki", OTHER), KEY, True, False, CHANGED),
    (PINNED, AUTHORITY, KEY, True, False, AUTHORITY),
    (PINNED, AUTHORITY, KEY, False, False, CHANGED),
]


@pytest.mark.parametrize(("address", "known", "presented", "authority_ok", "pin_from_user", "outcome"), TABLE)
def test_each_row(address, known, presented, authority_ok, pin_from_user, outcome):
    if outcome is CHANGED:
        with pytest.raises(CHANGED) as raised:
            check_relay(address, known, presented, authority_ok, pin_from_user=pin_from_user)
        assert raised.value.code == "relay_changed"
        assert "Nothing was sent" in str(raised.value)
        assert raised.value.hints
    else:
        assert check_relay(address, known, presented, authority_ok, pin_from_user=pin_from_user) == outcome


@given(
    st.sampled_from([PLAIN, PINNED]),
    st.sampled_from([SPKI, RelayPin("spki", OTHER), AUTHORITY]),
    st.sampled_from([KEY, OTHER]),
    st.booleans(),
    st.booleans(),
)
def test_what_was_remembered_changes_only_by_the_user_s_own_pin(address, known, presented, ok, from_user):
    try:
        pin = check_relay(address, known, presented, ok, pin_from_user=from_user)
    except CHANGED:
        return
    assert pin == known or (from_user and address.pin == presented == pin.spki_sha256)


@given(
    st.sampled_from([PLAIN, PINNED]),
    st.none() | st.sampled_from([SPKI, RelayPin("spki", OTHER), AUTHORITY]),
    st.sampled_from([KEY, OTHER]),
    st.booleans(),
)
def test_authorities_are_asked_wherever_their_word_counts(address, known, presented, from_user):
    def outcome(authority_ok):
        try:
            return check_relay(address, known, presented, authority_ok, pin_from_user=from_user)
        except CHANGED as error:
            return str(error)

    if not asks_authority(address, known, pin_from_user=from_user):
        assert outcome(True) == outcome(False)


@pytest.mark.parametrize("presented", [b"", b"k" * 31, b"k" * 33])
@pytest.mark.parametrize("address", [PLAIN, PINNED])
def test_a_relay_that_shows_no_key_is_refused_however_it_is_known(address, presented):
    for known in (None, SPKI, AUTHORITY):
        with pytest.raises(CertificateRefusedError):
            check_relay(address, known, presented, True)


def test_a_changed_key_is_explained_with_both_fingerprints_and_the_address_to_give():
    with pytest.raises(CHANGED) as raised:
        check_relay(PLAIN, SPKI, OTHER, False)
    assert KEY.hex() in str(raised.value)
    assert OTHER.hex() in str(raised.value)
    assert any(f"relay.example:443#sha256:{OTHER.hex()}" in hint for hint in raised.value.hints)


@pytest.mark.parametrize(("mode", "key"), [("spki", None), ("spki", b"k" * 31), ("authority", KEY)])
def test_a_pin_that_makes_no_sense_is_misuse(mode, key):
    with pytest.raises(MisuseError):
        RelayPin(mode, key)


def test_forgetful_relays_remember_nothing():
    known = ForgetfulRelays()
    known.remember("relay.example", 443, SPKI)
    assert known.lookup("relay.example", 443) is None

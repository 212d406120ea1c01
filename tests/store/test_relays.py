"""Known relays are never weakened."""

import pytest
from tallow_store import Database, KnownRelay, KnownRelayStore, MisuseError, RelayPinError

ONE, TWO = b"\x01" * 32, b"\x02" * 32


@pytest.fixture
def relays(database):
    return KnownRelayStore(database)


def test_an_unknown_relay_is_none(relays):
    assert relays.lookup("r.example", 443) is None
    assert relays.all() == ()


def test_a_relay_is_remembered_by_its_key(relays):
    expected = KnownRelay("r.example", 443, "spki", ONE, 1_700_000_000)
    assert relays.remember("r.example", 443, "spki", ONE, now_s=1_700_000_000) == expected
    assert relays.lookup("r.example", 443) == expected
    assert relays.lookup("r.example", 444) is None
    assert relays.lookup("other.example", 443) is None


def test_a_relay_is_remembered_by_the_authorities(relays):
    assert relays.remember("r.example", 443, "authority", None).spki_sha256 is None
    known = relays.lookup("r.example", 443)
    assert (known.mode, known.spki_sha256) == ("authority", None)


def test_what_is_remembered_survives_the_process(locations):
    with Database.open(locations.database_file) as database:
        KnownRelayStore(database).remember("r.example", 443, "spki", ONE)
    with Database.open(locations.database_file) as database:
        assert KnownRelayStore(database).lookup("r.example", 443).spki_sha256 == ONE


def test_the_same_again_changes_nothing(relays):
    first = relays.remember("r.example", 443, "spki", ONE, now_s=1)
    assert relays.remember("r.example", 443, "spki", ONE, now_s=2) == first


def test_case_of_a_host_name_does_not_matter(relays):
    relays.remember("R.Example", 443, "spki", ONE)
    assert relays.lookup("r.eXample", 443).host == "r.example"
    with pytest.raises(RelayPinError):
        relays.remember("r.EXAMPLE", 443, "spki", TWO)


@pytest.mark.parametrize(
    ("known", "new"),
    [
        (("spki", ONE), ("spki", TWO)),
        (("spki", ONE), ("authority", None)),
        (("authority", None), ("spki", ONE)),
    ],
)
def test_a_remembered_relay_is_never_weakened_or_changed(relays, known, new):
    relays.remember("r.example", 443, *known)
    with pytest.raises(RelayPinError, match=r"r\.example:443") as caught:
        relays.remember("r.example", 443, *new)
    assert caught.value.code == "relay_changed"
    assert "operator" in caught.value.hints[0]
    remembered = relays.lookup("r.example", 443)
    assert (remembered.mode, remembered.spki_sha256) == known


def test_only_the_user_replaces_a_key(relays):
    relays.remember("r.example", 443, "spki", ONE, now_s=1)
    assert relays.replace("R.example", 443, "spki", TWO, now_s=2) == KnownRelay(
        "r.example", 443, "spki", TWO, 2
    )
    assert relays.replace("new.example", 1, "authority", None).mode == "authority"


def test_a_forgotten_relay_is_new_again(relays):
    relays.remember("r.example", 443, "spki", ONE)
    assert relays.forget("r.example", 443)
    assert not relays.forget("r.example", 443)
    relays.remember("r.example", 443, "authority", None)


def test_all_relays_are_listed_in_order(relays):
    for host, port in [("b", 1), ("a", 2), ("a", 1)]:
        relays.remember(host, port, "authority", None)
    assert [(known.host, known.port) for known in relays.all()] == [("a", 1), ("a", 2), ("b", 1)]


@pytest.mark.parametrize(
    ("port", "mode", "pin"),
    [
        (0, "spki", ONE),
        (65536, "spki", ONE),
        (1, "spki", None),
        (1, "spki", ONE[:31]),
        (1, "spki", ONE + b"x"),
        (1, "authority", ONE),
        (1, "other", ONE),
    ],
)
def test_values_that_do_not_fit_are_misuse(relays, port, mode, pin):
    with pytest.raises(MisuseError):
        relays.remember("h", port, mode, pin)
    with pytest.raises(MisuseError):
        relays.replace("h", port, mode, pin)


def test_one_process_sees_what_another_remembered(locations, relays):
    with Database.open(locations.database_file) as database:
        KnownRelayStore(database).remember("r.example", 443, "spki", ONE)
    with pytest.raises(RelayPinError):
        relays.remember("r.example", 443, "spki", TWO)

"""Options, environment, configuration and store become what a transfer runs with."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tallow_cli.errors import UsageError
from tallow_cli.wiring import Limits, check_limits, check_peer, settings, wired
from tallow_net import RelayAddress, RelayPin, TransportChoice
from tallow_protocol import PathLimit
from tallow_store import Database, KnownRelayStore, LocationError, Locations, RelayPinError, StoreError

PIN, OTHER = bytes(32), bytes([1] * 32)


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def chosen(home, environment=None, **typed):
    plain = {"relays": None, "transport": None, "verify": False, "anonymous": False}
    return settings({"TALLOW_HOME": str(home), **(environment or {})}, **{**plain, **typed})


def configured(home, text):
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(text)


def hosts(relays):
    return [relay.host for relay in relays]


def test_an_option_comes_before_the_environment_and_that_before_the_configuration(home):
    configured(home, 'relay = ["c.example"]\ntransport = "tcp"\nwords = 5\nout = "/in"\n')
    both = chosen(
        home, {"TALLOW_RELAY": "b.example"}, relays=["a.example"], transport="quic", words=4, out="x"
    )
    assert (hosts(both.relays), both.transport, both.words, both.out) == (
        ["a.example"],
        TransportChoice.QUIC,
        4,
        "x",
    )
    neither = chosen(home)
    assert (hosts(neither.relays), neither.transport, neither.words, neither.out) == (
        ["c.example"],
        TransportChoice.TCP,
        5,
        "/in",
    )
    assert hosts(chosen(home, {"TALLOW_RELAY": "b.example"}).relays) == ["b.example"]


def test_without_anything_the_defaults_stand(home):
    plain = chosen(home)
    assert (plain.relays, plain.transport, plain.words, plain.out) == ((), TransportChoice.AUTO, 3, ".")
    assert (plain.verify, plain.anonymous) == (False, False)


def test_the_environment_takes_several_relays(home):
    relays = chosen(home, {"TALLOW_RELAY": " a.example, b.example:8443\nc.example,"}).relays
    assert [(relay.host, relay.port) for relay in relays] == [
        ("a.example", 443),
        ("b.example", 8443),
        ("c.example", 443),
    ]


@pytest.mark.parametrize("environment", [{"TALLOW_RELAY": "x:0"}, {"TALLOW_RELAY": "r.example#md5:00"}])
def test_a_relay_address_without_sense_is_a_usage_error(home, environment):
    with pytest.raises(UsageError, match="this is no relay address"):
        chosen(home, environment)


@pytest.mark.parametrize("words", [2, 17])
def test_fewer_than_three_words_or_more_than_sixteen_are_a_usage_error(home, words):
    with pytest.raises(UsageError, match="from 3 to 16"):
        chosen(home, words=words)


@pytest.mark.parametrize("words", [3, 16])
def test_three_and_sixteen_words_are_taken(home, words):
    assert chosen(home, words=words).words == words


def test_the_line_for_the_other_side_repeats_given_relays_and_no_configured_ones(home):
    configured(home, 'relay = ["c.example"]\n')
    with wired(chosen(home, anonymous=True, relays=["a.example#sha256:" + "00" * 32])) as given:
        assert given.receive_command("1-a-b-c") == (
            f"tallow receive --relay 'a.example:443#sha256:{'00' * 32}' 1-a-b-c"
        )
    with wired(chosen(home, anonymous=True)) as from_file:
        assert from_file.receive_command("1-a-b-c") == "tallow receive 1-a-b-c"


def test_the_line_for_the_other_side_repeats_a_given_transport(home):
    with wired(chosen(home, anonymous=True, transport="tcp")) as wiring:
        assert wiring.receive_command("1-a-b-c", "h:1") == "tallow receive --transport tcp --peer h:1 1-a-b-c"


def test_the_line_with_an_address_is_safe_in_a_shell(home):
    with wired(chosen(home, {"TALLOW_PROGRAM": "/opt/my tools/tallow"}, anonymous=True)) as wiring:
        assert wiring.receive_command("1:it's a secret", "[fd00::1]:4000") == (
            "'/opt/my tools/tallow' receive --peer '[fd00::1]:4000' '1:it'\"'\"'s a secret'"
        )


def test_an_anonymous_direct_transfer_leaves_nothing_on_disk(home):
    with wired(chosen(home, anonymous=True)) as wiring:
        assert wiring.options.identity is None
    assert not home.exists()


def test_the_identity_is_made_once_and_kept(home):
    with wired(chosen(home)) as first, wired(chosen(home)) as second:
        assert first.options.identity().public_key == second.options.identity().public_key
    assert (home / "store.key").stat().st_mode & 0o777 == 0o600


def test_a_receiver_that_goes_straight_to_a_sender_leaves_the_relays_out(home):
    with wired(chosen(home, relays=["a.example"], anonymous=True), direct=True) as wiring:
        assert wiring.relays == wiring.given_relays == ()


def test_a_home_that_cannot_be_used_is_the_stores_own_error(home):
    home.write_text("a file")
    with pytest.raises(StoreError):
        chosen(home)


def test_a_relay_is_remembered_and_found_again(home):
    settled = chosen(home, relays=["a.example:4000"])
    with wired(settled) as wiring:
        known = wiring.options.ports.relays
        assert known.lookup("a.example", 4000) is None
        known.remember("a.example", 4000, RelayPin("spki", PIN))
    with wired(settled) as wiring:
        assert wiring.options.ports.relays.lookup("a.example", 4000) == RelayPin("spki", PIN)


def test_a_remembered_key_is_replaced_only_by_the_pin_that_the_user_typed(home):
    with wired(chosen(home, relays=["a.example"])) as wiring:
        wiring.options.ports.relays.remember("a.example", 443, RelayPin("spki", PIN))
        with pytest.raises(RelayPinError):
            wiring.options.ports.relays.remember("a.example", 443, RelayPin("spki", OTHER))
        with pytest.raises(RelayPinError):
            wiring.options.ports.relays.remember("a.example", 443, RelayPin("authority"))
    with wired(chosen(home, relays=[str(RelayAddress("a.example", 443, OTHER))])) as wiring:
        wiring.options.ports.relays.remember("a.example", 443, RelayPin("spki", OTHER))
    with Database.open(home / "tallow.db") as database:
        assert KnownRelayStore(database).lookup("a.example", 443).spki_sha256 == OTHER


@pytest.mark.parametrize("peer", ["10.0.0.5:4000", "host.example:1", "[fd00::1]:65535"])
def test_a_peer_is_host_and_port(peer):
    assert check_peer(peer) == peer


@pytest.mark.parametrize("peer", ["10.0.0.5", "10.0.0.5:", ":4000", "h:0", "h:65536", "h:x", "fd00::1:4000"])
def test_a_peer_that_is_neither_is_a_usage_error(peer):
    with pytest.raises(UsageError, match="--peer is HOST:PORT"):
        check_peer(peer)


def test_without_a_peer_it_is_a_relay_or_a_search():
    assert check_peer(None) is None


def test_a_home_that_cannot_be_is_told_before_a_transfer_begins(home):
    given = chosen(home)
    home.mkdir(exist_ok=True)
    (home / "data").write_text("in the way")
    with pytest.raises(LocationError), wired(replace(given, locations=Locations(home, home / "data", home))):
        pass


RELAY = ["r.example"]


@pytest.mark.parametrize(
    ("limits", "paths"),
    [
        (Limits(), PathLimit.ANY),
        (Limits(relay_only=True), PathLimit.RELAY_ONLY),
        (Limits(direct_only=True), PathLimit.DIRECT_ONLY),
    ],
)
def test_the_limit_of_the_paths_reaches_the_transfer(home, limits, paths):
    with wired(chosen(home, relays=RELAY, anonymous=True, limits=limits)) as wiring:
        assert wiring.options.paths is paths


def test_what_is_typed_of_the_paths_comes_before_the_environment_and_that_before_the_configuration(home):
    configured(home, 'paths = "relay-only"\n')
    anywhere = {"TALLOW_PATHS": "any"}
    assert chosen(home).paths is PathLimit.RELAY_ONLY
    assert chosen(home, anywhere).paths is PathLimit.ANY
    assert chosen(home, anywhere, limits=Limits(direct_only=True)).paths is PathLimit.DIRECT_ONLY


def test_two_limits_that_exclude_each_other_are_a_usage_error(home):
    with pytest.raises(UsageError, match="exclude each other"):
        chosen(home, limits=Limits(relay_only=True, direct_only=True))


def test_a_limit_without_sense_in_the_environment_names_its_variable(home):
    with pytest.raises(UsageError, match="TALLOW_PATHS is one of any, relay-only, direct-only, not 'relay'"):
        chosen(home, {"TALLOW_PATHS": "relay"})


def test_relay_only_needs_a_relay_and_forbids_a_peer(home):
    typed = Limits(relay_only=True)
    check_limits(chosen(home, relays=RELAY, limits=typed))
    with pytest.raises(UsageError, match="--relay-only needs a relay"):
        check_limits(chosen(home, limits=typed))
    with pytest.raises(UsageError, match="--relay-only forbids --peer"):
        check_limits(chosen(home, relays=RELAY, limits=typed), peer="h:1")


def test_relay_only_of_the_configuration_says_how_it_is_lifted(home):
    configured(home, 'paths = "relay-only"\n')
    with pytest.raises(UsageError, match='paths = "relay-only" forbids --peer') as raised:
        check_limits(chosen(home, relays=RELAY), peer="h:1")
    assert raised.value.hints == ("TALLOW_PATHS=any lifts the setting for one command",)
    check_limits(chosen(home, {"TALLOW_PATHS": "any"}, relays=RELAY), peer="h:1")


def test_direct_only_is_taken_with_a_relay_to_meet_at_with_a_peer_and_with_neither(home):
    typed = Limits(direct_only=True)
    check_limits(chosen(home, relays=RELAY, limits=typed))
    check_limits(chosen(home, limits=typed), peer="h:1")
    check_limits(chosen(home, limits=typed))


@pytest.mark.parametrize(("option", "peer"), [({}, None), ({"relays": RELAY}, "h:1")])
def test_to_encrypt_twice_without_a_relay_is_a_usage_error(home, option, peer):
    with pytest.raises(UsageError, match="this transfer uses none"):
        check_limits(chosen(home, limits=Limits(encrypt_twice=True), **option), peer=peer)


def test_to_encrypt_twice_what_never_goes_through_the_relay_is_a_usage_error(home):
    both = Limits(encrypt_twice=True, direct_only=True)
    with pytest.raises(UsageError, match="here it never does"):
        check_limits(chosen(home, relays=RELAY, limits=both))


def test_to_encrypt_twice_by_configuration_is_no_error_where_no_relay_is_used(home):
    configured(home, "encrypt_twice = true\n")
    check_limits(chosen(home))
    with wired(chosen(home, anonymous=True)) as wiring:
        assert not wiring.options.plain_data
        assert wiring.receive_command("1-a-b-c") == "tallow receive 1-a-b-c"


def test_a_typed_wish_to_encrypt_twice_reaches_the_transfer_and_the_line_for_the_other_side(home):
    wish = Limits(encrypt_twice=True)
    with wired(chosen(home, relays=RELAY, anonymous=True, limits=wish)) as wiring:
        assert not wiring.options.plain_data
        assert wiring.receive_command("1-a-b-c") == (
            "tallow receive --relay r.example:443 --encrypt-twice 1-a-b-c"
        )


def test_compression_is_turned_off_by_option_or_configuration(home):
    with (
        wired(chosen(home, anonymous=True)) as default,
        wired(chosen(home, anonymous=True, no_compress=True)) as typed,
    ):
        assert (default.options.compress, typed.options.compress) == (True, False)
    configured(home, "compress = false\n")
    with wired(chosen(home, anonymous=True)) as from_file:
        assert not from_file.options.compress

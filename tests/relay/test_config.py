"""The configuration: every key on both sides of its range, and sentences for what is wrong."""

from dataclasses import fields
from pathlib import Path

import pytest
from tallow_net.limits import NOTICE_BYTES
from tallow_relay.config import RANGES, RATES, RelayConfig
from tallow_relay.errors import ConfigError

# How the document writes what is no number.
WORDS = {"notice": '""', "data_connections": "true"}


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as error:
        RelayConfig.parse(text, name="relay.toml")
    return str(error.value)


def test_an_empty_file_gives_the_defaults() -> None:
    assert RelayConfig.parse("") == RelayConfig()


def test_every_number_has_a_range_and_its_default_lies_in_it() -> None:
    numbers = {field.name for field in fields(RelayConfig)} - {"notice", "data_connections"}
    assert set(RANGES) == numbers
    for name, (least, most) in RANGES.items():
        default = getattr(RelayConfig(), name)
        assert least <= default <= most or (name in RATES and default == 0)


@pytest.mark.parametrize("key", sorted(RANGES))
def test_a_number_is_taken_at_both_ends_of_its_range_and_refused_beyond(key: str) -> None:
    least, most = RANGES[key]
    others = {"rooms_per_connection": 1, "joins_burst": 1_000_000}
    rest = "".join(f"{name} = {value}\n" for name, value in others.items() if name != key)
    for good in (least, most):
        assert getattr(RelayConfig.parse(f"{rest}{key} = {good}"), key) == good
    for bad in (least - 1, most + 1):
        assert key in complaint(f"{rest}{key} = {bad}")


@pytest.mark.parametrize("key", RATES)
def test_a_rate_of_zero_is_no_limit(key: str) -> None:
    assert getattr(RelayConfig.parse(f"{key} = 0"), key) == 0


@pytest.mark.parametrize("value", ["true", "1.5", '"9"', "[1]"])
def test_a_number_of_another_kind_is_refused(value: str) -> None:
    assert "connections is a whole number" in complaint(f"connections = {value}")


def test_an_unknown_key_is_refused_by_name_with_the_known_ones_as_hint() -> None:
    with pytest.raises(ConfigError) as error:
        RelayConfig.parse("max_connections = 5", name="relay.toml")
    assert "'max_connections'" in str(error.value)
    assert "connections_per_address" in error.value.hints[0]


def test_a_burst_below_a_full_join_is_refused() -> None:
    assert "joins_burst" in complaint("joins_burst = 63")
    assert RelayConfig.parse("joins_burst = 64").joins_burst == 64


def test_a_notice_ends_where_the_wire_ends() -> None:
    fits = "x" * NOTICE_BYTES
    assert RelayConfig.parse(f'notice = "{fits}"').notice == fits
    assert "notice" in complaint(f'notice = "{fits}x"')
    assert "notice" in complaint("notice = 1")


def test_data_connections_are_turned_off_by_a_word() -> None:
    assert RelayConfig.parse("").data_connections is True
    assert RelayConfig.parse("data_connections = false").data_connections is False
    assert "data_connections is true or false" in complaint("data_connections = 0")


def test_a_turn_is_a_mebibyte_and_an_eighth_of_a_second_where_a_rate_is_limited() -> None:
    assert RelayConfig().turn_bytes == 1 << 20
    assert RelayConfig(total_bytes_per_s=1 << 40).turn_bytes == 1 << 20
    assert RelayConfig(room_bytes_per_s=8 << 18, total_bytes_per_s=1 << 40).turn_bytes == 1 << 18
    assert RelayConfig(address_bytes_per_s=1 << 16).turn_bytes == 1 << 13


def test_what_is_no_toml_or_cannot_be_read_is_said(tmp_path: Path) -> None:
    assert "no TOML" in complaint("a = ")
    with pytest.raises(ConfigError, match="cannot be read"):
        RelayConfig.load(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        RelayConfig.load(tmp_path / "bytes.toml")


def test_a_file_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text('notice = "maintenance on Sunday"\nrooms = 7\n')
    config = RelayConfig.load(tmp_path / "relay.toml")
    assert (config.notice, config.rooms) == ("maintenance on Sunday", 7)


def test_the_operators_document_has_every_key_with_its_default() -> None:
    text = (Path(__file__).parents[2] / "docs" / "relay-operations.md").read_text()
    for field in fields(RelayConfig):
        default = WORDS.get(field.name) or f"{field.default:,}"
        assert f"| `{field.name}` | {default} |" in text, field.name

"""The settings file: every key known, a wrong one refused by name."""

import stat

import pytest
from tallow_store import Config, ConfigError, load_config, save_config
from tallow_store import config as config_module

PIN = "#sha256:" + "0f" * 32


def load(tmp_path, text):
    path = tmp_path / "config.toml"
    path.write_text(text, "utf-8")
    return load_config(path)


def test_without_a_file_the_defaults_stand(tmp_path):
    expected = Config(relay=(), transport="auto", words=3, anonymous=False, verify=False, out=None)
    assert load_config(tmp_path / "missing" / "config.toml") == expected


def test_every_setting_is_read(tmp_path):
    text = (
        f'relay = ["r.example:443{PIN}", "[::1]:9000", "10.0.0.1", "[fe80::1%eth0]:1{PIN}"]\n'
        'transport = "quic"\npaths = "direct-only"\nencrypt_twice = true\ncompress = false\nwords = 5\nanonymous = true\nverify = true\nout = "/tmp/ü"\n'
    )
    assert load(tmp_path, text) == Config(
        relay=(f"r.example:443{PIN}", "[::1]:9000", "10.0.0.1", f"[fe80::1%eth0]:1{PIN}"),
        transport="quic",
        paths="direct-only",
        encrypt_twice=True,
        compress=False,
        words=5,
        anonymous=True,
        verify=True,
        out="/tmp/ü",
    )


@pytest.mark.parametrize(
    ("key", "hint"), [("relays", "did you mean relay?"), ("colour", "the settings are relay,")]
)
def test_an_unknown_setting_is_refused_by_name_and_file(tmp_path, key, hint):
    with pytest.raises(ConfigError, match=f"'{key}'") as caught:
        load(tmp_path, f"{key} = 1")
    assert str(tmp_path / "config.toml") in str(caught.value)
    assert caught.value.hints[0].startswith(hint)


@pytest.mark.parametrize(
    "line",
    [
        'relay = "one.example"',
        "relay = [1]",
        'relay = [""]',
        'relay = ["a b"]',
        'relay = ["r.example:1#sha256:12"]',
        'relay = ["r.example#md5:00"]',
        'transport = "udp"',
        'transport = ["tcp"]',
        'paths = "relay"',
        "paths = 1",
        "encrypt_twice = 0",
        'compress = "no"',
        "words = 2",
        "words = 17",
        "words = true",
        "words = 3.0",
        'words = "3"',
        "anonymous = 1",
        'verify = "yes"',
        'out = ""',
        'out = "a\\u0000b"',
        "out = 1",
        "[relay]\nx = 1",
    ],
)
def test_a_wrong_value_is_refused_by_key_and_file(tmp_path, line):
    with pytest.raises(ConfigError, match="is not what it must be") as caught:
        load(tmp_path, line)
    assert str(tmp_path / "config.toml") in str(caught.value)
    assert caught.value.code == "bad_config"


def test_relays_just_within_and_just_beyond_the_limit(tmp_path):
    most = ", ".join([f'"r{number}.example"' for number in range(config_module.RELAYS)])
    assert len(load(tmp_path, f"relay = [{most}]").relay) == config_module.RELAYS
    with pytest.raises(ConfigError, match="relay in"):
        load(tmp_path, f'relay = [{most}, "one.more.example"]')


@pytest.mark.parametrize("text", ["relay =", "= 1", "a = 1\na = 2", "[" * 100_000])
def test_what_is_no_toml_is_refused_naming_the_file(tmp_path, text):
    with pytest.raises(ConfigError, match="is not TOML"):
        load(tmp_path, text)


def test_bytes_that_are_no_utf8_are_refused(tmp_path):
    (tmp_path / "config.toml").write_bytes(b'out = "\xff"')
    with pytest.raises(ConfigError, match="is not TOML"):
        load_config(tmp_path / "config.toml")


def test_a_file_just_within_and_just_beyond_the_limit(tmp_path):
    most = "#" * (config_module.CONFIG_BYTES - 1) + "\n"
    assert load(tmp_path, most) == Config()
    with pytest.raises(ConfigError, match="longer than"):
        load(tmp_path, most + "\n")


def test_a_directory_in_the_files_place_is_one_clear_error(tmp_path):
    (tmp_path / "config.toml").mkdir()
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path / "config.toml")


def test_what_is_saved_is_what_is_loaded(tmp_path):
    path = tmp_path / "new" / "config.toml"
    config = Config(relay=(f"r.example:1{PIN}",), transport="tcp", words=4, anonymous=True, out="x")
    save_config(config, path)
    assert load_config(path) == config
    assert "verify" not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    save_config(Config(), path)
    assert load_config(path) == Config()


def test_a_wrong_setting_is_not_saved(tmp_path):
    with pytest.raises(ConfigError):
        save_config(Config(words=99), tmp_path / "config.toml")
    assert list(tmp_path.iterdir()) == []


def test_rights_of_others_are_taken_from_the_file(tmp_path):
    load(tmp_path, "")
    (tmp_path / "config.toml").chmod(0o666)
    load_config(tmp_path / "config.toml")
    assert stat.S_IMODE((tmp_path / "config.toml").stat().st_mode) == 0o600

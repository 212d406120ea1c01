"""The user's settings: one TOML file, every key known, a wrong one refused by name.

relay = ["relay.example.org:443#sha256:..."]   # tried in this order; HOST, HOST:PORT or with a pin
transport = "auto"                             # auto, quic or tcp
paths = "any"                                  # any, relay-only or direct-only
encrypt_twice = false                          # file data stays inside the encrypted connection to a relay
compress = true                                # where smaller is faster
rejoin = "10m"                                 # how long a lost connection is tried again, "0" for not at all
words = 3                                      # words in a code, 3 to 16
anonymous = false                              # a throwaway identity each time
verify = false                                 # compare eight digits before anything is sent
out = "/home/me/Downloads"                     # where received files go; the current directory without it
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tallow_store.errors import ConfigError
from tallow_store.locations import make_private_directory, reason_of, repair_file, replace_private_file

CONFIG_BYTES = 256 * 1024
"""Largest file that is read: a thousand relays with their pins. tomllib takes about ten times that in memory."""

RELAYS = 64
"""Most relays in the list; all of them may be probed."""

WORDS_MIN, WORDS_MAX = 3, 16

PATHS = ("any", "relay-only", "direct-only")

# The shape only: the package that dials knows what a host and a port are.
_RELAY = re.compile(r"[^\s#]{1,300}(?:#sha256:[0-9A-Fa-f]{64})?")


# Likewise: how long is too long is the program's.
_TIME = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,3})?[smhd]?")


_RATE = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?[kKmMgG]?")


@dataclass(frozen=True, slots=True)
class Config:
    """The settings; what a file leaves out has its default."""

    relay: tuple[str, ...] = ()
    transport: str = "auto"
    paths: str = "any"
    encrypt_twice: bool = False
    compress: bool = True
    limit: str | None = None
    rejoin: str = "10m"
    words: int = WORDS_MIN
    anonymous: bool = False
    verify: bool = False
    out: str | None = None


def load_config(path: Path) -> Config:
    """Return the settings in a file, the defaults where there is none.

    Rights of others are taken from the file. Raises ConfigError for what is no TOML, an unknown key or a
    wrong value, naming the file; LocationError for another user's file.
    """
    repair_file(path)
    try:
        with path.open("rb") as file:
            data = file.read(CONFIG_BYTES + 1)
    except FileNotFoundError:
        return Config()
    except OSError as error:
        raise ConfigError(f"cannot read {str(path)!r}: {reason_of(error)}") from error
    if len(data) > CONFIG_BYTES:
        raise ConfigError(f"{str(path)!r} is longer than {CONFIG_BYTES} bytes")
    import tomllib

    try:
        table = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, or a number of thousands of digits
        raise ConfigError(f"{str(path)!r} is not TOML: {error}") from None
    return _checked(table, path)


def save_config(config: Config, path: Path) -> None:
    """Write settings that differ from the defaults, whole and at once, in a file of mode 0600.

    Raises ConfigError for a value that load_config would refuse, LocationError if it cannot be written.
    """
    import tomli_w

    defaults = Config()
    table: dict[str, object] = {}
    for key in _CHECKS:
        value = getattr(config, key)
        if value != getattr(defaults, key):
            table[key] = list(value) if isinstance(value, tuple) else value
    _checked(table, path)
    make_private_directory(path.parent)
    replace_private_file(path, tomli_w.dumps(table).encode())


def _relays(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list) or len(value) > RELAYS:
        return None
    if not all(isinstance(relay, str) and _RELAY.fullmatch(relay) for relay in value):
        return None
    return tuple(value)


def _transport(value: object) -> str | None:
    return value if isinstance(value, str) and value in {"auto", "quic", "tcp"} else None


def _paths(value: object) -> str | None:
    return value if isinstance(value, str) and value in PATHS else None


def _words(value: object) -> int | None:
    # A bool is an int to Python and not to a person.
    return value if type(value) is int and WORDS_MIN <= value <= WORDS_MAX else None


def _time(value: object) -> str | None:
    return value if isinstance(value, str) and _TIME.fullmatch(value) else None


def _rate(value: object) -> str | None:
    return value if isinstance(value, str) and _RATE.fullmatch(value) else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value and "\0" not in value else None


_CHECKS: dict[str, tuple[Callable[[object], object], str]] = {
    "relay": (
        _relays,
        f'a list of at most {RELAYS} texts like "relay.example.org:443" or with "#sha256:..." behind',
    ),
    "transport": (_transport, '"auto", "quic" or "tcp"'),
    "paths": (_paths, '"any", "relay-only" or "direct-only"'),
    "encrypt_twice": (_flag, "true or false"),
    "compress": (_flag, "true or false"),
    "rejoin": (_time, 'a time such as "90s", "10m" or "2h"'),
    "limit": (_rate, 'a rate like "500k" or "10M", in bytes a second'),
    "words": (_words, f"a number from {WORDS_MIN} to {WORDS_MAX}"),
    "anonymous": (_flag, "true or false"),
    "verify": (_flag, "true or false"),
    "out": (_text, "the path of a directory"),
}


def _checked(table: dict[str, object], path: Path) -> Config:
    for key in table:
        if key not in _CHECKS:
            from difflib import get_close_matches

            near = get_close_matches(key, _CHECKS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the settings are {', '.join(_CHECKS)}"
            raise ConfigError(f"{str(path)!r} has a setting {key!r} that Tallow does not know", hints=(hint,))
    values: dict[str, Any] = {}
    for key, value in table.items():
        check, expected = _CHECKS[key]
        values[key] = check(value)
        if values[key] is None:
            raise ConfigError(f"{key} in {str(path)!r} is not what it must be: {expected}")
    return Config(**values)

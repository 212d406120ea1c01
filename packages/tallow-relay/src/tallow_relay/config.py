"""RelayConfig: every setting of a relay, its TOML form, and what it takes.

docs/relay-operations.md explains each key with its cost. A key that is not known is refused: a limit that is
misspelt and silently not in force is worse than a relay that does not start.
"""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from tallow_net.limits import (
    IN_FLIGHT_BYTES,
    IN_FLIGHT_MAX_BYTES,
    IN_FLIGHT_MIN_BYTES,
    MAX_WAIT_MAX_S,
    MAX_WAIT_S,
    NOTICE_BYTES,
    ROOMS_PER_JOIN,
)

from tallow_relay.caps import CapLimits
from tallow_relay.errors import ConfigError
from tallow_relay.ratelimit import RateLimits
from tallow_relay.rooms import RoomLimits

# Below this a rate holds up the small frames of a handshake for longer than its deadlines bear.
LEAST_BYTES_PER_S = 64 * 1024
_MOST = 1 << 50
# One turn of a data connection. Smaller ones, measured at 256 KiB, double the cost and gain no fairness.
TURN_BYTES = 1024 * 1024
LEAST_TURN_BYTES = 8 * 1024


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """The settings of a relay; times in seconds, sizes in bytes. 0 for a rate means: not limited."""

    notice: str = ""
    connections: int = 10_000
    connections_per_address: int = 1024
    handshakes: int = 512
    first_frame_s: int = 10
    rooms: int = 100_000
    rooms_per_connection: int = ROOMS_PER_JOIN
    max_wait_s: int = MAX_WAIT_S
    joins_per_minute: int = 60
    joins_burst: int = 240
    room_bytes_per_s: int = 0
    address_bytes_per_s: int = 0
    total_bytes_per_s: int = 0
    in_flight_bytes: int = IN_FLIGHT_BYTES
    data_connections: bool = True
    shutdown_grace_s: int = 30

    @classmethod
    def load(cls, path: Path) -> "RelayConfig":
        """Return the settings of a TOML file; ConfigError names the file, the key and what it takes."""
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"the configuration {path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"the configuration {path} is not UTF-8") from None
        return cls.parse(text, name=str(path))

    @classmethod
    def parse(cls, text: str, *, name: str = "configuration") -> "RelayConfig":
        """Return the settings of a TOML text; keys that are left out have their defaults."""
        try:
            table = tomllib.loads(text)
        except (ValueError, RecursionError) as error:  # no TOML, or a number of thousands of digits
            raise ConfigError(f"{name} is no TOML: {error}") from None
        known = {field.name for field in fields(cls)}
        for key in table:
            if key not in known:
                raise ConfigError(
                    f"{name}: there is no setting {key!r}",
                    hints=(f"the settings are: {', '.join(sorted(known))}",),
                )
        for key, value in table.items():
            _check(name, key, value)
        config = cls(**table)
        if config.joins_burst < config.rooms_per_connection:
            raise ConfigError(
                f"{name}: joins_burst ({config.joins_burst}) must be at least rooms_per_connection "
                f"({config.rooms_per_connection}), or a full Join is never granted"
            )
        return config

    @property
    def room_limits(self) -> RoomLimits:
        """What the registry needs."""
        return RoomLimits(self.rooms, self.rooms_per_connection, float(self.max_wait_s))

    @property
    def rate_limits(self) -> RateLimits:
        """What the rate limiter needs."""
        return RateLimits(
            joins_per_minute=self.joins_per_minute,
            joins_burst=self.joins_burst,
            room_bytes_per_s=self.room_bytes_per_s,
            address_bytes_per_s=self.address_bytes_per_s,
            total_bytes_per_s=self.total_bytes_per_s,
        )

    @property
    def turn_bytes(self) -> int:
        """What a data connection moves before the next one has its turn.

        A turn is charged when it is over, so where a rate is limited it is an eighth of a second's worth: a pair whose
        data connections all move at once is then held up for a second or two, and its keep-alives with it.
        """
        rates = [
            rate for rate in (self.room_bytes_per_s, self.address_bytes_per_s, self.total_bytes_per_s) if rate
        ]
        return max(LEAST_TURN_BYTES, min(TURN_BYTES, *(rate // 8 for rate in rates))) if rates else TURN_BYTES

    @property
    def cap_limits(self) -> CapLimits:
        """What the count of connections needs."""
        return CapLimits(self.connections, self.connections_per_address, self.handshakes)


# The smallest and the largest value of each number. `handshakes` ends where the listener's own bound begins.
RANGES: dict[str, tuple[int, int]] = {
    "connections": (2, 1_000_000),
    "connections_per_address": (1, 1_000_000),
    "handshakes": (1, 512),
    "first_frame_s": (1, 60),
    "rooms": (1, 10_000_000),
    "rooms_per_connection": (1, ROOMS_PER_JOIN),
    "max_wait_s": (1, MAX_WAIT_MAX_S),
    "joins_per_minute": (1, 1_000_000),
    "joins_burst": (1, 1_000_000),
    "room_bytes_per_s": (LEAST_BYTES_PER_S, _MOST),
    "address_bytes_per_s": (LEAST_BYTES_PER_S, _MOST),
    "total_bytes_per_s": (LEAST_BYTES_PER_S, _MOST),
    "in_flight_bytes": (IN_FLIGHT_MIN_BYTES, IN_FLIGHT_MAX_BYTES),
    "shutdown_grace_s": (0, 86_400),
}
RATES = ("room_bytes_per_s", "address_bytes_per_s", "total_bytes_per_s")


def _check(name: str, key: str, value: object) -> None:
    if key == "notice":
        if not isinstance(value, str) or len(value.encode()) > NOTICE_BYTES:
            raise ConfigError(f"{name}: notice is a text of at most {NOTICE_BYTES} bytes of UTF-8")
        return
    if key == "data_connections":
        if type(value) is not bool:
            raise ConfigError(f"{name}: data_connections is true or false, not {_shown(value)}")
        return
    least, most = RANGES[key]
    rate = key in RATES
    if type(value) is not int or not (least <= value <= most or (rate and value == 0)):
        unlimited = "0 (not limited), or " if rate else ""
        raise ConfigError(
            f"{name}: {key} is {unlimited}a whole number from {least} to {most}, not {_shown(value)}"
        )


def _shown(value: object) -> str:
    """Return a refused value for an error's sentence."""
    try:
        shown = repr(value)
    except (ValueError, RecursionError):  # a number of more digits than Python writes, or a list of such
        return "this"
    return shown if len(shown) <= 80 else f"{shown[:80]}..."

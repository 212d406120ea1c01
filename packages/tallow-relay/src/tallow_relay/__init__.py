"""Blind relay of Tallow: joins two connections and copies bytes it cannot read."""

from tallow_relay.config import RelayConfig
from tallow_relay.errors import ConfigError, ListenError, RelayError, StateError
from tallow_relay.server import RelayServer
from tallow_relay.state import open_state

__all__ = [
    "ConfigError",
    "ListenError",
    "RelayConfig",
    "RelayError",
    "RelayServer",
    "StateError",
    "open_state",
]

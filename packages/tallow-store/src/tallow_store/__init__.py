"""What Tallow keeps on disk: configuration, identity, known relays, and what makes a transfer go on."""

from typing import TYPE_CHECKING

from tallow_store.errors import (
    ConfigError,
    DatabaseBusyError,
    DatabaseDamagedError,
    DatabaseError,
    DatabaseFullError,
    KeyFileError,
    LocationError,
    MisuseError,
    NewerSchemaError,
    RelayPinError,
    SealError,
    StoreError,
)

if TYPE_CHECKING:
    from tallow_store.config import Config, load_config, save_config
    from tallow_store.database import SCHEMA_VERSION, Database
    from tallow_store.digests import SourceDigestStore
    from tallow_store.identity import load_or_create_identity
    from tallow_store.locations import Locations
    from tallow_store.partials import PartialPlace, PartialPlaceStore
    from tallow_store.relays import KnownRelay, KnownRelayStore
    from tallow_store.sealed import SealedBox, load_key, load_or_create_key

__all__ = [
    "SCHEMA_VERSION",
    "Config",
    "ConfigError",
    "Database",
    "DatabaseBusyError",
    "DatabaseDamagedError",
    "DatabaseError",
    "DatabaseFullError",
    "KeyFileError",
    "KnownRelay",
    "KnownRelayStore",
    "LocationError",
    "Locations",
    "MisuseError",
    "NewerSchemaError",
    "PartialPlace",
    "PartialPlaceStore",
    "RelayPinError",
    "SealError",
    "SealedBox",
    "SourceDigestStore",
    "StoreError",
    "load_config",
    "load_key",
    "load_or_create_identity",
    "load_or_create_key",
    "save_config",
]

# SQLite and the keys take longer to import than a sender takes to show its code: each comes with the first use of a name.
_LATE = {
    "SCHEMA_VERSION": "database",
    "Config": "config",
    "Database": "database",
    "KnownRelay": "relays",
    "KnownRelayStore": "relays",
    "Locations": "locations",
    "PartialPlace": "partials",
    "PartialPlaceStore": "partials",
    "SealedBox": "sealed",
    "SourceDigestStore": "digests",
    "load_config": "config",
    "load_key": "sealed",
    "load_or_create_identity": "identity",
    "load_or_create_key": "sealed",
    "save_config": "config",
}


def __getattr__(name: str) -> object:
    module = _LATE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{module}"), name)

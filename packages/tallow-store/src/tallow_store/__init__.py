"""What Tallow keeps on disk: configuration, identity, known relays, and what makes a transfer go on."""

from tallow_store.config import Config, load_config, save_config
from tallow_store.database import SCHEMA_VERSION, Database
from tallow_store.digests import SourceDigestStore
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

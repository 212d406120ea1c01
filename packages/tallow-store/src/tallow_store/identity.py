"""The identity of this user: made once, kept sealed in the database, never silently made anew."""

from tallow_crypto import CryptoError, IdentityKeyPair, Secret

from tallow_store.database import Database
from tallow_store.errors import KeyFileError, SealError
from tallow_store.locations import Locations
from tallow_store.sealed import SealedBox, load_key, load_or_create_key

_NAME = "identity"
_FIND = "SELECT value FROM sealed_value WHERE name = ?"
# The first of several processes wins, and all return what it wrote.
_KEEP = "INSERT INTO sealed_value (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING"


def load_or_create_identity(
    locations: Locations | None = None, *, database: Database | None = None
) -> IdentityKeyPair:
    """Return this user's identity; at the very first use it is made, under a key file of mode 0600.

    `locations` are found by the environment unless given; `database` is opened for the call unless given.
    Raises KeyFileError and SealError where there is an identity that cannot be opened: never a new one in
    its place. Raises DatabaseError and LocationError too.
    """
    places = Locations.find() if locations is None else locations
    if database is not None:
        return _load_or_create(places, database)
    with Database.open(places.database_file) as opened:
        return _load_or_create(places, opened)


def _load_or_create(places: Locations, database: Database) -> IdentityKeyPair:
    sealed = _find(database)
    if sealed is not None:
        return _open(places, sealed)
    box = SealedBox(load_or_create_key(places.key_file))
    made = IdentityKeyPair.generate()
    with database.transaction():
        database.execute(_KEEP, (_NAME, box.seal(_NAME, made.seed)))
    kept = _find(database)
    if kept is None:
        raise SealError("the identity was removed from the database while it was being made")
    return _open(places, kept)


def _find(database: Database) -> bytes | None:
    rows = database.execute(_FIND, (_NAME,))
    if not rows:
        return None
    value = rows[0][0]
    return value if isinstance(value, bytes) else b""


def _open(places: Locations, sealed: bytes) -> IdentityKeyPair:
    try:
        key = load_key(places.key_file)
    except FileNotFoundError:
        raise KeyFileError(
            f"the key file {str(places.key_file)!r} is missing, so the identity cannot be opened",
            hints=(
                "restore it from a backup",
                f"or, to begin with a new identity, move {places.database_file} away",
            ),
        ) from None
    seed: Secret = SealedBox(key).open(_NAME, sealed)
    try:
        return IdentityKeyPair.from_seed(seed)
    except CryptoError as error:
        raise SealError(f"the identity cannot be used: {error}", hints=error.hints) from None

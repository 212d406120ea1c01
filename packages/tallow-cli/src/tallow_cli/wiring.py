"""Options, environment and configuration become what the protocol needs; the store is joined to its ports."""

from __future__ import annotations

import contextlib
import logging
import re
import shlex
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from tallow_net import InvalidAddressError, RelayAddress, RelayPin, TransportChoice
from tallow_protocol import PathLimit, Ports, TransferOptions, UnreachableError
from tallow_protocol.aio.addresses import parse_peer
from tallow_protocol.limits import CODE_WORDS_MAX, CODE_WORDS_MIN
from tallow_store.config import load_config
from tallow_store.errors import RelayPinError, StoreError
from tallow_store.locations import Locations, make_private_directory

from tallow_cli.errors import UsageError
from tallow_cli.rates import bytes_per_second
from tallow_cli.times import seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tallow_crypto import Fingerprint, IdentityKeyPair
    from tallow_protocol.ports import SourceDigests, SourceVersion
    from tallow_store import Config, Database, KnownRelayStore

__all__ = [
    "PATHS_VARIABLE",
    "REJOIN_VARIABLE",
    "RELAY_VARIABLE",
    "Limits",
    "Settings",
    "Wiring",
    "check_limits",
    "check_peer",
    "settings",
    "wired",
]

_Result = TypeVar("_Result")

RELAY_VARIABLE = "TALLOW_RELAY"

PATHS_VARIABLE = "TALLOW_PATHS"

_RELAY_HINT = (f"a relay for every transfer: {RELAY_VARIABLE}, or relay = [...] in the configuration file",)

REJOIN_VARIABLE = "TALLOW_REJOIN"

REJOIN_MOST_S = 30 * 86400.0
"""A month: as long as what arrived is kept."""

PROGRAM_VARIABLE = "TALLOW_PROGRAM"
"""The path of this program, where that is not `tallow`: a checkout's own start script sets it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What was typed of the ways that file data may take."""

    relay_only: bool = False
    direct_only: bool = False
    encrypt_twice: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """What a command runs with, after option, environment and configuration, in that order.

    What is `given` stems from an option, or for relays from the environment: the other side does not know it from a
    configuration like ours, so the line for it repeats it. `typed` are the options that limit the paths.
    """

    locations: Locations
    relays: tuple[RelayAddress, ...]
    given_relays: tuple[RelayAddress, ...]
    transport: TransportChoice
    given_transport: TransportChoice | None
    paths: PathLimit
    encrypt_twice: bool
    typed: Limits
    compress: bool
    words: int
    verify: bool
    anonymous: bool
    out: str
    program: str
    rejoin_s: float
    limit: float | None = None
    expire_s: float | None = None
    force: bool = False
    exclude: tuple[str, ...] = ()
    gitignore: bool = False


@dataclass(frozen=True, slots=True)
class Wiring:
    """What a transfer runs with, and how the other side is told to join it."""

    options: TransferOptions
    given_relays: tuple[RelayAddress, ...] = ()
    given_transport: TransportChoice | None = None
    given_encrypt_twice: bool = False
    program: str = "tallow"

    @property
    def relays(self) -> tuple[RelayAddress, ...]:
        """Return the relays in use, the first choice first; empty for a direct transfer."""
        return self.options.relays

    @property
    def meeting_place(self) -> str:
        """Return what is waited for first, in words."""
        if not self.relays:
            return "a sender on this network"
        names = ", ".join(f"{address.host}:{address.port}" for address in self.relays)
        return f"the relay {names}" if len(self.relays) == 1 else f"one of the relays {names}"

    def receive_command(self, code: str, peer: str | None = None) -> str:
        """Return the whole command for the other side, quoted for a shell; `peer` is HOST:PORT to go straight to."""
        words = [self.program, "receive"]
        for address in self.given_relays:
            words += ["--relay", str(address)]
        if self.given_transport is not None:
            words += ["--transport", self.given_transport.value]
        if self.given_encrypt_twice:
            words.append("--encrypt-twice")
        if peer is not None:
            words += ["--peer", peer]
        return shlex.join([*words, code])


def settings(
    environment: Mapping[str, str],
    *,
    relays: Sequence[str] | None,
    transport: str | None,
    verify: bool,
    anonymous: bool,
    words: int | None = None,
    out: str | None = None,
    rejoin: str | None = None,
    limit: str | None = None,
    expire: str | None = None,
    force: bool = False,
    exclude: tuple[str, ...] = (),
    gitignore: bool = False,
    limits: Limits = Limits(),
    no_compress: bool = False,
) -> Settings:
    """Return the settings of one command from what was typed; None is what was not.

    Raises UsageError for a relay address that is none and for limits that exclude each other, and the store's errors
    for its configuration.
    """
    locations = Locations.find(environment)
    config: Config = load_config(locations.config_file)
    given = relays or [text for text in re.split(r"[,\s]+", environment.get(RELAY_VARIABLE, "")) if text]
    given_relays = tuple(_relay(text) for text in given)
    if words is not None and not CODE_WORDS_MIN <= words <= CODE_WORDS_MAX:
        raise UsageError(f"--words is a number from {CODE_WORDS_MIN} to {CODE_WORDS_MAX}, not {words}")
    return Settings(
        locations=locations,
        relays=given_relays or tuple(_relay(text) for text in config.relay),
        given_relays=given_relays,
        transport=TransportChoice(transport or config.transport),
        given_transport=None if transport is None else TransportChoice(transport),
        paths=_paths(limits, environment.get(PATHS_VARIABLE) or config.paths),
        encrypt_twice=limits.encrypt_twice or config.encrypt_twice,
        typed=limits,
        compress=config.compress and not no_compress,
        words=config.words if words is None else words,
        verify=verify or config.verify,
        anonymous=anonymous or config.anonymous,
        out=out or config.out or ".",
        program=environment.get(PROGRAM_VARIABLE) or "tallow",
        rejoin_s=seconds_of(
            rejoin or environment.get(REJOIN_VARIABLE) or config.rejoin, "--rejoin", most_s=REJOIN_MOST_S
        ),
        limit=_limit(limit or config.limit),
        # Zero switches it off.
        expire_s=None if expire is None else seconds_of(expire, "--expire", most_s=REJOIN_MOST_S) or None,
        force=force,
        exclude=exclude,
        gitignore=gitignore,
    )


@contextlib.contextmanager
def wired(chosen: Settings, *, direct: bool = False) -> Iterator[Wiring]:
    """Open what the settings need of the store, and close it at the end.

    `direct` leaves the relays out, for a receiver that was told where the sender listens. Without relays the database
    is opened when the identity is needed, and for an anonymous transfer never. Raises the store's errors.
    """
    relays = () if direct else chosen.relays
    with contextlib.ExitStack() as open_things:
        ports = Ports()
        if not chosen.anonymous:
            ports = Ports(partials=_Places(chosen.locations), digests=_Digests(chosen.locations))
        if relays:
            from tallow_store import Database, KnownRelayStore

            database = open_things.enter_context(Database.open(chosen.locations.database_file))
            ports = replace(ports, relays=_KnownRelays(KnownRelayStore(database), relays))
        elif not chosen.anonymous:
            make_private_directory(chosen.locations.database_file.parent)  # what fails, fails before the code
        options = TransferOptions(
            relays=relays,
            transport=chosen.transport,
            paths=chosen.paths,
            plain_data=not chosen.encrypt_twice,
            compress=chosen.compress,
            verify=chosen.verify,
            rejoin_s=chosen.rejoin_s,
            limit_bytes_per_s=chosen.limit,
            expire_s=chosen.expire_s,
            force_space=chosen.force,
            exclude=chosen.exclude,
            gitignore=chosen.gitignore,
            # Loaded while the sender waits already: SQLite and the keys take longer than the code.
            identity=None if chosen.anonymous else partial(_identity, chosen.locations),
            ports=ports,
        )
        yield Wiring(
            options,
            given_relays=() if direct else chosen.given_relays,
            given_transport=chosen.given_transport,
            given_encrypt_twice=chosen.typed.encrypt_twice,
            program=chosen.program,
        )


def check_limits(chosen: Settings, *, peer: str | None = None) -> None:
    """Raise UsageError where the limits leave no way, or an option that was typed could have no effect."""
    if chosen.paths is PathLimit.RELAY_ONLY:
        here = "--relay-only" if chosen.typed.relay_only else 'the setting paths = "relay-only"'
        over = () if chosen.typed.relay_only else (f"{PATHS_VARIABLE}=any lifts the setting for one command",)
        if peer is not None:
            raise UsageError(f"{here} forbids --peer, which goes straight to the sender", hints=over)
        if not chosen.relays:
            raise UsageError(f"{here} needs a relay, and none is given", hints=(*_RELAY_HINT, *over))
    if chosen.typed.encrypt_twice:
        if peer is not None or not chosen.relays:
            raise UsageError(
                "--encrypt-twice is about the connection to a relay, and this transfer uses none",
                hints=("leave it out: data on a direct path is sealed from end to end too",),
            )
        if chosen.paths is PathLimit.DIRECT_ONLY:
            raise UsageError(
                "--encrypt-twice is about file data that goes through a relay, and here it never does",
                hints=("leave out --encrypt-twice, or what limits the transfer to direct paths",),
            )


def check_peer(peer: str | None) -> str | None:
    """Return HOST:PORT as it was given, None for a meeting at a relay or a search of the network.

    UsageError where it is no such thing.
    """
    if peer is None:
        return None
    try:
        parse_peer(peer)
    except UnreachableError:
        raise UsageError(
            f"--peer is HOST:PORT, not {peer!r}",
            hints=("the sender's screen shows it; an IPv6 address stands in brackets: [2001:db8::1]:4821",),
        ) from None
    return peer


class _Digests:
    """Joins the store's digests of sent files to the protocol's port."""

    def __init__(self, locations: Locations) -> None:
        self._locations = locations

    def digests(self, version: SourceVersion, chunk_size: int) -> bytes:
        """Return what the first chunks of this version of a file were hashed to."""
        from tallow_store import SourceDigestStore

        found = _stored(
            self._locations, lambda database: SourceDigestStore(database).digests(version, chunk_size)
        )
        return found or b""

    def remember(self, pieces: Sequence[SourceDigests]) -> None:
        """Keep digests, in one transaction."""
        from tallow_store import SourceDigestStore

        kept = [(piece.version, piece.chunk_size, piece.first, piece.digests) for piece in pieces]
        _stored(self._locations, lambda database: SourceDigestStore(database).remember(kept))


class _Places:
    """Joins the store's notes on where partial files lie to the protocol's port."""

    def __init__(self, locations: Locations) -> None:
        self._locations = locations

    def remember(self, peer: Fingerprint, place: str) -> None:
        """Note that partial files of a sender may lie there."""
        from tallow_store import PartialPlaceStore

        sender = bytes(peer)
        _stored(self._locations, lambda database: PartialPlaceStore(database).remember(sender, place))

    def forget(self, peer: Fingerprint, place: str) -> None:
        """Drop that note."""
        from tallow_store import PartialPlaceStore

        sender = bytes(peer)
        _stored(self._locations, lambda database: PartialPlaceStore(database).forget(sender, place))


def _stored(locations: Locations, work: Callable[[Database], _Result]) -> _Result | None:
    """Open the database for one call, in whatever thread that comes: what fails costs a memory, never a transfer."""
    from tallow_store import Database

    try:
        with Database.open(locations.database_file) as database:
            return work(database)
    except StoreError as error:
        logging.getLogger("tallow_cli").warning("the store was not used: %s", error)
        return None


def _identity(locations: Locations) -> IdentityKeyPair:
    from tallow_store import load_or_create_identity

    return load_or_create_identity(locations)


class _KnownRelays:
    """Joins the store's relays to the protocol's port: the same facts, in either package's own type."""

    def __init__(self, store: KnownRelayStore, relays: Sequence[RelayAddress]) -> None:
        self._store = store
        self._pinned = {
            (address.host, address.port, address.pin) for address in relays if address.pin is not None
        }

    def lookup(self, host: str, port: int) -> RelayPin | None:
        """Return what the store remembers of this relay."""
        known = self._store.lookup(host, port)
        return None if known is None else RelayPin(known.mode, known.spki_sha256)

    def remember(self, host: str, port: int, pin: RelayPin) -> None:
        """Write it down. What stands there is replaced only by a pin that the user's own address carries."""
        try:
            self._store.remember(host, port, pin.mode, pin.spki_sha256)
        except RelayPinError:
            if (host, port, pin.spki_sha256) not in self._pinned:
                raise
            self._store.replace(host, port, pin.mode, pin.spki_sha256)


def _limit(text: str | None) -> float | None:
    return None if text is None else bytes_per_second(text)


def _paths(typed: Limits, otherwise: str) -> PathLimit:
    """Return the limit that was typed, else that of environment or configuration."""
    if typed.relay_only and typed.direct_only:
        raise UsageError(
            "--relay-only and --direct-only exclude each other",
            hints=("leave both out for the fastest path that is found",),
        )
    if typed.relay_only or typed.direct_only:
        return PathLimit.RELAY_ONLY if typed.relay_only else PathLimit.DIRECT_ONLY
    try:
        return PathLimit(otherwise)
    except ValueError:
        choices = ", ".join(limit.value for limit in PathLimit)
        raise UsageError(f"{PATHS_VARIABLE} is one of {choices}, not {otherwise!r}") from None


def _relay(text: str) -> RelayAddress:
    try:
        return RelayAddress.parse(text)
    except InvalidAddressError as error:
        raise UsageError(
            f"this is no relay address: {text}",
            hints=(str(error), "it is HOST, HOST:PORT, or with #sha256:HEX behind"),
        ) from None

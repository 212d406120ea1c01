"""What a QUIC engine gives to our shell, and which library it comes from.

aioquic is always installed. qh3, a fork of it whose core is in Rust, is the extra `tallow-net[qh3]` and many times
faster; it is used where it is installed. Each is imported where it is used, so neither costs the start of a program.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from tallow_net.errors import MisuseError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tallow_net.transport.certificates import Certificate

# The first bidirectional stream of the client; the only one there is.
STREAM = 0

# Receive window: what a peer may have under way before we read. 16 MiB fills 1 Gbit/s at 130 ms.
WINDOW_BYTES = 16 * 1024 * 1024

# Larger than the 45 s after which the layer above gives up: nobody is cut off by this layer first.
IDLE_S = 120.0

# Overrides the choice for a whole process: aioquic or qh3. For tests of the commands and for whoever meets a fault.
ENGINE_VARIABLE = "TALLOW_QUIC_ENGINE"

Address = Any  # what the socket module gives: a pair for IPv4, four values for IPv6


class QuicEngineChoice(Enum):
    """Which library runs QUIC connections."""

    BEST = "best"
    """qh3 where it is installed, else aioquic."""
    AIOQUIC = "aioquic"
    QH3 = "qh3"


class EngineUser(Protocol):
    """Who is told what happened on a connection, in order."""

    def take_in(self, data: bytes, *, ends: bool) -> None:
        """Take stream data; `ends` with the peer's last."""

    def handshake_completed(self, alpn: str | None) -> None:
        """Take note of the protocol that was agreed on."""

    def broken_off(self) -> None:
        """Take note that the peer broke off the stream."""

    def route(self, connection_id: bytes, *, on: bool) -> None:
        """Take note that datagrams to this id are, or are no longer, for this connection."""

    def terminated(self, code: int, reason: str) -> None:
        """Take note that the connection is over, with QUIC's code and words (the peer's, or the engine's own)."""


class QuicEngine(Protocol):
    """One QUIC connection with one stream, sans-IO.

    Its receive window follows what `taken` was told: of a peer that nobody reads it holds at most the window. Any
    method may raise an exception of the library, which ends the connection.
    """

    is_client: bool
    host_cid: bytes

    def connect(self, addr: Address, now: float) -> None:
        """Begin the handshake, as a client."""

    def receive(self, data: bytes, segment_bytes: int, address: Address, now: float) -> None:
        """Take datagrams that came together: all of `segment_bytes`, but for the last, which may be shorter."""

    def deliver(self, user: EngineUser) -> None:
        """Tell `user` what has happened."""

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """Return what is to be sent now."""

    def get_timer(self) -> float | None:
        """Return when `handle_timer` is due."""

    def handle_timer(self, now: float) -> None:
        """Do what is due."""

    def open_stream(self) -> None:
        """Open the stream, as the client, and let the server know of it."""

    @property
    def stream_open(self) -> bool:
        """Whether `write` may be called."""

    def write(self, data: bytes) -> None:
        """Queue data behind what was written before."""

    def end(self) -> None:
        """Queue the end of the stream."""

    @property
    def unacknowledged(self) -> int:
        """Bytes written that the peer may not have yet."""

    @property
    def end_acknowledged(self) -> bool:
        """Whether the peer has the end of the stream."""

    def taken(self, count: int) -> bool:
        """Note that the application read `count` bytes more; True where events or datagrams came of it."""

    def peer_chain(self) -> tuple[bytes, ...]:
        """Return the certificates (DER) that the peer sent, its own first; unverified."""

    def close(self, error_code: int = 0) -> None:
        """Queue the word to the peer that the connection is over."""


@dataclass(frozen=True, slots=True)
class InitialHeader:
    """The cleartext of a datagram's first long header."""

    destination_id: bytes
    source_id: bytes
    version: int | None  # None where it is a version negotiation or a short header
    known_version: bool
    initial: bool


class EngineLibrary(Protocol):
    """Makes engines of one library."""

    name: str

    def client(self, server_name: str, *, window: int, probes: bool) -> QuicEngine:
        """Return a client's engine. The certificate is left to the caller; `probes`: datagrams may grow."""

    def server_configuration(self, certificate: Certificate) -> Any:
        """Return what all connections of a server share. No session tickets, so no early data."""

    def server(self, configuration: Any, first_id: bytes, *, window: int, probes: bool) -> QuicEngine:
        """Return the engine of a connection whose first datagram went to `first_id`."""

    def read_header(self, datagram: bytes, id_bytes: int) -> InitialHeader | None:
        """Read a long header; None where it is none."""

    def version_negotiation(self, header: InitialHeader) -> bytes:
        """Return the datagram that answers an unknown version."""


_chosen: ContextVar[QuicEngineChoice] = ContextVar("quic_engine", default=QuicEngineChoice.BEST)


@contextmanager
def use_quic_engine(choice: QuicEngineChoice) -> Iterator[None]:
    """Let connections and listeners that begin in this scope use that engine."""
    token = _chosen.set(choice)
    try:
        yield
    finally:
        _chosen.reset(token)


def engine_library() -> EngineLibrary:
    """Return the library of the scope, else of the process, else the best that is installed."""
    choice = _chosen.get()
    if choice is QuicEngineChoice.BEST:
        word = os.environ.get(ENGINE_VARIABLE) or choice.value
        if word not in {known.value for known in QuicEngineChoice}:
            raise MisuseError(f"{ENGINE_VARIABLE} is {word!r}; it may be aioquic or qh3.")
        choice = QuicEngineChoice(word)
    return _library(choice)


@functools.cache
def _library(choice: QuicEngineChoice) -> EngineLibrary:
    if choice is QuicEngineChoice.BEST:
        if importlib.util.find_spec("qh3") is not None:
            with suppress(ImportError):  # too old, or not for this machine
                return _library(QuicEngineChoice.QH3)
        return _library(QuicEngineChoice.AIOQUIC)
    if choice is QuicEngineChoice.QH3:
        from tallow_net.transport.quic_qh3 import LIBRARY as QH3

        return QH3
    from tallow_net.transport.quic_aioquic import LIBRARY

    return LIBRARY

"""The server side of QUIC: many connections on one UDP socket, told apart by connection id."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tallow_net.transport.datagrams import ID_BYTES, DatagramLoop
from tallow_net.transport.interface import remote_name
from tallow_net.transport.path_mtu import DATAGRAM_BYTES
from tallow_net.transport.quic import QuicTransport
from tallow_net.transport.quic_engine import engine_library

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from tallow_net.transport.certificates import Certificate
    from tallow_net.transport.datagrams import Address

# A client's first destination id has 8 bytes or more (RFC 9000, section 7.2).
FIRST_ID_BYTES = 8


class QuicEndpoint:
    """Routes datagrams to connections and begins one for each plausible Initial.

    `admit` is asked with the peer's IP address before anything is spent on it, `offer` gets each transport
    whose handshake is complete, and `gone` is told of each admitted one that never came so far. At most
    `handshakes` are under way at once, each for at most `handshake_s`.
    """

    def __init__(
        self,
        sock: socket.socket,
        certificate: Certificate,
        *,
        admit: Callable[[str], bool],
        offer: Callable[[QuicTransport, str], None],
        gone: Callable[[str], None],
        handshakes: int,
        handshake_s: float,
        window: int,
    ) -> None:
        self._window = window
        self._library = engine_library()
        self._configuration = self._library.server_configuration(certificate)
        self._admit = admit
        self._offer = offer
        self._gone = gone
        self._handshakes = handshakes
        self._handshake_s = handshake_s
        self._routes: dict[bytes, QuicTransport] = {}
        self._open: set[QuicTransport] = set()
        self._opening: dict[QuicTransport, asyncio.TimerHandle] = {}
        self._accepting = True
        self._datagrams = DatagramLoop(
            sock,
            connected_to=None,
            route=self._route,
            refused=lambda _error: None,
        )

    def stop_accepting(self) -> None:
        """End handshakes under way; the socket closes with the last open connection."""
        self._accepting = False
        for transport in list(self._opening):
            transport.abort()
        self._close_if_done()

    def _route(self, data: bytes, address: Address) -> QuicTransport | None:
        if len(data) > ID_BYTES and not data[0] & 0x80:
            return self._routes.get(data[1 : 1 + ID_BYTES])
        header = self._library.read_header(data, ID_BYTES)
        if header is None:
            return None
        known = self._routes.get(header.destination_id)
        if known is not None:
            return known
        if len(data) < DATAGRAM_BYTES or not self._accepting:
            return None  # too short for a first datagram: an answer could be longer than the question
        if header.version is None:
            return None
        if not header.known_version:
            self._datagrams.send(self._library.version_negotiation(header), address)
            return None
        if not header.initial or len(header.destination_id) < FIRST_ID_BYTES:
            return None
        return self._begin(header.destination_id, address)

    def _begin(self, first_id: bytes, address: Address) -> QuicTransport | None:
        host = str(address[0])
        if len(self._opening) >= self._handshakes or not self._admit(host):
            return None
        loop = asyncio.get_running_loop()
        engine = self._library.server(
            self._configuration, first_id, window=self._window, probes=self._datagrams.unfragmented
        )
        transport = QuicTransport(
            engine,
            self._datagrams,
            remote_name(address),
            window=self._window,
            route_changed=lambda cid, on: route(cid, on=on),
        )

        def route(cid: bytes, *, on: bool) -> None:
            if on:
                self._routes[cid] = transport
                ids.add(cid)
            else:
                self._routes.pop(cid, None)
                ids.discard(cid)

        ids: set[bytes] = set()
        route(first_id, on=True)
        route(engine.host_cid, on=True)

        def opened() -> None:
            self._opening.pop(transport).cancel()
            self._open.add(transport)
            self._offer(transport, host)

        def released() -> None:
            for cid in ids:
                self._routes.pop(cid, None)
            self._open.discard(transport)
            if (timer := self._opening.pop(transport, None)) is not None:
                timer.cancel()
                self._gone(host)
            self._close_if_done()

        self._opening[transport] = loop.call_later(self._handshake_s, transport.abort)
        transport.on_change(opened=opened, released=released)
        return transport

    def _close_if_done(self) -> None:
        if not self._accepting and not self._open and not self._opening:
            self._datagrams.close()

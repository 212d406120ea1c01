"""What is the same in aioquic and in qh3, a fork of it: the names of events, packets and settings.

Each library has its own classes of these names, so each is handed to what stands here.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from tallow_net.transport.path_mtu import DATAGRAM_BYTES
from tallow_net.transport.quic_engine import IDLE_S, STREAM, InitialHeader
from tallow_net.transport.tcp import ALPN

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallow_net.transport.quic_engine import EngineUser

# Version 1, and version 2 (RFC 9369).
VERSIONS = (0x1, 0x6B3343CF)

# Both log under this name, as warnings what strangers send; without a handler Python would print them on the terminal.
logging.getLogger("quic").addHandler(logging.NullHandler())


def settings() -> dict[str, Any]:
    """Return what the configurations of both libraries, of clients and servers, have in common."""
    return {
        "alpn_protocols": [ALPN],
        "idle_timeout": IDLE_S,
        "max_datagram_size": DATAGRAM_BYTES,
        "supported_versions": list(VERSIONS),
    }


def hand_on(
    next_event: Callable[[], Any], events: Any, user: EngineUser, refuse_stream: Callable[[], None]
) -> None:
    """Tell `user` of every event that waits. `events` is the library's module; any other stream is refused."""
    while (event := next_event()) is not None:
        if isinstance(event, events.StreamDataReceived):
            if event.stream_id == STREAM:
                user.take_in(event.data, ends=event.end_stream)
            else:
                refuse_stream()
        elif isinstance(event, events.HandshakeCompleted):
            user.handshake_completed(event.alpn_protocol)
        elif isinstance(event, events.StreamReset | events.StopSendingReceived):
            user.broken_off()
        elif isinstance(event, events.ConnectionIdIssued):
            user.route(event.connection_id, on=True)
        elif isinstance(event, events.ConnectionIdRetired):
            user.route(event.connection_id, on=False)
        elif isinstance(event, events.ConnectionTerminated):
            user.terminated(event.error_code, event.reason_phrase)


class Packets:
    """What is read and written outside of a connection. `packet` and `buffer`: the library's module and class."""

    def __init__(self, packet: Any, buffer: Any) -> None:
        self._packet = packet
        self._buffer = buffer

    def read_header(self, datagram: bytes, id_bytes: int) -> InitialHeader | None:
        """See EngineLibrary."""
        kinds = self._packet.QuicPacketType
        try:
            header = self._packet.pull_quic_header(self._buffer(data=datagram), host_cid_length=id_bytes)
        except ValueError:
            return None
        return InitialHeader(
            destination_id=header.destination_cid,
            source_id=header.source_cid,
            version=header.version if header.packet_type != kinds.VERSION_NEGOTIATION else None,
            known_version=header.version in VERSIONS,
            initial=header.packet_type == kinds.INITIAL,
        )

    def version_negotiation(self, header: InitialHeader) -> bytes:
        """See EngineLibrary."""
        answer: bytes = self._packet.encode_quic_version_negotiation(
            source_cid=header.destination_id,
            destination_cid=header.source_id,
            supported_versions=list(VERSIONS),
        )
        return answer

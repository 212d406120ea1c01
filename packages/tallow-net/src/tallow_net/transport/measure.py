"""What the kernel knows of a TCP connection, where it tells (Linux)."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

__all__ = ["Measured", "measured"]

_TCP_INFO_BYTES = 160
_RETRANSMITTED_AT, _SHORTEST_AT, _SENT_AT = 100, 148, 156
"""Where struct tcp_info of linux/tcp.h has tcpi_total_retrans, tcpi_min_rtt (us) and tcpi_data_segs_out."""

ENOUGH_SEGMENTS = 1000
"""Below so many segments a share of lost ones says nothing."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The shortest round trip, in seconds, and the share of segments that were sent again, None for too few."""

    round_trip_s: float
    lost_share: float | None


def measured(sock: socket.socket) -> Measured | None:
    """Return what the kernel measured on a connected TCP socket, None where it does not tell."""
    option = getattr(socket, "TCP_INFO", None)
    if option is None:
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, option, _TCP_INFO_BYTES)
    except OSError:
        return None
    if len(info) < _TCP_INFO_BYTES:
        return None
    (again,) = struct.unpack_from("=I", info, _RETRANSMITTED_AT)
    (shortest_us,) = struct.unpack_from("=I", info, _SHORTEST_AT)
    (sent,) = struct.unpack_from("=I", info, _SENT_AT)
    return Measured(shortest_us / 1e6, again / sent if sent >= ENOUGH_SEGMENTS else None)

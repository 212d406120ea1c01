"""The optional QUIC engine: qh3, whose packet core is in Rust.

Its receive window follows what is taken out of its core, so data stays in there until the application reads. Some
names of it used here are private or without promise: tests/net/transport/test_quic_flow_control.py and
test_quic_engines.py fail should they change underneath.
"""

from __future__ import annotations

import ssl
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from qh3._hazmat import Buffer
from qh3._hazmat import Certificate as X509Certificate
from qh3.quic import events, packet
from qh3.quic.configuration import QuicConfiguration
from qh3.quic.connection import QuicConnection
from qh3.quic.packet import QuicErrorCode
from qh3.tls import load_pem_private_key

from tallow_net.transport.path_mtu import DATAGRAM_BYTES
from tallow_net.transport.quic_engine import STREAM
from tallow_net.transport.quic_forks import Packets, hand_on, settings

if TYPE_CHECKING:
    from tallow_net.transport.certificates import Certificate
    from tallow_net.transport.quic_engine import Address, EngineUser, QuicEngine

# Data given out and not read yet, as a share of the window; the rest of the window is what the core may hold.
HELD_SHARE = 8

# What waits in the core while nobody reads, data apart: a peer that sends more little messages than this is closed.
# They take about 100 bytes each.
WAITING_EVENTS = 65536

if not hasattr(QuicConnection, "get_send_buffer_size"):
    raise ImportError("qh3 is older than 2.1")


class Qh3Library(Packets):
    """See EngineLibrary."""

    name = "qh3"

    def __init__(self) -> None:
        super().__init__(packet, Buffer)

    def client(self, server_name: str, *, window: int, probes: bool) -> QuicEngine:
        """See EngineLibrary."""
        return Qh3Engine(client_configuration(server_name), window=window)

    def server_configuration(self, certificate: Certificate) -> QuicConfiguration:
        """See EngineLibrary."""
        return server_configuration(certificate)

    def server(
        self, configuration: QuicConfiguration, first_id: bytes, *, window: int, probes: bool
    ) -> QuicEngine:
        """See EngineLibrary."""
        return Qh3Engine(configuration, window=window, original_destination_connection_id=first_id)


LIBRARY = Qh3Library()


def _configuration(**more: Any) -> QuicConfiguration:
    return QuicConfiguration(
        max_datagram_frame_size=0,  # no DATAGRAM frames: no window bounds them
        probe_datagram_size=False,  # qh3 looks for a larger path MTU, but does not notice when one shrinks
        **settings(),
        **more,
    )


def client_configuration(server_name: str) -> QuicConfiguration:
    """Return a client's configuration: ALPN tallow/1, the certificate left to the caller's own check."""
    return _configuration(is_client=True, server_name=server_name, verify_mode=ssl.CERT_NONE)


def server_configuration(certificate: Certificate) -> QuicConfiguration:
    """Return a server's configuration: ALPN tallow/1, no session tickets (nobody takes them)."""
    return _configuration(
        is_client=False,
        certificate=X509Certificate(certificate.certificate_der),
        private_key=load_pem_private_key(certificate.private_key_pem.reveal()),
    )


class _HeldCore:
    """qh3's core, which gives out events only while the application keeps up."""

    def __init__(self, core: Any, engine: Qh3Engine) -> None:
        self._core = core
        self._engine = engine
        self._waiting = 0
        self.given = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def _counted(self, report: Any) -> Any:
        self._waiting += report[5]
        if self._waiting > WAITING_EVENTS:
            raise RuntimeError("the peer sent too many messages that nobody has read")
        return report

    def receive_datagram(self, data: bytes, address: Address, now: float, size: int) -> Any:
        if self._core.state == "first_flight" and len(data) < size:
            # What a first datagram is padded with behind its packet counts for what may be answered (RFC 9000,
            # section 8.1); qh3 leaves it out, and a server would wait for the client's time-out.
            data += bytes(size - len(data))
        return self._counted(self._core.receive_datagram(data, address, now, size))

    def receive_many_datagrams(self, *arguments: Any) -> Any:
        return self._counted(self._core.receive_many_datagrams(*arguments))

    def receive_gro_buffer(self, *arguments: Any) -> Any:
        return self._counted(self._core.receive_gro_buffer(*arguments))

    def next_event(self) -> Any:
        if self._engine.holds(self.given) and self._core.state == "connected":
            return None
        event = self._core.next_event()
        if event is None:
            self._waiting = 0
        else:
            self._waiting -= 1
            if event[0] == "stream_data":
                self.given += len(event[2])
        return event


class Qh3Engine(QuicConnection):
    """See QuicEngine. `window` is the receive window in bytes; one event of at most 64 KiB may come on top."""

    def __init__(
        self,
        configuration: QuicConfiguration,
        *,
        window: int,
        original_destination_connection_id: bytes | None = None,
    ) -> None:
        share = window - window // HELD_SHARE
        super().__init__(
            configuration=replace(configuration, max_data=share, max_stream_data=share),
            original_destination_connection_id=original_destination_connection_id,
        )
        self.is_client = configuration.is_client
        self._hold = window // HELD_SHARE
        self._read = 0
        self._latest = 0.0
        # The end of the stream, which the core counts nowhere, was queued; was queued and has not left yet.
        self._ended = self._end_unsent = False

    def holds(self, given: int) -> bool:
        """Return whether so much was given out that the rest waits for the application."""
        return given - self._read >= self._hold

    def _create_core(self, remote_addr: Address, initial_dcid: bytes, now: float) -> None:
        super()._create_core(remote_addr, initial_dcid, now)
        self._core: Any = _HeldCore(self._core, self)

    def _forward(self, now: float) -> float:
        """Return `now`, or the latest time seen: a timer may run a moment early, and the core refuses to go back."""
        self._latest = max(self._latest, now)
        return self._latest

    def receive(self, data: bytes, segment_bytes: int, address: Address, now: float) -> None:
        """See QuicEngine."""
        now = self._forward(now)
        if self._core is None or not self._handshake_complete or data[0] & 0x80:
            for start in range(0, len(data), segment_bytes):
                self.receive_datagram(data[start : start + segment_bytes], address, now)
        else:
            self._core.receive_gro_buffer(data, segment_bytes, address, now)
            self._drain_core()

    def deliver(self, user: EngineUser) -> None:
        """See QuicEngine."""
        hand_on(
            self.next_event, events, user, refuse_stream=partial(self.close, QuicErrorCode.STREAM_LIMIT_ERROR)
        )

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """See QuicEngine."""
        core = self._core
        if core is None:
            return []
        transmits: list[tuple[bytes, Address, Any]] = []
        try:
            transmits.extend(iter(partial(core.poll_transmit, self._forward(now)), None))
        except RuntimeError:
            # Where a client's address is not proved yet, the core may raise for what it may not send yet.
            if self._handshake_complete:
                raise
        if self._end_unsent and not core.get_send_buffer_size(STREAM) and not self._held_back():
            self._end_unsent = False
        return [transmit[:2] for transmit in transmits]

    def handle_timer(self, now: float) -> None:
        """See QuicEngine."""
        super().handle_timer(self._forward(now))

    def open_stream(self) -> None:
        """See QuicEngine."""
        self.send_stream_data(STREAM, b"")

    @property
    def stream_open(self) -> bool:
        """See QuicEngine."""
        return self._handshake_complete and self._core is not None and self._core.can_send_stream(STREAM)

    def write(self, data: bytes) -> None:
        """See QuicEngine."""
        self.send_stream_data(STREAM, data)

    def end(self) -> None:
        """See QuicEngine."""
        self._ended = self._end_unsent = True
        self.send_stream_data(STREAM, b"", end_stream=True)

    @property
    def unacknowledged(self) -> int:
        """See QuicEngine. What is in flight counts with its packets' overhead."""
        core = self._core
        return 0 if core is None else core.get_send_buffer_size(STREAM) + core.bytes_in_flight

    @property
    def end_acknowledged(self) -> bool:
        """See QuicEngine."""
        return self._ended and not self._end_unsent and not self.unacknowledged and not self._held_back()

    def _held_back(self) -> bool:
        """Return whether the core may have something to send that the congestion window or pacing holds back."""
        core = self._core
        timer = core.get_timer()
        full = core.bytes_in_flight + 2 * DATAGRAM_BYTES > core.congestion_window
        return full or (timer is not None and timer[0] == "pacing")

    def taken(self, count: int) -> bool:
        """See QuicEngine."""
        core = self._core
        held = core is not None and self.holds(core.given)
        self._read += count
        if not held or self.holds(core.given):
            return False
        self._drain_core()
        return True

    def peer_chain(self) -> tuple[bytes, ...]:
        """See QuicEngine."""
        leaf = self.get_peercert()
        if leaf is None:
            return ()
        return tuple(bytes(certificate.public_bytes()) for certificate in (leaf, *self.get_issuercerts()))

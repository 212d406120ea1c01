"""The QUIC engine that is always there: aioquic's, with windows that follow what was read, and one stream.

aioquic doubles its receive windows on receipt, whether or not anybody reads. The subclass here sets them to
what was read plus a fixed window, by overriding the two methods that write the limits. It has no search for the
path's MTU either: the probe is built here, and a congestion control that listens says what became of large packets.
Those are private names of aioquic: tests/net/transport/test_quic_flow_control.py and test_quic_path_mtu.py fail
should they change underneath.
"""

from __future__ import annotations

import ssl
from functools import partial
from typing import TYPE_CHECKING

from aioquic.buffer import Buffer  # type: ignore[attr-defined]  # public by its documentation, not by __all__
from aioquic.quic import events, packet
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.congestion.reno import RenoCongestionControl
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicPacketType
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketPacer
from aioquic.tls import Epoch

from tallow_net.transport.path_mtu import DATAGRAM_BYTES, PathMtu
from tallow_net.transport.quic_engine import STREAM, WINDOW_BYTES
from tallow_net.transport.quic_forks import Packets, hand_on, settings

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from aioquic.quic.connection import Limit, NetworkAddress
    from aioquic.quic.packet_builder import QuicSentPacket
    from aioquic.quic.recovery import QuicPacketSpace
    from aioquic.quic.stream import QuicStream, QuicStreamSender

    from tallow_net.transport.certificates import Certificate
    from tallow_net.transport.quic_engine import EngineUser, QuicEngine

# The window is widened in steps of this share of itself: often enough that the sender never waits for it,
# rarely enough that the frames cost nothing.
WINDOW_STEPS = 8

# What may leave at once, as aioquic has it; a window of four times as many and more allows it.
BURST_PACKETS = 16


class AioquicLibrary(Packets):
    """See EngineLibrary."""

    name = "aioquic"

    def __init__(self) -> None:
        super().__init__(packet, Buffer)

    def client(self, server_name: str, *, window: int, probes: bool) -> QuicEngine:
        """See EngineLibrary."""
        return Engine(client_configuration(server_name), window=window, probes=probes)

    def server_configuration(self, certificate: Certificate) -> QuicConfiguration:
        """See EngineLibrary."""
        return server_configuration(certificate)

    def server(
        self, configuration: QuicConfiguration, first_id: bytes, *, window: int, probes: bool
    ) -> QuicEngine:
        """See EngineLibrary."""
        return Engine(
            configuration, window=window, probes=probes, original_destination_connection_id=first_id
        )


LIBRARY = AioquicLibrary()


def client_configuration(server_name: str) -> QuicConfiguration:
    """Return a client's configuration: ALPN tallow/1, the certificate left to the caller's own check."""
    return QuicConfiguration(is_client=True, server_name=server_name, verify_mode=ssl.CERT_NONE, **settings())


def server_configuration(certificate: Certificate) -> QuicConfiguration:
    """Return a server's configuration: ALPN tallow/1, no session tickets (nobody takes them)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    return QuicConfiguration(
        is_client=False,
        certificate=x509.load_der_x509_certificate(certificate.certificate_der),
        private_key=serialization.load_pem_private_key(certificate.private_key_pem.reveal(), password=None),
        **settings(),
    )


class _WatchedReno(RenoCongestionControl):
    """aioquic's default congestion control, which also tells PathMtu what became of each packet."""

    def __init__(self, mtu: PathMtu) -> None:
        super().__init__(max_datagram_size=DATAGRAM_BYTES)
        self._mtu = mtu

    def on_packet_acked(self, *, now: float, packet: QuicSentPacket) -> None:
        self._mtu.acknowledged(packet.packet_number, packet.sent_bytes)
        super().on_packet_acked(now=now, packet=packet)

    def on_packets_lost(self, *, now: float, packets: Iterable[QuicSentPacket]) -> None:
        super().on_packets_lost(now=now, packets=self._told(packets))

    def on_packets_expired(self, *, packets: Iterable[QuicSentPacket]) -> None:
        super().on_packets_expired(packets=self._told(packets))

    def _told(self, packets: Iterable[QuicSentPacket]) -> Iterable[QuicSentPacket]:
        for lost in packets:
            self._mtu.lost(lost.packet_number, lost.sent_bytes, lost.sent_time or 0.0)
            yield lost


class _BurstPacer(QuicPacketPacer):
    """aioquic's pacer, which lets a whole burst leave at any rate, and asks to be called again for half of one.

    Each call builds what it sends from scratch, so a packet alone costs the most. aioquic's own forgets about bursts
    where a packet takes less than the microsecond that it rounds up to, as on a path of a millisecond.
    """

    def next_send_time(self, now: float) -> float | None:  # type: ignore[override]  # aioquic's own gives None too
        at: float | None = super().next_send_time(now)
        return None if at is None else max(at, now + self.bucket_max / 2)

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        super().update_rate(congestion_window, smoothed_rtt)
        if self.packet_time is not None:
            packets = max(2, min(congestion_window // (4 * DATAGRAM_BYTES), BURST_PACKETS))
            self.bucket_max = packets * self.packet_time


class Engine(QuicConnection):
    """One QUIC connection, sans-IO. `window` is the receive window in bytes.

    With `probes` its datagrams grow where the path carries more; the caller then sees to it that none is fragmented.
    """

    def __init__(
        self,
        configuration: QuicConfiguration,
        *,
        window: int = WINDOW_BYTES,
        probes: bool = False,
        original_destination_connection_id: bytes | None = None,
    ) -> None:
        configuration.max_data = window
        configuration.max_stream_data = window
        self.is_client = configuration.is_client
        super().__init__(
            configuration=configuration, original_destination_connection_id=original_destination_connection_id
        )
        self._window = window
        self._taken = 0
        self._held: QuicStream | None = None
        self.mtu = PathMtu() if probes else None
        loss: Any = self._loss
        loss._pacer = _BurstPacer(max_datagram_size=DATAGRAM_BYTES)  # noqa: SLF001  (aioquic takes none from outside)
        if self.mtu is not None:
            loss._cc = _WatchedReno(self.mtu)  # noqa: SLF001  (a registered algorithm would not know its connection)
        # One stream, opened by the client; aioquic refuses any other with STREAM_LIMIT_ERROR.
        _set(self._local_max_streams_bidi, 0 if configuration.is_client else 1)
        _set(self._local_max_streams_uni, 0)

    def receive(self, data: bytes, segment_bytes: int, address: NetworkAddress, now: float) -> None:
        """See QuicEngine."""
        for start in range(0, len(data), segment_bytes):
            self.receive_datagram(data[start : start + segment_bytes], address, now)

    def deliver(self, user: EngineUser) -> None:
        """See QuicEngine."""
        hand_on(
            self.next_event, events, user, refuse_stream=partial(self.close, QuicErrorCode.STREAM_LIMIT_ERROR)
        )

    @property
    def stream_open(self) -> bool:
        """See QuicEngine."""
        return self.stream is not None

    def write(self, data: bytes) -> None:
        """See QuicEngine."""
        self.send_stream_data(STREAM, data)

    def end(self) -> None:
        """See QuicEngine."""
        self.send_stream_data(STREAM, b"", end_stream=True)

    @property
    def end_acknowledged(self) -> bool:
        """See QuicEngine."""
        stream = self.stream
        return stream is not None and stream.sender.is_finished

    def open_stream(self) -> None:
        """Open the stream as the client, and say so at once: the server may have to speak first.

        A MAX_STREAM_DATA frame opens it there (RFC 9000, section 3.2) before there is anything to send.
        """
        self.send_stream_data(STREAM, b"")
        self._streams[STREAM].max_stream_data_local_sent = 0

    @property
    def stream(self) -> QuicStream | None:
        """The stream, once it is open; also after both directions have ended."""
        if self._held is None:
            self._held = self._streams.get(STREAM)
        return self._held

    @property
    def unacknowledged(self) -> int:
        """Bytes written to the stream that the peer has not acknowledged."""
        stream = self.stream
        if stream is None:
            return 0
        sender: QuicStreamSender = stream.sender
        return sender._buffer_stop - sender._buffer_start  # noqa: SLF001  (aioquic has no public count)

    def taken(self, count: int) -> bool:
        """Note that the application has read `count` bytes more; True where the peer should be told now."""
        self._taken += count
        return self._widen()

    # --- path MTU -------------------------------------------------------------------------------------------

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, NetworkAddress]]:
        """Return what is to be sent, a probe for the path's MTU included where one is due."""
        mtu = self.mtu
        if mtu is None:
            return super().datagrams_to_send(now)
        self._max_datagram_size = mtu.size
        datagrams = super().datagrams_to_send(now)
        size = mtu.probe_size(now, self.written) if self._may_probe() else None
        return datagrams if size is None else datagrams + self._probe(size, mtu, now)

    @property
    def written(self) -> int:
        """Bytes written to the stream so far."""
        stream = self.stream
        return 0 if stream is None else stream.sender._buffer_stop  # noqa: SLF001  (as in `unacknowledged`)

    def _may_probe(self) -> bool:
        return self._handshake_confirmed and self._close_event is None and self._network_paths[0].is_validated

    def _probe(self, size: int, mtu: PathMtu, now: float) -> list[tuple[bytes, NetworkAddress]]:
        """Return a packet of PING and padding that fills `size` bytes.

        It does not count as in flight: its loss says nothing about congestion (RFC 9000, section 14.4).
        """
        builder = QuicPacketBuilder(
            host_cid=self.host_cid,
            is_client=self._is_client,
            max_datagram_size=size,
            packet_number=self._packet_number,
            peer_cid=self._peer_cid.cid,
            spin_bit=self._spin_bit,
            version=self._version or 0,
        )
        builder.start_packet(QuicPacketType.ONE_RTT, self._cryptos[Epoch.ONE_RTT])

        def answered(delivery: QuicDeliveryState) -> None:
            mtu.probe_answered(acknowledged=delivery == QuicDeliveryState.ACKED)

        frame = builder.start_frame(QuicFrameType.PING, handler=answered)
        frame.push_bytes(bytes(builder.remaining_flight_space))  # PADDING frames are zeros
        packet: Any = builder._packet  # noqa: SLF001  (aioquic lets nobody else say it)
        packet.in_flight = False
        mtu.probe_sent(now)
        return self._flush_builder(
            builder=builder, network_path=self._network_paths[0], peer_cid=self._peer_cid.cid, now=now
        )

    def _widen(self) -> bool:
        limit = self._local_max_data
        target = self._taken + self._window
        if target - limit.value < self._window // WINDOW_STEPS:
            return False
        limit.value = target
        return True

    # aioquic doubles a limit when more than half of it is used. Hidden from that, it writes a frame exactly
    # where the value differs from what was last sent (or was lost on the way).

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        limits = (self._local_max_data, self._local_max_streams_bidi, self._local_max_streams_uni)
        if all(limit.value == limit.sent for limit in limits):
            return  # the usual case, for each packet that is built
        used = [limit.used for limit in limits]
        for limit in limits:
            limit.used = 0
        try:
            super()._write_connection_limits(builder=builder, space=space)
        finally:
            for limit, value in zip(limits, used, strict=True):
                limit.used = value

    def _write_stream_limits(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream
    ) -> None:
        if stream.stream_id != STREAM:
            return  # refused, or never opened
        # One stream: its window is the connection's.
        stream.max_stream_data_local = self._local_max_data.value
        if stream.max_stream_data_local == stream.max_stream_data_local_sent:
            return
        highest, stream.receiver.highest_offset = stream.receiver.highest_offset, 0
        try:
            super()._write_stream_limits(builder=builder, space=space, stream=stream)
        finally:
            stream.receiver.highest_offset = highest

    def peer_chain(self) -> tuple[bytes, ...]:
        """Return the certificates (DER) that the peer sent, its own first; unverified."""
        from cryptography.hazmat.primitives.serialization import Encoding

        tls: Any = self.tls
        leaf = tls._peer_certificate  # noqa: SLF001  (aioquic shows it nowhere else)
        if leaf is None:
            return ()
        chain = tls._peer_certificate_chain  # noqa: SLF001  (as above)
        return tuple(certificate.public_bytes(Encoding.DER) for certificate in (leaf, *chain))


def _set(limit: Limit, value: int) -> None:
    limit.value = limit.sent = value

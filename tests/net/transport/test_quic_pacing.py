"""aioquic sends whole bursts. These tests fail should it change what our pacer overrides."""

import pytest
from tallow_net.transport.path_mtu import DATAGRAM_BYTES
from tallow_net.transport.quic_aioquic import BURST_PACKETS, STREAM, _BurstPacer

from tests.net.transport.test_quic_flow_control import SERVER, WINDOW, Wire


def leaving(pacer: _BurstPacer, now: float) -> tuple[int, float]:
    """Return how many packets may leave at `now`, and when it is worth asking again."""
    count = 0
    while (at := pacer.next_send_time(now)) is None:
        pacer.update_after_send(now)
        count += 1
    return count, at


@pytest.mark.parametrize("round_trip_s", [0.000_01, 0.001, 0.05, 0.5])
@pytest.mark.parametrize("window", [100 * DATAGRAM_BYTES, 30_000_000])
def test_a_burst_leaves_at_any_rate_and_half_of_one_when_asked_again(window, round_trip_s):
    pacer = _BurstPacer(max_datagram_size=DATAGRAM_BYTES)
    pacer.update_rate(congestion_window=window, smoothed_rtt=round_trip_s)
    first, at = leaving(pacer, 1000.0)
    assert BURST_PACKETS <= first <= BURST_PACKETS + 1
    then, _ = leaving(pacer, at)
    assert BURST_PACKETS // 2 - 1 <= then <= BURST_PACKETS // 2 + 2


def test_the_rate_over_a_second_is_the_window_a_round_trip():
    pacer = _BurstPacer(max_datagram_size=DATAGRAM_BYTES)
    pacer.update_rate(congestion_window=200 * DATAGRAM_BYTES, smoothed_rtt=0.1)
    now, sent = 1000.0, 0
    while now < 1001.0:
        count, now = leaving(pacer, now)
        sent += count
    assert sent == pytest.approx(2000, rel=0.15)


def test_a_small_window_does_not_leave_at_once():
    pacer = _BurstPacer(max_datagram_size=DATAGRAM_BYTES)
    pacer.update_rate(congestion_window=4 * DATAGRAM_BYTES, smoothed_rtt=0.1)
    assert leaving(pacer, 1000.0)[0] <= 3


def test_an_engine_sends_a_burst_in_one_call_over_a_fast_path():
    wire = Wire()
    wire.client.send_stream_data(STREAM, bytes(WINDOW))
    first = wire.client.datagrams_to_send(wire.now)
    for datagram, _ in first:
        wire.server.receive_datagram(datagram, SERVER, wire.now)
    wire.run()
    loss = wire.client._loss
    loss._cc.congestion_window = 30_000_000
    loss._pacer.update_rate(congestion_window=30_000_000, smoothed_rtt=0.001)
    wire.server.taken(WINDOW)
    wire.client.send_stream_data(STREAM, bytes(WINDOW))
    for datagram, _ in wire.server.datagrams_to_send(wire.now):
        wire.client.receive_datagram(datagram, SERVER, wire.now)
    assert len(wire.client.datagrams_to_send(wire.now)) >= BURST_PACKETS

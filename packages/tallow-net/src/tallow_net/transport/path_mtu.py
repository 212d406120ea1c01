"""How large datagrams may be on this path: grown by a probe, shrunk when large ones vanish (RFC 8899 in spirit).

Pure: time and packet numbers are arguments. A connection begins with what every path carries; one probe of the larger
size decides (RFC 9000, section 14.3), and only its acknowledgement makes the size grow. Messages of the network
about its MTU are not heeded: anybody can forge them, and many paths send none.
"""

from __future__ import annotations

# What every path carries (RFC 9000, section 14.1).
DATAGRAM_BYTES = 1200

# The UDP payload of an Ethernet frame of 1,500 bytes over IPv6; over IPv4 20 more would fit. There is no
# search in between: paths carry either this or have a tunnel in them, and then the smaller size costs a fifth.
LARGE_DATAGRAM_BYTES = 1452

# A connection that sends less than this is over before a probe pays.
PROBE_AFTER_BYTES = 64 * 1024

# Probes that may be lost in a row before the path counts as too narrow (RFC 8899, MAX_PROBES).
PROBES = 3

# Then, and after a black hole, it is looked at again (RFC 8899, PMTU_RAISE_TIMER).
PROBE_AGAIN_S = 600.0

# Large packets lost with no later large one acknowledged: as many in a row as a path that drops by chance does
# not lose (at a loss of 10 % once in 10,000 packets), and few enough that a black hole costs three time-outs.
BLACK_HOLE_LOSSES = 4


class PathMtu:
    """The largest datagram (bytes) that may be sent, as learned from what was acknowledged and what was lost."""

    def __init__(self, *, large: int = LARGE_DATAGRAM_BYTES) -> None:
        self.size = DATAGRAM_BYTES
        self._large = large
        self._under_way = False
        self._lost_probes = 0
        self._probed_at = 0.0
        self._again = 0.0
        self._highest_acknowledged = -1
        self._losses = 0

    def probe_size(self, now: float, sent: int) -> int | None:
        """Return the size of the probe that is due now, None without one. `sent`: stream bytes so far."""
        if self._under_way or self.size >= self._large or sent < PROBE_AFTER_BYTES or now < self._again:
            return None
        return self._large

    def probe_sent(self, now: float) -> None:
        """Note that a probe has left; `probe_answered` follows for it."""
        self._under_way = True
        self._probed_at = now

    def probe_answered(self, *, acknowledged: bool) -> None:
        """Note what became of the probe."""
        self._under_way = False
        if acknowledged:
            self._lost_probes = self._losses = 0
            self.size = self._large
            return
        self._lost_probes += 1
        if self._lost_probes >= PROBES:
            self._lost_probes = 0
            self._again = self._probed_at + PROBE_AGAIN_S

    def acknowledged(self, number: int, size: int) -> None:
        """Note that the packet of this number and size arrived."""
        if size > DATAGRAM_BYTES and number > self._highest_acknowledged:
            self._highest_acknowledged = number
            self._losses = 0

    def lost(self, number: int, size: int, sent_at: float) -> None:
        """Note that the packet of this number and size, sent at that time, is held for lost."""
        if size <= DATAGRAM_BYTES or number < self._highest_acknowledged:
            return  # a larger one that was sent later came through
        self._losses += 1
        if self._losses >= BLACK_HOLE_LOSSES and self.size > DATAGRAM_BYTES:
            self.size = DATAGRAM_BYTES
            self._again = sent_at + PROBE_AGAIN_S

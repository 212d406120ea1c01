"""What a session does while its two sides disagree about which connections live."""

from __future__ import annotations

import random

from tallow_net import Side
from tallow_protocol.events import TransferProgress
from tallow_protocol.testing import Pair

MIB = 1 << 20


def test_acknowledgements_go_where_their_data_came_from_though_a_better_connection_seems_to_live():
    content = random.Random(1).randbytes(4 * MIB)
    pair = Pair({"big": content}, window_bytes=512 * 1024)
    further = pair.attach(Side.A)

    def acknowledged():
        shown = [event for event in pair.events[Side.A] if isinstance(event, TransferProgress)]
        return shown[-1].bytes if shown else 0

    pair.run(until=lambda: acknowledged() > 0 and further.links[Side.B].proven)
    first = pair.connections[0]
    began = pair.now
    # A notices that connection 0 is dead; B does not, and what it says there is lost.
    first.cut = True
    pair.sessions[Side.A].lost(first.links[Side.A], pair.now)

    pair.run(until=lambda: acknowledged() == len(content))
    assert pair.now - began < 20
    assert not first.links[Side.B].lost

"""Where a side allows relayed paths alone, no direct connection stands: a session must not live on what it may not use."""

from __future__ import annotations

import pytest
from tallow_net import Side
from tallow_protocol.core.messages import Paths
from tallow_protocol.errors import AttachError
from tallow_protocol.events import PathKind, PathLimit
from tallow_protocol.testing import Pair


def attach(pair: Pair, path: PathKind):
    sender, receiver = pair.sessions[Side.A], pair.sessions[Side.B]
    opener = sender.open_link(sender.next_number(), bytes(range(32)))
    accepted, ack = receiver.accept_link(opener.attach, bytes(32), pair.now, path=path)
    return sender.opened_link(opener, ack, pair.now, path=path), accepted


def begun() -> Pair:
    pair = Pair({"file": bytes(1000)}, answer=False)
    pair.run(until=lambda: all(session.begun for session in pair.sessions.values()))
    return pair


def test_a_direct_connection_that_stood_before_ends_with_the_peers_limit():
    pair = begun()
    opened, accepted = attach(pair, PathKind.DIRECT_TCP)
    pair.sessions[Side.B].send(Paths(PathLimit.RELAY_ONLY, ()))
    pair.run(until=lambda: opened.lost)
    assert not accepted.lost  # its own end of it is the shell's, which hears the connection close
    assert pair.sessions[Side.A].links


def test_a_direct_connection_that_comes_after_it_is_refused():
    pair = begun()
    for session in pair.sessions.values():
        session.agreement.allowed = PathLimit.RELAY_ONLY
    with pytest.raises(AttachError):
        attach(pair, PathKind.DIRECT_TCP)
    opened, accepted = attach(pair, PathKind.RELAY_TCP)
    assert not opened.lost
    assert not accepted.lost

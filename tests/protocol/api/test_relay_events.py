"""What a relay client tells becomes events of a transfer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallow_net import PeerText, RelayNotice, RelayReconnecting, RelayWaiting
from tallow_protocol import RelayBack, RelayTrouble, ServerNotice
from tallow_protocol.aio.routes import relay_events

if TYPE_CHECKING:
    from tallow_protocol import Event


def told(*relay_said: RelayWaiting | RelayReconnecting | RelayNotice) -> tuple[list[Event], int]:
    """Return the events, and how often the room was ours."""
    events: list[Event] = []
    rooms: list[None] = []
    take = relay_events(events.append, lambda: rooms.append(None))
    for event in relay_said:
        take(event)
    return events, len(rooms)


def test_a_relay_that_never_went_away_does_not_come_back() -> None:
    assert told(RelayWaiting(), RelayWaiting()) == ([], 2)


def test_a_relay_that_went_away_comes_back_once_however_many_tries_it_took() -> None:
    events, rooms = told(
        RelayWaiting(), RelayReconnecting(0.5), RelayReconnecting(1.0), RelayWaiting(), RelayWaiting()
    )
    assert events == [RelayTrouble(0.5), RelayTrouble(1.0), RelayBack()]
    assert rooms == 3


def test_what_the_operator_says_is_passed_on() -> None:
    assert told(RelayNotice(PeerText("down at noon"))) == ([ServerNotice(PeerText("down at noon"))], 0)

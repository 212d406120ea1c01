"""Every state of a room at every event: what stands in the table, and that the registry does it."""

import pytest
from tallow_relay.effects import Dismissed, Paired, Seated, Superseded
from tallow_relay.errors import InvalidRoomEventError, RoomRefusedError
from tallow_relay.roomtable import TABLE, Action, RoomEvent, RoomState, move

from tests.relay.registry_kit import NEWCOMER, ROOM, cause, in_state

# The table as a reader would draw it: "next state" or "!refusal"; a cell that is not here cannot happen.
DRAWN = """
             allocate  join_a       join_a_own   join_b         join_b_wait    join_b_own     join_b_own_wait  leave_a  leave_b  spend  burn    lost    seat_expired  hold_expired  pair_ended
free         held      a_waits      -            !no_such_room  b_waits        -              -                -        -        -      -       -       -             -             -
held         -         !two_senders a_waits      b_at_held      b_stays        -              -                free     -        spent  burned  -       -             free          -
a_waits      -         !two_senders a_waits      paired         paired         -              -                free     -        spent  burned  held    free          -             -
b_waits      -         paired       -            !two_receivers !two_receivers !no_such_room  b_waits          -        free     -      -       free    free          -             -
b_at_held    -         !two_senders paired       !two_receivers !two_receivers b_at_held      b_stays          free     held     spent  burned  held    held          free          -
b_stays      -         !two_senders paired       !two_receivers !two_receivers b_at_held      b_stays          b_waits  held     spent  burned  held    held          b_waits       -
paired       -         !in_use      a_waits      !in_use        !in_use        b_at_held      b_stays          free     paired   spent  burned  -       -             -             held
spent        -         !room_spent  !room_spent  !room_spent    !room_spent    !room_spent    !room_spent      spent    spent    spent  spent   -       -             free          spent
burned       -         !room_burned !room_burned !room_burned   !room_burned   !room_burned   !room_burned     burned   burned   burned burned  -       -             free          burned
"""


def drawn() -> dict[tuple[str, str], str]:
    head, *rows = [line.split() for line in DRAWN.strip().splitlines()]
    return {(row[0], event): cell for row in rows for event, cell in zip(head, row[1:], strict=True)}


@pytest.mark.parametrize(("state", "event"), [(s, e) for s in RoomState for e in RoomEvent])
def test_the_table_is_the_one_that_is_drawn(state: RoomState, event: RoomEvent) -> None:
    cell = drawn()[state.value, event.value]
    if cell == "-":
        with pytest.raises(InvalidRoomEventError):
            move(state, event)
    elif cell.startswith("!"):
        assert (move(state, event).action, move(state, event).code) == (Action.REFUSE, cell[1:])
    else:
        assert move(state, event).state.value == cell


CAUSED = [
    (state, event)
    for state, row in TABLE.items()
    for event in row
    if event is not RoomEvent.ALLOCATE  # a nameplate is drawn, not chosen: tested by name in test_rooms
]


@pytest.mark.parametrize(("state", "event"), CAUSED)
def test_the_registry_does_what_the_table_says(state: RoomState, event: RoomEvent) -> None:
    cell = move(state, event)
    rooms, pair = in_state(state)

    if cell.action is Action.REFUSE:
        with pytest.raises(RoomRefusedError) as refused:
            cause(rooms, state, event, pair)
        assert refused.value.code == cell.code
        assert rooms.state(ROOM) is state
        return
    effects = cause(rooms, state, event, pair)

    assert rooms.state(ROOM) is cell.state
    if cell.action in (Action.SIT, Action.REPLACE, Action.SUPERSEDE):
        assert effects[-1] == Seated(NEWCOMER)
    kinds = {type(effect) for effect in effects}
    assert (Paired in kinds) == (cell.action is Action.PAIR)
    assert (Superseded in kinds) == (cell.action is Action.SUPERSEDE)
    waited = state in (RoomState.A_WAITS, RoomState.B_WAITS, RoomState.B_AT_HELD, RoomState.B_STAYS)
    told = {Action.DISMISS, Action.ENTOMB, Action.REPLACE} if waited else set()
    assert (Dismissed in kinds) == (cell.action in told)

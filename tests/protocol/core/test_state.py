from __future__ import annotations

from itertools import product

import pytest
from tallow_protocol.core.state import TABLE, TransferState, TransferStateMachine, mermaid, states_document
from tallow_protocol.errors import InvalidTransitionError, UnexpectedMessageError

from tests.protocol.core.write_states_document import DOCUMENT

S = TransferState
PATHS = {
    S.IDLE: (),
    S.CONNECTING: (S.CONNECTING,),
    S.NEGOTIATING: (S.CONNECTING, S.NEGOTIATING),
    S.OFFERING: (S.CONNECTING, S.NEGOTIATING, S.OFFERING),
    S.TRANSFERRING: (S.CONNECTING, S.NEGOTIATING, S.OFFERING, S.TRANSFERRING),
    S.FINISHING: (S.CONNECTING, S.NEGOTIATING, S.OFFERING, S.TRANSFERRING, S.FINISHING),
    S.COMPLETED: (S.CONNECTING, S.NEGOTIATING, S.OFFERING, S.TRANSFERRING, S.FINISHING, S.COMPLETED),
    S.FAILED: (S.FAILED,),
}
ALLOWED = {
    (S.IDLE, S.CONNECTING),
    (S.CONNECTING, S.NEGOTIATING),
    (S.NEGOTIATING, S.CONNECTING),
    (S.NEGOTIATING, S.OFFERING),
    (S.OFFERING, S.TRANSFERRING),
    (S.TRANSFERRING, S.FINISHING),
    (S.FINISHING, S.COMPLETED),
    *((state, S.FAILED) for state in S if state not in {S.COMPLETED, S.FAILED}),
}


def machine_in(state: TransferState) -> TransferStateMachine:
    machine = TransferStateMachine()
    for step in PATHS[state]:
        machine.to(step)
    return machine


@pytest.mark.parametrize(("before", "after"), list(product(TransferState, TransferState)))
def test_every_pair_of_states_is_a_move_or_an_error_that_names_both(before, after):
    machine = machine_in(before)
    if (before, after) in ALLOWED:
        machine.to(after)
        assert machine.state is after
    else:
        with pytest.raises(InvalidTransitionError, match=f"{before.value} cannot become {after.value}"):
            machine.to(after)
        assert machine.state is before


@pytest.mark.parametrize(("state", "expected"), list(product(TransferState, TransferState)))
def test_a_message_out_of_turn_is_the_peers_fault_and_names_the_state(state, expected):
    machine = machine_in(state)
    if state is expected:
        machine.expect(expected, what="a chunk")
    else:
        with pytest.raises(
            UnexpectedMessageError, match=f"a chunk arrived while the transfer was {state.value}"
        ):
            machine.expect(expected, what="a chunk")


def test_only_the_ends_are_terminal():
    assert {state for state in S if state.terminal} == {S.COMPLETED, S.FAILED}


def test_every_state_stands_in_the_table_and_in_the_diagram():
    assert set(TABLE) == set(TransferState)
    assert all(f"{state.value} " in mermaid() for state in TransferState)
    assert mermaid().count("-->") == len(ALLOWED) + 3


def test_the_document_is_the_one_that_the_table_makes():
    assert DOCUMENT.read_text(encoding="utf-8") == states_document()

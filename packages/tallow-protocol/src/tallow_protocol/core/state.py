"""TransferStateMachine: where a transfer stands, on either side, and the only moves there are.

The table below is the whole rule; docs/protocol-states.md is made from it. Losing a connection is no move: a
session outlives its connections, so a transfer stays where it is until the session gives up.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from tallow_protocol.errors import InvalidTransitionError, UnexpectedMessageError

__all__ = ["TABLE", "TransferState", "TransferStateMachine", "mermaid", "states_document"]


class TransferState(Enum):
    """Where a transfer stands; the value is the name in documents and logs."""

    IDLE = "Idle"
    CONNECTING = "Connecting"
    NEGOTIATING = "Negotiating"
    OFFERING = "Offering"
    TRANSFERRING = "Transferring"
    FINISHING = "Finishing"
    COMPLETED = "Completed"
    FAILED = "Failed"

    @property
    def terminal(self) -> bool:
        """Whether no move leads out of it."""
        return not TABLE[self]


_S = TransferState

TABLE: Final[dict[TransferState, frozenset[TransferState]]] = {
    _S.IDLE: frozenset({_S.CONNECTING, _S.FAILED}),
    _S.CONNECTING: frozenset({_S.NEGOTIATING, _S.FAILED}),
    _S.NEGOTIATING: frozenset({_S.CONNECTING, _S.OFFERING, _S.FAILED}),
    _S.OFFERING: frozenset({_S.TRANSFERRING, _S.FAILED}),
    _S.TRANSFERRING: frozenset({_S.FINISHING, _S.FAILED}),
    _S.FINISHING: frozenset({_S.COMPLETED, _S.FAILED}),
    _S.COMPLETED: frozenset(),
    _S.FAILED: frozenset(),
}
"""From each state, the states that may follow."""

_MEANING: Final[dict[TransferState, str]] = {
    _S.IDLE: "made, nothing started",
    _S.CONNECTING: "the sender waits or listens; the receiver looks for it",
    _S.NEGOTIATING: "the handshake, Auth, and the eight digits where a side asked for them; a wrong code or a loss"
    " before keys leads back to Connecting",
    _S.OFFERING: "the offer is on its way, and then the receiver's user decides",
    _S.TRANSFERRING: "after Accept: chunks, packs and FileDone",
    _S.FINISHING: "all data is there; Manifest, the last names, Done and its acknowledgement",
    _S.COMPLETED: "both sides have what they wanted",
    _S.FAILED: "ended with an error, a refusal or a cancellation",
}


class TransferStateMachine:
    """One transfer's state. Calls may not overlap."""

    __slots__ = ("_state",)

    def __init__(self) -> None:
        self._state = TransferState.IDLE

    def __repr__(self) -> str:
        return f"TransferStateMachine({self._state.value})"

    @property
    def state(self) -> TransferState:
        """The present state."""
        return self._state

    def to(self, state: TransferState) -> None:
        """Move to `state`. Raises InvalidTransitionError, naming both states, for a move that the table lacks."""
        if state not in TABLE[self._state]:
            raise InvalidTransitionError(
                f"a transfer that is {self._state.value} cannot become {state.value}"
            )
        self._state = state

    def expect(self, *states: TransferState, what: str) -> None:
        """Raise UnexpectedMessageError, naming the state, unless `what` may arrive from the peer now."""
        if self._state not in states:
            raise UnexpectedMessageError(f"{what} arrived while the transfer was {self._state.value}")


def mermaid() -> str:
    """Return the state diagram of the table in Mermaid's notation."""
    lines = ["stateDiagram-v2", "    [*] --> Idle"]
    for state, following in TABLE.items():
        lines += [f"    {state.value} --> {after.value}" for after in TransferState if after in following]
        if not following:
            lines.append(f"    {state.value} --> [*]")
    return "\n".join(lines)


def states_document() -> str:
    """Return the text of docs/protocol-states.md."""
    meaning = "\n".join(f"| {state.value} | {_MEANING[state]} |" for state in TransferState)
    return (
        "# States of a transfer\n\n"
        "Both sides keep this machine (`tallow_protocol.core.state`). The page is made from its table by\n"
        "`python tests/protocol/core/write_states_document.py`, and a test compares the two.\n\n"
        f"```mermaid\n{mermaid()}\n```\n\n"
        f"| state | what happens in it |\n|---|---|\n{meaning}\n\n"
        "A lost connection is no move: a session outlives its connections. A move that the table lacks is an error\n"
        "that names both states, and ends the transfer.\n"
    )

"""Errors of the relay.

RelayError                 code, hints, retryable
|-- ConfigError            the configuration file or an option cannot be used
|-- StateError             the state directory, key or certificate cannot be used
|-- ListenError            the address cannot be listened on
|-- RoomRefusedError       a Join or Allocate was refused; the code goes to the client
`-- InvalidRoomEventError  misuse of the room table by our own code (a bug)
"""


class RelayError(Exception):
    """Base of every error of this package: a sentence, a stable `code`, `hints`, `retryable`."""

    code = "relay_error"
    retryable = False

    def __init__(self, sentence: str, *, hints: tuple[str, ...] = ()) -> None:
        super().__init__(sentence)
        self.hints = hints


class ConfigError(RelayError):
    """The configuration cannot be used; the sentence names the key and what it takes."""

    code = "bad_config"


class StateError(RelayError):
    """The state directory or what is kept in it cannot be used."""

    code = "bad_state"


class ListenError(RelayError):
    """The address cannot be listened on: in use, not ours, or not permitted."""

    code = "cannot_listen"


class RoomRefusedError(RelayError):
    """A client is refused; `code` is one of the wire's stable codes, `retry_after_s` 0 where none is known."""

    def __init__(self, code: str, sentence: str, *, retry_after_s: int = 0) -> None:
        super().__init__(sentence)
        self.code = code
        self.retry_after_s = retry_after_s


class InvalidRoomEventError(RelayError):
    """The registry produced an event that its room's state does not know: a bug, and it names both."""

    code = "internal"

    def __init__(self, state: str, event: str) -> None:
        super().__init__(f"a room in state {state!r} cannot take the event {event!r}")
        self.state = state
        self.event = event

"""A piece of heavy work that a session asks for: run anywhere, handed back to the session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tallow_crypto import CryptoError

from tallow_protocol.errors import InternalError, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Job"]


class Job:
    """`work` runs once, in a worker thread or in place; `then` continues in the session with its outcome.

    A job never raises: an error of ours is carried to the session, anything else as an InternalError, so that a
    worker thread cannot die with the transfer waiting for it.
    """

    __slots__ = ("_then", "_work", "after", "error", "result")

    def __init__(self, work: Callable[[], Any], then: Callable[[Job, float], None]) -> None:
        self._work = work
        self._then = then
        self.after: Callable[[], None] | None = None
        """What the shell wants to be done once the session has continued; a buffer to give back, mostly."""

        self.result: Any = None
        self.error: ProtocolError | CryptoError | None = None

    def run(self) -> None:
        """Do the work."""
        try:
            self.result = self._work()
        except (ProtocolError, CryptoError) as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - see the class
            self.error = InternalError(f"Tallow failed inside: {type(error).__name__}.")
            self.error.__cause__ = error

    def finish(self, now: float) -> None:
        """Continue in the session."""
        self._then(self, now)
        if self.after is not None:
            self.after()

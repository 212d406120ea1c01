"""A piece of heavy work that a session asks for: run anywhere, handed back to the session."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tallow_crypto import CryptoError

from tallow_protocol.errors import InternalError, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Job", "no_silent_faults"]


@contextmanager
def no_silent_faults(*expected: type[Exception]) -> Iterator[None]:
    """Turn a fault of our own into an InternalError: a thread or task must not die with the transfer waiting for it.

    Errors of this package, CryptoError, and what is `expected` pass as they are.
    """
    passing: tuple[type[Exception], ...] = (ProtocolError, CryptoError, *expected)
    try:
        yield
    except passing:
        raise
    except Exception as error:
        raise InternalError(f"Tallow failed inside: {type(error).__name__}") from error


class Job:
    """`work` runs once, in a worker thread or in place; `then` continues in the session with its outcome.

    A job never raises: its error is carried to the session.
    """

    __slots__ = ("_then", "_work", "after", "apart", "error", "result")

    def __init__(self, work: Callable[[], Any], then: Callable[[Job, float], None]) -> None:
        self._work = work
        self._then = then
        self.after: Callable[[], None] | None = None
        """What the shell wants to be done once the session has continued; a buffer to give back, mostly."""

        self.apart = False
        """Whether it runs beside all others, whose order and locks are not its own: waiting for a disk, mostly."""

        self.result: Any = None
        self.error: ProtocolError | CryptoError | None = None

    def run(self) -> None:
        """Do the work."""
        try:
            with no_silent_faults():
                self.result = self._work()
        except (ProtocolError, CryptoError) as error:
            self.error = error

    def finish(self, now: float) -> None:
        """Continue in the session."""
        self._then(self, now)
        if self.after is not None:
            self.after()

"""A piece of heavy work that a session asks for: run anywhere, handed back to the session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tallow_crypto import CryptoError

from tallow_protocol.errors import InternalError, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Job", "no_silent_faults"]

_OWN: tuple[type[Exception], ...] = (ProtocolError, CryptoError)


class _NoSilentFaults:
    """Turn a fault of our own into an InternalError: a thread or task must not die with the transfer waiting for it.

    Errors of this package, CryptoError, and what is `expected` pass as they are. A class, since a generator takes
    three times as long, four times for each chunk.
    """

    __slots__ = ("_passing",)

    def __init__(self, *expected: type[Exception]) -> None:
        self._passing: tuple[type[Exception], ...] = (*_OWN, *expected) if expected else _OWN

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, self._passing):
            raise InternalError(f"Tallow failed inside: {type(error).__name__}") from error


no_silent_faults = _NoSilentFaults


class Job:
    """`work` runs once, in a worker thread or in place; `then` continues in the session with its outcome.

    `first` is a part of it that touches nothing of the session: it may run earlier, beside other jobs and without their
    lock, and `work` finds its outcome in `result`. A job never raises: its error is carried to the session.
    """

    __slots__ = ("_first", "_then", "_work", "after", "apart", "error", "result")

    def __init__(
        self,
        work: Callable[[], Any],
        then: Callable[[Job, float], None],
        *,
        first: Callable[[], Any] | None = None,
    ) -> None:
        self._first = first
        self._work = work
        self._then = then
        self.after: Callable[[], None] | None = None
        """What the shell wants to be done once the session has continued; a buffer to give back, mostly."""

        self.apart = False
        """Whether it runs beside all others, whose order and locks are not its own: waiting for a disk, mostly."""

        self.result: Any = None
        self.error: ProtocolError | CryptoError | None = None

    def begin(self) -> None:
        """Do the first part, where there is one and nobody has done it."""
        first, self._first = self._first, None
        if first is not None:
            self._do(first)

    def run(self) -> None:
        """Do the work, or what is left of it."""
        self.begin()
        work = self._work
        del self._work  # it may know this job, and buffers
        if self.error is None:
            self._do(work)

    def _do(self, part: Callable[[], Any]) -> None:
        try:
            with no_silent_faults():
                self.result = part()
        except (ProtocolError, CryptoError) as error:
            self.error = error

    def finish(self, now: float) -> None:
        """Continue in the session."""
        self._then(self, now)
        if self.after is not None:
            self.after()

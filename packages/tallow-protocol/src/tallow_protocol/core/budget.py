"""GuessBudget: how many times the words of a code may still be tested on this side."""

from __future__ import annotations

from tallow_protocol.errors import BudgetExhaustedError, MisuseError
from tallow_protocol.limits import CODE_GUESSES

__all__ = ["GuessBudget"]


class GuessBudget:
    """Counts guesses before anything is compared; one object a code and process, shared by all paths.

    The sender spends one per Reply before it compares the tag, the receiver one per Reply that it sends. Only a
    completed handshake gives its guess back. While a handshake is under way its guess counts as spent, so parallel
    attempts cannot race past the limit. Calls may overlap, from threads too.
    """

    __slots__ = ("_guesses", "_limit")

    def __init__(self, limit: int = CODE_GUESSES) -> None:
        if limit < 1:
            raise MisuseError("a guess budget needs a limit of at least 1")
        self._limit = limit
        # Each guess is the number that is left once it is spent. Taking the last one is a single step of the
        # interpreter, so two threads cannot take the same.
        self._guesses = list(range(limit))

    def __repr__(self) -> str:
        return f"GuessBudget(left={self.left}, limit={self._limit})"

    @property
    def left(self) -> int:
        """Guesses that remain."""
        return len(self._guesses)

    @property
    def burned(self) -> bool:
        """Whether no guess remains."""
        return not self._guesses

    def spend(self) -> int:
        """Take one guess and return how many are left. Raises BudgetExhaustedError when none was left."""
        try:
            return self._guesses.pop()
        except IndexError:
            raise BudgetExhaustedError from None

    def give_back(self) -> None:
        """Return one guess after a handshake was completed. Raises MisuseError when none is spent."""
        if len(self._guesses) >= self._limit:
            raise MisuseError("a guess was given back that nobody had spent")
        self._guesses.append(len(self._guesses))

"""Several ways to the same end, started one after another; the first that works is kept."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tallow_net.errors import ConnectError, NotTallowError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tallow_net.transport.interface import Transport

    Attempt = Callable[[], Awaitable[Transport]]


async def race(attempts: Sequence[Attempt], *, stagger_s: float) -> Transport:
    """Start the next attempt after `stagger_s`, or at once when one fails; return the first open transport.

    (RFC 8305, section 5.) The others are cancelled, and closed where they opened meanwhile; none outlives
    the call. Where all fail, the error that says most is raised: an answer from something else before
    the system's reason, that before silence, else the first. An error that is no ConnectError ends the race.
    """
    waiting = list(attempts)
    running: set[asyncio.Task[Transport]] = set()
    errors: list[ConnectError] = []
    winner: asyncio.Task[Transport] | None = None
    try:
        while winner is None and (waiting or running):
            if waiting:
                running.add(asyncio.ensure_future(_run(waiting.pop(0))))
            done, _ = await asyncio.wait(
                running, timeout=stagger_s if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                error = task.exception()
                if error is None:
                    winner = winner or task
                elif isinstance(error, ConnectError):
                    running.discard(task)
                    errors.append(error)
                else:
                    raise error
    except BaseException:
        await _end(running)
        raise
    if winner is None:
        raise max(errors, key=_says)
    try:
        await _end(running - {winner})
    except BaseException:
        winner.result().abort()
        raise
    return winner.result()


def _says(error: ConnectError) -> int:
    """Return how much an error says."""
    return 2 if isinstance(error, NotTallowError) else int(isinstance(error.__cause__, OSError))


async def _run(attempt: Attempt) -> Transport:
    return await attempt()


async def _end(tasks: set[asyncio.Task[Transport]]) -> None:
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if not isinstance(outcome, BaseException):
            outcome.abort()

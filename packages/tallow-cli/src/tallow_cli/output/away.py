"""The line of a transfer whose connection was lost: when it is tried again, and for how long."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tallow_cli.output import sizes

if TYPE_CHECKING:
    from tallow_protocol import Rejoining

__all__ = ["Away"]

_BY = {"network": "network", "peer": "the other side"}


class Away:
    """Counts down by itself from the last event. Times are monotonic seconds."""

    def __init__(self, event: Rejoining, now: float) -> None:
        self._by = _BY.get(event.reason, event.reason)
        self._retry_at = None if event.retry_in_s is None else now + event.retry_in_s
        self._gives_up_at = now + event.left_s

    def line(self, now: float) -> str:
        """Return the line as it is at `now`."""
        if self._retry_at is None:
            doing = "waiting for the other side to come back"
        elif (wait_s := math.ceil(self._retry_at - now)) > 0:
            doing = f"trying again in {sizes.duration(float(wait_s)) if wait_s >= 10 else f'{wait_s} s'}"
        else:
            doing = "trying again"
        left = (
            sizes.duration(max(10.0, self._gives_up_at - now))
            if self._gives_up_at - now >= 10
            else "some seconds"
        )
        return f"Connection lost ({self._by}); {doing}, for {left} more; Ctrl-C ends it."

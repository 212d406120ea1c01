"""The progress bar: one line that is drawn over itself, with rate, time left and path.

Pure: it is given bytes and the time and returns a line. rich.progress would cost 47 ms at every start.
"""

from __future__ import annotations

from collections import deque

from tallow_cli.output import sizes

__all__ = ["ProgressBar"]

_WINDOW_S = 5.0
"""The rate is that of the last seconds: long enough to be calm, short enough to show a change of path."""

_STALLED_S = 2.0
"""After this long without a byte the line says that it waits, instead of an old rate."""

_SAMPLE_S = 0.1
"""Samples closer together than this replace each other, so the window holds about 50."""

_WIDEST_BAR = 30
_NARROWEST_BAR = 8


class ProgressBar:
    """How far one transfer is. Times are monotonic seconds; a total of None is not known yet."""

    def __init__(self, total: int | None, path: str, now: float) -> None:
        self.total = total
        self.path = path
        self._bytes = 0
        self._moved = now
        self._samples: deque[tuple[float, int]] = deque([(now, 0)])

    def update(self, done_bytes: int, now: float) -> None:
        """Note that `done_bytes` of the total are there."""
        if done_bytes > self._bytes:
            self._moved = now
        self._bytes = done_bytes
        if len(self._samples) > 1 and now - self._samples[-2][0] < _SAMPLE_S:
            self._samples.pop()
        self._samples.append((now, done_bytes))
        while len(self._samples) > 2 and now - self._samples[0][0] > _WINDOW_S:
            self._samples.popleft()

    def resume(self, there_bytes: int, now: float) -> None:
        """Note what was there before: it counts as done, and not for the rate."""
        self._bytes = there_bytes
        self._samples = deque([(now, there_bytes)])

    def rate(self, now: float) -> float:
        """Return bytes per second over the last seconds."""
        start, at_start = self._samples[0]
        elapsed = now - start
        return (self._bytes - at_start) / elapsed if elapsed > 0 else 0.0

    def _line_without_total(self, now: float) -> str:
        still = now - self._moved
        pace = f"waiting {sizes.duration(still)}" if still >= _STALLED_S else sizes.rate(self.rate(now))
        return f"{sizes.size(self._bytes)} so far  {f'{self.path} {pace}'.strip()}"

    def line(self, now: float, width: int) -> str:
        """Return the line, shorter than `width` columns: parts are left out where it is narrow."""
        if self.total is None:
            return self._line_without_total(now)[: max(width - 1, 0)]
        share = min(1.0, self._bytes / self.total) if self.total else 1.0
        percent = f"{int(share * 100):3d}%"
        amount = f"{sizes.size(self._bytes)} of {sizes.size(self.total)}"
        speed = self.rate(now if share < 1 else self._moved)
        still = now - self._moved
        if self._bytes == 0 and share < 1:
            pace, left = (
                "",
                f"waiting {sizes.duration(still)} for the first data" if still >= _STALLED_S else "",
            )
        elif still >= _STALLED_S and share < 1:
            pace, left = "stalled", f"waiting {sizes.duration(still)} for the other side"
        else:
            pace = sizes.rate(speed)
            left = (
                f"{sizes.duration((self.total - self._bytes) / speed)} left"
                if speed > 0 and share < 1
                else ""
            )
        parts = [part for part in (percent, amount, f"{self.path} {pace}".strip(), left) if part]
        room = width - 1 - len("  ".join(parts))
        if room < 0:
            parts = [part for part in (percent, amount, pace, left) if part]
            while parts and (room := width - 1 - len("  ".join(parts))) < 0:
                parts.pop()
        if not parts:
            return ""
        text = "  ".join(parts)
        bar = min(_WIDEST_BAR, room - 4)
        if bar < _NARROWEST_BAR:
            return text
        full = int(share * bar)
        return f"{parts[0]}  [{'#' * full}{'-' * (bar - full)}]  {'  '.join(parts[1:])}"[: width - 1]

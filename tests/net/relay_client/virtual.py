"""An event loop whose time is counted, not waited for: twenty minutes of keep-alives pass in milliseconds."""

import asyncio
import selectors


class _Jumping(selectors.DefaultSelector):
    """Report real events at once; where there is nothing to do but wait, move the clock on instead."""

    def __init__(self):
        super().__init__()
        self.now = 0.0

    def select(self, timeout=None):
        events = super().select(0)
        if events or timeout == 0:
            return events
        if timeout is None:
            raise RuntimeError("everything waits, and nothing is due: this would hang for ever")
        self.now += timeout
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self):
        return self._jumping.now


def run_virtual(coroutine):
    """Run `coroutine` to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(coroutine)

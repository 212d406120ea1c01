"""Settings that every test shares."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    import pytest

# How long an example takes on a busy machine is no property of the code. In CI the examples are the same every time,
# so that a failure is the change's and not the draw's; developers draw new ones.
settings.register_profile(
    "tallow",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
)
settings.load_profile("tallow")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many simulated worlds ran: tests/sim records them, whichever process ran them."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    properties = [
        said for report in reports if getattr(report, "when", "") == "call" for said in report.user_properties
    ]
    worlds = sum(count for name, count in properties if name == "worlds")
    if worlds:
        events = sum(count for name, count in properties if name == "events")
        terminalreporter.write_line(f"simulation: {worlds} worlds, {events} events")

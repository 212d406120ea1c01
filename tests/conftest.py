"""Settings that every test shares."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

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

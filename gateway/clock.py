"""The one place that reads a clock, so that everything that decides by time can be given a fake."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds on a clock that never goes back; its zero means nothing."""


monotonic: Clock = time.monotonic
"""Seconds, never going back."""


def wall_clock() -> float:
    """Seconds since 1970 UTC, for comparing with dates that people set."""
    return time.time()


def jittered(value: float, fraction: float) -> float:
    """``value`` give or take up to ``fraction`` of it, so that peers don't act at once."""
    return value * random.uniform(1.0 - fraction, 1.0 + fraction)

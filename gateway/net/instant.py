"""Reading a clock, where nothing is compiled.

Compiled, instant.pyx stands in for this module: the same name, and the real clock by the C library.
"""

from __future__ import annotations

from gateway.clock import Clock


def read(clock: Clock) -> float:
    """What it says now, in seconds."""
    return clock()

"""Reading a clock: instant.py in C."""

import sys

from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from gateway.clock import monotonic

cdef object _real = monotonic if sys.platform == "linux" else None
"""The clock that Python reads in the way below; elsewhere it has another one, with another zero."""


cpdef double read(clock) except? -1:
    """What it says now, in seconds."""
    cdef timespec now
    if clock is _real and clock_gettime(CLOCK_MONOTONIC, &now) == 0:
        return now.tv_sec + now.tv_nsec * 1e-9
    return clock()

"""Reads what a process has used: CPU time, memory. Linux only."""

from __future__ import annotations

import asyncio
import os
import time
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_INTERVAL_S = 0.05
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a process had used by the time ``at`` (seconds since 1970 UTC).

    ``cpu_s`` is exact to the microsecond; ``user_s`` and ``system_s`` are in ticks of 10 ms.
    """

    at: float
    cpu_s: float
    user_s: float
    system_s: float
    rss_bytes: int


def read(pid: int) -> Reading:
    """The process with all its threads, now. Raises OSError when it is gone."""
    used_s = cpu_s(pid)
    # The name in brackets may hold anything; what follows it is numbers, from field 3 on.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Reading(
        at=time.time(),
        cpu_s=used_s,
        user_s=int(fields[11]) / _TICKS_PER_S,
        system_s=int(fields[12]) / _TICKS_PER_S,
        rss_bytes=rss_bytes(pid),
    )


def cpu_s(pid: int) -> float:
    """CPU time of a process with all its threads, so far. Raises OSError when it is gone."""
    # The kernel's CPU clock of another process: clock_getcpuclockid(3) makes the same number.
    return time.clock_gettime((~pid << 3) | 2)


def descendants(pid: int) -> list[int]:
    """``pid`` and all processes it started, and they; those that live now."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
            found += map(int, children.split())
    return found


def tree_cpu_s(pid: int) -> dict[int, float]:
    """CPU time by process, of ``pid`` and its descendants."""
    used = {}
    for one in descendants(pid):
        with suppress(OSError):
            used[one] = cpu_s(one)
    return used


def spent(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """CPU time between two readings; of a process that ended between them, none."""
    return sum(used - before.get(pid, 0.0) for pid, used in after.items())


def private_bytes(pid: int) -> int:
    """Memory of a process that it shares with nobody. Raises OSError when it is gone."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private"))


def rss_bytes(pid: int) -> int:
    """Memory of a process that is in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


@dataclass(frozen=True, slots=True)
class Use:
    """What a process used between two readings."""

    first: Reading
    last: Reading

    @property
    def seconds(self) -> float:
        return self.last.at - self.first.at

    @property
    def cpu_s(self) -> float:
        return self.last.cpu_s - self.first.cpu_s

    @property
    def system_share(self) -> float:
        """The part of the CPU time spent in the kernel, 0 to 1."""
        user = self.last.user_s - self.first.user_s
        system = self.last.system_s - self.first.system_s
        return system / (user + system) if user + system else 0.0


class Meter:
    """Readings of one process, a few each second."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._readings: list[Reading] = []

    def between(self, start: float, end: float) -> Use | None:
        """The widest use inside the two times; None when fewer than two readings lie there."""
        first = bisect_left(self._readings, start, key=lambda reading: reading.at)
        last = bisect_right(self._readings, end, key=lambda reading: reading.at) - 1
        return Use(self._readings[first], self._readings[last]) if last > first else None

    async def _run(self) -> None:
        while True:
            self._readings.append(read(self._pid))
            await asyncio.sleep(_INTERVAL_S)


@asynccontextmanager
async def metered(pid: int) -> AsyncIterator[Meter]:
    """Reads ``pid`` until the block ends. A process that ends earlier fails the block."""
    meter = Meter(pid)
    reading = asyncio.create_task(meter._run())
    try:
        yield meter
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    if not reading.cancelled() and (error := reading.exception()) is not None:
        raise error

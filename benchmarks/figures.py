"""The figures: their names and units, and how many measurements become one."""

from __future__ import annotations

import math
import statistics
from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from benchmarks.meter import Use


@dataclass(frozen=True, slots=True)
class Figure:
    """What a number means. ``digits`` after the point are shown."""

    title: str
    digits: int
    more_is_better: bool = False


FIGURES: Mapping[str, Figure] = MappingProxyType(
    {
        "per_s": Figure("transactions/s", 0, more_is_better=True),
        "logins_per_s": Figure("logins/s", 0, more_is_better=True),
        "mb_per_s": Figure("MB/s", 0, more_is_better=True),
        "cpu_s_per_1000": Figure("CPU s per 1,000 transactions", 4),
        "cpu_s_per_1000_logins": Figure("CPU s per 1,000 logins", 3),
        "cpu_ms_per_mb": Figure("CPU ms per MB", 3),
        "p50_ms": Figure("p50 ms", 3),
        "p95_ms": Figure("p95 ms", 3),
        "p99_ms": Figure("p99 ms", 3),
        "p999_ms": Figure("p99.9 ms", 3),
        "quiet_p50_ms": Figure("p50 ms of quiet owners beside a noisy one", 3),
        "quiet_p99_ms": Figure("p99 ms of quiet owners beside a noisy one", 3),
        "alone_p50_ms": Figure("p50 ms of quiet owners alone", 3),
        "alone_p99_ms": Figure("p99 ms of quiet owners alone", 3),
        "noisy_per_s": Figure("statements/s of the noisy owner", 0, more_is_better=True),
        "one_worker_per_s": Figure("transactions/s, one worker", 0, more_is_better=True),
        "two_workers_per_s": Figure("transactions/s, two workers", 0, more_is_better=True),
        "workers_ratio": Figure("two workers to one", 2, more_is_better=True),
        "replica_share": Figure("part of the transactions on the replica", 2, more_is_better=True),
        "primary_cpu_s_per_1000": Figure("CPU s of the primary per 1,000 transactions", 4),
        "reads_of_own_writes": Figure("reads right after a write of the same owner", 0),
        "stale_reads": Figure("of these, older than the write", 0),
        "connect_ms": Figure("ms per connect and login", 3),
        "syscalls": Figure("system calls per transaction", 2),
        "kb_per_client": Figure("KB per idle client", 1),
        "cores": Figure("cores used by the proxy", 2),
        "system_share": Figure("part of the CPU time in the kernel", 2),
        "rss_mb": Figure("memory MB", 0),
        "errors": Figure("errors", 0),
    }
)

MEGABYTE = 1_000_000


class Transactions:
    """When each transaction ended (seconds since 1970 UTC) and how long it took, in that order."""

    def __init__(self, finished_at: array[float], latency_ms: array[float]) -> None:
        self.finished_at = finished_at
        self.latency_ms = latency_ms

    @classmethod
    def of(cls, pairs: Sequence[tuple[float, float]]) -> Transactions:
        """From pairs (end, milliseconds) in any order."""
        ordered = sorted(pairs)
        return cls(
            array("d", (end for end, _ in ordered)), array("d", (took for _, took in ordered))
        )

    def __len__(self) -> int:
        return len(self.finished_at)

    def between(self, start: float, end: float) -> Transactions:
        """Those that ended after ``start`` and not after ``end``."""
        first = bisect_right(self.finished_at, start)
        last = bisect_right(self.finished_at, end)
        return Transactions(self.finished_at[first:last], self.latency_ms[first:last])


def latencies(transactions: Transactions) -> dict[str, float]:
    """p50, p95, p99 and p99.9 in milliseconds; none without transactions."""
    ordered = sorted(transactions.latency_ms)
    if not ordered:
        return {}
    parts = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99, "p999_ms": 0.999}
    return {name: _quantile(ordered, part) for name, part in parts.items()}


def used(use: Use) -> dict[str, float]:
    """What a proxy took of the machine."""
    return {
        "cores": use.cpu_s / use.seconds,
        "system_share": use.system_share,
        "rss_mb": use.last.rss_bytes / MEGABYTE,
    }


@dataclass(frozen=True, slots=True)
class Summary:
    """Repetitions of one figure: their median, and half their range as part of it."""

    median: float
    spread: float
    count: int


def summarise(values: Sequence[float]) -> Summary:
    """Raises StatisticsError for no values at all."""
    median = statistics.median(values)
    half_range = (max(values) - min(values)) / 2
    return Summary(median, half_range / median if median else 0.0, len(values))


def _quantile(ordered: Sequence[float], part: float) -> float:
    """The smallest value that at least ``part`` of all do not exceed."""
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]

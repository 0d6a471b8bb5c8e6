"""The targets that the gateway is measured against: ratios to PgBouncer in the same run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

from benchmarks.figures import FIGURES
from benchmarks.results import Results

BASE = "pgbouncer"


@dataclass(frozen=True, slots=True)
class Goal:
    """``figure`` of all ``scenarios`` (patterns) as a ratio to PgBouncer's, or as it is.

    The worst of the scenarios counts.
    """

    title: str
    scenarios: tuple[str, ...]
    figure: str
    at_least: float
    aim: float
    absolute: bool = False


_SELECTS = ("select-*-32", "select-*-100")
_STREAMS = ("result-*", "copy-*")

GOALS: Sequence[Goal] = (
    Goal(
        "CPU per transaction, select-only, 32 and 100 clients",
        _SELECTS,
        "cpu_s_per_1000",
        1.15,
        0.75,
    ),
    Goal("throughput, select-only, 100 clients", ("select-*-100",), "per_s", 1.0, 1.5),
    Goal("p50, select-only, 1 and 32 clients", ("select-*-1", "select-*-32"), "p50_ms", 1.15, 0.9),
    Goal("p99, select-only, 1 and 32 clients", ("select-*-1", "select-*-32"), "p99_ms", 1.15, 0.9),
    Goal("large results and COPY, MB/s", _STREAMS, "mb_per_s", 1.1, 1.3),
    Goal("large results and COPY, CPU per MB", _STREAMS, "cpu_ms_per_mb", 0.7, 0.45),
    Goal(
        "TLS to the client, 32 and 100 clients, CPU per transaction",
        ("tls-*-32", "tls-*-100"),
        "cpu_s_per_1000",
        1.4,
        0.9,
    ),
    Goal("logins per second with SCRAM", ("logins-*",), "logins_per_s", 0.7, 1.0),
    Goal("two workers against one", ("workers-*",), "workers_ratio", 1.7, 1.9, absolute=True),
    Goal("memory per idle client, KB", ("idle-*",), "kb_per_client", 12, 5, absolute=True),
    Goal("system calls per transaction", ("syscalls-*",), "syscalls", 1.0, 1.0),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one goal stands: from the ``best`` of its scenarios to the ``worst``.

    Without a scenario it was not measured.
    """

    goal: Goal
    best: float = math.nan
    worst: float = math.nan
    worst_scenario: str = ""

    @property
    def measured(self) -> bool:
        return bool(self.worst_scenario)

    @property
    def text(self) -> str:
        if not self.measured:
            return "not measured in this run"
        if _reached(self.goal, self.worst, self.goal.aim):
            return "aim met"
        return "met" if _reached(self.goal, self.worst, self.goal.at_least) else "missed"


def verdicts(results: Results, target: str) -> Iterator[Verdict]:
    """Of all goals."""
    for goal in GOALS:
        values: dict[str, float] = {}
        for scenario in results.scenarios():
            if any(fnmatch(scenario, pattern) for pattern in goal.scenarios):
                value = (
                    results.median(scenario, target, goal.figure)
                    if goal.absolute
                    else results.ratio(scenario, target, BASE, goal.figure)
                )
                if value is not None:
                    values[scenario] = value
        if not values:
            yield Verdict(goal)
        else:
            ordered = sorted(values, key=values.__getitem__, reverse=_more_is_better(goal))
            yield Verdict(goal, values[ordered[0]], values[ordered[-1]], ordered[-1])


def _more_is_better(goal: Goal) -> bool:
    return FIGURES[goal.figure].more_is_better


def _reached(goal: Goal, value: float, wanted: float) -> bool:
    return value >= wanted if _more_is_better(goal) else value <= wanted

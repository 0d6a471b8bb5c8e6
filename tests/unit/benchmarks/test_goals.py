"""What a report says of the goals: every one of them, measured or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.goals import GOALS, verdicts
from benchmarks.results import Measurement, Results
from benchmarks.scenarios import table


def measured(tmp_path: Path, **by_target: float) -> Results:
    """CPU per transaction of one scenario."""
    results = Results(tmp_path)
    results.measurements = [
        Measurement("select-simple-32", "pgbench", target, 0, {"cpu_s_per_1000": value})
        for target, value in by_target.items()
    ]
    return results


@pytest.mark.parametrize(
    ("ratio", "text"), [(0.7, "aim met"), (1.1, "met"), (1.2, "missed")], ids=str
)
def test_a_goal_is_a_ratio_to_the_base(tmp_path: Path, ratio: float, text: str) -> None:
    found = list(verdicts(measured(tmp_path, pgbouncer=2.0, gateway=2.0 * ratio), "gateway"))
    assert [one.text for one in found if one.measured] == [text]


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    found = list(verdicts(measured(tmp_path, gateway=1.0), "gateway"))
    assert [one.goal for one in found] == list(GOALS)
    assert {one.text for one in found} == {"not measured in this run"}


@pytest.mark.parametrize("scenarios", [table.full, table.short], ids=["full", "short"])
def test_every_goal_has_a_scenario(tmp_path: Path, scenarios: object) -> None:
    assert callable(scenarios)
    results = Results(tmp_path)
    results.measurements = [
        Measurement(one.key, one.group, target, 0, {goal.figure: 1.0 for goal in GOALS})
        for one in scenarios()
        for target in ("pgbouncer", "gateway")
    ]
    assert [one.goal.title for one in verdicts(results, "gateway") if not one.measured] == []

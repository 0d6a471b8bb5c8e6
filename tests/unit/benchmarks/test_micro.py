"""The verdict of micro-benchmarks, and that each of them does what it says."""

from __future__ import annotations

import json

import pytest

from benchmarks.micro import BASELINE, INSTRUCTIONS, report, verdict
from benchmarks.micro_cases import CASES


@pytest.mark.parametrize(
    ("change", "word"),
    [(0.02, "as before"), (-0.02, "as before"), (0.04, "SLOWER"), (-0.2, "faster")],
)
def test_a_change_means_something_beyond_the_tolerance(change: float, word: str) -> None:
    assert verdict(change, INSTRUCTIONS) == word


def test_what_is_slower_is_counted_and_what_is_new_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    slower = report({"a": 110.0, "b": 90.0, "new": 1.0}, {"a": 100.0, "b": 100.0}, INSTRUCTIONS)
    assert slower == 1
    assert "1 slower, 1 faster" in capsys.readouterr().out


@pytest.mark.parametrize("name", CASES)
async def test_a_case_runs_over_and_over(name: str) -> None:
    make, _ = CASES[name]
    once = await make()
    for _ in range(3):
        once()


def test_the_baseline_knows_every_case() -> None:
    for figures in json.loads(BASELINE.read_text()).values():
        assert set(figures) == set(CASES)

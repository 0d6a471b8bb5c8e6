"""What a run leaves behind: one JSON line per measurement, appended as it comes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.figures import Summary, summarise

MEASUREMENTS = "measurements.jsonl"

Key = tuple[str, str, int]
"""Scenario, target, repetition."""


@dataclass(frozen=True, slots=True)
class About:
    """What all measurements of a run have in common."""

    started: str
    short: bool
    seconds: float
    owners: int
    scale: int
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    postgres_settings: Mapping[str, str]
    command: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Measurement:
    """One scenario on one target, once. Without ``figures`` it failed, and ``error`` says why."""

    scenario: str
    group: str
    target: str
    repetition: int
    figures: Mapping[str, float] = field(default_factory=dict)
    command: str = ""
    error: str = ""

    @property
    def key(self) -> Key:
        return self.scenario, self.target, self.repetition


class Results:
    """The measurements of a run, in its folder and in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.abouts: list[About] = []
        """One for each time the run was started or taken up again."""
        self.measurements: list[Measurement] = []
        self._path = folder / MEASUREMENTS
        if self._path.exists():
            for line in self._path.read_text().splitlines():
                self._take(json.loads(line))

    def begin(self, about: About) -> None:
        """Notes that a run starts here."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.abouts.append(about)
        self._append({"about": asdict(about)})

    def add(self, measurement: Measurement) -> None:
        """Keeps it, on disk too."""
        self.measurements.append(measurement)
        self._append({"measurement": asdict(measurement)})

    @property
    def done(self) -> set[Key]:
        """What need not be measured again; failures are tried anew."""
        return {one.key for one in self.measurements if one.figures}

    def scenarios(self) -> dict[str, str]:
        """Group by scenario, in the order measured."""
        return {one.scenario: one.group for one in self.measurements}

    def targets(self) -> list[str]:
        """In the order measured first."""
        return list(dict.fromkeys(one.target for one in self.measurements))

    def summary(self, scenario: str, target: str, figure: str) -> Summary | None:
        """Over all repetitions; None when it was never measured."""
        values = [
            one.figures[figure] for one in self._of(scenario, target) if figure in one.figures
        ]
        return summarise(values) if values else None

    def median(self, scenario: str, target: str, figure: str) -> float | None:
        """Of all repetitions; None when it was never measured."""
        summary = self.summary(scenario, target, figure)
        return summary.median if summary else None

    def ratio(self, scenario: str, target: str, base: str, figure: str) -> float | None:
        """``target`` to ``base``: the median over the repetitions that have both."""
        mine = {one.repetition: one.figures for one in self._of(scenario, target)}
        ratios = [
            mine[other.repetition][figure] / other.figures[figure]
            for other in self._of(scenario, base)
            if other.figures.get(figure) and figure in mine.get(other.repetition, {})
        ]
        return summarise(ratios).median if ratios else None

    def failures(self) -> Iterator[Measurement]:
        """Those that gave no figures and were not made up for later."""
        return (one for one in self.measurements if one.error and one.key not in self.done)

    def commands(self) -> dict[str, str]:
        """A command line for each scenario."""
        return {one.scenario: one.command for one in self.measurements if one.command}

    def _of(self, scenario: str, target: str) -> Iterable[Measurement]:
        return (
            one for one in self.measurements if (one.scenario, one.target) == (scenario, target)
        )

    def _append(self, line: dict[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _take(self, line: dict[str, Any]) -> None:
        if "about" in line:
            self.abouts.append(About(**line["about"]))
        else:
            self.measurements.append(Measurement(**line["measurement"]))

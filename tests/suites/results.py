"""What a run of a suite said, and how two runs of it differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from xml.etree import ElementTree


class Outcome(StrEnum):
    """What became of one test."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    MISSING = "did not run"


_TAGS = {"failure": Outcome.FAILED, "error": Outcome.FAILED, "skipped": Outcome.SKIPPED}


@dataclass(frozen=True, slots=True)
class Run:
    """The outcome of each test by its id, and the text of each failure; ``note`` if it was cut."""

    outcomes: Mapping[str, Outcome]
    failures: Mapping[str, str]
    seconds: float
    note: str = ""

    def count(self, outcome: Outcome) -> int:
        return Counter(self.outcomes.values())[outcome]


@dataclass(frozen=True, slots=True)
class Difference:
    """A test that ended otherwise through the gateway."""

    test: str
    direct: Outcome
    gateway: Outcome
    text: str

    @property
    def cause(self) -> str:
        """The last line of what the failing side said."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        return lines[-1][:300] if lines else ""


def read(junit: Path, seconds: float, note: str = "") -> Run:
    """A run from pytest's JUnit file; an empty one when pytest did not get to write it."""
    outcomes: dict[str, Outcome] = {}
    failures: dict[str, str] = {}
    cases = ElementTree.parse(junit).iter("testcase") if junit.exists() else ()
    for case in cases:
        test = f"{case.get('classname', '')}::{case.get('name', '')}"
        outcome = Outcome.PASSED
        for child in case:
            outcome = _TAGS.get(child.tag, outcome)
            if outcome is Outcome.FAILED and child.tag in _TAGS:
                failures[test] = f"{child.get('message') or ''}\n{child.text or ''}"
        # A test and its teardown may both fail; either makes it failed.
        if outcomes.get(test) is not Outcome.FAILED:
            outcomes[test] = outcome
    return Run(outcomes, failures, seconds, note)


def differences(direct: Run, gateway: Run) -> list[Difference]:
    """The tests whose outcome is not the same, sorted by id."""
    tests = sorted(direct.outcomes.keys() | gateway.outcomes.keys())
    pairs = (
        (
            test,
            direct.outcomes.get(test, Outcome.MISSING),
            gateway.outcomes.get(test, Outcome.MISSING),
        )
        for test in tests
    )
    return [
        Difference(test, one, other, gateway.failures.get(test) or direct.failures.get(test, ""))
        for test, one, other in pairs
        if one is not other
    ]


HEADER = (
    "| suite | passed | failed | skipped | passed | failed | skipped | differ | seconds |\n"
    "|---|---|---|---|---|---|---|---|---|"
)
"""The first three figures are of the direct run, the next three of that through the gateway."""


def row(name: str, direct: Run, gateway: Run) -> str:
    """A line of the table under `HEADER`."""
    figures = [
        str(run.count(outcome))
        for run in (direct, gateway)
        for outcome in (Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED)
    ]
    differ = str(len(differences(direct, gateway)))
    times = f"{direct.seconds:.0f} / {gateway.seconds:.0f}"
    notes = "".join(f" ({run.note})" for run in (direct, gateway) if run.note)
    return f"| {name}{notes} | " + " | ".join([*figures, differ, times]) + " |"


def listing(found: Iterable[Difference]) -> str:
    """The differences, a test and its cause each."""
    return "\n".join(
        f"  {one.test}: {one.direct} -> {one.gateway}\n      {one.cause}" for one in found
    )

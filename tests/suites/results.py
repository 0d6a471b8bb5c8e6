"""What a run of a suite said, and how two runs of it differ."""

from __future__ import annotations

import re
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


Outcomes = tuple[dict[str, Outcome], dict[str, str]]
"""The outcome of each test by its id, and the text of each failure."""

_TAP = re.compile(r"^(not )?ok (\d+)[ -]*([^#\n]*)(# *skip)?", re.MULTILINE | re.IGNORECASE)
_TICK = re.compile(r"^  (\S.*?) (✔|FAILED!|\? - SKIPPED)$", re.MULTILINE)
_TICKS = {"✔": Outcome.PASSED, "FAILED!": Outcome.FAILED, "? - SKIPPED": Outcome.SKIPPED}


def read_junit(junit: Path, prefix: str = "") -> Outcomes:
    """From a JUnit file of pytest, mocha or xmlrunner; nothing when it was not written."""
    outcomes: dict[str, Outcome] = {}
    failures: dict[str, str] = {}
    cases = ElementTree.parse(junit).iter("testcase") if junit.exists() else ()
    for case in cases:
        test = f"{prefix}{case.get('classname', '')}::{case.get('name', '')}"
        outcome = Outcome.PASSED
        for child in case:
            outcome = _TAGS.get(child.tag, outcome)
            if outcome is Outcome.FAILED and child.tag in _TAGS:
                failures[test] = f"{child.get('message') or ''}\n{child.text or ''}"
        # A test and its teardown may both fail; either makes it failed.
        if outcomes.get(test) is not Outcome.FAILED:
            outcomes[test] = outcome
    return outcomes, failures


def read_tap(said: str, script: str, status: int) -> Outcomes:
    """From what a script said in Perl's Test Anything Protocol, and its exit status."""
    outcomes = {script: Outcome.FAILED if status else Outcome.PASSED}
    for failed, number, name, skipped in _TAP.findall(said):
        test = f"{script}::{number} {name.strip()}"
        outcomes[test] = Outcome.FAILED if failed else Outcome.PASSED
        if skipped:
            outcomes[test] = Outcome.SKIPPED
    return _with_text(outcomes, said)


def read_ticks(said: str, script: str, status: int) -> Outcomes:
    """From what a script of node-postgres said, a line for each test, and its exit status."""
    outcomes = {script: Outcome.FAILED if status else Outcome.PASSED}
    outcomes |= {f"{script}::{name}": _TICKS[end] for name, end in _TICK.findall(said)}
    return _with_text(outcomes, said)


def _with_text(outcomes: dict[str, Outcome], said: str) -> Outcomes:
    return outcomes, {test: said for test, end in outcomes.items() if end is Outcome.FAILED}


def add(to: Outcomes, more: Outcomes) -> None:
    """Put the outcomes of another part of a run to the others."""
    to[0].update(more[0])
    to[1].update(more[1])


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

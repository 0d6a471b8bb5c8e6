"""The shape of a measurement: what a scenario is asked, and what it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from benchmarks.rig import Rig
from benchmarks.targets import Target


class Failed(Exception):
    """A measurement that gave no figures; the text says why. The run goes on."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures by their name in figures.FIGURES, and the command line that was run."""

    figures: Mapping[str, float]
    command: str


def pid_of(target: Target) -> int:
    """Of a proxy. Raises Failed when it is gone."""
    if target.pid is None:
        raise Failed(f"{target.name} is not running")
    return target.pid


class Scenario(ABC):
    """One load, measured on every target.

    ``key`` names it in the results, ``group`` is the report's section. ``steady`` says that a
    second measurement would tell nothing new.
    """

    group: ClassVar[str]
    steady: ClassVar[bool] = False

    @property
    @abstractmethod
    def key(self) -> str: ...

    @abstractmethod
    async def measure(self, rig: Rig, target: Target, seconds: float) -> Measured:
        """Takes about ``seconds``. Raises Failed."""

    def unfit(self, rig: Rig, target: Target) -> str:
        """Why this can't be measured on ``target``; empty when it can."""
        return ""

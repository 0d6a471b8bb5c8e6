"""`python -m benchmarks.capacity`: measures, calculates, and writes the report. Ctrl-C stops it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Annotated

import asyncpg
import typer
from rich.console import Console

from benchmarks.capacity.check import check
from benchmarks.capacity.costs import Costs
from benchmarks.capacity.measure import Point, costs, curve, demo
from benchmarks.capacity.profile import Machine, Profile, ProfileError, described, load_profile
from benchmarks.capacity.report import Told, summary, write_report
from benchmarks.machine import busy, commit, machine
from benchmarks.measure import Failed
from gateway.admin.version import version_line
from gateway.errors import ConfigError
from gateway.settings.load import load
from gateway.settings.model import Settings

RESULTS = Path(__file__).parent.parent / "results"
DEMO_CONFIG = Path(__file__).parents[2] / "config" / "demo.yaml"
COSTS = "costs.json"
INTERRUPTED = 130

_DEMO_ENVIRON: Mapping[str, str] = {
    "DEMO_PRIMARY": "127.0.0.1:5432",
    "DEMO_STANDBY": "127.0.0.1:5433",
    "DEMO_LOGIN": "gateway:none",
}
"""The model looks at hosts and ports only."""

_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128)
_COUNTS_SHORT = (1, 4, 16, 64)


@dataclass(slots=True)
class Found:
    """What was measured so far; a run that is stopped reports that."""

    costs: Costs | None = None
    points: list[Point] = field(default_factory=list)
    conditions: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured. Nothing new is begun after ``minutes``."""

    seconds: float
    counts: tuple[int, ...]
    owners: int
    minutes: float


def main(
    config: Annotated[
        Path | None, typer.Option(help="The gateway's settings; the demo's without.")
    ] = None,
    profile: Annotated[Path | None, typer.Option(help="YAML with the profile.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="name=value of the profile; repeatable.")
    ] = None,
    costs_file: Annotated[
        Path | None, typer.Option("--costs", help="costs.json of a run: measures nothing.")
    ] = None,
    short: Annotated[bool, typer.Option("--short", help="Less of everything: 3 minutes.")] = False,
    seconds: Annotated[float | None, typer.Option(min=1, max=600, help="Per load.")] = None,
    owners: Annotated[int, typer.Option(min=28, max=100_000, help="Of the demo.")] = 280,
    minutes: Annotated[float, typer.Option(min=0.5, help="Begin nothing new after.")] = 30,
    output: Annotated[Path | None, typer.Option(help="Folder for the report.")] = None,
    list_only: Annotated[bool, typer.Option("--list", help="Options of a profile.")] = False,
) -> None:
    """How many owners a deployment carries, what fills up first, and what would change it."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if list_only:
        for name, default, meaning in described():
            print(f"{name}: {default}  # {meaning}")
        return
    try:
        wanted = load_profile(profile, set_ or ())
        settings = _settings(config)
        found = Found(costs=Costs.load(costs_file)) if costs_file else Found()
    except ConfigError as error:
        console.print("\n".join(error.problems))
        raise typer.Exit(1) from None
    except (ProfileError, OSError, ValueError, KeyError, TypeError) as error:
        console.print(f"capacity: {error}")
        raise typer.Exit(1) from None
    status = 0
    if found.costs is None:
        counts = _COUNTS_SHORT if short else _COUNTS
        options = Options(seconds or (2.0 if short else 6.0), counts, owners, minutes)
        status = _measure(options, wanted, found, console)
    if found.costs is None:
        raise typer.Exit(status or 1)
    folder = output or _new_folder()
    folder.mkdir(parents=True, exist_ok=True)
    found.costs.save(folder / COSTS)
    checked = check(settings, wanted, found.costs, _here())
    told = Told(checked, found.points, found.conditions, found.notes)
    path = write_report(told, folder, len(os.sched_getaffinity(0)))
    print("\n".join(summary(told)))
    console.print(f"report: {path}")
    raise typer.Exit(status)


def _here() -> Machine:
    memory_gb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    return Machine(cores=len(os.sched_getaffinity(0)), memory_gb=memory_gb)


def _settings(config: Path | None) -> Settings:
    if config is not None:
        return load(config, os.environ)
    return load(DEMO_CONFIG, {**os.environ, **_DEMO_ENVIRON})


def _measure(options: Options, profile: Profile, found: Found, console: Console) -> int:
    """The exit status; what was measured is in ``found``."""
    try:
        asyncio.run(_run(options, profile, found, console))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("stopped")
        return INTERRUPTED
    except (Failed, OSError, asyncpg.PostgresError) as error:
        console.print(f"capacity: {error}")
        return 1
    return 0


async def _run(options: Options, profile: Profile, found: Found, console: Console) -> None:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    ends = monotonic() + options.minutes * 60
    conditions = {
        **machine(),
        "gateway": version_line(),
        "source": commit(),
        "measured": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "each load": f"{options.seconds:g} s, {options.owners} owners on 16 shards of one server",
    }
    if warning := busy():
        found.notes.append(warning)
        console.print(warning, style="yellow")
    async with demo(options.owners, console.print) as running:
        measured = await costs(running, options.seconds, console.print)
        found.costs = replace(measured, conditions=conditions)
        points = curve(running, profile, options.counts, options.seconds, console.print)
        async for point in points:
            found.points.append(point)
            if monotonic() > ends:
                console.print("time is up")
                break


def _new_folder() -> Path:
    name = datetime.now(UTC).strftime("%Y-%m-%d-capacity")
    for number in range(1, 1000):
        folder = RESULTS / (name if number == 1 else f"{name}-{number}")
        if not folder.exists():
            return folder
    raise typer.BadParameter(f"{RESULTS} is full of runs of today")


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()

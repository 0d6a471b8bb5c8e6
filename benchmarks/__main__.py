"""`python -m benchmarks`: one run, resumable, that ends with a report."""

from __future__ import annotations

import asyncio
import fnmatch
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.machine import busy, commit, machine
from benchmarks.measure import Failed, Scenario
from benchmarks.programs import ProgramMissing
from benchmarks.report import write_report
from benchmarks.results import About, Measurement, Results
from benchmarks.rig import POSTGRES_SETTINGS, TARGETS, Plan, Rig, rig
from benchmarks.scenarios import table
from benchmarks.targets import Target
from gateway.demo.binaries import PostgresNotFound
from gateway.demo.folder import DemoError
from gateway.demo.postgres import ClusterError
from gateway.demo.process import ProcessError
from gateway.migrate.provision import ProvisionError

RESULTS = Path(__file__).parent / "results"
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured. ``minutes`` bounds the run: nothing new is begun after them."""

    short: bool
    seconds: float
    repetitions: int
    minutes: float
    plan: Plan
    targets: tuple[str, ...]
    only: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One measurement to make."""

    scenario: Scenario
    target: Target
    repetition: int


def main(
    short: Annotated[bool, typer.Option("--short", help="Less of everything: 5 minutes.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="Scenarios by name, with * and ?; may be repeated.")
    ] = None,
    targets: Annotated[str, typer.Option(help="Which to compare.")] = ",".join(TARGETS),
    seconds: Annotated[float | None, typer.Option(min=0.5, max=600, help="Per load.")] = None,
    repetitions: Annotated[int | None, typer.Option(min=1, max=100)] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="Begin nothing new after this time.")
    ] = None,
    owners: Annotated[int | None, typer.Option(min=1000, max=1_000_000)] = None,
    scale: Annotated[int | None, typer.Option(min=1, max=1000, help="Of pgbench.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Folder of a run that was stopped; measures what is left.")
    ] = None,
    list_only: Annotated[bool, typer.Option("--list", help="Name the scenarios.")] = False,
) -> None:
    """Measure PostgreSQL, PgBouncer and the gateway side by side. Ctrl-C stops and reports."""
    options = Options(
        short=short,
        seconds=seconds or (1.5 if short else 8.0),
        repetitions=repetitions or (3 if short else 5),
        minutes=minutes or (4.0 if short else 24 * 60.0),
        plan=Plan(scale or 20, owners or (2_000 if short else 50_000)),
        targets=tuple(targets.split(",")),
        only=tuple(only or ()),
    )
    if list_only:
        print("\n".join(scenario.key for scenario in _scenarios(options)))
        return
    console = Console(stderr=True)
    folder = resume or _new_folder(short)
    if resume and not resume.is_dir():
        raise typer.BadParameter(f"{resume} is no folder of a run")
    results = Results(folder)
    status = _measure(options, results, console)
    if results.measurements:
        write_report(results)
        console.print(f"report: {folder / 'report.md'}")
        if status:
            console.print(f"go on with --resume {folder}")
    raise typer.Exit(status)


def _measure(options: Options, results: Results, console: Console) -> int:
    """The exit status."""
    try:
        asyncio.run(_run(options, results, console))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("stopped")
        return INTERRUPTED
    except (
        *(ProgramMissing, PostgresNotFound, ClusterError, ProcessError, DemoError),
        *(ProvisionError, OSError),
    ) as error:
        console.print(f"benchmarks: {error}")
        return 1
    return 0


async def _run(options: Options, results: Results, console: Console) -> None:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    ends = monotonic() + options.minutes * 60
    facts, warning = machine(), busy()  # before our own servers are busy
    async with rig(options.plan, options.targets, console.print) as everything:
        notes = (*everything.notes, *([warning] if warning else []))
        for note in notes:
            console.print(note, style="yellow")
        results.begin(_about(options, everything, facts, notes))
        steps = [step for step in _steps(options, everything) if _key(step) not in results.done]
        await _take(steps, options, everything, results, console, ends)


async def _take(
    steps: Sequence[Step],
    options: Options,
    everything: Rig,
    results: Results,
    console: Console,
    ends: float,
) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=len(steps))
        for step in steps:
            if monotonic() > ends:
                console.print(f"time is up after {progress.tasks[bar].completed:.0f} loads")
                return
            progress.update(bar, description=f"{step.scenario.key} on {step.target.name}")
            measurement = await _one(step, options, everything)
            results.add(measurement)
            progress.advance(bar)
            if measurement.error:
                console.print(f"{step.scenario.key} on {step.target.name}: {measurement.error}")


async def _one(step: Step, options: Options, everything: Rig) -> Measurement:
    scenario, target = step.scenario, step.target
    named = (scenario.key, scenario.group, target.name, step.repetition)
    try:
        measured = await scenario.measure(everything, target, options.seconds)
    except* (Failed, OSError) as errors:
        reasons = [str(error) or type(error).__name__ for error in _leaves(errors)]
        failed = Measurement(*named, error="; ".join(reasons))
    else:
        return Measurement(*named, figures=measured.figures, command=measured.command)
    with suppress(ProcessError, DemoError):
        if target.pid is not None:
            await target.restart()  # it may have died, or still hold what failed
    return failed


def _leaves(errors: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _steps(options: Options, everything: Rig) -> Iterator[Step]:
    """All of the table once, then again: who stops early has a bit of everything.

    The targets take turns in being first, so that none always follows the same other.
    """
    count = len(everything.targets)
    for repetition in range(options.repetitions):
        for scenario in _scenarios(options):
            if scenario.steady and repetition:
                continue
            for place in range(count):
                target = everything.targets[(place + repetition) % count]
                if not scenario.unfit(everything, target):
                    yield Step(scenario, target, repetition)


def _scenarios(options: Options) -> list[Scenario]:
    scenarios = table.short() if options.short else table.full()
    wanted = options.only or ("*",)
    return [one for one in scenarios if any(fnmatch.fnmatch(one.key, name) for name in wanted)]


def _key(step: Step) -> tuple[str, str, int]:
    return step.scenario.key, step.target.name, step.repetition


def _about(
    options: Options, everything: Rig, facts: dict[str, str], notes: tuple[str, ...]
) -> About:
    return About(
        started=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        short=options.short,
        seconds=options.seconds,
        owners=options.plan.owners,
        scale=options.plan.scale,
        machine=facts,
        versions={**everything.versions, "source": commit()},
        postgres_settings=dict(POSTGRES_SETTINGS),
        command=" ".join(["python -m benchmarks", *sys.argv[1:]]),
        notes=notes,
    )


def _new_folder(short: bool) -> Path:
    name = datetime.now(UTC).strftime("%Y-%m-%d") + ("-short" if short else "")
    for number in range(1, 1000):
        folder = RESULTS / (name if number == 1 else f"{name}-{number}")
        if not folder.exists():
            return folder
    raise typer.BadParameter(f"{RESULTS} is full of runs of today")


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()

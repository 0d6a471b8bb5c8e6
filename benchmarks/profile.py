"""Where the gateway's CPU time goes: one scenario under py-spy, and the functions it names.

`python -m benchmarks.profile select-prepared-32` prints the top functions; ``--native`` adds the
frames of C code (uvloop, the system calls). It needs the right to trace processes, as root has.

py-spy looks at what stands on the stack, not at what runs, so the gateway gets a core of its own
where there are two: else a send that wakes a server looks long, for that server runs instead.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
import shutil
import signal
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.figures import FIGURES
from benchmarks.measure import Failed, Scenario, pid_of
from benchmarks.programs import ProgramMissing
from benchmarks.rig import GATEWAYS, Plan, rig
from benchmarks.scenarios import table
from gateway.demo.folder import DemoError
from gateway.demo.process import ProcessError, spawn, stop, tail, wait

_RATE = 500
_WARM_UP_S = 1.0
"""Logins and first uses are over by then."""
_FRAME = re.compile(r"(?P<name>.*) \((?P<file>[^()]*)\)$")


_OTHER_THREAD = "_bootstrap (threading.py)"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to profile, and how."""

    scenario: Scenario
    target: str
    seconds: float
    owners: int
    native: bool
    lines: bool
    raw: Path | None


@dataclass(slots=True)
class Profile:
    """Samples by function: on top of the stack, and anywhere on it (once per sample)."""

    samples: int = 0
    own: Counter[str] = field(default_factory=Counter)
    total: Counter[str] = field(default_factory=Counter)

    def add(self, stack: list[str], count: int) -> None:
        """``stack`` from the outermost frame to the innermost; other threads than the loop's wait
        for work, which py-spy takes for running."""
        if any(frame.endswith(_OTHER_THREAD) for frame in stack):
            return
        self.samples += count
        self.own[stack[-1]] += count
        for frame in set(stack):
            self.total[frame] += count


def main(
    scenario: Annotated[str, typer.Argument(help="Its name, from `--list` of a run.")],
    seconds: Annotated[float, typer.Option(min=1, max=120)] = 8.0,
    top: Annotated[int, typer.Option(min=1)] = 25,
    native: Annotated[bool, typer.Option("--native", help="Frames of C code too.")] = False,
    lines: Annotated[bool, typer.Option("--lines", help="By line, not by function.")] = False,
    target: Annotated[str, typer.Option(help="Which variant of the gateway.")] = "gateway",
    owners: Annotated[int, typer.Option(min=1000)] = 2_000,
    raw: Annotated[Path | None, typer.Option(help="Keep the collapsed stacks here.")] = None,
) -> None:
    """Run one scenario on the gateway and say which functions take its CPU time."""
    known = {one.key: one for one in (*table.full(), *table.short())}
    if scenario not in known:
        raise typer.BadParameter(f"one of {', '.join(known)}")
    if target not in GATEWAYS:
        raise typer.BadParameter(f"one of {', '.join(GATEWAYS)}")
    pyspy = _pyspy()
    if pyspy is None:
        raise typer.BadParameter("py-spy is missing: pip install py-spy")
    console = Console()
    wanted = Wanted(known[scenario], target, seconds, owners, native, lines, raw)
    try:
        profile = asyncio.run(_profile(wanted, pyspy, console))
    except* (Failed, ProgramMissing, ProcessError, DemoError) as errors:
        for error in errors.exceptions:
            console.print(f"profile: {error}")
        sys.exit(1)
    _show(profile, top, console)


async def _profile(wanted: Wanted, pyspy: Path, console: Console) -> Profile:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, cores[:-1])  # of all we start, too
    plan = Plan(10, wanted.owners)
    async with rig(plan, [wanted.target], console.print) as everything:
        target = everything.targets[0]
        pid = pid_of(target)
        _give_core(pid, cores[-1])
        stacks, log = everything.folder / "stacks", everything.folder / "py-spy.log"
        async with asyncio.TaskGroup() as group:
            measuring = group.create_task(
                wanted.scenario.measure(everything, target, wanted.seconds + 2 * _WARM_UP_S)
            )
            await asyncio.sleep(_WARM_UP_S)
            command = _command(pyspy, pid, wanted, stacks)
            with log.open("wb") as output:
                process = spawn(command, output=output, environ={"PATH": os.defpath})
            try:
                await wait(process, wanted.seconds + 30)
            finally:
                await stop(process, signal.SIGTERM, 5)
        measured = measuring.result()
        if not stacks.exists():
            raise Failed(f"py-spy told nothing: {tail(log)}")
        console.print("slowed by the profiler:")
        for name, value in measured.figures.items():
            console.print(f"{FIGURES[name].title:>32}: {value:,.{FIGURES[name].digits}f}")
        if wanted.raw is not None:
            shutil.copyfile(stacks, wanted.raw)
        return read_stacks(stacks)


def _command(pyspy: Path, pid: int, wanted: Wanted, stacks: Path) -> list[str | Path]:
    return [
        *(pyspy, "record", "--pid", str(pid), "--duration", str(math.ceil(wanted.seconds))),
        *("--format", "raw", "--output", stacks, "--rate", str(_RATE)),
        *([] if wanted.lines else ["--nolineno"]),
        *(["--native"] if wanted.native else []),
    ]


def _give_core(pid: int, core: int) -> None:
    """To all threads of the process, before others who want it."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, int(task.name), -10)


def read_stacks(path: Path) -> Profile:
    """Of collapsed stacks: frames joined by ``;``, then a space and a count."""
    profile = Profile()
    for line in path.read_text(errors="replace").splitlines():
        frames, _, count = line.rpartition(" ")
        if count.isdigit() and frames:
            profile.add([_shortened(frame) for frame in frames.split(";")], int(count))
    return profile


def _shortened(frame: str) -> str:
    """``function (file)`` with the file's path from the package on."""
    match = _FRAME.match(frame)
    if match is None:
        return frame
    file = re.sub(r"^.*/(site-packages|python3\.\d+|main|src)/", "", match["file"])
    file = file[file.index("gateway/") :] if "gateway/" in file else file
    return f"{match['name']} ({file})"


def _show(profile: Profile, top: int, console: Console) -> None:
    shown = Table("own", "with callees", "function", title=f"{profile.samples:,} samples")
    for frame, count in profile.own.most_common(top):
        shown.add_row(_part(count, profile), _part(profile.total[frame], profile), frame)
    console.print(shown)


def _part(count: int, profile: Profile) -> str:
    return f"{count / profile.samples:.1%}"


def _pyspy() -> Path | None:
    """The one of this environment, else the one on PATH."""
    beside = Path(sys.executable).with_name("py-spy")
    if beside.exists():
        return beside
    found = shutil.which("py-spy")
    return Path(found) if found else None


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()

"""`make bench-micro`: what the hot path's parts cost, against a stored baseline, with a verdict.

With valgrind the figures are instructions, which do not depend on what else the machine does.
Without it they are times, as multiples of a calibration loop's in the same process. Baselines are
kept for each Python version, build and way of measuring in micro_baseline.json; `--save` writes
them.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.micro_cases import CASES
from gateway.admin.version import build, version_line
from gateway.compiled import PURE_VARIABLE

BASELINE = Path(__file__).with_name("micro_baseline.json")
_ROOT = Path(__file__).resolve().parent.parent
_TIMEOUT_S = 900


@dataclass(frozen=True, slots=True)
class Way:
    """A way to measure: its unit, and how much a figure may differ by without meaning anything."""

    name: str
    unit: str
    digits: int
    tolerance: float


INSTRUCTIONS = Way("instructions", "instructions", 0, 0.03)
TIMES = Way("times", "calibration loops", 4, 0.2)

Figures = dict[str, float]


def main(
    save: Annotated[bool, typer.Option("--save", help="Make this the baseline.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail when something is slower.")
    ] = False,
    timed: Annotated[bool, typer.Option("--times", help="Do without valgrind.")] = False,
    pure: Annotated[bool, typer.Option("--pure", help="Measure the interpreted modules.")] = False,
) -> None:
    """What the hot path's parts cost, against the baseline."""
    valgrind = None if timed else shutil.which("valgrind")
    way = INSTRUCTIONS if valgrind else TIMES
    environ = {**os.environ, "PYTHONPATH": str(_ROOT), "PYTHONHASHSEED": "0"}
    if pure:
        environ[PURE_VARIABLE] = "1"
    try:
        figures = _counted(valgrind, environ) if valgrind else _timed(environ)
    except (subprocess.SubprocessError, OSError) as error:
        print(f"bench-micro: {error}")
        raise typer.Exit(1) from None
    baselines: dict[str, Figures] = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    key = _key(way, "pure" if pure else build())
    print(f"{version_line() if not pure else 'gateway, interpreted'}; {way.unit} for each once\n")
    slower = report(figures, baselines.get(key, {}), way)
    if save:
        BASELINE.write_text(json.dumps({**baselines, key: _rounded(figures, way)}, indent=1) + "\n")
        print(f"saved as the baseline of {key}")
    raise typer.Exit(1 if strict and slower else 0)


def report(figures: Figures, baseline: Figures, way: Way) -> int:
    """Prints the table and the verdict; how many cases are slower than the baseline."""
    print(f"{'':32}{'baseline':>12}{'now':>12}{'':>9}")
    slower = faster = 0
    for name, now in figures.items():
        before = baseline.get(name)
        shown = f"{now:12,.{way.digits}f}"
        if before is None:
            print(f"{name:32}{'':>12}{shown}")
            continue
        change = now / before - 1
        slower += change > way.tolerance
        faster += change < -way.tolerance
        print(f"{name:32}{before:12,.{way.digits}f}{shown}{change:+9.1%}  {verdict(change, way)}")
    print()
    if not baseline:
        print("No baseline for this Python and build yet: --save makes one.")
    else:
        print(f"{slower} slower, {faster} faster; within {way.tolerance:.0%} is as before.")
    return slower


def verdict(change: float, way: Way) -> str:
    """One word for a change relative to the baseline."""
    if abs(change) <= way.tolerance:
        return "as before"
    return "SLOWER" if change > 0 else "faster"


def _counted(valgrind: str, environ: dict[str, str]) -> Figures:
    """Instructions per run of each case, from the parts that callgrind writes at each mark."""
    with tempfile.TemporaryDirectory(prefix="gateway-micro-") as folder:
        out = Path(folder) / "parts"
        command = [valgrind, "--tool=callgrind", "--dump-before=getpgid"]
        command += [f"--callgrind-out-file={out}", sys.executable, "-m", "benchmarks.micro_cases"]
        print("counting instructions, which takes a minute or two ...", file=sys.stderr)
        done = subprocess.run(
            [*command, "marks"],
            env=environ,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise OSError(f"the cases failed under valgrind:\n{done.stderr[-2000:]}")
        # Part 1 is what came before the first mark, 2 the first case, 3 what lies between.
        return {
            name: _total(out.with_name(f"parts.{2 * number + 2}")) / count
            for number, (name, (_, count)) in enumerate(CASES.items())
        }


def _total(part: Path) -> int:
    match = re.search(r"^(?:summary|totals): (\d+)", part.read_text(errors="replace"), re.MULTILINE)
    if match is None:
        raise OSError(f"{part.name} holds no count")
    return int(match[1])


def _timed(environ: dict[str, str]) -> Figures:
    command = [sys.executable, "-m", "benchmarks.micro_cases", "times"]
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
    if done.returncode:
        raise OSError(f"the cases failed:\n{done.stderr[-2000:]}")
    found: Figures = json.loads(done.stdout)["times"]
    return found


def _key(way: Way, built: str) -> str:
    python = ".".join(platform.python_version_tuple()[:2])
    return f"{way.name}, Python {python}, {platform.machine()}, {built}"


def _rounded(figures: Figures, way: Way) -> Figures:
    return {name: round(figure, way.digits) for name, figure in figures.items()}


if __name__ == "__main__":
    typer.run(main)

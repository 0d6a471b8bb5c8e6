"""Finds the programs a run needs besides the gateway: pgbench, PgBouncer, strace."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.demo.binaries import Installation

PGBOUNCER_VARIABLE = "GATEWAY_BENCH_PGBOUNCER"
PGBOUNCER_BUILT = Path(__file__).parent / ".cache" / "pgbouncer"
"""Where build_pgbouncer.sh leaves its result."""

PGBOUNCER_ADVICE = (
    "PgBouncer is missing: nothing is compared with it. `apt-get install pgbouncer`,"
    " benchmarks/build_pgbouncer.sh (Debian's newest, built here), or set"
    f" ${PGBOUNCER_VARIABLE}."
)

_PREPARED_SINCE = (1, 21)


class ProgramMissing(Exception):
    """A program that no run can do without; the text says what helps."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that runs here, and its version such as ``1.24.1``."""

    path: Path
    version: str

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version.split("."))


def find_pgbench(installation: Installation) -> Program:
    """The one of the server's own installation, else the one on PATH. Raises ProgramMissing."""
    for path in (installation.bin_dir / "pgbench", _on_path("pgbench")):
        if path is not None and (found := _program(path)) is not None:
            return found
    raise ProgramMissing("pgbench is missing: apt-get install postgresql-contrib")


def find_pgbouncer() -> Program | None:
    """$GATEWAY_BENCH_PGBOUNCER, the one built here, PATH, /usr/sbin; None when there is none."""
    for path in _pgbouncer_places():
        if (found := _program(path)) is not None:
            return found
    return None


def keeps_prepared(pgbouncer: Program) -> bool:
    """Whether this PgBouncer carries prepared statements in transaction mode."""
    return pgbouncer.numbers >= _PREPARED_SINCE


def find_strace() -> Path | None:
    """None when it is not installed."""
    return _on_path("strace")


def _pgbouncer_places() -> Iterator[Path]:
    named = os.environ.get(PGBOUNCER_VARIABLE)
    if named:
        yield Path(named).absolute()
    yield PGBOUNCER_BUILT
    if (found := _on_path("pgbouncer")) is not None:
        yield found
    yield Path("/usr/sbin/pgbouncer")


def _on_path(name: str) -> Path | None:
    found = shutil.which(name)
    return Path(found).resolve() if found else None


def _program(path: Path) -> Program | None:
    if not os.access(path, os.X_OK):
        return None
    try:
        said = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"(\d+(?:\.\d+)+)", said)
    return Program(path, match[1]) if match else None

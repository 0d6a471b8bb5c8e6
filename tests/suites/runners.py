"""How each kind of suite is built, run against one place, and its outcomes read.

A kind is a pytest suite, Django's own runner, Perl's prove, or node-postgres' scripts and mocha.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import IO

from tests.suites import results
from tests.suites.results import Run
from tests.suites.suites import Place, Suite

RUN_TIMEOUT_S = 1800
TEST_TIMEOUT_S = 60

# What suites read from the environment must come from us alone.
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR")
_BUILD_TIMEOUT_S = 600
_HERE = Path(__file__).parent
_PG_TABLES = "script/create-test-tables.js"
_ANY = "postgres://"
"""A URL that says nothing, so that the environment does."""


class NotBuilt(Exception):
    """The suite can't be run here; the text says what it wants."""


@dataclass(slots=True)
class Job:
    """One run of a suite: its files in ``folder``, its output beside ``stem``."""

    suite: Suite
    folder: Path
    place: Place
    python: Path
    stem: Path
    select: str = ""
    deadline: float = 0
    note: str = ""

    @property
    def junit(self) -> Path:
        return self.stem.with_name(f"{self.stem.name}.xml")

    def call(
        self, command: Sequence[str | Path], log: IO[bytes], cwd: str = "", **more: str
    ) -> int:
        """The exit status of one command of the run; -1 when the time was up."""
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environ, _ = self.suite.at(self.place)
        try:
            return subprocess.run(
                command,
                cwd=self.folder / cwd,
                env={**inherited, **environ, **more},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=max(self.deadline - monotonic(), 1),
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            self.note = f"ended after {RUN_TIMEOUT_S} s"
            return -1


@dataclass(frozen=True, slots=True)
class Runner:
    """``build(folder)`` is called before the runs and raises NotBuilt; ``run`` gives outcomes."""

    run: Callable[[Job, IO[bytes]], results.Outcomes]
    build: Callable[[Path], None] = lambda folder: None


def run(job: Job) -> Run:
    """One suite against one place, with its output in a log."""
    began = monotonic()
    job.deadline = began + RUN_TIMEOUT_S
    job.junit.unlink(missing_ok=True)
    with job.stem.with_name(f"{job.stem.name}.log").open("w+b") as log:
        outcomes, failures = RUNNERS[job.suite.runner].run(job, log)
    return Run(outcomes, failures, monotonic() - began, job.note)


# --- pytest, Django ---


def _pytest(job: Job, log: IO[bytes]) -> results.Outcomes:
    _, arguments = job.suite.at(job.place)
    command: list[str | Path] = [
        *(job.python, "-m", "pytest", "-p", "no:cacheprovider", "-q", f"--rootdir={job.folder}"),
        *(f"--junitxml={job.junit}", "-o", "junit_family=xunit1", f"--timeout={TEST_TIMEOUT_S}"),
        *(["-k", job.select] if job.select else []),
        *arguments,
    ]
    job.call(command, log)
    return results.read_junit(job.junit)


def _django(job: Job, log: IO[bytes]) -> results.Outcomes:
    command: list[str | Path] = [
        *(job.python, "runtests.py", "--settings=django_settings", "--noinput", "--parallel=1"),
        *(["-k", job.select] if job.select else []),
        *job.suite.tests,
    ]
    path = f"{_HERE}{os.pathsep}{job.folder}"
    job.call(command, log, "tests", PYTHONPATH=path, JUNIT_FILE=str(job.junit))
    return results.read_junit(job.junit)


# --- Perl ---


def _build_perl(folder: Path) -> None:
    if (folder / "blib" / "arch").exists():
        return
    _must(["perl", "-MDBI", "-e", "1"], folder, "Perl's DBI (Debian: libdbi-perl)")
    _must(["perl", "Makefile.PL"], folder, "libpq's headers (Debian: libpq-dev)")
    _must(["make"], folder, "make and a C compiler")


def _prove(job: Job, log: IO[bytes]) -> results.Outcomes:
    chosen = sorted(job.folder.glob("t/*.t"))
    outcomes: results.Outcomes = ({}, {})
    for path in chosen:
        name = str(path.relative_to(job.folder))
        if job.select in name:
            began = log.tell()
            status = job.call(["prove", "--blib", "--verbose", "--merge", name], log)
            results.add(outcomes, results.read_tap(_said(log, began), name, status))
    return outcomes


# --- node-postgres ---


_NODE_PACKAGES = ("pg", "pg-pool", "pg-cursor")
"""Of the sources, not as they were published: they ask for each other."""


def _build_node(folder: Path) -> None:
    modules = folder / "node_modules"
    linked = [modules / name for name in _NODE_PACKAGES]
    if all(one.is_symlink() and one.exists() for one in linked):
        return
    (folder / "package.json").write_text((_HERE / "node-postgres.json").read_text())
    command = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"]
    _must(command, folder, "Node.js with npm, and npm's packages")
    for one in linked:
        if one.is_symlink():
            one.unlink()
        shutil.rmtree(one, ignore_errors=True)  # the published one
        one.symlink_to(Path("..", "packages", one.name))


def _node(job: Job, log: IO[bytes]) -> results.Outcomes:
    """The scripts of ``pg``, one process each, then what its sisters test with mocha."""
    package, *sisters = job.suite.tests
    job.call(["node", _PG_TABLES], log, package)
    outcomes: results.Outcomes = ({}, {})
    for path in sorted((job.folder / package / "test" / "integration").rglob("*-tests.js")):
        name = str(path.relative_to(job.folder / package))
        if job.select in name:
            began = log.tell()
            status = job.call(["timeout", str(TEST_TIMEOUT_S), "node", name, _ANY], log, package)
            results.add(outcomes, results.read_ticks(_said(log, began), name, status))
    for sister in sisters:
        command: list[str | Path] = [
            *(job.folder / "node_modules" / ".bin" / "mocha", "--exit", "--timeout=10000"),
            *("--reporter=xunit", f"--reporter-option=output={job.junit}"),
            *(["--grep", job.select] if job.select else []),
            *sorted(path.name for path in (job.folder / sister / "test").glob("*.js")),
        ]
        job.call(command, log, f"{sister}/test")
        results.add(outcomes, results.read_junit(job.junit, sister))
    return outcomes


def _said(log: IO[bytes], began: int) -> str:
    """What was written into the log since it was at ``began``."""
    log.seek(began)
    return log.read().decode(errors="replace")


def _must(command: Sequence[str], folder: Path, wanted: str) -> None:
    try:
        subprocess.run(
            command, cwd=folder, check=True, capture_output=True, timeout=_BUILD_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NotBuilt(f"it wants {wanted}") from error


RUNNERS: Mapping[str, Runner] = {
    "pytest": Runner(_pytest),
    "django": Runner(_django),
    "prove": Runner(_prove, _build_perl),
    "node": Runner(_node, _build_node),
}

"""``python -m tests.suites.regress``: PostgreSQL's own regression tests, directly and through us.

psql runs them, driven by PostgreSQL's pg_regress in parallel, with more sessions than the pool has
connections. They are those of the installed version, from its Debian source package or from a
folder or archive given with ``--source``; nothing of them is kept in this repository.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from gateway.demo.binaries import find_postgres
from gateway.router.identity import LoginKind
from tests.suites import results
from tests.suites.places import direct_place, gateway_place
from tests.suites.results import Outcome, Run
from tests.suites.suites import Place, Suite

CACHE = Path(__file__).parents[2] / ".cache" / "suites" / "regress"
RUN_TIMEOUT_S = 900
POOL_MAX = 8
QUEUE_TIMEOUT_MS = 120_000

_DATABASE = "regression"
_SUITE = Suite(
    "PostgreSQL",
    _DATABASE,
    None,
    (),
    prepare=tuple(
        f"ALTER DATABASE {_DATABASE} SET {name} TO '{value}'"
        for name, value in (
            ("lc_messages", "C"),
            ("lc_monetary", "C"),
            ("lc_numeric", "C"),
            ("lc_time", "C"),
            ("bytea_output", "hex"),
            ("timezone_abbreviations", "Default"),
        )
    ),
)
"""The database as pg_regress makes it, since ours is made before it runs."""

_TESTS = "src/test/regress"
_FIRST = "test_setup"
_CONTRIB = ("autoinc.so", "refint.so")
_VERDICT = re.compile(r"^(?:test| {4,})\s*(\w\S*)\s+\.\.\. (ok|FAILED|failed)", re.MULTILINE)
_DIFF = re.compile(r"^diff .*/results/(\S+)\.out$", re.MULTILINE)
_OUTCOMES = {"ok": Outcome.PASSED, "FAILED": Outcome.FAILED, "failed": Outcome.FAILED}


@dataclass(frozen=True, slots=True)
class Material:
    """PostgreSQL's programs and tests, where the server's own user can read them."""

    bin_dir: Path
    program: Path
    tests: Path
    libraries: Path


def main() -> int:
    """0 when every test ended alike on both sides."""
    options = _options()
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="gateway-regress-"))
    folder.chmod(0o755)
    try:
        material = _material(options.source, folder)
        return asyncio.run(_compare(material, folder, options))
    finally:
        shutil.rmtree(folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.suites.regress", description=__doc__)
    source = os.environ.get("POSTGRES_SOURCE")
    parser.add_argument(
        "--source",
        type=Path,
        default=Path(source) if source else None,
        help="PostgreSQL's source: its folder or .tar.bz2; else $POSTGRES_SOURCE, else by apt-get",
    )
    parser.add_argument("--schedule", default="parallel_schedule", help="of the source's")
    parser.add_argument("--tests", nargs="+", help="these alone, in this order, one at a time")
    parser.add_argument("--pool-max", type=int, default=POOL_MAX, help="the gateway's connections")
    parser.add_argument("--only", choices=("direct", "gateway"), help="one side alone")
    parser.add_argument(
        "--login",
        type=LoginKind,
        choices=list(LoginKind),
        default=LoginKind.OPERATOR,
        help="of which kind the gateway's login is",
    )
    return parser.parse_args()


async def _compare(material: Material, folder: Path, options: argparse.Namespace) -> int:
    runs: dict[str, Run] = {}
    pool = {"max": options.pool_max, "queue_timeout_ms": QUEUE_TIMEOUT_MS}
    async with AsyncExitStack() as stack:
        for side in ("direct", "gateway") if options.only is None else (options.only,):
            place = await stack.enter_async_context(
                direct_place([_SUITE])
                if side == "direct"
                else gateway_place([_SUITE], CACHE / "gateway.log", pool, options.login)
            )
            output = folder / side
            runs[side] = await asyncio.to_thread(_run, material, place, output, options)
            _keep(output, CACHE / side)
            print(f"{side}: {_summary(runs[side])}", flush=True)
    if len(runs) < 2:
        return 0
    found = results.differences(runs["direct"], runs["gateway"])
    print("\n".join([results.HEADER, results.row("PostgreSQL", runs["direct"], runs["gateway"])]))
    for one in found:
        print(f"  {one.test}: {one.direct} -> {one.gateway}")
    print(f"outputs, differences and logs: {CACHE}")
    return 1 if found else 0


def _summary(run: Run) -> str:
    failed = sorted(name for name, end in run.outcomes.items() if end is not Outcome.PASSED)
    passed = run.count(Outcome.PASSED)
    return f"{passed} of {len(run.outcomes)} passed; failed: {' '.join(failed) or 'none'}"


# --- what is run ---


def _material(source: Path | None, folder: Path) -> Material:
    """Unpack the tests and compile the library of C functions that they call."""
    installed = find_postgres()
    tests = _unpack(source or _download(installed.major), folder / "source")
    if not (tests / "parallel_schedule").exists():
        raise SystemExit(f"{source} is not PostgreSQL's source: it has no {_TESTS}")
    configured = _configured(installed.bin_dir)
    program = Path(configured["PGXS"]).parents[1] / "test" / "regress" / "pg_regress"
    if not program.exists():
        raise SystemExit(f"no pg_regress: install postgresql-server-dev-{installed.major}")
    libraries = folder / "libraries"
    libraries.mkdir()
    for name in _CONTRIB:
        shutil.copy(Path(configured["PKGLIBDIR"]) / name, libraries)
    subprocess.run(
        [
            *("cc", "-O1", "-shared", "-fPIC", f"-I{configured['INCLUDEDIR-SERVER']}"),
            *(tests / "regress.c", "-o", libraries / "regress.so"),
        ],
        check=True,
    )
    return Material(installed.bin_dir, program, tests, libraries)


def _configured(bin_dir: Path) -> Mapping[str, str]:
    said = subprocess.run([bin_dir / "pg_config"], check=True, capture_output=True, text=True)
    lines = (line.partition(" = ") for line in said.stdout.splitlines())
    return {name: value for name, _, value in lines}


def _download(major: int) -> Path:
    """The source package of the installed version, by apt."""
    package = f"postgresql-{major}"
    shown = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Version}", package],
        check=True,
        capture_output=True,
        text=True,
    )
    upstream = shown.stdout.partition("-")[0]
    archive = CACHE / f"{package}_{upstream}.orig.tar.bz2"
    if not archive.exists():
        wanted = f"{package}={shown.stdout}"
        command = ["apt-get", "source", "--download-only", "--quiet", wanted]
        if subprocess.run(command, cwd=CACHE, check=False).returncode:
            raise SystemExit("apt-get has no source packages here; give PostgreSQL's by --source")
    return archive


def _unpack(source: Path, to: Path) -> Path:
    """A copy of the folder of the regression tests."""
    if source.is_dir():
        inside = source / _TESTS
        shutil.copytree(inside if inside.exists() else source, to)
        return to
    with tarfile.open(source) as archive:
        wanted = [member for member in archive if f"/{_TESTS}/" in member.name]
        archive.extractall(to, wanted, filter="data")
    (top,) = to.iterdir()
    return top / _TESTS


# --- a run ---


def _run(material: Material, place: Place, output: Path, options: argparse.Namespace) -> Run:
    """One side's run, its files in ``output``."""
    written = output / "results"
    written.mkdir(parents=True)
    written.chmod(0o777)  # psql and the server both write there
    command: Sequence[str | Path] = [
        material.program,
        *("--use-existing", f"--dbname={_DATABASE}", f"--bindir={material.bin_dir}"),
        *(f"--host={place.host}", f"--port={place.port}", f"--user={place.user}"),
        *(f"--inputdir={material.tests}", f"--outputdir={output}"),
        f"--dlpath={material.libraries}",
        *_chosen(material, options),
    ]
    began, note = monotonic(), ""
    with (output / "log").open("wb") as log:
        try:
            subprocess.run(
                command,
                cwd=output,
                env={
                    "PATH": os.environ["PATH"],
                    "PGPASSWORD": place.password,
                    "PGOPTIONS": place.options.format(database=_SUITE.database),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=RUN_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            note = f"ended after {RUN_TIMEOUT_S} s"
    return _read(output, monotonic() - began, note)


def _chosen(material: Material, options: argparse.Namespace) -> list[str]:
    if options.tests is None:
        return [f"--schedule={material.tests / options.schedule}"]
    return [_FIRST, *(test for test in options.tests if test != _FIRST)]


def _read(output: Path, seconds: float, note: str) -> Run:
    """What pg_regress said of each test."""
    said = (output / "log").read_text(errors="replace")
    outcomes = {test: _OUTCOMES[end] for test, end in _VERDICT.findall(said)}
    diffs = output / "regression.diffs"
    parts = _DIFF.split(diffs.read_text(errors="replace")) if diffs.exists() else [""]
    return Run(outcomes, dict(zip(parts[1::2], parts[2::2], strict=True)), seconds, note)


def _keep(output: Path, to: Path) -> None:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(output, to)


if __name__ == "__main__":
    sys.exit(main())

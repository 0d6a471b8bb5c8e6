"""Everything a run needs, up: one PostgreSQL server, its databases, PgBouncer, the gateway."""

from __future__ import annotations

import itertools
import os
import random
import secrets
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import asyncpg

from benchmarks.programs import (
    PGBOUNCER_ADVICE,
    Program,
    find_pgbench,
    find_pgbouncer,
    find_strace,
    keeps_prepared,
)
from benchmarks.targets import Direct, Gateway, PgBouncer, Target
from benchmarks.tenants import (
    BENCH_DATABASE,
    ROLE,
    Tenant,
    choose_tenants,
    make_tenants,
    topology,
)
from gateway.admin.version import build, version_line
from gateway.compiled import PURE_VARIABLE
from gateway.demo.binaries import Installation, find_postgres
from gateway.demo.postgres import HOST, Cluster
from gateway.demo.process import ProcessError, spawn, stop, tail, wait
from gateway.settings.model import Settings

POSTGRES_SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        # The disk is not what is measured. All else is as in production.
        "fsync": "off",
        "max_connections": "1200",
        "shared_buffers": "512MB",
        "max_wal_size": "4GB",
        "checkpoint_timeout": "30min",
        "wal_level": "replica",
    }
)

BIG_ROWS = 100_000
"""Rows of table ``big``, each of about 100 bytes as text."""

_INSTALLED: Mapping[str, str] = MappingProxyType({})
_INTERPRETED: Mapping[str, str] = MappingProxyType({PURE_VARIABLE: "1"})

GATEWAYS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {"gateway": _INSTALLED, "gateway-pure": _INTERPRETED}
    if build() == "compiled"
    else {"gateway": _INSTALLED}
)
"""Variants of the gateway by name: what differs in their environment. ``gateway`` is the one that
is installed here; where that is compiled the interpreted one is measured beside it."""

TARGETS = ("direct", "pgbouncer", *GATEWAYS)

ON_DEMAND: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "gateway-uvloop": {"transport": "uvloop"},
        "gateway-own": {"transport": "own"},
        "gateway-shared": {"pool": {"share_depth": 4}},
        "gateway-shared-own": {"transport": "own", "pool": {"share_depth": 4}},
    }
)
"""Variants that are measured when `--targets` names them: what differs in their settings."""

_SEED = 20_26

Report = Callable[[str], None]
"""Takes one line for people."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How big the databases are."""

    scale: int
    owners: int


@dataclass(frozen=True, slots=True)
class Rig:
    """All up."""

    folder: Path
    cluster: Cluster
    targets: tuple[Target, ...]
    tenants: tuple[Tenant, ...]
    ranked: tuple[Tenant, ...]
    """The same, in the order of how much they ask: owners and shards mixed."""
    raw: Mapping[str, Any] = field(repr=False)
    """The gateway's settings, with a password in them."""
    password: str = field(repr=False)
    pgbench: Program
    strace: Path | None
    versions: Mapping[str, str]
    notes: tuple[str, ...]
    """What is missing here, for the report."""
    _serial: Iterator[int] = field(default_factory=itertools.count, repr=False)

    @property
    def prepared(self) -> bool:
        """Whether all targets carry prepared statements, so that tenants can use them."""
        return all(target.keeps_prepared for target in self.targets)

    def variant(self, base: str, name: str, changes: Mapping[str, Any]) -> Gateway:
        """A gateway of its own, like the target ``base`` but for some settings; not started."""
        gateway = next(target for target in self.targets if target.name == base)
        assert isinstance(gateway, Gateway)
        return gateway.variant(f"{base}-{name}-{next(self._serial)}", changes)

    async def in_postgres(self, sql: str, database: str = BENCH_DATABASE) -> None:
        """Runs a statement past every proxy, as the superuser."""
        connection = await asyncpg.connect(self.cluster.dsn(database))
        try:
            await connection.execute(sql)
        finally:
            await connection.close()


@asynccontextmanager
async def rig(plan: Plan, names: Sequence[str], report: Report) -> AsyncIterator[Rig]:
    """Starts it and, on every way out, stops it by process id and removes its folder.

    Raises PostgresNotFound, ProgramMissing, ProcessError, DemoError or ClusterError.
    """
    async with AsyncExitStack() as stack:
        folder = _folder(stack)
        installation = find_postgres()
        pgbench = find_pgbench(installation)
        pgbouncer = find_pgbouncer() if "pgbouncer" in names else None
        strace = find_strace()
        password = secrets.token_hex(16)

        report(f"starting {installation}")
        cluster = await _start_cluster(folder, installation, stack)
        await _in(cluster, "postgres", f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{password}'")
        report(f"filling pgbench's database (scale {plan.scale}) and {plan.owners:,} owners")
        await _fill_bench(cluster, pgbench, plan.scale, password, folder)
        raw = topology(f"{ROLE}:{password}@{HOST}:{cluster.port}")
        tenants = choose_tenants(Settings.model_validate(raw), plan.owners)
        await make_tenants(raw, tenants, password)
        await _in(cluster, "postgres", "CHECKPOINT")

        targets: list[Target] = [Direct(cluster, password)]
        if pgbouncer is not None:
            verifier = await _verifier(cluster)
            targets.append(PgBouncer(pgbouncer, folder, cluster, password, verifier))
        for name, environ in GATEWAYS.items():
            targets.append(Gateway(name, folder, raw, password, environ))
        installed = Gateway("installed", folder, raw, password, _INSTALLED)
        targets += [installed.variant(name, changes) for name, changes in ON_DEMAND.items()]
        chosen = tuple(target for target in targets if target.name in names)
        for target in chosen:
            stack.push_async_callback(target.stop)
            await target.start()
        yield Rig(
            folder=folder,
            cluster=cluster,
            targets=chosen,
            tenants=tuple(tenants),
            ranked=tuple(random.Random(_SEED).sample(tenants, len(tenants))),
            raw=raw,
            password=password,
            pgbench=pgbench,
            strace=strace,
            versions=_versions(installation, pgbench, pgbouncer),
            notes=tuple(_notes(names, pgbouncer, strace)),
        )


def _folder(stack: AsyncExitStack) -> Path:
    """A temporary folder that the servers' user can enter."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-bench-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o711)
    return folder


async def _start_cluster(
    folder: Path, installation: Installation, stack: AsyncExitStack
) -> Cluster:
    cluster = Cluster(installation, folder / "postgres", settings=POSTGRES_SETTINGS)
    await cluster.initdb()
    stack.push_async_callback(cluster.stop)
    await cluster.start()
    return cluster


async def _fill_bench(
    cluster: Cluster, pgbench: Program, scale: int, password: str, folder: Path
) -> None:
    await _in(cluster, "postgres", f"CREATE DATABASE {BENCH_DATABASE} OWNER {ROLE}")
    access = Direct(cluster, password).bench()
    log = folder / "pgbench-init.log"
    with log.open("wb") as output:
        process = spawn(
            [pgbench.path, "--initialize", "--quiet", f"--scale={scale}"],
            output=output,
            environ={**os.environ, **access.environ},
        )
        try:
            status = await wait(process, timeout_s=600)
        finally:
            await stop(process, signal.SIGTERM, 5)
    if status != 0:
        raise ProcessError(f"pgbench --initialize failed:\n{tail(log)}")
    await _in(
        cluster,
        BENCH_DATABASE,
        "CREATE TABLE big AS SELECT n AS id, md5(n::text) AS a, md5((n + 1)::text) AS b,"
        f" n * 1.5 AS c, now() AS d FROM generate_series(1, {BIG_ROWS}) AS n;"
        "CREATE UNLOGGED TABLE copied (LIKE big);"
        f"ALTER TABLE big OWNER TO {ROLE}; ALTER TABLE copied OWNER TO {ROLE};"
        "ANALYZE big",
    )


async def _in(cluster: Cluster, database: str, sql: str) -> None:
    connection = await asyncpg.connect(cluster.dsn(database))
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def _verifier(cluster: Cluster) -> str:
    """As PostgreSQL stores it: PgBouncer can log in to servers with a client's keys only then."""
    connection = await asyncpg.connect(cluster.dsn())
    try:
        found = await connection.fetchval(
            "SELECT rolpassword FROM pg_authid WHERE rolname = $1", ROLE
        )
    finally:
        await connection.close()
    return str(found)


def _versions(
    installation: Installation, pgbench: Program, pgbouncer: Program | None
) -> dict[str, str]:
    return {
        "PostgreSQL": installation.version,
        "pgbench": pgbench.version,
        "PgBouncer": pgbouncer.version if pgbouncer else "missing",
        "gateway": version_line(),
    }


def _notes(names: Sequence[str], pgbouncer: Program | None, strace: Path | None) -> Iterable[str]:
    if "pgbouncer" in names:
        if pgbouncer is None:
            yield PGBOUNCER_ADVICE
        elif not keeps_prepared(pgbouncer):
            yield (
                f"PgBouncer {pgbouncer.version} is older than 1.21 and carries no prepared"
                " statements in transaction mode; benchmarks/build_pgbouncer.sh makes a newer one."
            )
    if build() != "compiled":
        yield "The gateway is interpreted; `make compiled` compiles its hot modules."
    if strace is None:
        yield "strace is missing: no system calls are counted. `apt-get install strace`."

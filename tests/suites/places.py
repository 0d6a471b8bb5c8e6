"""The two servers of a comparison: a PostgreSQL, and another one behind a gateway.

Both have the same databases and the same superuser, so that a suite can't tell them apart by name.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import asyncpg
import yaml

from gateway.demo.binaries import find_postgres
from gateway.demo.postgres import FAST, HOST, SUPERUSER, Cluster, free_port, port_is_free
from gateway.demo.process import open_log, spawn, stop, tail
from gateway.directory.owners import add_grant, add_login, open_meta
from gateway.migrate.provision import provision
from gateway.router.identity import Grant, LoginKind, Scope
from gateway.settings.dsn import parse
from gateway.settings.model import Settings
from tests.suites.suites import Place, Suite

USER = SUPERUSER
PASSWORD = "secret"
POOL_MAX = 20

_META = "gateway_meta"
_THERE_ALREADY = "postgres"
_OWNER_NAMED_LIKE_ITS_INDUSTRY = """
    SELECT $1::text AS id, $1::text AS industry, NULL::text AS shard, 0 AS epoch
"""
_OPTIONS = {LoginKind.SERVICE: "-c gateway.owner={database}"}
_ROOT = Path(__file__).parents[2]
_START_TIMEOUT_S = 20
_SERVER_SETTINGS = {**FAST, "max_connections": "200", "max_prepared_transactions": "50"}


@asynccontextmanager
async def direct_place(suites: Sequence[Suite]) -> AsyncIterator[Place]:
    """A PostgreSQL with the suites' databases."""
    async with _server("direct", suites) as cluster:
        yield Place(HOST, cluster.port, USER, PASSWORD)


@asynccontextmanager
async def gateway_place(
    suites: Sequence[Suite],
    log: Path,
    pool: Mapping[str, int] = MappingProxyType({}),
    kind: LoginKind = LoginKind.OPERATOR,
) -> AsyncIterator[Place]:
    """The same behind a gateway in transaction pooling, which is a process of its own.

    ``pool`` are settings of its pools other than usual. Through an owner's login there is no
    database but the first suite's.
    """
    async with _server("behind", suites) as cluster:
        settings = _settings(cluster, suites)
        settings["pool"] |= pool
        await _make_directory(cluster, kind, suites[0].database)
        with tempfile.TemporaryDirectory(prefix="gateway-suites-") as folder:
            config = _write(settings, Path(folder))
            async with _gateway(config, settings["listen"]["port"], log) as port:
                yield Place(HOST, port, USER, PASSWORD, _OPTIONS.get(kind, ""))


@asynccontextmanager
async def _server(name: str, suites: Sequence[Suite]) -> AsyncIterator[Cluster]:
    folder = _folder_for_the_server()
    cluster = Cluster(
        find_postgres(),
        folder / name,
        name=name,
        password=PASSWORD,
        settings=_SERVER_SETTINGS,
    )
    try:
        await cluster.initdb()
        await cluster.start()
        for suite in suites:
            if suite.database != _THERE_ALREADY:
                await _run(cluster, _THERE_ALREADY, [f"CREATE DATABASE {suite.database}"])
            await _run(cluster, suite.database, suite.prepare)
        yield cluster
    finally:
        await cluster.stop()
        shutil.rmtree(folder)


def _folder_for_the_server() -> Path:
    """A folder that the server's own user can enter."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-suites-"))
    folder.chmod(0o711)
    return folder


async def _run(cluster: Cluster, database: str, statements: Iterable[str]) -> None:
    connection = await asyncpg.connect(cluster.dsn(database))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def _settings(cluster: Cluster, suites: Sequence[Suite]) -> dict[str, Any]:
    """Every database is an industry of its own, named like it, so that clients name it as ever."""
    names = {_THERE_ALREADY, "template1"}
    for suite in suites:
        names |= {suite.database, *suite.more}
    return {
        "listen": {"host": HOST, "port": free_port()},
        "http": {"port": None},
        "pool": {"mode": "transaction", "max": POOL_MAX},
        "meta": {"primary": cluster.dsn(_META)},
        "directory": {"owner_query": _OWNER_NAMED_LIKE_ITS_INDUSTRY},
        "industries": {
            name: {"shards": [{"primary": cluster.dsn(name)}]} for name in sorted(names)
        },
    }


def _write(settings: dict[str, Any], folder: Path) -> Path:
    config = folder / "gateway.yaml"
    config.write_text(yaml.safe_dump(settings))
    return config


async def _make_directory(cluster: Cluster, kind: LoginKind, owner: str) -> None:
    """A meta database with one login; an operator's may name any database."""
    meta = cluster.dsn(_META)
    only_meta = Settings.model_validate(
        {"meta": {"primary": meta}, "industries": {"ANY": {"shards": [{"primary": meta}]}}}
    )
    await provision(only_meta, report=lambda line: None)
    async with open_meta(parse(meta)) as connection:
        first = LoginKind.OPERATOR if kind is LoginKind.OWNER else kind
        await add_login(connection, USER, first, password=PASSWORD)
        if kind is LoginKind.OWNER:  # of an owner that only the query above knows
            await connection.execute(
                "UPDATE gateway.login SET kind = 'owner', owner_id = $1", owner
            )
        elif kind is LoginKind.SERVICE:
            await add_grant(connection, USER, Grant(Scope.ALL))


@asynccontextmanager
async def _gateway(config: Path, port: int, log: Path) -> AsyncIterator[int]:
    with open_log(log) as output:
        process = spawn(
            [sys.executable, "-P", "-m", "gateway", "serve", "--config", config],
            output=output,
            environ={"PYTHONPATH": str(_ROOT)},
        )
    try:
        await _until_listening(process, port, log)
        yield port
    finally:
        await stop(process, signal.SIGINT, 10)


async def _until_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(_START_TIMEOUT_S * 20):
        if process.poll() is not None:
            break
        if not port_is_free(port):
            return
        await asyncio.sleep(0.05)
    raise RuntimeError(f"the gateway did not start; the end of {log}:\n{tail(log)}")

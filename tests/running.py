"""Gateways that run inside the test's own process, and how to see that one is whole."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import psycopg

from gateway.demo.seed import SeedLogin
from gateway.health.look import APPLICATION_NAME
from gateway.pool.core import ServerState
from gateway.pool.pool import Pool
from gateway.settings.dsn import parse
from gateway.settings.model import IndustrySettings, Settings, ShardSettings
from gateway.worker import Worker
from tests.wire import Place, Wire

SETTLE_S = 10.0
"""Longest time a gateway may take to come to rest."""

OBSERVER = "a test"
"""The application_name of connections that a test makes past the gateway."""

_SAMPLE_S = 0.005


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Worker]:
    """A gateway, stopped at the end. Fails when any of its code raised what nobody handled."""
    with unhandled() as problems:
        worker = Worker(settings, lambda: settings)
        await worker.start()
        try:
            yield worker
        finally:
            await worker.stop()
    assert not problems, "\n".join(problems)


@contextmanager
def unhandled() -> Iterator[list[str]]:
    """Collects errors that only the log or the event loop hear of."""
    problems = _Problems()
    loggers = [logging.getLogger(name) for name in ("asyncio", "gateway")]
    for logger in loggers:
        logger.addHandler(problems)
    try:
        yield problems.texts
    finally:
        for logger in loggers:
            logger.removeHandler(problems)


class _Problems(logging.Handler):
    """Keeps records that carry a traceback, and all of asyncio's errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.name == "asyncio":
            self.texts.append(self.format(record))


def changed(settings: Settings, **sections: dict[str, Any]) -> Settings:
    """``settings`` with some options of some sections replaced."""
    return settings.model_copy(
        update={
            name: type(getattr(settings, name)).model_validate(
                {**dict(getattr(settings, name)), **values}
            )
            for name, values in sections.items()
        }
    )


def moved(settings: Settings, industry: str, url: str) -> Settings:
    """``settings`` with one industry in one database of its own."""
    shard = ShardSettings.model_validate({"primary": url})
    place = IndustrySettings(shards=[shard])
    return settings.model_copy(update={"industries": {**settings.industries, industry: place}})


def place(worker: Worker, login: SeedLogin, database: str | None = None) -> Place:
    """How ``login`` connects to the gateway."""
    host, port = worker.address
    return Place(host, port, login.user, login.password, database or login.database)


def pool_of(worker: Worker, url: str) -> Pool:
    """The pool of the database at ``url``."""
    database = parse(url).database
    return next(pool for pool in worker.context.pools if pool.dsn.database == database)


async def knows_its_tables(worker: Worker, url: str, where: Place) -> None:
    """Have a pool ask its database what is only a table, as it does when clients wait for it."""
    wire = await Wire.logged_in(where)
    await wire.query("SELECT 1")
    pool = pool_of(worker, url)
    plain, changes = pool.sharing.plain, pool.schema.changes
    plain.wanted = True
    await wire.query("SELECT 1")
    await eventually(lambda: plain._changes == changes)
    await wire.close()


def figures(pool: Pool) -> dict[str, int]:
    """What is under way in a pool; all zero at rest but ``idle``."""
    core = pool.core
    return {
        **{state.value: core.count(state) for state in ServerState},
        "opening": core.opening,
        "waiting": len(core.queue),
        "tasks": len(pool._tasks),
        "deadlines": len(pool._deadlines),
        "owing": sum(not server.replies.idle for server in core.servers(ServerState.IDLE)),
    }


def at_rest(pool: Pool) -> bool:
    """Whether every server is idle and nobody waits."""
    return not any(count for name, count in figures(pool).items() if name != "idle")


async def rest(worker: Worker, *, clients: int = 0) -> None:
    """Wait until ``clients`` sessions are left and every pool is at rest; nothing may be lost."""
    end = time.monotonic() + SETTLE_S
    while True:
        state = {pool.name: figures(pool) for pool in worker.context.pools}
        sessions = len(worker.context.registry)
        arriving = sum(listener.in_progress for listener in worker._listeners)
        still = all(at_rest(pool) for pool in worker.context.pools)
        if still and sessions == clients and not arriving:
            return
        assert time.monotonic() < end, f"{sessions} sessions, {arriving} logins, pools {state}"
        await asyncio.sleep(0.01)


async def past_the_gateway(url: str, sql: str) -> list[asyncpg.Record]:
    """The rows of a statement run on a connection of its own."""
    connection = await asyncpg.connect(url, server_settings={"application_name": OBSERVER})
    try:
        return await connection.fetch(sql)
    finally:
        await connection.close()


async def eventually(condition: Callable[[], bool], timeout_s: float = SETTLE_S) -> None:
    """Wait for ``condition``."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        await asyncio.sleep(0.005)


class Backends:
    """Counts a database's client backends every few milliseconds, from a thread of its own.

    The health watch keeps one besides, which is no pool's. ``strangers``, other gateways'
    connections by process id, are not counted; nor is who has not said yet who it is.
    """

    def __init__(self, url: str, strangers: Sequence[int] = ()) -> None:
        self.most = 0
        self._strangers = list(strangers)
        self.samples = 0
        self._database = parse(url).database
        self._connection = psycopg.connect(_maintenance(url), autocommit=True)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)
        self._connection.close()

    def _sample(self) -> None:
        while not self._stop.wait(_SAMPLE_S):
            row = self._connection.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = %s AND application_name <> ALL (%s)"
                " AND backend_type = 'client backend' AND pid <> ALL (%s) AND state IS NOT NULL",
                (self._database, [OBSERVER, APPLICATION_NAME], self._strangers),
            ).fetchone()
            assert row is not None
            self.most = max(self.most, row[0])
            self.samples += 1


@contextmanager
def backends(url: str, strangers: Sequence[int] = ()) -> Iterator[Backends]:
    """Watches the database at ``url``."""
    watch = Backends(url, strangers)
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()


def _maintenance(url: str) -> str:
    dsn = parse(url)
    return (
        f"host={dsn.host} port={dsn.port} user={dsn.user} password={dsn.password} dbname=postgres"
    )

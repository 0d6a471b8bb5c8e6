"""Maintenance of one industry while the others go on: PAUSE, a restart, RESUME; and the rest."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import asyncpg
import pytest

from gateway.demo.postgres import Cluster
from gateway.demo.seed import SeedLogin
from tests.conftest import Provisioned
from tests.integration.conftest import Gateway, StartGateway, run_gateway, until
from tests.standbys import run_on, standbys

INSERT = 'INSERT INTO "Note" ("userId", "body") VALUES ($1, $2)'
PAUSE_MAX_GAP_S = 2.0
"""Longest time that a client elsewhere may wait for its answer, on a busy machine."""


@dataclass
class Load:
    """What clients saw: answers by name, errors, and the longest wait between two answers."""

    answers: Counter[str] = field(default_factory=Counter)
    errors: list[Exception] = field(default_factory=list)
    gaps_s: Counter[str] = field(default_factory=Counter)
    stop: bool = False


async def client(url: str, name: str, load: Load, sql: str = "SELECT 1") -> None:
    """Asks again and again; every second time in a transaction."""
    try:
        connection = await asyncpg.connect(url)
        last = monotonic()
        while not load.stop:
            if load.answers[name] % 2:
                async with connection.transaction():
                    await connection.execute(sql)
            else:
                await connection.fetchval("SELECT 1")
            now = monotonic()
            load.answers[name] += 1
            load.gaps_s[name] = max(load.gaps_s[name], now - last)
            last = now
            await asyncio.sleep(0.005)
        await connection.close()
    except Exception as error:
        load.errors.append(error)


@asynccontextmanager
async def loaded(urls: dict[str, str], clients: int = 8) -> AsyncIterator[Load]:
    """Clients at work, by name; none of them may see an error."""
    load = Load()
    async with asyncio.TaskGroup() as group:
        for name, url in urls.items():
            for _ in range(clients):
                group.create_task(client(url, name, load))
        try:
            yield load
        finally:
            load.stop = True
    assert not load.errors, load.errors


async def more(load: Load, name: str, count: int = 20) -> None:
    """Wait for so many more answers."""
    before = load.answers[name]
    await until(lambda: load.answers[name] >= before + count, 20)


@asynccontextmanager
async def console(gateway: Gateway) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(gateway.dsn("operator", "gateway"))
    try:
        yield connection
    finally:
        await connection.close()


@dataclass
class House:
    """A gateway whose industry LAW lives on a PostgreSQL server of its own."""

    gateway: Gateway
    law: Cluster
    login: SeedLogin
    other: SeedLogin

    @property
    def urls(self) -> dict[str, str]:
        return {
            "law": self.gateway.dsn(self.login.user, "law"),
            "other": self.gateway.dsn(self.other.user, "dentist"),
        }


@pytest.fixture
async def house(
    postgres: Cluster, provisioned: Provisioned, cluster_folder: Path
) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        (law,) = await stack.enter_async_context(standbys(postgres, cluster_folder, "paused"))
        await run_on(law, "SELECT pg_promote()")
        overrides = {
            "pool": {"max": 4, "min": 1},
            "industries": {"LAW": {"shards": [{"primary": law.dsn("crm_law")}]}},
        }
        gateway = await run_gateway(provisioned, stack, overrides)
        yield House(gateway, law, provisioned.owner_on("law"), provisioned.owner_on("dentist"))


async def backends(cluster: Cluster, database: str) -> int:
    """Connections of pools to a database; the health watch's is none."""
    connection = await asyncpg.connect(cluster.dsn("postgres"))
    try:
        return int(
            await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = $1"
                " AND application_name <> 'gateway health'",
                database,
            )
        )
    finally:
        await connection.close()


async def test_one_industry_is_restarted_while_the_other_goes_on(house: House) -> None:
    async with loaded(house.urls) as load, console(house.gateway) as admin:
        await more(load, "law")
        await admin.execute("PAUSE INDUSTRY law TIMEOUT 10s")
        paused_at = load.answers["law"]
        assert await backends(house.law, "crm_law") == 0
        await house.law.stop()
        await more(load, "other", 100)
        late = await asyncpg.connect(house.urls["law"])  # a new client may log in
        waits = asyncio.create_task(late.fetchval("SELECT 42"))
        (pause,) = await admin.fetch("SHOW PAUSES")
        assert (pause["what"], pause["of"], pause["name"]) == ("paused", "industry", "LAW")
        await house.law.start()
        assert load.answers["law"] == paused_at
        assert not waits.done()
        (pause,) = await admin.fetch("SHOW PAUSES")
        assert int(pause["waiting"]) == 9
        await admin.execute("RESUME INDUSTRY LAW")
        assert await waits == 42
        await late.close()
        await more(load, "law")
        assert not await admin.fetch("SHOW PAUSES")
    assert load.gaps_s["other"] < PAUSE_MAX_GAP_S
    assert not len(house.gateway.worker.context.pauses)

"""A primary dies under load and its standby takes over; the old one comes back and gets nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import asyncpg
import pytest

from gateway.demo.postgres import Cluster
from tests.conftest import Provisioned
from tests.integration.conftest import Gateway, run_gateway
from tests.running import eventually
from tests.standbys import run_on, standbys

CLIENTS = 24
POOL_MAX = 6
INSERT = 'INSERT INTO "Note" ("userId", "body") VALUES ($1, $2)'
TRUE_ERRORS = {"08006", "08001", "57P01", "25006", "40001", "08003"}
"""08003 is asyncpg's own word for a connection that was closed under a statement."""


@dataclass
class Pair:
    """A primary of LAW's database, its standby, and a gateway before them."""

    gateway: Gateway
    primary: Cluster
    standby: Cluster


@dataclass
class Load:
    """What writers saw: errors by SQLSTATE, and when each write was acknowledged."""

    errors: Counter[str] = field(default_factory=Counter)
    acknowledged: dict[str, float] = field(default_factory=dict)
    stop: bool = False


@pytest.fixture
async def pair(
    postgres: Cluster, provisioned: Provisioned, cluster_folder: Path
) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        (primary,) = await stack.enter_async_context(
            standbys(postgres, cluster_folder, "failover_a")
        )
        await run_on(primary, "SELECT pg_promote()")
        (standby,) = await stack.enter_async_context(
            standbys(primary, cluster_folder, "failover_b")
        )
        shard = {"primary": primary.dsn("crm_law"), "replicas": [standby.dsn("crm_law")]}
        overrides = {
            "pool": {"max": POOL_MAX},
            "health": {"interval_ms": 100, "idle_interval_ms": 100, "timeout_ms": 500},
            "failover": {"hold_ms": 15_000},
            "industries": {"LAW": {"shards": [shard]}},
        }
        yield Pair(await run_gateway(provisioned, stack, overrides), primary, standby)


async def writer(url: str, owner: int, number: int, load: Load) -> None:
    """Writes one row after the other; a connection that is lost is made anew."""
    row, connection = 0, None
    while not load.stop:
        name = f"failover {number}/{row}"
        try:
            if connection is None:
                connection = await asyncpg.connect(url, timeout=20)
            await connection.execute(INSERT, owner, name)
        except asyncpg.PostgresError as error:
            load.errors[error.sqlstate or "?"] += 1
        except OSError:
            load.errors["closed"] += 1
        else:
            load.acknowledged[name] = monotonic()
        if connection is not None and connection.is_closed():
            connection = None
        row += 1
        await asyncio.sleep(0.01)
    if connection is not None:
        await connection.close(timeout=5)


async def notes(cluster: Cluster) -> set[str]:
    connection = await asyncpg.connect(cluster.dsn("crm_law"))
    try:
        found = await connection.fetch('SELECT "body" FROM "Note" WHERE "body" LIKE \'failover %\'')
        return {row[0] for row in found}
    finally:
        await connection.close()


async def test_a_standby_takes_over_under_load(pair: Pair, provisioned: Provisioned) -> None:
    login = provisioned.owner_on("law")
    url, load = pair.gateway.dsn(login.user, "law"), Load()
    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(writer(url, int(login.owner or 0), number, load))
        await eventually(lambda: len(load.acknowledged) > 2 * CLIENTS, 20)
        pair.primary.kill()
        killed = monotonic()
        await asyncio.sleep(0.7)
        await run_on(pair.standby, "SELECT pg_promote()")
        await asyncio.sleep(2)
        await pair.primary.start()
        back = monotonic()
        await asyncio.sleep(2)
        load.stop = True
    after = {name for name, at in load.acknowledged.items() if at > killed + 0.05}
    assert after, load.errors
    gap = min(load.acknowledged[name] for name in after) - killed
    print(f"written again {gap:.2f} s after the kill (0.7 s of them for the promotion to begin);")
    print(f"{dict(load.errors)} of {len(load.acknowledged)} writes by {CLIENTS} clients")
    assert gap < 10, gap
    # Only what was under way when it died was told so; the rest waited.
    assert sum(load.errors.values()) <= 2 * POOL_MAX, load.errors
    assert set(load.errors) <= TRUE_ERRORS | {"closed"}, load.errors
    assert after <= await notes(pair.standby)
    late = {name for name, at in load.acknowledged.items() if at > back}
    assert late
    assert not late & await notes(pair.primary)
    assert not len(pair.gateway.worker.context.holds)


async def test_who_listens_hears_the_new_primary(pair: Pair, provisioned: Provisioned) -> None:
    """And is told that what was sent meanwhile may be missing."""
    login = provisioned.owner_on("law")
    heard: list[str] = []
    notices: list[str] = []
    listener = await asyncpg.connect(pair.gateway.dsn(login.user, "law"))
    listener.add_log_listener(lambda _, message: notices.append(message.sqlstate))
    await listener.add_listener("news", lambda *said: heard.append(str(said[3])))
    pair.primary.kill()
    await run_on(pair.standby, "SELECT pg_promote()")
    await eventually(lambda: notices == ["01000"], 20)
    there = await asyncpg.connect(pair.standby.dsn("crm_law"))
    await there.execute("NOTIFY news, 'from the new primary'")
    await there.close()
    await eventually(lambda: heard == ["from the new primary"], 10)
    await listener.close(timeout=5)


async def test_a_database_that_stays_away_is_reported_in_time(
    pair: Pair, provisioned: Provisioned
) -> None:
    login = provisioned.owner_on("law")
    connection = await asyncpg.connect(pair.gateway.dsn(login.user, "law"))
    await connection.execute("SELECT 1")
    pair.gateway.worker.context.holds.settings = pair.gateway.worker.context.settings.failover
    pair.primary.kill()
    await pair.standby.stop()
    began = monotonic()
    with pytest.raises(asyncpg.PostgresError) as caught:
        for _ in range(2):  # the first may have been told that its server had died
            await connection.execute("SELECT 1")
    assert caught.value.sqlstate in ("08001", "08006")
    assert monotonic() - began < 25
    await connection.close(timeout=5)

"""Maintenance of one industry while the others go on: PAUSE, a restart, RESUME; and the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import asyncpg
import pytest

from gateway.demo.postgres import Cluster
from gateway.demo.seed import SeedLogin
from tests.conftest import Provisioned
from tests.integration.conftest import Gateway, StartGateway, run_gateway, until
from tests.integration.steady import console, loaded, more
from tests.standbys import run_on, standbys

pytestmark = pytest.mark.usefixtures("nothing_ordered")

GAP_MAX_S = 2.0
"""Longest time that a client elsewhere may wait for its answer, on a busy machine."""


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
    assert load.gaps_s["other"] < GAP_MAX_S
    assert not len(house.gateway.worker.context.pauses)


async def test_an_owners_pause_holds_only_that_owner(house: House) -> None:
    owner = house.login.owner
    async with loaded(house.urls) as load, console(house.gateway) as admin:
        await more(load, "law")
        await admin.execute(f"PAUSE OWNER {owner} TIMEOUT 10s")
        paused_at = load.answers["law"]
        await more(load, "other", 50)
        assert load.answers["law"] == paused_at
        service = await asyncpg.connect(house.gateway.dsn("app", "crm"))
        mine = f'SELECT count(*) FROM "Note" WHERE "userId" = {owner}'
        with pytest.raises(TimeoutError):
            await service.fetchval(mine, timeout=0.3)  # its cancel request is heard
        others = f'SELECT count(*) FROM "Note" WHERE "userId" = {house.other.owner}'
        assert await service.fetchval(others) >= 0
        await service.close()
        await admin.execute(f"RESUME OWNER {owner}")
        await more(load, "law")
    assert not len(house.gateway.worker.context.pauses)


async def test_a_running_transaction_does_not_begin_work_of_a_paused_owner(
    gateway: Gateway, provisioned: Provisioned
) -> None:
    first, second = [one.owner for one in provisioned.owners if one.shard == "medical_1"][:2]
    count = 'SELECT count(*) FROM "Note" WHERE "userId" = {}'
    service = await asyncpg.connect(gateway.dsn("app", "crm"))
    async with console(gateway) as admin:
        await service.execute("BEGIN")
        await service.fetchval(count.format(first))
        await admin.execute(f"PAUSE OWNER {second} TIMEOUT 5s")  # nothing of it runs
        with pytest.raises(asyncpg.LockNotAvailableError) as caught:
            await admin.execute(f"PAUSE OWNER {first} TIMEOUT 200ms")
        assert "has a transaction open" in str(caught.value.detail)
        await service.fetchval(count.format(first))
        waits = asyncio.create_task(service.fetchval(count.format(second)))
        await asyncio.sleep(0.3)
        assert not waits.done()
        await admin.execute(f"RESUME OWNER {second}")
        assert await waits >= 0
        await service.execute("COMMIT")
        await service.execute("BEGIN")
        await service.fetchval(count.format(first))
        await admin.execute(f"PAUSE OWNER {second}")
        with pytest.raises(TimeoutError):
            await service.fetchval(count.format(second), timeout=0.3)
        await service.execute("ROLLBACK")
        await admin.execute("RESUME")
    await service.close()


async def test_a_statement_that_waits_can_be_cancelled_and_a_client_may_leave(
    gateway: Gateway, provisioned: Provisioned
) -> None:
    login = provisioned.owner_on("law")
    connections = [await asyncpg.connect(gateway.dsn(login.user, "law")) for _ in range(2)]
    pauses = gateway.worker.context.pauses
    async with console(gateway) as admin:
        await admin.execute("PAUSE DATABASE law")
        with pytest.raises(TimeoutError):
            await connections[0].fetchval("SELECT 1", timeout=0.2)
        await until(lambda: not len(pauses))
        waits = asyncio.create_task(connections[1].fetchval("SELECT 1"))
        await until(lambda: len(pauses) == 1)
        connections[1].terminate()
        await until(lambda: not len(pauses))
        with pytest.raises(asyncpg.PostgresError):
            await waits
        again = asyncio.create_task(connections[0].fetchval("SELECT 2"))
        await until(lambda: len(pauses) == 1)
        await admin.execute("RESUME")
        assert await again == 2
    await connections[0].close()


async def test_who_waited_for_a_server_waits_for_the_pause_in_the_same_order(
    start_gateway: StartGateway, provisioned: Provisioned
) -> None:
    gateway = await start_gateway({"pool": {"max": 1}})
    login = provisioned.owner_on("law")
    connections = [await asyncpg.connect(gateway.dsn(login.user, "law")) for _ in range(6)]
    await connections[0].execute("BEGIN")
    await connections[0].execute("SELECT 1")
    order: list[int] = []

    async def ask(number: int) -> None:
        await connections[number].execute("SELECT 1")
        order.append(number)

    async with console(gateway) as admin:
        asked = []
        for number in range(1, 6):
            asked.append(asyncio.create_task(ask(number)))
            await asyncio.sleep(0.02)
        pause = asyncio.create_task(admin.execute("PAUSE DATABASE law"))
        await asyncio.sleep(0.3)
        assert not pause.done()
        assert len(gateway.worker.context.pauses) == 5
        await connections[0].execute("COMMIT")
        await pause
        assert not order
        await admin.execute("RESUME DATABASE law")
        await asyncio.gather(*asked)
    assert order == [1, 2, 3, 4, 5]
    for connection in connections:
        await connection.close()


async def test_a_forgotten_pause_ends_by_itself_and_waiting_is_bounded(
    start_gateway: StartGateway,
    provisioned: Provisioned,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gateway = await start_gateway({"pause": {"hold_ms_max": 300, "hold_clients_max": 2}})
    login = provisioned.owner_on("law")
    connections = [await asyncpg.connect(gateway.dsn(login.user, "law")) for _ in range(3)]
    async with console(gateway) as admin:
        await admin.execute("PAUSE INDUSTRY LAW FOR 1500ms")
        began = monotonic()
        asked = [asyncio.create_task(one.fetchval("SELECT 1")) for one in connections]
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert 0.3 <= monotonic() - began < 1.4
        assert {getattr(one, "sqlstate", None) for one in found} == {"57P03"}
        assert sum("too many" in str(one) for one in found) == 1
        await until(lambda: "has ended by itself" in caplog.text, 5)
        assert await connections[0].fetchval("SELECT 1") == 1
        assert not await admin.fetch("SHOW PAUSES")
    for connection in connections:
        await connection.close()


async def test_a_pause_that_is_given_up_leaves_nothing_behind(
    gateway: Gateway, provisioned: Provisioned
) -> None:
    login = provisioned.owner_on("law")
    pinned = await asyncpg.connect(gateway.dsn(login.user, "law"))
    await pinned.execute("CREATE TEMP TABLE here (x int)")
    async with console(gateway) as admin:
        with pytest.raises(asyncpg.LockNotAvailableError) as caught:
            await admin.execute("PAUSE DATABASE law TIMEOUT 200ms")
        assert "keeps its server for: temporary object" in str(caught.value.detail)
        assert not await admin.fetch("SHOW PAUSES")
        with pytest.raises(TimeoutError):  # a cancel request gives up as well
            await admin.execute("PAUSE DATABASE law", timeout=0.3)
        assert not await admin.fetch("SHOW PAUSES")
        await pinned.execute("SELECT * FROM here")
        (row,) = [row for row in await admin.fetch("SHOW CLIENTS") if row["login"] == login.user]
        await admin.execute(f"KILL CLIENT {row['client']}")
        await until(pinned.is_closed)
        with pytest.raises(asyncpg.UndefinedObjectError):
            await admin.execute(f"KILL CLIENT {row['client']}")


async def test_a_killed_database_is_left_by_everybody(
    start_gateway: StartGateway, provisioned: Provisioned
) -> None:
    gateway = await start_gateway()
    law, other = provisioned.owner_on("law"), provisioned.owner_on("dentist")
    busy = await asyncpg.connect(gateway.dsn(law.user, "law"))
    bystander = await asyncpg.connect(gateway.dsn(other.user, "dentist"))
    sleeps = asyncio.create_task(busy.execute("SELECT pg_sleep(60)"))
    await asyncio.sleep(0.3)
    async with console(gateway) as admin:
        await admin.execute("KILL DATABASE law")
        with pytest.raises(asyncpg.ConnectionDoesNotExistError, match="administrator command"):
            await sleeps
        pools = [one for one in gateway.worker.context.pools if one.name.startswith("law/")]
        await until(lambda: not sum(pool.core.total for pool in pools), 5)
        assert await bystander.fetchval("SELECT 1") == 1
        await admin.execute("RESUME DATABASE law")
        again = await asyncpg.connect(gateway.dsn(law.user, "law"))
        assert await again.fetchval("SELECT 1") == 1
        await again.close()
        await admin.execute("DISABLE INDUSTRY LAW")
        with pytest.raises(asyncpg.PostgresError) as caught:
            await asyncpg.connect(gateway.dsn(law.user, "law"))
        assert caught.value.sqlstate == "55000"
        operator = await asyncpg.connect(gateway.dsn("operator", "law"))
        await operator.close()
        await admin.execute("ENABLE INDUSTRY LAW")
        await (await asyncpg.connect(gateway.dsn(law.user, "law"))).close()
    await bystander.close()


async def test_reconnect_replaces_every_connection_under_load(
    start_gateway: StartGateway, provisioned: Provisioned
) -> None:
    gateway = await start_gateway({"pool": {"max": 3}})
    login = provisioned.owner_on("law")

    async def pids() -> set[str]:
        return {
            row["pid"] for row in await admin.fetch("SHOW SERVERS") if row["pool"][:4] == "law/"
        }

    async with loaded({"law": gateway.dsn(login.user, "law")}) as load, console(gateway) as admin:
        await more(load, "law")
        before = await pids()
        assert before
        await admin.execute("RECONNECT DATABASE law")
        await more(load, "law", 50)
        assert not before & await pids()


async def test_a_stop_does_not_wait_for_the_end_of_a_pause(
    start_gateway: StartGateway, provisioned: Provisioned
) -> None:
    gateway = await start_gateway()
    login = provisioned.owner_on("law")
    connection = await asyncpg.connect(gateway.dsn(login.user, "law"))
    async with console(gateway) as admin:
        await admin.execute("PAUSE")
    waits = asyncio.create_task(connection.fetchval("SELECT 1"))
    await until(lambda: len(gateway.worker.context.pauses) == 1)
    began = monotonic()
    await gateway.worker.drain()
    with pytest.raises(asyncpg.PostgresError, match="administrator command"):
        await waits
    assert monotonic() - began < 5


async def test_industries_that_share_a_database_are_paused_one_by_one(
    start_gateway: StartGateway, provisioned: Provisioned
) -> None:
    shared = {"shards": [{"primary": provisioned.url("law")}]}
    gateway = await start_gateway({"industries": {"LAW": shared, "LEGACY": shared}})
    login = provisioned.owner_on("law")
    owner = await asyncpg.connect(gateway.dsn(login.user, "law"))
    legacy = await asyncpg.connect(gateway.dsn("operator", "legacy"))
    listener = await asyncpg.connect(gateway.dsn(login.user, "law"))
    heard: list[object] = []
    await listener.add_listener("news", lambda *told: heard.append(told[-1]))
    async with console(gateway) as admin:
        await legacy.execute("BEGIN")
        await legacy.execute("SELECT 1")
        await admin.execute("PAUSE INDUSTRY LAW TIMEOUT 5s")  # the other's work is none of it
        assert await legacy.fetchval("SELECT 1") == 1
        with pytest.raises(TimeoutError):
            await owner.fetchval("SELECT 1", timeout=0.3)
        await legacy.execute("COMMIT")
        await admin.execute("PAUSE INDUSTRY LEGACY TIMEOUT 5s")
        await run_on_url(provisioned.url("law"), "NOTIFY news, 'still heard'")
        await until(lambda: heard == ["still heard"])
        await admin.execute("RESUME")
        assert await owner.fetchval("SELECT 1") == 1
    for connection in (owner, legacy, listener):
        await connection.close()


async def run_on_url(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(sql)
    await connection.close()

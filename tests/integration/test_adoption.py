"""The first steps of adoption: one database for everything, industries switched by a reload; and
session mode for who wants it."""

from __future__ import annotations

import asyncpg

from gateway.settings.model import Settings
from tests.integration.conftest import Gateway, StartGateway, until


async def database_of(gateway: Gateway, shard: str) -> str:
    """Where an owner of ``shard`` (by the seeded data) lands now."""
    login = gateway.provisioned.owner_on(shard)
    connection = await asyncpg.connect(gateway.dsn(login.user, "app"))
    try:
        return str(await connection.fetchval("SELECT current_database()"))
    finally:
        await connection.close()


def all_on(settings: Settings, url: str, **own: str) -> dict[str, object]:
    """Every industry on one database, but for those with a URL of their own."""
    return {
        "industries": {
            name: {"shards": [{"primary": own.get(name, url)}]} for name in settings.industries
        }
    }


async def test_one_database_for_all_then_industries_leave_it_one_by_one(
    start_gateway: StartGateway, gateway: Gateway
) -> None:
    provisioned = gateway.provisioned
    legacy, settings = provisioned.url("technology"), provisioned.settings
    one = await start_gateway(all_on(settings, legacy))
    for shard in ("law", "dentist", "hospital"):
        assert await database_of(one, shard) == "crm_technology"
    pools = [pool for pool in one.worker.context.pools if pool.dsn.database == "crm_technology"]
    assert len(pools) == 1
    switched = await start_gateway(all_on(settings, legacy, LAW=provisioned.url("law")))
    one.reread[0] = switched.worker.context.settings.model_copy(
        update={"listen": one.worker.context.settings.listen}
    )
    one.worker.reload()
    assert await database_of(one, "law") == "crm_law"
    assert await database_of(one, "dentist") == "crm_technology"


async def test_session_mode_keeps_a_server_until_the_client_leaves(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway({"pool": {"mode": "session", "max": 2}})
    login = gateway.provisioned.owner_on("law")
    connection = await asyncpg.connect(gateway.dsn(login.user, login.database))
    try:
        pids = {await connection.fetchval("SELECT pg_backend_pid()") for _ in range(3)}
        assert len(pids) == 1
        await connection.execute("SET my.own = 'x'")
        assert await connection.fetchval("SHOW my.own") == "x"
    finally:
        await connection.close()
    again = await asyncpg.connect(gateway.dsn(login.user, login.database))
    try:
        assert await again.fetchval("SELECT current_setting('my.own', true)") in (None, "")
    finally:
        await again.close()
    (pool,) = (one for one in gateway.worker.context.pools if one.name.startswith("law/"))
    await until(lambda: pool.core.live == pool.core.total)

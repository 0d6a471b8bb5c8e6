"""DROP, RENAME and copies of databases: the gateway's own connections are not in the way."""

from __future__ import annotations

import asyncpg
import pytest

from gateway.pool.core import ServerState
from gateway.pool.pool import Pool
from gateway.settings.model import Settings
from tests.conftest import Provisioned
from tests.integration.conftest import Gateway, StartGateway, until
from tests.running import past_the_gateway

COPY = "copy_for_dropping"


def _moved(settings: Settings, url: str) -> dict[str, object]:
    """LAW in a database of its own, where some connections are always open."""
    return {
        "industries": {"LAW": {"shards": [{"primary": url}]}},
        "pool": {"min": 2},
    }


def _pool(gateway: Gateway) -> Pool:
    return next(one for one in gateway.worker.context.pools if one.dsn.database == COPY)


@pytest.fixture
async def gateway(start_gateway: StartGateway, provisioned: Provisioned) -> Gateway:
    law, elsewhere = provisioned.url("law"), provisioned.url("technology")
    await past_the_gateway(elsewhere, f"DROP DATABASE IF EXISTS {COPY} WITH (FORCE)")
    await past_the_gateway(elsewhere, f"CREATE DATABASE {COPY}")
    return await start_gateway(_moved(provisioned.settings, law.replace("crm_law", COPY)))


async def _use(gateway: Gateway) -> None:
    login = gateway.provisioned.owner_on("law")
    connection = await asyncpg.connect(gateway.dsn(login.user, "app"))
    try:
        assert await connection.fetchval("SELECT current_database()") == COPY
    finally:
        await connection.close()


async def test_a_database_whose_connections_are_idle_can_be_copied_renamed_and_dropped(
    gateway: Gateway,
) -> None:
    operator = await asyncpg.connect(gateway.dsn("operator", "technology"))
    try:
        for command in (
            f"CREATE DATABASE {COPY}_2 TEMPLATE {COPY}",
            f"DROP DATABASE {COPY}_2",
            f"ALTER DATABASE {COPY} RENAME TO {COPY}_3",
            f"ALTER DATABASE {COPY}_3 RENAME TO {COPY}",
            f"DROP DATABASE {COPY}",
        ):
            if command.split()[2] == COPY or command.endswith(f"TEMPLATE {COPY}"):
                await _use(gateway)
                while not _pool(gateway).core.live:  # it left for the command before, just now
                    await _use(gateway)
            await operator.execute(command)
        assert not await operator.fetchval(
            "SELECT count(*) FROM pg_database WHERE datname LIKE $1", f"{COPY}%"
        )
    finally:
        await operator.close()


async def test_only_operators_have_connections_closed(gateway: Gateway) -> None:
    """A tenant must not be able to put another database out of service for a moment."""
    await _use(gateway)
    pool = _pool(gateway)
    await until(lambda: pool.core.count(ServerState.IDLE) == 2)
    idle = pool.core.servers(ServerState.IDLE)
    login = gateway.provisioned.owner_on("technology")
    owner = await asyncpg.connect(gateway.dsn(login.user, "app"))
    try:
        with pytest.raises(asyncpg.PostgresError):
            await owner.execute(f"DROP DATABASE no_such_database; DROP DATABASE {COPY}")
        assert pool.core.servers(ServerState.IDLE) == idle
    finally:
        await owner.close()
    await past_the_gateway(
        gateway.provisioned.url("technology"), f"DROP DATABASE {COPY} WITH (FORCE)"
    )

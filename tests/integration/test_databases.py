"""DROP, RENAME and copies of databases: the gateway's own connections are not in the way."""

from __future__ import annotations

import asyncpg
import pytest

from gateway.pool.core import ServerState
from gateway.pool.pool import Pool
from gateway.router.identity import LoginKind
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


async def _log_in(gateway: Gateway, kind: LoginKind, shard: str) -> asyncpg.Connection:
    """An operator, an owner of the shard, or a service login that acts for that owner."""
    logins, owner = gateway.provisioned.logins.values(), gateway.provisioned.owner_on(shard)
    if kind is LoginKind.OPERATOR:
        return await asyncpg.connect(gateway.dsn("operator", shard))
    if kind is LoginKind.OWNER:
        return await asyncpg.connect(gateway.dsn(owner.user, "app"))
    service = next(one for one in logins if one.kind is kind)
    settings = {"gateway.owner": str(owner.owner)}
    return await asyncpg.connect(gateway.dsn(service.user, "crm"), server_settings=settings)


@pytest.mark.parametrize("prepared", [False, True], ids=["by Query", "prepared"])
@pytest.mark.parametrize("kind", LoginKind)
async def test_a_database_whose_connections_are_idle_can_be_copied_renamed_and_dropped(
    gateway: Gateway, kind: LoginKind, prepared: bool
) -> None:
    connection = await _log_in(gateway, kind, "technology")
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
            if prepared:
                await connection.fetch(command)
            else:
                await connection.execute(command)
        assert not await connection.fetchval(
            "SELECT count(*) FROM pg_database WHERE datname LIKE $1", f"{COPY}%"
        )
    finally:
        await connection.close()


REFUSED = {
    "not its owner": ("SET ROLE pg_monitor", f"DROP DATABASE {COPY}", "42501"),
    "not its owner, a copy": ("SET ROLE pg_monitor", f"CREATE DATABASE b TEMPLATE {COPY}", "42501"),
    "in a transaction": ("BEGIN", f"DROP DATABASE {COPY}", "25001"),
    "among others": ("SELECT 1", f"DROP DATABASE no_such_database; DROP DATABASE {COPY}", "25001"),
}


@pytest.mark.parametrize("kind", [LoginKind.OWNER, LoginKind.OPERATOR])
@pytest.mark.parametrize("case", REFUSED)
async def test_only_who_may_have_it_has_connections_closed(
    gateway: Gateway, case: str, kind: LoginKind
) -> None:
    """A tenant must not be able to put another database out of service for a moment."""
    before, command, sqlstate = REFUSED[case]
    await _use(gateway)
    pool = _pool(gateway)
    await until(lambda: pool.core.count(ServerState.IDLE) == 2)
    idle = pool.core.servers(ServerState.IDLE)
    connection = await _log_in(gateway, kind, "technology")
    try:
        await connection.execute(before)
        with pytest.raises(asyncpg.PostgresError) as refused:
            await connection.execute(command)
        assert refused.value.sqlstate == sqlstate
        assert pool.core.servers(ServerState.IDLE) == idle
    finally:
        await connection.close()
    await past_the_gateway(
        gateway.provisioned.url("technology"), f"DROP DATABASE {COPY} WITH (FORCE)"
    )

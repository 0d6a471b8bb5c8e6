"""Two PostgreSQL servers of the same content, one of them behind a gateway."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from gateway.demo.binaries import find_postgres
from gateway.demo.postgres import FAST, Cluster
from gateway.demo.seed import SeedLogin
from gateway.router.identity import LoginKind
from tests.conftest import FreshDatabase, Provisioned
from tests.differential.twins import Twins
from tests.running import changed, moved, place, running
from tests.wire import Place

_SHARD, _INDUSTRY = "technology", "TECHNOLOGY"
_SERVERS_MAX = 2
"""Server connections for twice as many clients."""


@pytest.fixture(scope="package")
async def twins(
    cluster_folder: Path, fresh_database: FreshDatabase, provisioned: Provisioned
) -> AsyncIterator[Twins]:
    """A gateway over a database, and another server with a database of the same name."""
    owner = provisioned.owner_on(_SHARD)
    url = await fresh_database("differential")
    async with _twins(cluster_folder / "twin", provisioned, url, owner) as twins:
        yield twins


@pytest.fixture(scope="package")
async def roaming_twins(
    cluster_folder: Path, fresh_database: FreshDatabase, provisioned: Provisioned
) -> AsyncIterator[Twins]:
    """The same, where the clients are a service login's: each transaction finds its own place."""
    logins = provisioned.logins.values()
    service = next(login for login in logins if login.kind is LoginKind.SERVICE)
    owner = str(provisioned.owner_on(_SHARD).owner)
    url = await fresh_database("roaming")
    async with _twins(
        cluster_folder / "roaming", provisioned, url, service, ("gateway.owner", owner)
    ) as twins:
        yield twins


@asynccontextmanager
async def _twins(
    folder: Path, provisioned: Provisioned, url: str, login: SeedLogin, *startup: tuple[str, str]
) -> AsyncIterator[Twins]:
    twin = Cluster(find_postgres(), folder, name="twin", settings=FAST)
    await twin.initdb()
    try:
        await twin.start()
        database = Place.of(url).database
        maker = await asyncpg.connect(twin.dsn())
        await maker.execute(f'CREATE DATABASE "{database}"')
        await maker.close()
        chosen = changed(
            moved(provisioned.settings, _INDUSTRY, url),
            pool={
                "max": _SERVERS_MAX,
                "queue_timeout_ms": 60_000,
                "share_depth": 8,
                "share_ms": 1000,
            },
        )
        async with running(chosen) as worker:
            through = replace(place(worker, login), startup=startup)
            twins = Twins(worker, through, url, twin.dsn(database))
            await twins.start()
            try:
                yield twins
            finally:
                await twins.stop()
    finally:
        await twin.stop()
        shutil.rmtree(folder)

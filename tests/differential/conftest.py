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
from gateway.net.connect import send_cancel
from gateway.pool import pool as pool_module
from gateway.router.identity import LoginKind
from tests.conftest import FreshDatabase, Provisioned
from tests.differential.lines import Cancels, Lines
from tests.differential.twins import Twins
from tests.running import changed, moved, place, running
from tests.wire import Place

_SHARD, _INDUSTRY = "technology", "TECHNOLOGY"
_SERVERS_MAX = 2
"""Server connections for twice as many clients."""


@pytest.fixture(scope="package")
async def twin_server(cluster_folder: Path) -> AsyncIterator[Cluster]:
    """Another server than the one that gateways stand before."""
    folder = cluster_folder / "twin"
    twin = Cluster(find_postgres(), folder, name="twin", settings=FAST)
    await twin.initdb()
    try:
        await twin.start()
        yield twin
    finally:
        await twin.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="package")
async def twins(
    twin_server: Cluster, fresh_database: FreshDatabase, provisioned: Provisioned
) -> AsyncIterator[Twins]:
    """A gateway over a database, and another server with a database of the same name."""
    owner = provisioned.owner_on(_SHARD)
    url = await fresh_database("differential")
    async with _twins(twin_server, provisioned, url, owner) as twins:
        yield twins


@pytest.fixture(scope="package")
async def roaming_twins(
    twin_server: Cluster, fresh_database: FreshDatabase, provisioned: Provisioned
) -> AsyncIterator[Twins]:
    """The same, where the clients are a service login's: each transaction finds its own place."""
    service, startup = _service(provisioned)
    url = await fresh_database("roaming")
    async with _twins(twin_server, provisioned, url, service, startup) as twins:
        yield twins


@pytest.fixture(scope="package")
async def lines(
    twin_server: Cluster, fresh_database: FreshDatabase, provisioned: Provisioned
) -> AsyncIterator[Lines]:
    """Clients of both logins on few servers, which they share."""
    service, startup = _service(provisioned)
    url = await fresh_database("lines")
    direct_url = await _twin_of(twin_server, url)
    chosen = changed(
        moved(provisioned.settings, _INDUSTRY, url),
        pool={"max": 2, "queue_timeout_ms": 60_000, "share_depth": 8, "share_ms": 1000},
        limits={"owners": {startup[1]: {"servers": 64}}},
    )
    with pytest.MonkeyPatch.context() as patch:
        cancels = Cancels(send_cancel)
        patch.setattr(pool_module, "send_cancel", cancels.send)
        async with running(chosen) as worker:
            owner = place(worker, provisioned.owner_on(_SHARD))
            by_service = replace(place(worker, service), startup=(startup,))
            lines = Lines(worker, url, direct_url, owner, by_service, cancels)
            await lines.start()
            try:
                yield lines
            finally:
                await lines.stop()


def _service(provisioned: Provisioned) -> tuple[SeedLogin, tuple[str, str]]:
    """The service login, and what its clients say at startup to act for the owner."""
    logins = provisioned.logins.values()
    service = next(login for login in logins if login.kind is LoginKind.SERVICE)
    return service, ("gateway.owner", str(provisioned.owner_on(_SHARD).owner))


async def _twin_of(twin: Cluster, url: str) -> str:
    """An empty database of the same name."""
    database = Place.of(url).database
    maker = await asyncpg.connect(twin.dsn())
    await maker.execute(f'CREATE DATABASE "{database}"')
    await maker.close()
    return twin.dsn(database)


@asynccontextmanager
async def _twins(
    twin: Cluster, provisioned: Provisioned, url: str, login: SeedLogin, *startup: tuple[str, str]
) -> AsyncIterator[Twins]:
    direct_url = await _twin_of(twin, url)
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
        twins = Twins(worker, through, url, direct_url)
        await twins.start()
        try:
            yield twins
        finally:
            await twins.stop()

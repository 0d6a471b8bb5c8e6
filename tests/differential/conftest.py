"""Two PostgreSQL servers of the same content, one of them behind a gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from gateway.demo.binaries import find_postgres
from gateway.demo.postgres import FAST, Cluster
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
    url = await fresh_database("differential")
    twin = Cluster(find_postgres(), cluster_folder / "twin", name="twin", settings=FAST)
    await twin.initdb()
    try:
        await twin.start()
        database = Place.of(url).database
        maker = await asyncpg.connect(twin.dsn())
        await maker.execute(f'CREATE DATABASE "{database}"')
        await maker.close()
        chosen = changed(
            moved(provisioned.settings, _INDUSTRY, url),
            pool={"max": _SERVERS_MAX, "queue_timeout_ms": 60_000},
        )
        async with running(chosen) as worker:
            through = place(worker, provisioned.owner_on(_SHARD))
            twins = Twins(worker, through, url, twin.dsn(database))
            await twins.start()
            try:
                yield twins
            finally:
                await twins.stop()
    finally:
        await twin.stop()

"""A gateway in transaction pooling with a pool smaller than the number of clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count, cycle, islice

import asyncpg
import pytest

from gateway.settings.model import Pool, PoolMode
from gateway.worker import Worker
from tests.conftest import Provisioned
from tests.drivers.crm import CLIENTS, POOL_MAX, SHARD, TAG_PREFIX, Client


@pytest.fixture(scope="session")
async def worker(provisioned: Provisioned) -> AsyncIterator[Worker]:
    """A gateway of the driver tests' own."""
    pool = Pool(mode=PoolMode.TRANSACTION, max=POOL_MAX)
    settings = provisioned.settings.model_copy(update={"pool": pool})
    worker = Worker(settings, lambda: settings)
    await worker.start()
    yield worker
    await worker.stop()


@pytest.fixture(scope="session")
def tags() -> count[int]:
    """Numbers that no two clients share."""
    return count(1)


@pytest.fixture
async def clients(
    worker: Worker, provisioned: Provisioned, tags: count[int]
) -> AsyncIterator[list[Client]]:
    """Several clients of several owners of one database. They delete what they insert."""
    owners = [login for login in provisioned.owners if login.shard == SHARD]
    assert len(owners) > 1
    made = [
        Client(
            worker.address[1],
            login.user,
            login.password,
            login.database,
            int(login.owner or 0),
            f"{TAG_PREFIX}{next(tags)}",
        )
        for login in islice(cycle(owners), CLIENTS)
    ]
    yield made
    assert await _rows_left(provisioned, [client.tag for client in made]) == 0


@pytest.fixture
def client(clients: list[Client]) -> Client:
    """One of them."""
    return clients[0]


async def _rows_left(provisioned: Provisioned, tags: list[str]) -> int:
    """How many rows the clients left in the database, asked of it directly."""
    connection = await asyncpg.connect(provisioned.url(SHARD))
    try:
        left: int = await connection.fetchval(
            'SELECT count(*) FROM "Lead" WHERE "source" = ANY ($1)', tags
        )
        return left
    finally:
        await connection.close()

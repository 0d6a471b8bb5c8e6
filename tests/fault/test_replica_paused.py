"""Standbys that stop replaying, stop and come back, under clients that write and read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import asyncpg
import pytest

from gateway.demo.postgres import Cluster, StopMode
from gateway.demo.seed import SeedLogin
from gateway.settings.dsn import parse
from tests.conftest import Provisioned
from tests.fleet import Fleet, fleet
from tests.standbys import pause_replay, resume_replay, run_on, standbys

SHARD = "law"
LOAD_S = 8
OWNERS_MAX = 6


@dataclass
class House:
    """A gateway of two workers before a shard with two standbys."""

    gateway: Fleet
    provisioned: Provisioned
    standbys: list[Cluster]

    async def served_by_replicas(self) -> int:
        """Reads that went to a replica, through any worker."""
        console = await asyncpg.connect(
            self.gateway.url(self.provisioned.logins["operator"], "gateway")
        )
        try:
            pools = await console.fetch("SHOW STATS")
        finally:
            await console.close()
        return sum(int(pool["checkouts"]) for pool in pools if "-replica-" in pool["pool"])


@pytest.fixture(scope="module")
async def house(
    provisioned: Provisioned,
    postgres: Cluster,
    cluster_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[House]:
    database = parse(provisioned.url(SHARD)).database
    await run_on(postgres, "CREATE TABLE diary (owner text PRIMARY KEY, page int)", database)
    async with standbys(postgres, cluster_folder, "paused1", "paused2") as two:
        shard = {
            "primary": provisioned.url(SHARD),
            "replicas": [standby.dsn(database) for standby in two],
        }
        overrides = {
            "reads": {"policy": "prefer-replica"},
            "health": {"interval_ms": 50, "timeout_ms": 5000, "backoff_max_ms": 100},
            "industries": {"LAW": {"shards": [shard]}},
        }
        folder = tmp_path_factory.mktemp("paused")
        async with fleet(provisioned.settings, folder, overrides) as gateway:
            yield House(gateway, provisioned, two)
    await run_on(postgres, "DROP TABLE diary", database)


@dataclass
class Diary:
    """One owner that writes on one connection and reads on another."""

    owner: str
    writing: asyncpg.Connection[asyncpg.Record]
    reading: asyncpg.Connection[asyncpg.Record]
    page: int = 0
    reads: int = 0
    older: list[tuple[int, Any]] = field(default_factory=list)

    async def keep(self, end: float, random: Random) -> None:
        while monotonic() < end:
            self.page += 1
            await self.writing.execute(
                "INSERT INTO diary VALUES ($1, $2)"
                " ON CONFLICT (owner) DO UPDATE SET page = excluded.page",
                self.owner,
                self.page,
            )
            for _ in range(random.randrange(1, 30)):
                page = await self.read()
                if page != self.page:
                    self.older.append((self.page, page))
                await asyncio.sleep(random.random() * 0.02)

    async def read(self) -> Any:
        """The page that the owner finds last."""
        self.reads += 1
        return await self.reading.fetchval("SELECT page FROM diary WHERE owner = $1", self.owner)


async def diaries(house: House, stack: AsyncExitStack) -> list[Diary]:
    """Each of its own owner, its two connections at whichever worker takes them."""
    owners = [one for one in house.provisioned.owners if one.shard == SHARD][:OWNERS_MAX]

    async def connection(login: SeedLogin) -> asyncpg.Connection[asyncpg.Record]:
        made = await asyncpg.connect(house.gateway.url(login))
        stack.push_async_callback(made.close)
        return made

    return [Diary(one.user, await connection(one), await connection(one)) for one in owners]


async def test_no_owner_reads_older_than_its_last_write_while_replay_stops_and_goes_on(
    house: House,
) -> None:
    random = Random(7)
    async with AsyncExitStack() as stack:
        all_diaries = await diaries(house, stack)
        end = monotonic() + LOAD_S
        work = [asyncio.ensure_future(one.keep(end, random)) for one in all_diaries]
        while monotonic() < end:
            standby = random.choice(house.standbys)
            await random.choice((pause_replay, resume_replay))(standby)
            await asyncio.sleep(random.random() * 0.3)
        await asyncio.gather(*work)
    for standby in house.standbys:
        await resume_replay(standby)
    assert [one.older for one in all_diaries if one.older] == []
    assert await house.served_by_replicas() > 50, "or nothing was tried"


async def test_reads_go_on_while_standbys_stop_and_start(house: House) -> None:
    """A read may meet the end of its standby; the next one finds another server."""
    async with AsyncExitStack() as stack:
        diary = (await diaries(house, stack))[0]
        await diary.keep(monotonic() + 0.1, Random(1))
        await read_until_a_replica_serves(house, diary)
        for standby in house.standbys:
            await standby.stop(StopMode.IMMEDIATE)
        await asyncio.sleep(0.5)
        assert await diary.read() == diary.page
        for standby in house.standbys:
            await standby.start()
        await read_until_a_replica_serves(house, diary)


async def read_until_a_replica_serves(house: House, diary: Diary) -> None:
    before, end = await house.served_by_replicas(), monotonic() + 20
    while await house.served_by_replicas() == before:
        assert monotonic() < end
        assert await diary.read() == diary.page

"""Streaming standbys for tests, and what makes them lag."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from gateway.demo.postgres import Cluster, StopMode


@asynccontextmanager
async def standbys(primary: Cluster, folder: Path, *names: str) -> AsyncIterator[list[Cluster]]:
    """Running hot standbys of a running primary, in new folders of these names; gone afterwards."""
    made: list[Cluster] = []
    try:
        for name in names:
            made.append(await Cluster.standby_of(primary, folder / name, name=name))
            await made[-1].start()
        yield made
    finally:
        for standby in made:
            await standby.stop(StopMode.IMMEDIATE)
            standby.remove()


async def run_on(cluster: Cluster, query: str, database: str = "postgres") -> object:
    """The first value that a query of the superuser gives."""
    connection = await asyncpg.connect(cluster.dsn(database), timeout=10)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def pause_replay(standby: Cluster) -> None:
    """The standby goes on receiving, and shows nothing new; returns when that is so."""
    await run_on(standby, "SELECT pg_wal_replay_pause()")
    while await run_on(standby, "SELECT pg_get_wal_replay_pause_state()") != "paused":
        pass


async def resume_replay(standby: Cluster) -> None:
    await run_on(standby, "SELECT pg_wal_replay_resume()")

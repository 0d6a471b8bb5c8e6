"""The gateway before a real Patroni cluster: a switchover, a leader whose PostgreSQL dies, a leader
whose machine dies, each under load. Prints what clients saw, and fails when they saw wrong things.

Writes are acknowledged by a synchronous standby, so each that was acknowledged must be there in the
end, on whoever leads then.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import asyncpg
import uvloop

from gateway.demo.binaries import find_postgres
from gateway.demo.postgres import FAST, Cluster
from gateway.demo.seed import seed
from gateway.migrate.provision import provision
from gateway.settings.model import IndustrySettings, Settings
from gateway.worker import Worker
from tests.conftest import topology
from tests.fault.traffic import memory_mb
from tests.patroni.cluster import Node, PatroniCluster, patroni_cluster
from tests.running import changed, eventually, place, rest, running

WRITERS, READERS, POOL_MAX = 16, 8, 6
HOLD_MS = 60_000
BEFORE_S, AFTER_S = 3.0, 5.0
INSERT = 'INSERT INTO "Note" ("userId", "body") VALUES ($1, $2)'
READ = 'SELECT count(*) FROM "Note" WHERE "userId" = $1'
WRITTEN = 'SELECT "body" FROM "Note" WHERE "body" LIKE \'patroni %\''

Fault = Callable[[PatroniCluster, Node, Node], Awaitable[None]]


@dataclass
class Load:
    """What clients saw since the last fault."""

    url: str
    owner: int
    errors: Counter[str] = field(default_factory=Counter)
    read_errors: Counter[str] = field(default_factory=Counter)
    written: dict[str, float] = field(default_factory=dict)
    read_at: list[float] = field(default_factory=list)
    acknowledged: set[str] = field(default_factory=set)
    stop: bool = False

    async def client(self, number: int, reads: bool) -> None:
        """One statement after the other; a connection that was ended is made anew."""
        connection: asyncpg.Connection[asyncpg.Record] | None = None
        count, errors = 0, self.read_errors if reads else self.errors
        while not self.stop:
            count += 1
            await asyncio.sleep(0.01)
            try:
                if connection is None or connection.is_closed():
                    connection = await asyncpg.connect(self.url, timeout=90)
                await self._statement(connection, f"patroni {number}/{count}", reads)
            except asyncpg.PostgresError as error:
                errors[error.sqlstate or "?"] += 1
            except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                errors["closed"] += 1
            else:
                continue
            if connection is not None:
                connection.terminate()  # asyncpg may not have heard of its end yet
                connection = None
        if connection is not None:
            await connection.close(timeout=5)

    async def _statement(
        self, connection: asyncpg.Connection[asyncpg.Record], name: str, reads: bool
    ) -> None:
        if reads:
            await connection.fetchval(READ, self.owner)
            self.read_at.append(time.monotonic())
        else:
            await connection.execute(INSERT, self.owner, name)
            self.written[name] = time.monotonic()
            self.acknowledged.add(name)

    def forget(self) -> None:
        """Count anew."""
        for one in (self.errors, self.read_errors, self.written):
            one.clear()
        self.read_at.clear()


def longest_gap_s(moments: list[float]) -> float:
    """Between two successes one after the other."""
    moments = sorted(moments)
    return max(after - before for before, after in pairwise(moments))


# --- faults ------------------------------------------------------------------------------------


async def switchover(cluster: PatroniCluster, leader: Node, standby: Node) -> None:
    await cluster.switch_over(leader, standby)


async def postgres_killed(cluster: PatroniCluster, leader: Node, standby: Node) -> None:
    leader.kill_postgres()


async def node_killed(cluster: PatroniCluster, leader: Node, standby: Node) -> None:
    """PostgreSQL and Patroni: the standby has to wait for the end of the leader's lock."""
    leader.kill()


FAULTS: dict[Fault, str] = {
    switchover: "switchover",
    postgres_killed: "the leader's PostgreSQL is killed",
    node_killed: "the leader's PostgreSQL and Patroni are killed",
}


async def show(cluster: PatroniCluster, load: Load, worker: Worker, fault: Fault) -> None:
    """One fault under load, and a line of figures."""
    leader, standby = await cluster.settled()
    await asyncio.sleep(BEFORE_S)
    load.forget()
    repeated = worker.context.counters.reads_repeated
    began = time.monotonic()
    await fault(cluster, leader, standby)
    await eventually(lambda: _follows(worker, standby), 90)
    followed_s = time.monotonic() - began
    await asyncio.sleep(AFTER_S)
    repeated = worker.context.counters.reads_repeated - repeated
    print(
        f"| {FAULTS[fault]} | writes: {dict(load.errors) or 'none'} of {len(load.written)};"
        f" reads: {dict(load.read_errors) or 'none'} of {len(load.read_at)}, {repeated} asked again"
        f" | {longest_gap_s(list(load.written.values())):.2f} s | {followed_s:.2f} s |",
        flush=True,
    )
    if fault is node_killed:
        leader.start(cluster.settings(leader))
        await cluster.settled(standby)


def _follows(worker: Worker, node: Node) -> bool:
    shard = worker.context.snapshot.shards["law"]
    return worker.context.health.primary_of(shard).port == node.port


async def lost(cluster: PatroniCluster, load: Load) -> set[str]:
    """Writes that were acknowledged and are not there."""
    leader, _ = await cluster.settled()
    connection = await asyncpg.connect(cluster.url(leader, "patroni_law"))
    try:
        found = {row[0] for row in await connection.fetch(WRITTEN)}
    finally:
        await connection.close()
    return load.acknowledged - found


async def follow(cluster: PatroniCluster, settings: Settings) -> list[str]:
    """All faults before a gateway of its own; what was wrong in the end."""
    logins = await seed(settings, owners=42)
    law = next(login for login in logins if login.shard == "law")
    async with running(settings) as worker:
        where = place(worker, law)
        load = Load(
            f"postgresql://{where.user}:{where.password}@{where.host}:{where.port}/{where.database}",
            int(law.owner or 0),
        )
        tasks = [
            asyncio.create_task(load.client(number, reads=number >= WRITERS))
            for number in range(WRITERS + READERS)
        ]
        before_mb = memory_mb()
        print("| fault | errors seen by clients | longest without a write | followed after |")
        print("|---|---|---|---|")
        for fault in FAULTS:
            await show(cluster, load, worker, fault)
        load.stop = True
        await asyncio.gather(*tasks)
        await rest(worker)
        growth_mb = memory_mb() - before_mb
        print(f"{len(load.acknowledged)} writes acknowledged; memory {growth_mb:+.1f} MB")
        missing = await lost(cluster, load)
        return [f"{len(missing)} acknowledged writes are missing"] if missing else []


def before(cluster: PatroniCluster, settings: Settings, leader: Node, standby: Node) -> Settings:
    """LAW's database on the Patroni cluster."""
    shard = {
        "primary": cluster.url(leader, "patroni_law"),
        "replicas": [cluster.url(standby, "patroni_law")],
        "patroni": [node.api for node in cluster.nodes],
    }
    law = IndustrySettings.model_validate({"shards": [shard]})
    settings = settings.model_copy(update={"industries": {**settings.industries, "LAW": law}})
    return changed(
        settings,
        pool={"max": POOL_MAX, "queue_timeout_ms": HOLD_MS},
        failover={"hold_ms": HOLD_MS},
        reads={"policy": "prefer-replica"},
    )


async def demonstrate() -> list[str]:
    """A cluster, a meta database, the run."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-patroni-"))
    folder.chmod(0o711)  # noqa: ASYNC240 - it is done at once
    own = Cluster(find_postgres(), folder / "own", settings=FAST)
    try:
        await own.initdb()
        await own.start()
        async with patroni_cluster(folder) as cluster:
            leader, standby = await cluster.settled()
            settings = before(cluster, topology(own, "patroni"), leader, standby)
            await provision(settings, report=lambda line: None)
            return await follow(cluster, settings)
    finally:
        await own.stop()
        with suppress(OSError):
            shutil.rmtree(folder)


def main() -> int:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(demonstrate())
    print("\n".join(found) or "nothing to complain of")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())

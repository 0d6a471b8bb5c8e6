"""Reads on a replica: how much it takes from the primary, and whether owners read their writes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, ClassVar

import asyncpg

from benchmarks.figures import latencies
from benchmarks.measure import Failed, Measured, Scenario
from benchmarks.meter import spent, tree_cpu_s
from benchmarks.rig import Rig
from benchmarks.scenarios.tenants import LEADS, rate, steady
from benchmarks.targets import Access, Target
from benchmarks.tenant_load import Ask, Client, load
from benchmarks.tenants import Tenant, first_lead, with_replica, zipf_weights
from gateway.demo.postgres import Cluster

_WARM_UP_S = 2.0
_SEED = 20_26
_ASKS = 100
_WRITE_SHARE = 0.1
_TOUCH = 'UPDATE "Lead" SET "score" = "score" + 1 WHERE "userId" = $1 AND "id" = $2'
_WRITE = 'UPDATE "Lead" SET "score" = $3::int WHERE "userId" = $1::int AND "id" = $2::int'
_READ = 'SELECT "score" FROM "Lead" WHERE "userId" = $1::int AND "id" = $2::int'


@dataclass(frozen=True, slots=True)
class Split(Scenario):
    """A service login's mix, nine reads to a write, with a standby that may serve reads or not."""

    group: ClassVar[str] = "read/write split"
    steady: ClassVar[bool] = True
    policy: str
    connections: int

    @property
    def key(self) -> str:
        return f"split-{self.policy}-{self.connections}"

    async def measure(self, rig: Rig, target: Target, seconds: float) -> Measured:
        async with AsyncExitStack() as stack:
            standby = await Cluster.standby_of(rig.cluster, rig.folder / f"standby-{self.policy}")
            stack.push_async_callback(standby.stop)
            await standby.start()
            changes: dict[str, Any] = {
                **with_replica(rig.raw, standby.port),
                "reads": {"policy": self.policy},
            }
            variant = rig.variant(target.name, f"split-{self.policy}", changes)
            stack.push_async_callback(variant.stop)
            await variant.start()
            return await self._loaded(rig, variant, standby, seconds)

    async def _loaded(
        self, rig: Rig, variant: Target, standby: Cluster, seconds: float
    ) -> Measured:
        service = variant.service()
        if service is None:
            raise Failed("no service login")
        clients = [_client(rig, service, number) for number in range(self.connections)]
        before = await _counts(rig, standby)
        cpu = tree_cpu_s(rig.cluster.pid)
        async with asyncio.TaskGroup() as group:
            checks = group.create_task(_stale(rig, service, seconds + _WARM_UP_S))
            running = load(clients, seconds + _WARM_UP_S, rig.prepared, rig.folder)
            answers = (await running)["all"]
        primary_s = spent(cpu, tree_cpu_s(rig.cluster.pid))
        after = await _counts(rig, standby)
        done = steady(answers.transactions, _WARM_UP_S)
        here, there = (late - early for late, early in zip(after, before, strict=True))
        stale, checked = checks.result()
        figures = {
            "per_s": rate(done),
            **latencies(done),
            "replica_share": there / (here + there),
            "primary_cpu_s_per_1000": primary_s / len(answers.transactions) * 1000,
            "reads_of_own_writes": float(checked),
            "stale_reads": float(stale),
            "errors": float(answers.errors),
        }
        what = f"{self.connections} connections, {_WRITE_SHARE:.0%} {_TOUCH}, else {LEADS}"
        return Measured(figures, f"{what}; reads.policy: {self.policy}")

    def unfit(self, rig: Rig, target: Target) -> str:
        return "" if target.name == "gateway" else "only the gateway splits reads from writes"


def _client(rig: Rig, service: Access, seed: int) -> Client:
    chance = random.Random(_SEED + seed)
    owners = chance.choices(rig.ranked, cum_weights=zipf_weights(len(rig.ranked)), k=_ASKS)
    return Client(service, tuple(_ask(one, chance.random()) for one in owners), "all")


def _ask(owner: Tenant, drawn: float) -> Ask:
    if drawn < _WRITE_SHARE:
        return Ask(_TOUCH, (str(owner.id), str(first_lead(owner))))
    return Ask(LEADS, (str(owner.id),))


async def _stale(rig: Rig, service: Access, seconds: float) -> tuple[int, int]:
    """Writes and reads at once what was written, over and over; how many reads were older."""
    stale = checked = 0
    owners: Sequence[Tenant] = random.Random(_SEED).sample(rig.tenants, 50)
    connection = await asyncpg.connect(
        host=service.host,
        port=service.port,
        user=service.user,
        password=service.password,
        database=service.database,
        ssl=False,
    )
    try:
        async with asyncio.timeout(seconds):
            while True:
                owner = owners[checked % len(owners)]
                named = owner.id, first_lead(owner) + 1
                await connection.execute(_WRITE, *named, checked)
                stale += await connection.fetchval(_READ, *named) != checked
                checked += 1
    except TimeoutError:
        return stale, checked
    finally:
        connection.terminate()


async def _counts(rig: Rig, standby: Cluster) -> tuple[int, int]:
    """Transactions committed in the tenants' databases, on the primary and on the standby."""
    counts = []
    await asyncio.sleep(1.1)  # PostgreSQL tells its statistics once a second
    for cluster in (rig.cluster, standby):
        connection = await asyncpg.connect(cluster.dsn())
        try:
            counts.append(
                await connection.fetchval(
                    "SELECT sum(xact_commit)::bigint FROM pg_stat_database"
                    " WHERE datname LIKE 'bench\\_%' AND datname <> 'bench_meta'"
                )
            )
        finally:
            await connection.close()
    return counts[0], counts[1]

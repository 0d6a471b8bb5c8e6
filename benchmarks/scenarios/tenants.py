"""Many owners at once, and one of them louder than the others."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import ClassVar

from benchmarks.figures import Transactions, latencies, used
from benchmarks.measure import Failed, Measured, Scenario
from benchmarks.meter import Meter, metered
from benchmarks.rig import Rig
from benchmarks.targets import Target
from benchmarks.tenant_load import Ask, Client, load
from benchmarks.tenants import Tenant, zipf_weights

_WARM_UP_S = 0.5
# Longer where a pool for each of 16 databases has to fill first.
_WARM_UP_ALL_S = 2.0
_WARM_UP_SERVICE_S = 6.0
_SEED = 20_26
_OWNERS_EACH = 100
"""Whom one connection of the service login asks for in turn."""

LEADS = (
    'SELECT "id", "name", "email", "phone", "source", "score" FROM "Lead"'
    ' WHERE "userId" = $1 ORDER BY "id" LIMIT 10'
)
_SHOUT = "SELECT pg_sleep(0.01)"


@dataclass(frozen=True, slots=True)
class ManyTenants(Scenario):
    """Connections of owners drawn by Zipf's law from all industries, each reading its leads.

    Owners log in to the gateway as themselves; elsewhere the client has to know the database.
    """

    group: ClassVar[str] = "tenants"
    connections: int

    @property
    def key(self) -> str:
        return f"tenants-{self.connections}"

    async def measure(self, rig: Rig, target: Target, seconds: float) -> Measured:
        chance = random.Random(_SEED)
        weights = zipf_weights(len(rig.ranked))
        drawn = chance.choices(rig.ranked, cum_weights=weights, k=self.connections)
        clients = [_lead_reader(target, tenant, "all") for tenant in drawn]
        figures = await _loaded(rig, target, clients, seconds)
        owners = len(set(drawn))
        return Measured(figures, f"{self.connections} connections of {owners} owners: {LEADS}")


@dataclass(frozen=True, slots=True)
class ServiceLogin(Scenario):
    """One web application that acts for every owner, each statement for another one.

    Through the gateway all its connections are alike, and each statement finds its database by its
    tenant key. Elsewhere the application has to know the databases: it keeps connections to each,
    in proportion to what its owners ask for, and asks there for owners who live there.
    """

    group: ClassVar[str] = "tenants"
    connections: int

    @property
    def key(self) -> str:
        return f"service-{self.connections}"

    async def measure(self, rig: Rig, target: Target, seconds: float) -> Measured:
        chance = random.Random(_SEED)
        weights = zipf_weights(len(rig.ranked))
        count = self.connections * _OWNERS_EACH
        drawn = chance.choices(rig.ranked, cum_weights=weights, k=count)
        if (service := target.service()) is None:
            drawn.sort(key=lambda one: one.shard)
        clients = []
        for start in range(0, count, _OWNERS_EACH):
            some = drawn[start : start + _OWNERS_EACH]
            access = service or target.tenant(some[0])
            if service is None:
                some = [one for one in some if one.shard == some[0].shard]
            asks = tuple(Ask(LEADS, (str(one.id),)) for one in some)
            clients.append(Client(access, asks, "all"))
        if service is not None:  # who is asked for becomes known; that is not what is measured
            await load(clients, _WARM_UP_SERVICE_S, rig.prepared, rig.folder)
        figures = await _loaded(rig, target, clients, seconds)
        owners = len(set(drawn))
        of = f"{owners} of {len(rig.tenants):,} owners"
        return Measured(figures, f"{self.connections} connections for {of} in turn: {LEADS}")


@dataclass(frozen=True, slots=True)
class NoisyOwner(Scenario):
    """Quiet owners with pauses, alone and then beside one who asks for far more than its share.

    All on one shard: ``quiet`` connections of as many owners, ``noisy`` ones of another owner, who
    sleeps 10 ms in the server each time, so that servers are what runs short, not the processor.
    """

    group: ClassVar[str] = "noisy owner"
    quiet: int
    noisy: int

    @property
    def key(self) -> str:
        return f"noisy-{self.quiet}-{self.noisy}"

    async def measure(self, rig: Rig, target: Target, seconds: float) -> Measured:
        loud, *others = _on_one_shard(rig.tenants, self.quiet + 1)
        quiet = [_lead_reader(target, one, "quiet", think_s=0.02) for one in others]
        shout = Client(target.tenant(loud), (Ask(_SHOUT),), "noisy")
        each = seconds / 2 + _WARM_UP_S
        alone = await load(quiet, each, rig.prepared, rig.folder)
        together = await load(quiet + [shout] * self.noisy, each, rig.prepared, rig.folder)
        figures = {
            **_latencies_as("alone", steady(alone["quiet"].transactions)),
            **_latencies_as("quiet", steady(together["quiet"].transactions)),
            "noisy_per_s": rate(steady(together["noisy"].transactions)),
            "errors": float(sum(one.errors for one in together.values())),
        }
        return Measured(figures, f"{self.quiet} quiet owners; {self.noisy} x {_SHOUT}")


async def _loaded(
    rig: Rig, target: Target, clients: Sequence[Client], seconds: float
) -> dict[str, float]:
    """The usual figures, and errors."""
    async with AsyncExitStack() as stack:
        meter = None
        if target.pid is not None:
            meter = await stack.enter_async_context(metered(target.pid))
        answers = await load(clients, seconds + _WARM_UP_ALL_S, rig.prepared, rig.folder)
    return _cut(answers["all"].transactions, meter) | {"errors": float(answers["all"].errors)}


def _lead_reader(target: Target, tenant: Tenant, label: str, think_s: float = 0.0) -> Client:
    return Client(target.tenant(tenant), (Ask(LEADS, (str(tenant.id),)),), label, think_s)


def _on_one_shard(tenants: Sequence[Tenant], count: int) -> list[Tenant]:
    """Of the shard that comes first, which has most owners."""
    shards: dict[str, list[Tenant]] = {}
    for tenant in tenants:
        shards.setdefault(tenant.shard, []).append(tenant)
    return max(shards.values(), key=len)[:count]


def steady(done: Transactions, warm_up_s: float = _WARM_UP_S) -> Transactions:
    """Without the warm-up. Raises Failed when nothing was done."""
    if not len(done):
        raise Failed("no transaction was done")
    return done.between(done.finished_at[0] + warm_up_s, done.finished_at[-1])


def rate(done: Transactions) -> float:
    """Per second."""
    return len(done) / (done.finished_at[-1] - done.finished_at[0]) if len(done) > 1 else 0.0


def _latencies_as(name: str, done: Transactions) -> dict[str, float]:
    found = latencies(done)
    return {f"{name}_{part}": found[part] for part in ("p50_ms", "p99_ms") if part in found}


def _cut(done: Transactions, meter: Meter | None) -> dict[str, float]:
    """Throughput, latency and CPU of one window."""
    done = steady(done, _WARM_UP_ALL_S)
    if meter is None:
        return {"per_s": rate(done), **latencies(done)}
    use = meter.between(done.finished_at[0], done.finished_at[-1])
    if use is None:
        raise Failed("the run was too short to measure")
    done = done.between(use.first.at, use.last.at)
    return {
        "per_s": len(done) / use.seconds,
        **latencies(done),
        "cpu_s_per_1000": use.cpu_s / len(done) * 1000,
        **used(use),
    }

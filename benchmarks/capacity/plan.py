"""The plan that this product is sized by, as deployments; what the model makes of each. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from benchmarks.capacity.costs import Costs
from benchmarks.capacity.deployment import (
    GATEWAY,
    Database,
    Deployment,
    Place,
    with_replicas,
    with_shards,
    with_workers,
)
from benchmarks.capacity.model import Model, Verdict, hourly_for
from benchmarks.capacity.profile import Machine, Profile, Spread
from gateway.settings.model import INDUSTRIES, Directory, Pool

_POOL: int = Pool().max
_SHARED = "shared"
_CLIENTS_MAX = 100_000
"""listen.max_client_connections there: the default is meant for fewer owners."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the plan: its name, what it promises, what is assumed, and the deployment."""

    name: str
    promised: tuple[int, int | None]
    """Owners, from and to; None: and more."""
    assumed: str
    deployment: Deployment
    profile: Profile

    @property
    def wanted(self) -> float:
        """The middle of what is promised, or its lower end where it has no upper one."""
        low, high = self.promised
        return low if high is None else (low + high) / 2


@dataclass(frozen=True, slots=True)
class Compared:
    """What the model says of a row."""

    row: Row
    verdict: Verdict
    hourly: float
    """Statements per owner and hour at which the plan's number is the limit; inf: any."""
    workers: int
    """That carry the plan's number, where all else does; else 0."""

    @property
    def ratio(self) -> float:
        """Carried, as a multiple of the plan's number."""
        return self.verdict.carried / self.row.wanted


def rows(profile: Profile) -> list[Row]:
    """The three rows. Owners are spread evenly, as the plan's round numbers have it."""
    even = profile.model_copy(update={"spread": Spread.EVEN})
    machine = profile.database_machine
    each = f"{machine.cores:g} cores each"
    workers = max(1, int(profile.gateway_machine.cores))
    pooled = _pooled(even, workers)
    many = with_shards(with_replicas(pooled, 1, even), 2, even)
    return [
        Row(
            "a single shared database",
            (1_000, 2_000),
            f"no pooling: each busy connection is one to PostgreSQL (max_connections ="
            f" {profile.max_connections}), {machine.cores:g} cores",
            _alone(even),
            even,
        ),
        Row(
            "15 databases with pooling",
            (40_000, 60_000),
            f"meta and 14 industries, a machine of {each}; pools of {_POOL}; {workers} workers",
            pooled,
            even,
        ),
        Row(
            "replicas, shards and caching",
            (100_000, None),
            f"2 shards per industry, each with a replica that serves reads, {each};"
            f" {2 * workers} workers; owners cached for {pooled.owner_ttl_s:g} s",
            with_workers(many, 2 * workers),
            even,
        ),
    ]


def compare(profile: Profile, costs: Costs) -> list[Compared]:
    """Each row by the model."""
    return [_compare(row, costs) for row in rows(profile)]


def why(one: Compared) -> str:
    """In words: where plan and model differ, and by what."""
    first = one.verdict.first
    limit = f"{first.kind} ({first.name})"
    low, high = one.row.promised
    carried = one.verdict.carried
    if carried < low:
        more = f"; {one.workers:,} workers would do" if one.workers else ""
        return f"less than planned: {limit} is full at {carried:,.0f} owners{more}"
    if high is not None and carried <= high:
        return f"as planned; what fills up first is {limit}"
    if math.isinf(one.hourly):
        return f"more than planned; what fills up first, {limit}, does not depend on statements"
    return (
        f"{one.ratio:.1f} times the plan, before {limit} is full; the plan's number is the limit"
        f" where an owner asks for {one.hourly:,.0f} statements in an average hour"
    )


def _compare(row: Row, costs: Costs) -> Compared:
    def make(hourly: float) -> Model:
        changed = row.profile.model_copy(update={"statements_per_owner_hour": hourly})
        return Model(row.deployment, changed, costs)

    verdict = Model(row.deployment, row.profile, costs).verdict()
    hourly = hourly_for(row.wanted, make) if verdict.carried >= row.wanted else 0.0
    return Compared(row, verdict, hourly, _workers_for(row, costs))


def _workers_for(row: Row, costs: Costs) -> int:
    one = with_workers(row.deployment, 1)
    alone = Model(one, row.profile, costs)
    workers = math.ceil(row.wanted * alone.worker_cpu / row.profile.cpu_max)
    enough = Model(with_workers(one, max(1, workers)), row.profile, costs)
    return workers if row.deployment.pooled and enough.carried() >= row.wanted else 0


def _alone(profile: Profile) -> Deployment:
    place = Place(_SHARED, _SHARED, _SHARED, profile.max_connections)
    machines = MappingProxyType(
        {_SHARED: profile.database_machine, GATEWAY: profile.gateway_machine}
    )
    return _deployment((Database(_SHARED, None, 1.0, place),), machines, 1, pooled=False)


def _pooled(profile: Profile, workers: int) -> Deployment:
    names = [None, *INDUSTRIES]
    databases = tuple(
        Database(
            name=(name or "meta").lower(),
            industry=name,
            share=1 / len(INDUSTRIES) if name else 0.0,
            primary=Place(*3 * ((name or "meta").lower(),), _POOL),
        )
        for name in names
    )
    machines = {one.name: profile.database_machine for one in databases}
    machines[GATEWAY] = profile.gateway_machine
    return _deployment(databases, machines, workers)


def _deployment(
    databases: tuple[Database, ...],
    machines: Mapping[str, Machine],
    workers: int,
    *,
    pooled: bool = True,
) -> Deployment:
    """With the defaults of all settings, but as many clients as there are."""
    directory = Directory()
    return Deployment(
        databases=databases,
        workers=workers,
        gateway=GATEWAY,
        machines=machines,
        clients_max=_CLIENTS_MAX,
        known_owners_max=directory.cache_entries_max,
        owner_ttl_s=directory.ttl_s,
        pooled=pooled,
    )

"""How many owners a deployment carries, from what things cost and what owners do. Pure.

Everything that can fill up is a resource with a limit and a demand per owner; the resource that
the fewest owners fill is the one that saturates first. Times of waiting are those of queues with
random arrivals. What is measured comes in as ``Costs``; all else is arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from benchmarks.capacity.costs import Costs, StatementCost
from benchmarks.capacity.deployment import Database, Deployment, Place
from benchmarks.capacity.profile import READS, WRITES, Profile
from benchmarks.capacity.queueing import shared, wait

_MS = 1e-3
_US = 1e-6
_RESERVED = 3
"""superuser_reserved_connections, PostgreSQL's default."""

_KNEE = 2.0
"""The knee is where a statement takes this many times as long as when nobody else asks."""


class Kind(StrEnum):
    """What fills up."""

    WORKERS = "gateway CPU"
    CPU = "machine CPU"
    POOL = "pool"
    CONNECTIONS = "connections to PostgreSQL"
    CLIENTS = "client connections"
    MEMORY = "memory"
    DIRECTORY = "directory cache"

    @property
    def unit(self) -> str:
        """Of its limit."""
        return _UNITS[self]


_UNITS: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.WORKERS: "cores",
        Kind.CPU: "cores",
        Kind.POOL: "connections",
        Kind.CONNECTIONS: "connections",
        Kind.CLIENTS: "clients",
        Kind.MEMORY: "GB",
        Kind.DIRECTORY: "owners",
    }
)


@dataclass(frozen=True, slots=True)
class Resource:
    """``limit`` and ``per_owner`` in the same unit; ``fixed`` is used whoever is there."""

    kind: Kind
    name: str
    limit: float
    per_owner: float
    fixed: float = 0.0

    @property
    def owners(self) -> float:
        """As many fill it."""
        left = self.limit - self.fixed
        if self.per_owner <= 0:
            return math.inf if left >= 0 else 0.0
        return max(0.0, left) / self.per_owner

    def used(self, owners: float) -> float:
        """The part of the limit that ``owners`` use."""
        return (self.fixed + owners * self.per_owner) / self.limit


@dataclass(frozen=True, slots=True)
class Verdict:
    """``carried`` owners fill ``first``; ``knee``: where waiting begins to rule."""

    resources: Sequence[Resource]
    carried: float
    knee: float
    first: Resource
    problems: Sequence[str]

    @property
    def by_kind(self) -> dict[Kind, Resource]:
        """The resource of each kind that fills first, in the order in which they do."""
        found: dict[Kind, Resource] = {}
        for one in sorted(self.resources, key=lambda resource: resource.owners):
            found.setdefault(one.kind, one)
        return found


class Model:
    """One deployment under one profile."""

    def __init__(self, deployment: Deployment, profile: Profile, costs: Costs) -> None:
        self.deployment = deployment
        self.profile = profile
        self.costs = costs
        self._speed = profile.core_speed
        rate = profile.statements_per_owner_s
        self._reads_s = rate * profile.read_share
        self._writes_s = rate - self._reads_s
        self.read = _mean(costs, profile.mix.shares(READS))
        self.write = _mean(costs, profile.mix.shares(WRITES))

    def verdict(self) -> Verdict:
        """All of it."""
        resources = list(self.resources())
        first = min(resources, key=lambda one: one.owners)
        return Verdict(resources, first.owners, self.knee(), first, list(self._problems()))

    def carried(self) -> float:
        """Owners that fill what saturates first."""
        return min(one.owners for one in self.resources())

    # --- what owners need ---

    @property
    def statements_s(self) -> float:
        """Per owner, as the gateway sees them: with BEGIN and COMMIT."""
        return self._reads_s + self._writes_s * self._messages_per_write

    @property
    def _messages_per_write(self) -> float:
        together = self.profile.writes_per_transaction
        return (together + 2) / together if together > 1 else 1.0

    @property
    def worker_cpu(self) -> float:
        """Seconds of a core per second, of the gateway for an owner."""
        profile, costs = self.profile, self.costs
        statements = (
            self._reads_s * self.read.gateway_cpu_us
            + self._writes_s * self._messages_per_write * self.write.gateway_cpu_us
        )
        # An owner who is active is looked up again when the answer is no longer fresh. That is
        # less work than a login, and charged like one.
        lookups = profile.active_share / self.deployment.owner_ttl_s
        logins = profile.logins_per_owner_hour * profile.peak_factor / 3600 + lookups
        return (statements + logins * costs.login_cpu_us) * _US / self._speed

    def place_cpu(self, database: Database, place: Place) -> float:
        """Seconds of a core per second, of PostgreSQL for an owner there."""
        reads = self._reads_at(database, place) * self.read.primary_cpu_us
        primary = place is database.primary
        write = self.write.primary_cpu_us if primary else self.write.replay_cpu_us
        return (reads + self._writes_s * write) * _US / self._speed

    def held(self, database: Database, place: Place) -> float:
        """Connections busy on average, for an owner there."""
        busy = self._reads_at(database, place) * self._read_held_s
        if place is database.primary:
            together = self.profile.writes_per_transaction
            busy += self._writes_s / together * self._transaction_held_s
        return busy

    @property
    def _read_held_s(self) -> float:
        return self._direct_s(self.read) + self.profile.network_ms * _MS

    @property
    def _transaction_held_s(self) -> float:
        profile = self.profile
        together = profile.writes_per_transaction
        each = self._direct_s(self.write) + profile.network_ms * _MS
        held = together * each + profile.commit_ms * _MS
        if together > 1:
            held += 2 * profile.network_ms * _MS + (together + 1) * profile.app_pause_ms * _MS
        return held

    def _direct_s(self, cost: StatementCost) -> float:
        """As measured, with the part that is CPU as fast as it is there."""
        cpu = cost.primary_cpu_us * _US
        return max(0.0, cost.direct_ms * _MS - cpu) + cpu / self._speed

    def _reads_at(self, database: Database, place: Place) -> float:
        """Per second, of an owner who lives in ``database``."""
        away = self.profile.replica_share if database.reads_on_replicas else 0.0
        if place is database.primary:
            return self._reads_s * (1 - away)
        return self._reads_s * away / len(database.replicas)

    # --- what fills up ---

    def resources(self) -> Iterator[Resource]:
        """Each with what of it may be used."""
        if self.deployment.pooled:
            yield from self._of_gateway()
            yield from self._pools()
        else:
            yield from self._connections()
        yield from self._machines()

    def _of_gateway(self) -> Iterator[Resource]:
        deployment, profile = self.deployment, self.profile
        workers = f"{deployment.workers} worker{'s' if deployment.workers > 1 else ''}"
        yield Resource(Kind.WORKERS, workers, deployment.workers * profile.cpu_max, self.worker_cpu)
        clients = profile.active_share * profile.clients_per_active_owner
        yield Resource(
            Kind.CLIENTS, "listen.max_client_connections", deployment.clients_max, clients
        )
        yield Resource(
            Kind.DIRECTORY,
            "directory.cache_entries_max",
            deployment.known_owners_max,
            profile.active_share,
        )
        machine = deployment.machines[deployment.gateway]
        yield Resource(
            Kind.MEMORY,
            deployment.gateway,
            machine.memory_gb * profile.memory_max,
            # Each worker may come to know every owner.
            (
                clients * self.costs.client_kb
                + profile.active_share * self.costs.owner_kb * deployment.workers
            )
            * 1e-6,
            fixed=self.costs.worker_mb * 1e-3 * deployment.workers,
        )

    def _pools(self) -> Iterator[Resource]:
        for database in self.deployment.databases:
            for place in database.places:
                need = self.held(database, place) * database.share
                yield Resource(Kind.POOL, place.name, place.pool * self.profile.pool_max, need)

    def _connections(self) -> Iterator[Resource]:
        """Where each application connects by itself, and keeps its connection while it is busy."""
        profile = self.profile
        each = profile.active_share * profile.clients_per_active_owner
        for server, places in self.deployment.servers.items():
            share = sum(one.share for one in self.deployment.databases if one.primary in places)
            limit = profile.max_connections - _RESERVED
            yield Resource(Kind.CONNECTIONS, server, limit, each * share)

    def _machines(self) -> Iterator[Resource]:
        needs = self.machine_cpu()
        for name, machine in self.deployment.machines.items():
            limit = machine.cores * self.profile.cpu_max
            yield Resource(Kind.CPU, name, limit, needs.get(name, 0.0))

    def machine_cpu(self) -> dict[str, float]:
        """Cores busy per owner, by machine."""
        deployment = self.deployment
        needs = {deployment.gateway: self.worker_cpu if deployment.pooled else 0.0}
        for database in deployment.databases:
            for place in database.places:
                need = self.place_cpu(database, place) * database.share
                needs[place.machine] = needs.get(place.machine, 0.0) + need
        return needs

    def _problems(self) -> Iterator[str]:
        """What does not fit, however many owners there are."""
        if not self.deployment.pooled:
            return
        free = self.profile.max_connections - _RESERVED
        memory: dict[str, float] = {}
        for server, places in self.deployment.servers.items():
            wanted = sum(place.pool for place in places)
            if wanted > free:
                yield (
                    f"the pools on {server} may open {wanted} connections, and PostgreSQL takes"
                    f" {free}: all of them can't be full at a time"
                )
            machine = places[0].machine
            memory[machine] = memory.get(machine, 0.0) + min(wanted, free) * self.costs.backend_mb
        for machine, megabytes in memory.items():
            gigabytes = self.deployment.machines[machine].memory_gb
            if megabytes > gigabytes * 1e3 * self.profile.memory_max:
                yield (
                    f"full pools take {megabytes / 1e3:.1f} GB of {gigabytes:g} GB on {machine},"
                    " besides PostgreSQL's shared buffers"
                )

    # --- how long a statement takes ---

    def latency_s(self, owners: float) -> float:
        """Mean time of a statement at the peak of so many owners; inf where something is full.

        The network between application and gateway is not in it.
        """
        busy = {name: need * owners for name, need in self.machine_cpu().items()}
        gateway = self._gateway_s(owners, busy)
        total = 0.0
        weights = 0.0
        for database in self.deployment.databases:
            for place in database.places:
                reads = self._reads_at(database, place)
                writes = self._writes_s if place is database.primary else 0.0
                weight = (reads + writes) * database.share
                if weight <= 0:
                    continue
                cost = _blend(self.read, reads, self.write, writes)
                queue = self._pool_wait_s(owners, database, place)
                total += weight * (queue + self._database_s(cost, place, busy))
                weights += weight
        return gateway + (total / weights if weights else 0.0)

    def knee(self) -> float:
        """Owners at which a statement takes twice as long as with nobody else there."""
        alone = self.latency_s(0.0)
        low, high = 0.0, 1.0
        while self.latency_s(high) < _KNEE * alone and high < 1e12:
            low, high = high, high * 2
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if self._beyond(middle, alone) else (middle, high)
        return low

    def _beyond(self, owners: float, alone: float) -> bool:
        return self.latency_s(owners) >= _KNEE * alone

    def _gateway_s(self, owners: float, busy: dict[str, float]) -> float:
        """In a worker: its own queue, on a core that may be shared with databases."""
        deployment = self.deployment
        if not deployment.pooled:
            return 0.0
        service = self.worker_cpu / self.statements_s
        load = self.worker_cpu * owners / deployment.workers
        machine = deployment.machines[deployment.gateway].cores
        everybody = busy[deployment.gateway]
        if everybody >= machine:
            return math.inf
        others = everybody - self.worker_cpu * owners
        return shared(1.0, load, service) + wait(machine, others, service)

    def _pool_wait_s(self, owners: float, database: Database, place: Place) -> float:
        if not self.deployment.pooled:
            return 0.0
        load = self.held(database, place) * database.share * owners
        each = self._reads_at(database, place)
        if place is database.primary:
            each += self._writes_s / self.profile.writes_per_transaction
        return wait(place.pool, load, self.held(database, place) / each)

    def _database_s(self, cost: StatementCost, place: Place, busy: dict[str, float]) -> float:
        """In PostgreSQL and on the way there."""
        cpu = cost.primary_cpu_us * _US / self._speed
        cores = self.deployment.machines[place.machine].cores
        return (
            shared(cores, busy[place.machine], cpu)
            + max(0.0, cost.direct_ms * _MS - cost.primary_cpu_us * _US)
            + self.profile.network_ms * _MS
        )


def hourly_for(owners: float, make: Callable[[float], Model], most: float = 1e9) -> float:
    """Statements per owner and hour at which ``owners`` are just carried; inf: any number.

    ``make`` gives the model for such a number.
    """
    low, high = 0.0, most
    if make(high).carried() >= owners:
        return math.inf
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if make(middle).carried() >= owners else (low, middle)
    return low


def _mean(costs: Costs, shares: dict[str, float]) -> StatementCost:
    """Of some classes, by their shares."""

    def of(part: Callable[[StatementCost], float]) -> float:
        return sum(part(costs.statements[name]) * share for name, share in shares.items())

    return StatementCost(
        gateway_cpu_us=of(lambda one: one.gateway_cpu_us),
        primary_cpu_us=of(lambda one: one.primary_cpu_us),
        replay_cpu_us=of(lambda one: one.replay_cpu_us),
        direct_ms=of(lambda one: one.direct_ms),
    )


def _blend(one: StatementCost, weight: float, other: StatementCost, rest: float) -> StatementCost:
    """The mean of two."""
    part = weight / (weight + rest)

    def of(mine: float, others: float) -> float:
        return mine * part + others * (1 - part)

    return StatementCost(
        of(one.gateway_cpu_us, other.gateway_cpu_us),
        of(one.primary_cpu_us, other.primary_cpu_us),
        of(one.replay_cpu_us, other.replay_cpu_us),
        of(one.direct_ms, other.direct_ms),
    )

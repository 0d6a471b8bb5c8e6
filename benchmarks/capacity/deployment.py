"""What is deployed: databases, pools, machines and the gateway, as the settings say it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address

from benchmarks.capacity.profile import Machine, Profile, Spread
from gateway.router.build import build_snapshot
from gateway.router.topology import Endpoint, Shard
from gateway.settings.effective import pool_limits, read_rules
from gateway.settings.model import AUTO, ReadPolicy, Settings

GATEWAY = "the gateway's machine"
"""Name of the machine that the gateway has for itself."""


@dataclass(frozen=True, slots=True)
class Place:
    """One database on one server. ``server`` is host:port, ``machine`` the host."""

    name: str
    machine: str
    server: str
    pool: int


@dataclass(frozen=True, slots=True)
class Database:
    """A shard: which part of all owners lives there, its primary and its replicas."""

    name: str
    industry: str | None
    share: float
    primary: Place
    replicas: tuple[Place, ...] = ()
    reads_on_replicas: bool = False

    @property
    def places(self) -> tuple[Place, ...]:
        return (self.primary, *self.replicas)


@dataclass(frozen=True, slots=True)
class Deployment:
    """Everything that can fill up."""

    databases: tuple[Database, ...]
    workers: int
    gateway: str
    """The machine it runs on."""
    machines: Mapping[str, Machine]
    clients_max: int
    known_owners_max: int
    owner_ttl_s: float
    pooled: bool = True
    """False: applications connect to the databases themselves."""

    @property
    def servers(self) -> dict[str, list[Place]]:
        """The databases of each PostgreSQL server."""
        found: dict[str, list[Place]] = {}
        for database in self.databases:
            for place in database.places:
                found.setdefault(place.server, []).append(place)
        return found


def deployment_of(settings: Settings, profile: Profile, here: Machine) -> Deployment:
    """As ``settings`` have it. Hosts that are loopback are the gateway's own machine, ``here``
    unless the profile knows it.
    """
    snapshot = build_snapshot(settings, 1)
    shares = industry_shares(profile, list(snapshot.industries))
    databases = [_database(settings, snapshot.meta, 0.0)]
    for industry in snapshot.industries.values():
        for index, shard in enumerate(industry.shards):
            slots = sum(slot == index for slot in industry.slot_map) / len(industry.slot_map)
            databases.append(_database(settings, shard, shares[industry.name] * slots))
    hosts = {place.machine for database in databases for place in database.places}
    local = next((host for host in sorted(hosts) if _is_loopback(host)), None)
    usual = {host: here if _is_loopback(host) else profile.database_machine for host in hosts}
    machines = {host: profile.machines.get(host, machine) for host, machine in usual.items()}
    gateway = local or GATEWAY
    if local is None:
        machines[GATEWAY] = profile.gateway_machine
    workers = settings.workers
    if workers == AUTO:
        workers = max(1, int(machines[gateway].cores))
    return Deployment(
        databases=tuple(databases),
        workers=workers,
        gateway=gateway,
        machines=machines,
        clients_max=settings.listen.max_client_connections,
        known_owners_max=settings.directory.cache_entries_max,
        owner_ttl_s=settings.directory.ttl_s,
    )


def industry_shares(profile: Profile, names: list[str]) -> dict[str, float]:
    """Parts of 1. An industry that weights by name leave out has no owners."""
    if isinstance(profile.spread, Mapping):
        weights = [float(profile.spread.get(name, 0.0)) for name in names]
    elif profile.spread is Spread.ZIPF:
        weights = [1 / rank for rank in range(1, len(names) + 1)]
    else:
        weights = [1.0] * len(names)
    total = sum(weights) or 1.0
    return {name: weight / total for name, weight in zip(names, weights, strict=True)}


# --- what could be changed ---


def with_workers(deployment: Deployment, workers: int) -> Deployment:
    """And cores for them, where the gateway has its machine for itself."""
    machines = dict(deployment.machines)
    own = machines[deployment.gateway]
    if deployment.gateway == GATEWAY and workers > own.cores:
        machines[GATEWAY] = own.model_copy(update={"cores": float(workers)})
    return replace(deployment, workers=workers, machines=machines)


def with_pools(deployment: Deployment, factor: float) -> Deployment:
    """All pools bigger or smaller."""

    def resized(place: Place) -> Place:
        return replace(place, pool=max(1, round(place.pool * factor)))

    databases = tuple(
        replace(
            one,
            primary=resized(one.primary),
            replicas=tuple(resized(place) for place in one.replicas),
        )
        for one in deployment.databases
    )
    return replace(deployment, databases=databases)


def apart(deployment: Deployment, profile: Profile) -> Deployment:
    """Each database, and each replica, on a machine of its own, and the gateway on another."""
    machines = {GATEWAY: profile.gateway_machine}

    def moved(place: Place, name: str) -> Place:
        machines[name] = profile.database_machine
        return replace(place, machine=name, server=name)

    databases = tuple(
        replace(
            one,
            primary=moved(one.primary, one.name),
            replicas=tuple(
                moved(place, f"{one.name} replica {number}")
                for number, place in enumerate(one.replicas, start=1)
            ),
        )
        for one in deployment.databases
    )
    return replace(deployment, databases=databases, machines=machines, gateway=GATEWAY)


def with_replicas(deployment: Deployment, count: int, profile: Profile) -> Deployment:
    """``count`` replicas for each database, each on a machine of its own, that serve reads."""
    machines = dict(deployment.machines)
    databases = []
    for one in deployment.databases:
        names = [f"{one.name} replica {number}" for number in range(1, count + 1)]
        machines |= dict.fromkeys(names, profile.database_machine)
        replicas = tuple(Place(name, name, name, one.primary.pool) for name in names)
        databases.append(replace(one, replicas=replicas, reads_on_replicas=True))
    return replace(deployment, databases=tuple(databases), machines=machines)


def reading_replicas(deployment: Deployment) -> Deployment:
    """Reads go to the replicas that there are."""
    databases = tuple(
        replace(one, reads_on_replicas=bool(one.replicas)) for one in deployment.databases
    )
    return replace(deployment, databases=databases)


def with_shards(deployment: Deployment, factor: int, profile: Profile) -> Deployment:
    """``factor`` times as many shards of each industry, the new ones on machines of their own."""
    machines = dict(deployment.machines)
    databases = []
    for one in deployment.databases:
        databases.append(replace(one, share=one.share / factor) if one.industry else one)
        for number in range(2, factor + 1) if one.industry else ():
            name = f"{one.name} part {number}"
            machines |= dict.fromkeys((name, f"{name} replica"), profile.database_machine)
            primary = Place(name, name, name, one.primary.pool)
            replicas = tuple(
                Place(f"{name} replica", f"{name} replica", f"{name} replica", place.pool)
                for place in one.replicas[:1]
            )
            databases.append(
                replace(
                    one, name=name, share=one.share / factor, primary=primary, replicas=replicas
                )
            )
    return replace(deployment, databases=tuple(databases), machines=machines)


def _database(settings: Settings, shard: Shard, share: float) -> Database:
    pool = pool_limits(settings, shard.industry).max
    reads = read_rules(settings, shard.industry).policy
    return Database(
        name=shard.name,
        industry=shard.industry,
        share=share,
        primary=_place(shard.primary, pool),
        replicas=tuple(_place(one, pool) for one in shard.replicas),
        reads_on_replicas=bool(shard.replicas) and reads is not ReadPolicy.PRIMARY,
    )


def _place(endpoint: Endpoint, pool: int) -> Place:
    return Place(endpoint.name, endpoint.host, f"{endpoint.host}:{endpoint.port}", pool)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.startswith("/"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False

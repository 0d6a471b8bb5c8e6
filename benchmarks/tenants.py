"""The tenants of a run: owners spread unevenly over 14 industries and their shards, with leads."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import asyncpg

from gateway.migrate.connect import connect
from gateway.migrate.provision import provision
from gateway.protocol.scram import make_verifier
from gateway.router.build import build_snapshot, credentials
from gateway.router.identity import Owner
from gateway.router.route import home_of
from gateway.router.topology import Snapshot
from gateway.settings.model import INDUSTRIES, Settings

ROLE = "bench"
"""The database role behind everything, and the login that pgbench uses."""

SERVICE = "app"
"""The service login: it acts for every owner."""

BENCH_DATABASE = "pgbench"
META_DATABASE = "bench_meta"
BENCH_INDUSTRY = "PGBENCH"
"""Makes pgbench's database one more shard, and the login ``bench`` an owner who lives there."""

SHARDED = ("REAL_ESTATE", "MEDICAL")
LEADS_EACH = 10

_SEED = 20_26
_COPY_TIMEOUT_S = 300
_LEAD = ("id", "userId", "name", "email", "phone", "source", "score")


@dataclass(frozen=True, slots=True)
class Tenant:
    """One owner and where it lives."""

    id: int
    industry: str
    shard: str


def first_lead(tenant: Tenant) -> int:
    """The lowest id of its leads."""
    return tenant.id * LEADS_EACH


def login_of(tenant: Tenant) -> str:
    """The name of its owner login."""
    return f"owner_{tenant.id}"


def database_of(shard: str) -> str:
    """The database that holds a shard of an industry."""
    return f"bench_{shard}"


def topology(server: str) -> dict[str, Any]:
    """The gateway's settings: ``meta`` and ``industries`` on one server, pgbench's included.

    ``server`` is ``user:password@host:port``; the result holds it.
    """

    def shards(industry: str) -> list[dict[str, str]]:
        plain = industry.lower()
        names = [f"{plain}_1", f"{plain}_2"] if industry in SHARDED else [plain]
        return [{"primary": f"postgresql://{server}/{database_of(name)}"} for name in names]

    return {
        "meta": {"primary": f"postgresql://{server}/{META_DATABASE}"},
        "industries": {
            **{name: {"shards": shards(name)} for name in INDUSTRIES},
            BENCH_INDUSTRY: {
                "shards": [{"primary": f"postgresql://{server}/{BENCH_DATABASE}"}],
            },
        },
    }


def with_replica(raw: Mapping[str, Any], port: int) -> dict[str, Any]:
    """``industries`` of the settings ``raw``, each shard with a replica at another port."""

    def replicated(shard: Mapping[str, str]) -> dict[str, Any]:
        server, _, database = shard["primary"].rpartition("/")
        return {**shard, "replicas": [f"{server.rpartition(':')[0]}:{port}/{database}"]}

    return {
        "industries": {
            name: {**industry, "shards": [replicated(one) for one in industry["shards"]]}
            for name, industry in raw["industries"].items()
        }
    }


def zipf_weights(count: int) -> list[float]:
    """Running sums of 1, 1/2, 1/3, ...: for ``random.choices(cum_weights=)``."""
    return list(accumulate(1 / rank for rank in range(1, count + 1)))


def choose_tenants(settings: Settings, number: int) -> list[Tenant]:
    """``number`` owners, by ascending id, the same ones each time; industries by Zipf's law."""
    snapshot = build_snapshot(settings, 1)
    chance = random.Random(_SEED)
    chosen = chance.choices(INDUSTRIES, cum_weights=zipf_weights(len(INDUSTRIES)), k=number)
    return [
        Tenant(id, industry, _home(snapshot, id, industry))
        for id, industry in enumerate(chosen, start=1)
    ]


async def make_tenants(raw: Mapping[str, Any], tenants: Sequence[Tenant], password: str) -> None:
    """Provisions all databases and fills them. All logins share one password.

    Raises ProvisionError, or asyncpg's errors.
    """
    settings = Settings.model_validate(dict(raw))
    await provision(settings, report=lambda line: None)
    places = credentials(settings)
    snapshot = build_snapshot(settings, 1)
    meta = await connect(places[snapshot.meta.primary.address])
    try:
        await _fill_meta(meta, tenants, make_verifier(password).format())
    finally:
        await meta.close()
    by_shard: dict[str, list[Tenant]] = defaultdict(list)
    for tenant in tenants:
        by_shard[tenant.shard].append(tenant)
    # pgbench's own owner is known in its database as any owner is in theirs.
    own = next(one for one in snapshot.shards.values() if one.industry == BENCH_INDUSTRY)
    by_shard[own.name].append(_bench_owner(tenants, own.name))
    for shard, here in by_shard.items():
        connection = await connect(places[snapshot.shards[shard].primary.address])
        try:
            await _fill_shard(connection, here)
        finally:
            await connection.close()


def _home(snapshot: Snapshot, id: int, industry: str) -> str:
    shard = home_of(snapshot, Owner(str(id), industry))
    assert shard is not None
    return shard.name


def _bench_owner(tenants: Sequence[Tenant], shard: str) -> Tenant:
    """Whom the login ``bench`` is."""
    return Tenant(len(tenants) + 1, BENCH_INDUSTRY, shard)


async def _fill_meta(
    meta: asyncpg.Connection[asyncpg.Record], tenants: Sequence[Tenant], verifier: str
) -> None:
    bench = _bench_owner(tenants, "")
    users = _users([*tenants, bench])
    logins: list[tuple[str, str, str, str | None]] = [
        (login_of(one), "owner", verifier, str(one.id)) for one in tenants
    ]
    logins.append((ROLE, "owner", verifier, str(bench.id)))
    logins.append((SERVICE, "service", verifier, None))
    async with meta.transaction():
        await _copy(meta, "User", ("id", "email", "name", "industry"), list(users))
        await meta.copy_records_to_table(
            "login",
            schema_name="gateway",
            columns=("name", "kind", "verifier", "owner_id"),
            records=logins,
            timeout=_COPY_TIMEOUT_S,
        )
        await meta.execute(
            "INSERT INTO gateway.login_grant (login, scope) VALUES ($1, 'all')", SERVICE
        )
    await meta.execute("ANALYZE")


async def _fill_shard(shard: asyncpg.Connection[asyncpg.Record], tenants: Sequence[Tenant]) -> None:
    async with shard.transaction():
        await _copy(shard, "User", ("id", "email", "name", "industry"), list(_users(tenants)))
        await _copy(shard, "Lead", _LEAD, list(_leads(tenants)))
    await shard.execute("VACUUM ANALYZE")


async def _copy(
    connection: asyncpg.Connection[asyncpg.Record],
    table: str,
    columns: tuple[str, ...],
    rows: Sequence[tuple[Any, ...]],
) -> None:
    await connection.copy_records_to_table(
        table, records=rows, columns=columns, timeout=_COPY_TIMEOUT_S
    )


def _users(tenants: Sequence[Tenant]) -> Iterator[tuple[int, str, str, str]]:
    for one in tenants:
        yield one.id, f"owner-{one.id}@example.com", f"owner-{one.id}", one.industry


def _leads(tenants: Sequence[Tenant]) -> Iterator[tuple[int, int, str, str, str, str, int]]:
    for one in tenants:
        for number in range(LEADS_EACH):
            yield (
                first_lead(one) + number,
                one.id,
                f"Lead {number} of owner-{one.id}",
                f"lead-{number}@owner-{one.id}.example.com",
                f"+1-555-{one.id % 10_000:04}",
                "website",
                number * 10,
            )

"""Fills provisioned, empty databases with owners, their logins and their rows."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count

import asyncpg

from gateway.demo.rows import COLUMNS, META_COLUMNS, IndustryRows, Row, Tenant, meta_rows
from gateway.migrate.connect import connect, connected
from gateway.protocol.scram import make_verifier
from gateway.router.build import build_snapshot, credentials
from gateway.router.identity import LoginKind
from gateway.router.slots import slot_of
from gateway.router.topology import Industry, Shard, Snapshot
from gateway.settings.dsn import Dsn
from gateway.settings.model import Settings

SERVICE = "app"
OPERATOR = "operator"

_VERIFIERS_AT_ONCE = 100
_COPY_TIMEOUT_S = 120

Progress = Callable[[int, int], None]
"""Called with the number of steps done and the number of all."""


@dataclass(frozen=True, slots=True)
class SeedLogin:
    """A login that was made, with its password; ``database`` is what to connect to by default.

    ``owner``, ``industry`` and ``shard`` are None unless it is an owner's.
    """

    kind: LoginKind
    user: str
    password: str = field(repr=False)
    database: str
    owner: str | None = None
    industry: str | None = None
    shard: str | None = None


async def seed(
    settings: Settings, *, owners: int, progress: Progress = lambda done, total: None
) -> list[SeedLogin]:
    """Makes ``owners`` owners, at least one per industry and shard, and returns all logins.

    The service and the operator login come first in the list. Logins are written last, so that
    whoever can log in finds rows. Raises ValueError for too few owners, asyncpg's errors where
    tables are missing or not empty.
    """
    snapshot = build_snapshot(settings, 1)
    tenants = choose_tenants(owners, snapshot.industries)
    logins = make_logins(tenants, snapshot)
    places = credentials(settings)
    meta = places[snapshot.meta.primary.address]
    done, total = 0, len(logins) + len(tenants)

    def advance(steps: int) -> None:
        nonlocal done
        done += steps
        progress(done, total)

    await _copy_all(meta, META_COLUMNS, meta_rows(tenants))
    for shards in _by_database(snapshot):
        here = _living_on(shards, tenants)
        place = places[shards[0].primary.address]
        rows = _rows_of(here, *await _own_ids(place))
        if place.address == meta.address:
            rows["User"] = []  # there already, and in full
        await _copy_all(place, COLUMNS, rows)
        advance(len(here))
    verifiers = await _verifiers([login.password for login in logins], advance)
    await _write_logins(meta, logins, verifiers)
    return logins


def choose_tenants(number: int, industries: Mapping[str, Industry]) -> list[Tenant]:
    """``number`` owners by ascending id, as even over the industries as can be.

    The hash of its id says which shard an owner is on. Each shard gets one; to that end an id may
    be passed over. Raises ValueError when there are more shards than owners.
    """
    places = [(industry, shard) for industry in industries.values() for shard in industry.shards]
    if number < len(places):
        raise ValueError(f"at least {len(places)} owners are needed: one per industry and shard")
    chosen: dict[int, Tenant] = {}
    for industry, shard in places:
        free = (n for n in count(1) if n not in chosen and _home(n, industry) is shard)
        owner = next(free)
        chosen[owner] = Tenant(owner, industry.name, shard.name)
    sizes = Counter(tenant.industry for tenant in chosen.values())
    free = (n for n in count(1) if n not in chosen)
    while len(chosen) < number:
        industry = min(industries.values(), key=lambda one: sizes[one.name])
        sizes[industry.name] += 1
        owner = next(free)
        chosen[owner] = Tenant(owner, industry.name, _home(owner, industry).name)
    return [chosen[owner] for owner in sorted(chosen)]


def make_logins(tenants: Iterable[Tenant], snapshot: Snapshot) -> list[SeedLogin]:
    """A service login for all owners, an operator login, and one login per owner."""
    return [
        SeedLogin(LoginKind.SERVICE, SERVICE, _password(), SERVICE),
        SeedLogin(LoginKind.OPERATOR, OPERATOR, _password(), snapshot.meta.name),
        *(_owner_login(tenant) for tenant in tenants),
    ]


def _owner_login(tenant: Tenant) -> SeedLogin:
    return SeedLogin(
        LoginKind.OWNER,
        f"owner_{tenant.id}",
        _password(),
        tenant.industry.lower(),
        owner=str(tenant.id),
        industry=tenant.industry,
        shard=tenant.shard,
    )


def _password() -> str:
    return secrets.token_hex(8)


def _home(owner: int, industry: Industry) -> Shard:
    return industry.shards[industry.slot_map[slot_of(str(owner))]]


def _by_database(snapshot: Snapshot) -> list[list[Shard]]:
    """The shards of all industries, those in the same database together."""
    groups: dict[tuple[str, int, str], list[Shard]] = {}
    for industry in snapshot.industries.values():
        for shard in industry.shards:
            groups.setdefault(shard.primary.address, []).append(shard)
    return list(groups.values())


def _living_on(shards: Iterable[Shard], tenants: Iterable[Tenant]) -> list[Tenant]:
    names = {shard.name for shard in shards}
    return [tenant for tenant in tenants if tenant.shard in names]


def _rows_of(tenants: Iterable[Tenant], first_id: int, id_step: int) -> dict[str, list[Row]]:
    rows = IndustryRows(first_id=first_id, id_step=id_step)
    for tenant in tenants:
        rows.add(tenant)
    return rows.tables


async def _own_ids(place: Dsn) -> tuple[int, int]:
    """The first id and the step that provisioning gave this database."""
    async with connected(place) as connection:
        row = await connection.fetchrow("SELECT number, stride FROM gateway.ids")
    assert row is not None
    return row["number"], row["stride"]


async def _copy_all(
    place: Dsn, columns: Mapping[str, tuple[str, ...]], tables: Mapping[str, Sequence[Row]]
) -> None:
    """Writes the rows of one database in one transaction; later inserts count on from there."""
    connection = await connect(place)
    try:
        async with connection.transaction():
            for table, rows in tables.items():
                if rows:
                    await _copy(connection, table, columns[table], rows)
        await connection.execute("SET client_min_messages = error; ANALYZE")
    finally:
        await connection.close()


async def _copy(
    connection: asyncpg.Connection[asyncpg.Record],
    table: str,
    columns: tuple[str, ...],
    rows: Sequence[Row],
) -> None:
    await connection.copy_records_to_table(
        table, records=rows, columns=columns, timeout=_COPY_TIMEOUT_S
    )
    if columns[0] == "id":
        # No sequence (null) behind the subset of "User".
        await connection.execute(
            f"""SELECT setval(pg_get_serial_sequence('"{table}"', 'id'), {rows[-1][0]})"""
        )


async def _verifiers(passwords: Sequence[str], advance: Callable[[int], None]) -> list[str]:
    """What the directory keeps of each password. Hashing one takes about 2 ms of a core."""
    loop = asyncio.get_running_loop()
    made: list[str] = []
    with ThreadPoolExecutor(thread_name_prefix="verifier") as threads:
        for start in range(0, len(passwords), _VERIFIERS_AT_ONCE):
            some = passwords[start : start + _VERIFIERS_AT_ONCE]
            work = (loop.run_in_executor(threads, make_verifier, password) for password in some)
            made += [verifier.format() for verifier in await asyncio.gather(*work)]
            advance(len(some))
    return made


async def _write_logins(place: Dsn, logins: Sequence[SeedLogin], verifiers: Sequence[str]) -> None:
    pairs = zip(logins, verifiers, strict=True)
    connection = await connect(place)
    try:
        async with connection.transaction():
            await connection.copy_records_to_table(
                "login",
                schema_name="gateway",
                columns=("name", "kind", "verifier", "owner_id"),
                records=[
                    (login.user, login.kind.value, verifier, login.owner)
                    for login, verifier in pairs
                ],
                timeout=_COPY_TIMEOUT_S,
            )
            await connection.execute(
                "INSERT INTO gateway.login_grant (login, scope) VALUES ($1, 'all')", SERVICE
            )
    finally:
        await connection.close()

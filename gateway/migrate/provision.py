"""Makes the databases that the settings name, with their tables; what is there already stays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import asyncpg

from gateway.migrate import schema
from gateway.migrate.connect import Connection, connect, connected, identifier
from gateway.migrate.hub import build_hub, hub_login
from gateway.migrate.ids import STRIDE, spread_ids
from gateway.migrate.plan import Admin, Plan, ProvisionError, Report, plans
from gateway.migrate.users import UserSync, keep_users
from gateway.settings.dsn import Dsn
from gateway.settings.model import Settings

__all__ = ["Admin", "Options", "ProvisionError", "UserSync", "join", "plans", "provision"]

DATABASES_AT_ONCE = 4
"""Bound on databases worked on at one time."""

_MAINTENANCE_DATABASES = ("postgres", "template1")
# One provisioning of a database at a time, whoever runs it; the number is arbitrary but fixed.
_LOCK = "SELECT pg_advisory_xact_lock(6432, 1)"
_LOCK_ALL = "SELECT pg_advisory_lock(6432, 4)"

FAILURES = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ProvisionError)


@dataclass(frozen=True, slots=True)
class Options:
    """What provisioning does besides databases and tables.

    ``user_sync`` None leaves it as it is. ``admin`` does what the URLs' roles may not:
    subscriptions, the hub's extension. ``hub`` is a URL, or a name beside the meta database;
    without one it is what the settings say, if anything. ``sync_timeout_s`` bounds the wait for
    first copies.
    """

    user_sync: UserSync | None = None
    stamp_check: bool = True
    id_stride: int = STRIDE
    stride_sequences: bool = False
    hub: str | None = None
    admin: Admin | None = None
    sync_timeout_s: float = 60


async def provision(settings: Settings, *, report: Report, options: Options | None = None) -> None:
    """Creates missing databases and applies the SQL files; running it again changes nothing.

    Everything belongs to the role named in each URL, which must be allowed to create databases
    where one is missing. Each database's files are applied in one transaction. Then what concerns
    several databases: ids, users, the hub. Raises ProvisionError with all that failed; the rest is
    ready then.
    """
    options = options or Options()
    wanted = plans(settings)
    failures = await _each(wanted, lambda plan: _provision(plan, options, report))
    ready = [plan for plan in wanted if plan not in failures]
    problems = list(failures.values())
    if wanted[0] in ready:
        problems += await _join(settings, ready, options, report)
    if problems:
        raise ProvisionError("\n".join(problems))


async def join(settings: Settings, *, report: Report, options: Options) -> None:
    """Only what concerns several databases, which have their tables. Raises ProvisionError."""
    if problems := await _join(settings, plans(settings), options, report):
        raise ProvisionError("\n".join(problems))


async def _join(
    settings: Settings, ready: Sequence[Plan], options: Options, report: Report
) -> list[str]:
    """One step after the other; the steps that failed. ``ready`` begins with the meta database."""
    meta = ready[0]
    homes = [plan for plan in ready if plan.own_shards]

    async def ids() -> None:
        async with connected(meta.dsn) as connection:
            await spread_ids(
                connection,
                homes,
                options.id_stride,
                used=options.stride_sequences,
                report=report,
            )

    async def users() -> None:
        if options.user_sync is not None:
            links = [plan for plan in homes if not plan.is_meta]
            await keep_users(
                meta, links, options.user_sync, options.admin, options.sync_timeout_s, report
            )

    async def hub() -> None:
        login = hub_login(settings, meta, options.hub)
        if login is not None:
            await ensure_database(login)
            await build_hub(login, ready, settings.operator_role, options.admin, report)

    steps: dict[str, Callable[[], Awaitable[None]]] = {"ids": ids, "users": users, "hub": hub}
    problems = []
    async with connected(meta.dsn) as connection:
        await connection.execute(_LOCK_ALL)
        for name, step in steps.items():
            try:
                await step()
            except FAILURES as error:
                problems.append(f"{name}: {str(error) or type(error).__name__}")
    return problems


async def _each(wanted: Sequence[Plan], work: Callable[[Plan], Awaitable[None]]) -> dict[Plan, str]:
    """``work`` on every plan, a few at a time; what went wrong, by plan."""
    gate = asyncio.Semaphore(DATABASES_AT_ONCE)
    failures: dict[Plan, str] = {}

    async def one(plan: Plan) -> None:
        async with gate:
            try:
                await work(plan)
            except FAILURES as error:
                reason = str(error) or type(error).__name__
                failures[plan] = f"{', '.join(plan.shards)} ({plan.dsn.place}): {reason}"

    await asyncio.gather(*(one(plan) for plan in wanted))
    return {plan: failures[plan] for plan in wanted if plan in failures}


async def _provision(plan: Plan, options: Options, report: Report) -> None:
    created = await ensure_database(plan.dsn)
    async with connected(plan.dsn) as connection, connection.transaction():
        await connection.execute("SET LOCAL client_min_messages = warning")
        await connection.execute(_LOCK)
        for name in plan.files:
            await connection.execute(schema.read(name))
        if plan.own_shards:
            await _note_shards(connection, plan, options)
    state = "created" if created else "was there"
    report(f"{plan.dsn.place}: {state}, tables ready for {', '.join(plan.shards)}")


async def _note_shards(connection: Connection, plan: Plan, options: Options) -> None:
    names = list(plan.own_shards)
    await connection.execute("DELETE FROM gateway.this_shard WHERE name <> ALL ($1::text[])", names)
    await connection.execute(
        "INSERT INTO gateway.this_shard SELECT unnest($1::text[]) ON CONFLICT DO NOTHING", names
    )
    await connection.execute("SELECT gateway.learn_all()")
    await connection.execute(
        "SELECT gateway.set_stamp_check($1, $2::text[])", options.stamp_check, plan.spared_tables
    )


async def ensure_database(dsn: Dsn) -> bool:
    """True when the database was missing and is made now."""
    try:
        await (await connect(dsn)).close()
    except asyncpg.InvalidCatalogNameError:
        return await _create_database(dsn)
    return False


async def _create_database(dsn: Dsn) -> bool:
    connection = await _connect_for_maintenance(dsn)
    try:
        await connection.execute(f"CREATE DATABASE {identifier(dsn.database)}")
    except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
        return False  # another provisioning was faster
    finally:
        await connection.close()
    return True


async def _connect_for_maintenance(dsn: Dsn) -> Connection:
    first, second = _MAINTENANCE_DATABASES
    try:
        return await connect(dsn, database=first)
    except (asyncpg.InvalidCatalogNameError, asyncpg.InvalidAuthorizationSpecificationError):
        return await connect(dsn, database=second)

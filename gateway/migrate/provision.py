"""Makes the databases that the settings name, with their tables; what is there already stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import asyncpg

from gateway.migrate import schema
from gateway.migrate.connect import connect
from gateway.settings.dsn import Dsn, parse
from gateway.settings.model import Settings
from gateway.settings.shards import shard_names

Report = Callable[[str], None]
"""Takes one line for people to read; never a secret."""

DATABASES_AT_ONCE = 4
"""Bound on databases worked on at one time."""

_MAINTENANCE_DATABASES = ("postgres", "template1")
# One provisioning of a database at a time, whoever runs it; the number is arbitrary but fixed.
_LOCK = "SELECT pg_advisory_xact_lock(6432, 1)"


class ProvisionError(Exception):
    """A database could not be made ready; the text names the shard and the reason."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one database needs: ``files`` in order, for the shards (by name) that live there."""

    dsn: Dsn
    shards: tuple[str, ...]
    files: tuple[str, ...]


def plans(settings: Settings) -> list[Plan]:
    """One plan per database, the meta database first.

    A database that several shards name gets one plan with the files of all of them.
    """
    merged: dict[tuple[str, int, str], Plan] = {}
    for wanted in _wanted(settings):
        known = merged.get(wanted.dsn.address)
        merged[wanted.dsn.address] = wanted if known is None else _merge(known, wanted)
    return list(merged.values())


def _wanted(settings: Settings) -> Iterable[Plan]:
    # First of all: in a database that is both, "User" must be the meta database's fuller one.
    yield Plan(parse(settings.meta.primary.get_secret_value()), ("meta",), (schema.META,))
    for industry, its in settings.industries.items():
        files = (schema.INDUSTRY, *schema.extras_of(industry))
        for name, shard in zip(shard_names(industry, its), its.shards, strict=True):
            yield Plan(parse(shard.primary.get_secret_value()), (name,), files)


def _merge(first: Plan, second: Plan) -> Plan:
    files = tuple(dict.fromkeys((*first.files, *second.files)))
    return Plan(first.dsn, (*first.shards, *second.shards), files)


async def provision(settings: Settings, *, report: Report) -> None:
    """Creates missing databases and applies the SQL files; running it again changes nothing.

    Everything belongs to the role named in each URL, which must be allowed to create databases
    where one is missing. Each database's files are applied in one transaction. Raises
    ProvisionError with every database that failed; the others are ready then.
    """
    gate = asyncio.Semaphore(DATABASES_AT_ONCE)

    async def one(plan: Plan) -> str | None:
        async with gate:
            try:
                await _provision(plan, report)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                reason = str(error) or type(error).__name__
                return f"{', '.join(plan.shards)} ({plan.dsn.place}): {reason}"
            return None

    failures = await asyncio.gather(*(one(plan) for plan in plans(settings)))
    if problems := [failure for failure in failures if failure is not None]:
        raise ProvisionError("\n".join(problems))


async def _provision(plan: Plan, report: Report) -> None:
    created = await _ensure_database(plan.dsn)
    connection = await connect(plan.dsn)
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL client_min_messages = warning")
            await connection.execute(_LOCK)
            for name in plan.files:
                await connection.execute(schema.read(name))
    finally:
        await connection.close()
    state = "created" if created else "was there"
    report(f"{plan.dsn.place}: {state}, tables ready for {', '.join(plan.shards)}")


async def _ensure_database(dsn: Dsn) -> bool:
    """True when the database was missing and is made now."""
    try:
        await (await connect(dsn)).close()
    except asyncpg.InvalidCatalogNameError:
        return await _create_database(dsn)
    return False


async def _create_database(dsn: Dsn) -> bool:
    connection = await _connect_for_maintenance(dsn)
    try:
        await connection.execute(f"CREATE DATABASE {_quoted(dsn.database)}")
    except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
        return False  # another provisioning was faster
    finally:
        await connection.close()
    return True


async def _connect_for_maintenance(dsn: Dsn) -> asyncpg.Connection[asyncpg.Record]:
    first, second = _MAINTENANCE_DATABASES
    try:
        return await connect(dsn, database=first)
    except (asyncpg.InvalidCatalogNameError, asyncpg.InvalidAuthorizationSpecificationError):
        return await connect(dsn, database=second)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

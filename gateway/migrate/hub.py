"""The hub: a database in which PostgreSQL's own engine answers questions over all industries.

Each industry table is partitioned by industry, and by shard where an industry has several; its
partitions are foreign tables (postgres_fdw). Meta tables are foreign tables. It is for reading.
Why it is built so: docs/decisions/0005-hub.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import asyncpg

from gateway.migrate.connect import (
    Connection,
    connected,
    identifier,
    keep_out_of_the_log,
    literal,
)
from gateway.migrate.plan import Admin, Plan, ProvisionError, Report
from gateway.migrate.sources import (
    SCHEMA,
    Columns,
    Source,
    merge_columns,
    publish_source,
    read_columns,
)
from gateway.settings.dsn import Dsn, parse
from gateway.settings.model import RoleCredentials, Settings
from gateway.settings.shards import META

_MARK = "made by gateway provision --hub"
_NOT_FOR_SHARDS = ("public", "information_schema", SCHEMA)  # each shard is a schema of the hub
_LOCK = "SELECT pg_advisory_xact_lock(6432, 3)"


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of the hub: its columns, and the sources that have it."""

    name: str
    columns: Columns
    sources: tuple[Source, ...]


_Attached = set[tuple[str, str, bool]]
"""Foreign tables that are partitions: source, table, and whether a level by shard is above."""


def hub_login(settings: Settings, meta: Plan, wanted: str | None) -> Dsn | None:
    """Where the hub is: a URL, a database name beside the meta database, or what settings say."""
    if wanted is None:
        return None if settings.hub is None else parse(settings.hub.primary.get_secret_value())
    if "://" in wanted:
        return parse(wanted)
    return replace(meta.dsn, database=wanted)


async def build_hub(
    hub: Dsn,
    plans: Sequence[Plan],
    operator_role: RoleCredentials | None,
    admin: Admin | None,
    report: Report,
) -> None:
    """Makes or completes the hub in the existing database ``hub``; what people added stays.

    Raises ProvisionError where shards share a database, or postgres_fdw can't be had.
    """
    sources = _sources(hub, plans)
    found = {source: await _columns_of(source) for source in sources}
    shared = [source for source in sources if source.industry is not None]
    tables = _tables([source for source in sources if source.industry is None], found)
    tables += _tables(shared, found, spared={table.name for table in tables})
    for source in sources:
        wanted = {one.name: one.columns for one in tables if source in one.sources}
        async with connected(source.plan.dsn) as connection:
            await publish_source(connection, source, wanted, found[source])
    await _extension(hub, admin)
    roles = sorted({hub.user, *([operator_role.user] if operator_role else [])})
    async with connected(hub) as connection:
        await keep_out_of_the_log(connection)
        async with connection.transaction():
            await connection.execute("SET LOCAL client_min_messages = warning")
            await connection.execute(_LOCK)
            await _servers(connection, sources, roles)
            attached = await _attached(connection)
            for table in tables:
                await _table(connection, table, attached)
            await _settings(connection, hub, roles, sources)
    report(f"{hub.place}: hub of {len(sources)} databases, {len(tables)} tables")


def _sources(hub: Dsn, plans: Sequence[Plan]) -> list[Source]:
    sources: list[Source] = []
    for plan in plans:
        if len(plan.shards) > 1:
            raise ProvisionError(
                f"a hub needs a database for each shard, and {', '.join(plan.shards)} share one"
            )
        if plan.shards[0] in _NOT_FOR_SHARDS or plan.shards[0].startswith("pg_"):
            raise ProvisionError(f"a shard of the name {plan.shards[0]} can't be in the hub")
        if plan.dsn.address == hub.address:
            raise ProvisionError(f"the hub can't be the database of {plan.shards[0]}")
        industry = None if plan.is_meta else plan.industries[0]
        sources.append(Source(plan, plan.shards[0], industry))
    return sources


async def _columns_of(source: Source) -> Mapping[str, Columns]:
    async with connected(source.plan.dsn) as connection:
        return await read_columns(connection, source)


def _tables(
    sources: Sequence[Source],
    found: Mapping[Source, Mapping[str, Columns]],
    spared: Collection[str] = (),
) -> list[_Table]:
    names = dict.fromkeys(name for source in sources for name in found[source])
    tables = []
    for name in [name for name in names if name not in spared]:
        having = tuple(source for source in sources if name in found[source])
        columns = merge_columns([found[source][name] for source in having])
        tables.append(_Table(name, columns, having))
    return tables


async def _extension(hub: Dsn, admin: Admin | None) -> None:
    login = hub if admin is None else replace(hub, user=admin.user, password=admin.password)
    async with connected(login) as connection:
        try:
            await connection.execute("SET client_min_messages = warning")
            await connection.execute("CREATE EXTENSION IF NOT EXISTS postgres_fdw")
            if admin is not None:
                await connection.execute(
                    f"GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO {identifier(hub.user)}"
                )
        except asyncpg.InsufficientPrivilegeError as error:
            raise ProvisionError(
                f"{hub.place}: {error}. Once, as a superuser there: CREATE EXTENSION postgres_fdw;"
                f" GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO {identifier(hub.user)};"
                " or use --admin-user"
            ) from error


# --- servers ---


async def _servers(hub: Connection, sources: Sequence[Source], roles: Sequence[str]) -> None:
    """One server and schema for each database; those that the settings no longer name go."""
    known = {
        row[0]
        for row in await hub.fetch(
            """SELECT srvname::text FROM pg_foreign_server
                WHERE obj_description(oid, 'pg_foreign_server') = $1""",
            _MARK,
        )
    }
    for gone in sorted(known - {source.name for source in sources}):
        await hub.execute(f"DROP SERVER {identifier(gone)} CASCADE")
        await hub.execute(f"DROP SCHEMA IF EXISTS {identifier(gone)}")
    for source in sources:
        await _server(hub, source, source.name in known)
        for role in roles:
            await _mapping(hub, source, role)


def _server_options(dsn: Dsn) -> dict[str, str]:
    options = {
        "host": dsn.host,
        "port": str(dsn.port),
        "dbname": dsn.database,
        "sslmode": dsn.sslmode.value,
        "sslrootcert": dsn.sslrootcert or "",
        # The hub reads only; shards are asked side by side, in large steps.
        "updatable": "false",
        "async_capable": "true",
        "fetch_size": "10000",
    }
    return {name: value for name, value in options.items() if value}


async def _server(hub: Connection, source: Source, known: bool) -> None:
    name, wanted = identifier(source.name), _server_options(source.plan.dsn)
    if not known:
        listed = ", ".join(f"{option} {literal(value)}" for option, value in wanted.items())
        await hub.execute(
            f"""CREATE SERVER {name} FOREIGN DATA WRAPPER postgres_fdw OPTIONS ({listed});
                COMMENT ON SERVER {name} IS {literal(_MARK)};
                CREATE SCHEMA IF NOT EXISTS {name}"""
        )
        return
    present = dict(
        tuple(row)
        for row in await hub.fetch(
            """SELECT option_name, option_value FROM pg_foreign_server s,
                      pg_options_to_table(s.srvoptions) WHERE srvname = $1""",
            source.name,
        )
    )
    changes = [
        *(f"DROP {option}" for option in present if option not in wanted),
        *(
            f"{'SET' if option in present else 'ADD'} {option} {literal(value)}"
            for option, value in wanted.items()
            if present.get(option) != value
        ),
    ]
    if changes:
        await hub.execute(f"ALTER SERVER {name} OPTIONS ({', '.join(changes)})")


async def _mapping(hub: Connection, source: Source, role: str) -> None:
    """Anew each time, for a password may have changed."""
    dsn, who = source.plan.dsn, f"{identifier(role)} SERVER {identifier(source.name)}"
    options = [f"user {literal(dsn.user)}"]
    if dsn.password:
        options.append(f"password {literal(dsn.password)}")
    await hub.execute(
        f"""DROP USER MAPPING IF EXISTS FOR {who};
            CREATE USER MAPPING FOR {who} OPTIONS ({", ".join(options)})"""
    )


# --- tables ---


async def _table(hub: Connection, table: _Table, attached: _Attached) -> None:
    if table.sources[0].industry is None:
        await _make(hub, table, f"public.{identifier(table.name)}", table.sources[0])
        return
    parent = f"public.{identifier(table.name)}"
    if await _start(hub, table, parent):
        listed = ", ".join(f"{identifier(name)} {kind}" for name, kind in table.columns.items())
        await hub.execute(f"CREATE TABLE {parent} ({listed}) PARTITION BY LIST (industry)")
        attached = set()
    for industry in dict.fromkeys(source.industry or "" for source in table.sources):
        shards = [source for source in table.sources if source.industry == industry]
        await _partition(hub, table, parent, industry, shards, attached)


async def _partition(
    hub: Connection,
    table: _Table,
    parent: str,
    industry: str,
    shards: Sequence[Source],
    attached: _Attached,
) -> None:
    """An industry's partition: the foreign table itself, or one more level by shard."""
    middle = f"{SCHEMA}.{identifier(f'{industry}.{table.name}')}"
    split = bool(await hub.fetchval("SELECT to_regclass($1) IS NOT NULL", middle))
    above, split_here = parent, len(shards) > 1 or split
    if split_here:
        if not split:
            await hub.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            await _detach_all(hub, table, parent, industry)
            await hub.execute(
                f"""CREATE TABLE {middle} PARTITION OF {parent}
                    FOR VALUES IN ({literal(industry)})
                    PARTITION BY LIST (shard)"""
            )
        above = middle
    for source in shards:
        bound = literal(source.name if split_here else industry)
        leaf = f"{identifier(source.name)}.{identifier(table.name)}"
        if (source.name, table.name, split_here) not in attached:
            await hub.execute(
                f"""DROP FOREIGN TABLE IF EXISTS {leaf};
                    CREATE FOREIGN TABLE {leaf} PARTITION OF {above} FOR VALUES IN ({bound})
                    SERVER {identifier(source.name)}
                    OPTIONS (schema_name {literal(SCHEMA)}, table_name {literal(table.name)})"""
            )


async def _detach_all(hub: Connection, table: _Table, parent: str, industry: str) -> None:
    """An industry that gets its second shard: the first one's table goes a level down."""
    for row in await hub.fetch(
        """SELECT i.inhrelid::regclass::text
             FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = $1::text::regclass
              AND pg_get_expr(c.relpartbound, c.oid) = format('FOR VALUES IN (%L)', $2::text)""",
        parent,
        industry,
    ):
        await hub.execute(f"ALTER TABLE {parent} DETACH PARTITION {row[0]}")
        await hub.execute(f"DROP FOREIGN TABLE {row[0]}")


async def _attached(hub: Connection) -> _Attached:
    rows = await hub.fetch(
        """SELECT n.nspname::text, c.relname::text, above.nspname = $1
             FROM pg_inherits i
             JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_class p ON p.oid = i.inhparent
             JOIN pg_namespace above ON above.oid = p.relnamespace
            WHERE c.relkind = 'f'""",
        SCHEMA,
    )
    return {(row[0], row[1], row[2]) for row in rows}


async def _make(hub: Connection, table: _Table, place: str, source: Source) -> None:
    """A foreign table that stands alone."""
    if await _start(hub, table, place):
        listed = ", ".join(f"{identifier(name)} {kind}" for name, kind in table.columns.items())
        await hub.execute(
            f"""CREATE FOREIGN TABLE {place} ({listed}) SERVER {identifier(source.name)}
                OPTIONS (schema_name {literal(SCHEMA)}, table_name {literal(table.name)})"""
        )


async def _start(hub: Connection, table: _Table, place: str) -> bool:
    """Whether the table has to be made: adds columns where that is all; drops what else differs."""
    rows = await hub.fetch(
        """SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), c.relkind::text
             FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
            WHERE c.oid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
            ORDER BY a.attnum""",
        place,
    )
    if not rows:
        return True
    present = {(row[0], row[1]) for row in rows}
    wanted = table.columns.items()
    kind = "FOREIGN TABLE" if rows[0][2] == "f" else "TABLE"
    if present <= wanted:
        for name, type_ in wanted:
            if (name, type_) not in present:
                await hub.execute(f"ALTER {kind} {place} ADD COLUMN {identifier(name)} {type_}")
        return False
    try:
        async with hub.transaction():
            await hub.execute(f"DROP {kind} {place}")
    except asyncpg.DependentObjectsStillExistError as error:
        raise ProvisionError(f"{place} has other columns now, and {error.detail}") from error
    return True


async def _settings(
    hub: Connection, login: Dsn, roles: Sequence[str], sources: Sequence[Source]
) -> None:
    """Whole groups are computed where the rows are; other roles may read."""
    for name in ("enable_partitionwise_aggregate", "enable_partitionwise_join"):
        await hub.execute(f"ALTER DATABASE {identifier(login.database)} SET {name} = on")
    schemas = ["public", *(identifier(source.name) for source in sources if source.name != META)]
    for role in roles:
        if role != login.user:
            listed, who = ", ".join(schemas), identifier(role)
            await hub.execute(
                f"""GRANT USAGE ON SCHEMA {listed} TO {who};
                    GRANT SELECT ON ALL TABLES IN SCHEMA {listed} TO {who}"""
            )

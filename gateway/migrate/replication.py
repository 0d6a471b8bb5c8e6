"""PostgreSQL's own logical replication, from the meta database to every industry database.

Source: PostgreSQL documentation, chapter "Logical Replication" (row filters, column lists), and
CREATE SUBSCRIPTION: a slot on the same server has to be made beforehand.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

import asyncpg

from gateway.migrate.connect import (
    Connection,
    identifier,
    keep_out_of_the_log,
    libpq_text,
    literal,
)
from gateway.migrate.plan import ProvisionError
from gateway.settings.dsn import Dsn

PLACEMENTS = "gateway_placement"
_IDENTITY = "User_gateway_identity"
_SLOT_TIMEOUT_S = 30
_DROP_TIMEOUT_S = 10

Named = tuple[str, Connection]
"""A shard's name, for messages, and a connection to its database."""


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A database that follows, and the industries it holds."""

    name: str
    connection: Connection
    industries: tuple[str, ...]

    @property
    def publications(self) -> list[str]:
        return [PLACEMENTS, *(publication_of(industry) for industry in self.industries)]


def publication_of(industry: str) -> str:
    """The publication of an industry's users."""
    return f"gateway_user_{industry.lower()}"


# --- whether it can be had ---

_META_FACTS = f"""
    SELECT current_setting('wal_level') = 'logical' AS logical,
           r.rolsuper OR r.rolreplication AS may_replicate,
           r.rolsuper OR has_database_privilege(current_database(), 'CREATE')
               AND pg_has_role(c.relowner, 'USAGE') AS may_publish,
           (SELECT count(*) = 2 FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
             WHERE a.attrelid = c.oid AND a.attname IN ('id', 'industry') AND a.attnotnull
               AND t.typnamespace = 'pg_catalog'::regnamespace) AS fit,
           c.relreplident = 'd' OR EXISTS (
               SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
                WHERE i.indrelid = c.oid AND i.indisreplident AND x.relname = {literal(_IDENTITY)}
           ) AS identity_free,
           current_setting('max_replication_slots')::integer
               - (SELECT count(*) FROM pg_replication_slots) AS slots_free,
           current_setting('max_wal_senders')::integer
               - (SELECT count(*) FROM pg_stat_get_wal_senders()) AS senders_free
      FROM pg_roles r, pg_class c
     WHERE r.rolname = current_user AND c.oid = 'public."User"'::regclass"""

_META_OBSTACLES = {
    "logical": "wal_level of the meta database's server is not logical",
    "may_replicate": "the role may not replicate from the meta database (REPLICATION)",
    "may_publish": 'the role does not own "User" or may not CREATE in the meta database',
    "fit": '"User" needs "id" and "industry" NOT NULL and of types of PostgreSQL\'s own',
    "identity_free": '"User" in the meta database has a replica identity of somebody else\'s',
}

_SHARD_FACTS = """
    SELECT r.rolsuper OR (current_setting('server_version_num')::integer >= 160000
               AND pg_has_role((SELECT p.oid FROM pg_roles p
                                 WHERE p.rolname = 'pg_create_subscription'), 'USAGE')
               AND has_database_privilege(current_database(), 'CREATE')) AS may_subscribe,
           least(current_setting('max_logical_replication_workers')::integer,
                 current_setting('max_worker_processes')::integer,
                 coalesce(current_setting('max_active_replication_origins', true),
                          current_setting('max_replication_slots'))::integer)
               - (SELECT count(*) FROM pg_subscription) AS workers_free,
           EXISTS (SELECT FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
                    WHERE d.datname = current_database() AND s.subname LIKE 'gateway\\_%')
               AS subscribed,
           host(inet_server_addr()) || ':' || inet_server_port() AS server
      FROM pg_roles r WHERE r.rolname = current_user"""


async def obstacle(meta: Connection, shards: Sequence[Named]) -> str | None:
    """The first reason why not, in plain words; None when it can be had for all."""
    facts = await meta.fetchrow(_META_FACTS)
    assert facts is not None
    for fact, words in _META_OBSTACLES.items():
        if not facts[fact]:
            return words
    missing: dict[str, int] = {}
    free: dict[str, int] = {}
    for name, shard in shards:
        here = await shard.fetchrow(_SHARD_FACTS)
        assert here is not None
        if not here["may_subscribe"]:
            return f"{name}: the role may not create subscriptions"
        server = here["server"] or name
        missing[server] = missing.get(server, 0) + (not here["subscribed"])
        free[server] = here["workers_free"]
    wanted = sum(missing.values())
    # One slot and one sender more while tables are first copied.
    if wanted and (scarce := min(facts["slots_free"], facts["senders_free"])) <= wanted:
        return (
            f"{wanted} replication slots and WAL senders are needed on the meta database's server"
            f" and {max(scarce, 0)} are left (max_replication_slots, max_wal_senders)"
        )
    for server, number in missing.items():
        if number and free[server] <= number:
            return (
                f"{number} more subscriptions on {server} need max_logical_replication_workers,"
                " max_worker_processes and max_replication_slots raised"
            )
    return None


# --- the meta database's side ---


async def publish(meta: Connection, industries: Sequence[str], columns: Sequence[str]) -> bool:
    """A publication per industry and one for placements; True when columns of old ones changed."""
    changed = False
    async with meta.transaction():
        await _identify(meta)
        known = {
            row["pubname"]: set(row["attnames"])
            for row in await meta.fetch(
                """SELECT pubname::text, attnames::text[] FROM pg_publication_tables
                    WHERE pubname LIKE 'gateway\\_user\\_%' AND tablename = 'User'"""
            )
        }
        listed = ", ".join(identifier(column) for column in columns)
        for industry in industries:
            name = publication_of(industry)
            if known.get(name) == set(columns):
                continue
            table = f'public."User" ({listed}) WHERE ("industry" = {literal(industry)})'
            changed = changed or name in known
            verb = "ALTER PUBLICATION {} SET" if name in known else "CREATE PUBLICATION {} FOR"
            await meta.execute(f"{verb.format(identifier(name))} TABLE {table}")
        if not await meta.fetchval(
            "SELECT true FROM pg_publication WHERE pubname = $1", PLACEMENTS
        ):
            await meta.execute(f"CREATE PUBLICATION {PLACEMENTS} FOR TABLE gateway.placement")
        for name in (PLACEMENTS, *map(publication_of, industries)):
            await meta.execute(
                f"ALTER PUBLICATION {identifier(name)} SET (publish = 'insert, update, delete')"
            )
    return changed


async def _identify(meta: Connection) -> None:
    """The row filter has to see the old industry of a row: it must be part of its identity."""
    done = await meta.fetchval(
        "SELECT true FROM pg_index WHERE indisreplident AND indexrelid = to_regclass($1)",
        f'public."{_IDENTITY}"',
    )
    if not done:
        await meta.execute(
            f"""CREATE UNIQUE INDEX IF NOT EXISTS "{_IDENTITY}" ON public."User" ("id", "industry");
                ALTER TABLE public."User" REPLICA IDENTITY USING INDEX "{_IDENTITY}\""""
        )


# --- an industry database's side ---

_SUBSCRIPTIONS = """
    SELECT s.subname::text AS name, s.subslotname::text AS slot, s.oid::bigint AS oid,
           s.subpublications::text[] AS publications, s.subenabled AS enabled
      FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
     WHERE d.datname = current_database() AND s.subname LIKE 'gateway\\_%'"""


async def subscribe(
    one: Subscriber, meta: Connection, login: Dsn, *, copy_again: bool = False
) -> str:
    """The name of the subscription, made if missing, broken or about something else.

    The slot comes first, since on the same server CREATE SUBSCRIPTION would wait for itself; it
    goes again if the subscription can't be made. Raises asyncpg's errors.
    """
    shard = one.connection
    name = await _name_for(one)
    await keep_out_of_the_log(shard)
    connection_text = literal(libpq_text(login))
    for found in await shard.fetch(_SUBSCRIPTIONS):
        whole = await meta.fetchval(
            "SELECT true FROM pg_replication_slots WHERE slot_name = $1", found["slot"]
        )
        as_wanted = set(found["publications"]) == set(one.publications) and found["name"] == name
        if whole and as_wanted and found["enabled"] and not copy_again:
            await shard.execute(f"ALTER SUBSCRIPTION {name} CONNECTION {connection_text}")
            return name
        await _drop(meta, shard, found)
    await _drop_slot(meta, name)  # of a run that was cut off
    await meta.execute(
        "SELECT pg_create_logical_replication_slot($1, 'pgoutput')",
        name,
        timeout=_SLOT_TIMEOUT_S,
    )
    try:
        await shard.execute(
            f"CREATE SUBSCRIPTION {name} CONNECTION {connection_text}"
            f" PUBLICATION {', '.join(map(identifier, one.publications))}"
            f" WITH (create_slot = false, slot_name = {literal(name)}, copy_data = true)"
        )
    except BaseException:
        await _drop_slot(meta, name)
        raise
    return name


async def _name_for(one: Subscriber) -> str:
    """The same at every run, another one for every database that a meta database may feed."""
    place = await one.connection.fetchval(
        "SELECT system_identifier || '/' || current_database() FROM pg_control_system()"
    )
    readable = re.sub("[^a-z0-9]+", "_", one.name.lower())[:40]
    return (
        f"gateway_{readable}_{hashlib.md5(place.encode(), usedforsecurity=False).hexdigest()[:8]}"
    )


async def wait_for_copies(meta: Connection, shards: Sequence[Named], timeout_s: float) -> None:
    """Returns when every table of every subscription has had its first copy.

    What is not ready in time is taken down again. Raises ProvisionError then.
    """
    deadline = monotonic() + timeout_s
    waiting = list(shards)
    while waiting:
        waiting = [(name, shard) for name, shard in waiting if not await _is_copied(shard)]
        if waiting and monotonic() > deadline:
            await take_down(meta, waiting, publications=False)
            names = ", ".join(name for name, _ in waiting)
            raise ProvisionError(
                f"{names}: users were not copied in {timeout_s:.0f} s; taken back. The log of that"
                " server says why: it has to reach the meta database by the address in the settings"
            )
        if waiting:
            await asyncio.sleep(0.05)


async def _is_copied(shard: Connection) -> bool:
    copied: bool = await shard.fetchval(
        """SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel r
             JOIN pg_subscription s ON s.oid = r.srsubid
             JOIN pg_database d ON d.oid = s.subdbid
            WHERE d.datname = current_database() AND s.subname LIKE 'gateway\\_%'"""
    )
    return copied


async def take_down(
    meta: Connection, shards: Sequence[Named], *, publications: bool = True
) -> None:
    """Removes our subscriptions of these databases with their slots, and the publications."""
    for _, shard in shards:
        for found in await shard.fetch(_SUBSCRIPTIONS):
            await _drop(meta, shard, found)
    if publications:
        for row in await meta.fetch(
            """SELECT pubname::text FROM pg_publication
                WHERE pubname = $1 OR pubname LIKE 'gateway\\_user\\_%'""",
            PLACEMENTS,
        ):
            await meta.execute(f"DROP PUBLICATION {identifier(row[0])}")


async def _drop(meta: Connection, shard: Connection, found: asyncpg.Record) -> None:
    """Without asking the publisher, who may be gone; its slots are dropped over our connection."""
    name = identifier(found["name"])
    await shard.execute(f"ALTER SUBSCRIPTION {name} DISABLE")
    await shard.execute(f"ALTER SUBSCRIPTION {name} SET (slot_name = NONE)")
    await shard.execute(f"DROP SUBSCRIPTION {name}")
    if found["slot"] is not None:
        await _drop_slot(meta, found["slot"])
    # Those of first copies that were not finished.
    for row in await meta.fetch(
        "SELECT slot_name::text FROM pg_replication_slots WHERE slot_name LIKE $1",
        f"pg\\_{found['oid']}\\_sync\\_%",
    ):
        await _drop_slot(meta, row[0])


async def _drop_slot(meta: Connection, slot: str) -> None:
    """Waits a moment for the process that may still read from it. Raises asyncpg's errors."""
    deadline = monotonic() + _DROP_TIMEOUT_S
    while True:
        try:
            await meta.execute(
                """SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
                    WHERE slot_name = $1""",
                slot,
            )
        except asyncpg.ObjectInUseError:
            if monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
        except asyncpg.UndefinedObjectError:
            return
        else:
            return

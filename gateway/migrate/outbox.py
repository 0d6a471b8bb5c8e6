"""The queue of changes to owners: set up in the meta database, and delivered from there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

import asyncpg

from gateway.migrate import schema
from gateway.migrate.connect import Connection, connect, connected, identifier
from gateway.migrate.plan import plans
from gateway.settings.dsn import Dsn
from gateway.settings.model import Settings
from gateway.settings.shards import META

CHANNEL = "gateway_outbox"
BATCH = 500
"""Changes delivered in one transaction at most."""
PATROL_S = 5.0
"""How long a change lies at most when its notification was missed or a database was away."""
DELIVERY_TIMEOUT_S = 30
"""Longest work on one database before the next one has its turn."""

_log = logging.getLogger(__name__)

# One deliverer per database at a time: nobody brings an older state after a newer one.
_LOCK = "SELECT pg_try_advisory_xact_lock(6432, 2)"
_FAILURES = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


async def set_up(
    meta: Connection, feeds: Mapping[str, Sequence[str]], columns: Sequence[str]
) -> None:
    """Table, triggers, and who is to be told: shard names with their industries."""
    async with meta.transaction():
        await meta.execute("SET LOCAL client_min_messages = warning")
        await meta.execute(schema.read(schema.OUTBOX))
        await meta.execute("DELETE FROM gateway.feed WHERE shard <> ALL ($1::text[])", list(feeds))
        for shard, industries in feeds.items():
            await meta.execute(
                """INSERT INTO gateway.feed VALUES ($1, $2, $3)
                   ON CONFLICT (shard) DO UPDATE SET industries = $2, columns = $3""",
                shard,
                list(industries),
                list(columns),
            )


async def take_down(meta: Connection) -> None:
    """Removes the triggers and the queue; nothing happens where there are none."""
    if await meta.fetchval("SELECT to_regclass('gateway.feed') IS NULL"):
        return  # without a lock on "User"
    await meta.execute(
        """DROP TRIGGER IF EXISTS gateway_queue ON public."User";
           DROP TRIGGER IF EXISTS gateway_queue_update ON public."User";
           DROP TRIGGER IF EXISTS gateway_queue ON gateway.placement;
           DROP FUNCTION IF EXISTS gateway.queue_user();
           DROP FUNCTION IF EXISTS gateway.queue_placement();
           DROP TABLE IF EXISTS gateway.outbox, gateway.feed"""
    )


async def queue_all(meta: Connection, shard: str) -> None:
    """Everything that ``shard`` should know, into its queue: the first copy."""
    await meta.execute(
        """INSERT INTO gateway.outbox (shard, kind, key)
           SELECT f.shard, 'user', u."id"::text FROM public."User" u, gateway.feed f
            WHERE f.shard = $1 AND u."industry"::text = ANY (f.industries)
           UNION ALL
           SELECT $1, 'placement', owner_id FROM gateway.placement""",
        shard,
    )


async def deliver(meta: Connection, there: Connection, shard: str) -> int:
    """Empties the queue of ``shard`` into its database; the number of changes.

    Another deliverer at work means 0. Raises asyncpg's errors; what was not delivered stays.
    """
    delivered = 0
    while True:
        async with there.transaction():
            if not await there.fetchval(_LOCK):
                return delivered
            changes = await meta.fetch(
                "SELECT seq, kind, key FROM gateway.outbox WHERE shard = $1 ORDER BY seq LIMIT $2",
                shard,
                BATCH,
            )
            await _bring_users(meta, there, shard, _keys(changes, "user"))
            await _bring_placements(meta, there, _keys(changes, "placement"))
        # Committed there, so it may go here; a crash in between delivers once more, to no harm.
        await meta.execute(
            "DELETE FROM gateway.outbox WHERE seq = ANY ($1)", [row["seq"] for row in changes]
        )
        delivered += len(changes)
        if len(changes) < BATCH:
            return delivered


def _keys(changes: Sequence[asyncpg.Record], kind: str) -> list[str]:
    return sorted({row["key"] for row in changes if row["kind"] == kind})


async def _bring_users(
    meta: Connection, there: Connection, shard: str, owners: Sequence[str]
) -> None:
    if not owners:
        return
    columns = await meta.fetchval("SELECT columns FROM gateway.feed WHERE shard = $1", shard)
    subset = ", ".join(f"u.{identifier(column)}" for column in columns or ())
    rows = await meta.fetch(
        f"""SELECT owner,
                   (SELECT to_jsonb(s) FROM (SELECT {subset}) AS s WHERE u."id" IS NOT NULL)::text
              FROM unnest($1::text[]) AS owner
              JOIN gateway.feed f ON f.shard = $2
              LEFT JOIN public."User" u
                ON u."id"::text = owner AND u."industry"::text = ANY (f.industries)""",
        list(owners),
        shard,
    )
    await there.executemany(
        "SELECT gateway.put_user($1, $2::text::jsonb)", [tuple(row) for row in rows]
    )


async def _bring_placements(meta: Connection, there: Connection, owners: Sequence[str]) -> None:
    rows = await meta.fetch(
        "SELECT owner_id, shard, epoch FROM gateway.placement WHERE owner_id = ANY ($1)",
        list(owners),
    )
    await there.executemany(
        "SELECT gateway.put_placement($1, $2, $3)", [tuple(row) for row in rows]
    )


# --- the process that empties it ---


class Deliverer:
    """Empties all queues over connections that stay open; ``close`` ends them."""

    def __init__(self, settings: Settings) -> None:
        meta, *_ = wanted = plans(settings)
        self._meta_dsn = meta.dsn
        self._places = {
            plan.own_shards[0]: plan.dsn for plan in wanted if plan.own_shards and not plan.is_meta
        }
        self._open: dict[str, Connection] = {}

    async def deliver(self) -> int:
        """The number of changes delivered. A database that is away is logged, and its queue stays.

        Raises OSError, TimeoutError or asyncpg's errors when the meta database is away.
        """
        meta = await self._connection(META, self._meta_dsn)
        if await meta.fetchval("SELECT to_regclass('gateway.outbox') IS NULL"):
            return 0
        waiting = await meta.fetch("SELECT DISTINCT shard FROM gateway.outbox ORDER BY shard")
        return sum([await self._deliver_to(meta, row[0]) for row in waiting])

    async def _deliver_to(self, meta: Connection, shard: str) -> int:
        if shard not in self._places:
            return 0  # the next provisioning takes it off the list
        try:
            async with asyncio.timeout(DELIVERY_TIMEOUT_S):
                there = await self._connection(shard, self._places[shard])
                return await deliver(meta, there, shard)
        except _FAILURES as error:
            if meta.is_closed():
                raise
            if (broken := self._open.pop(shard, None)) is not None:
                broken.terminate()
            _log.warning("users: %s did not take changes: %s", shard, describe(error))
            return 0

    async def _connection(self, name: str, dsn: Dsn) -> Connection:
        known = self._open.get(name)
        if known is None or known.is_closed():
            known = self._open[name] = await connect(dsn)
        return known

    async def close(self) -> None:
        for connection in self._open.values():
            await connection.close()


async def deliver_once(settings: Settings) -> int:
    """All queues, once; the number of changes. A database that is away is logged and left."""
    deliverer = Deliverer(settings)
    try:
        return await deliverer.deliver()
    finally:
        await deliverer.close()


async def follow(settings: Settings) -> None:
    """Delivers for ever: at every notification, and every PATROL_S seconds in any case.

    Whatever goes wrong is logged and tried again. With no queue set up it only looks now and then.
    """
    while True:
        try:
            await _follow(settings)
        except _FAILURES as error:
            _log.warning("users: the meta database is away: %s", describe(error))
        await asyncio.sleep(PATROL_S)


async def _follow(settings: Settings) -> None:
    news = asyncio.Event()
    deliverer = Deliverer(settings)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(deliverer.close)
        ear = await stack.enter_async_context(connected(plans(settings)[0].dsn))
        await ear.add_listener(CHANNEL, lambda *_: news.set())
        while not ear.is_closed():
            news.clear()
            await deliverer.deliver()
            try:
                async with asyncio.timeout(PATROL_S):
                    await news.wait()
            except TimeoutError:
                await ear.execute("SELECT 1")


def describe(error: BaseException) -> str:
    """An error for the log, in one line."""
    return " ".join(str(error).split()) or type(error).__name__

"""Whose a row of a parent table is: asked of the industries' databases, and kept.

That there is no such row is not kept: it may be there a moment later.

For tables that have no tenant column of their own. Ids must be unique over all databases: one that
is found twice is an error, never a guess.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cachetools import TTLCache

from gateway.clock import Clock
from gateway.errors import NoRoute, ServerSaid
from gateway.pool.pool import Pool
from gateway.pool.pools import Pools
from gateway.pool.visit import Visit
from gateway.router.demand import ParentKey
from gateway.router.topology import Snapshot
from gateway.session.pauses import Passage, Pauses
from gateway.session.state import literal, replay_sql

Rows = list[tuple[str, str]]
"""Values asked for, and their owners."""

_ENTRIES_MAX = 100_000
_TTL_S = 300.0
_NO_SUCH_TABLE = "42P01"


class Parents:
    """The cache. ``tenant_column`` is the column of a parent's table that names its owner."""

    def __init__(self, clock: Clock, tenant_column: str) -> None:
        self.tenant_column = tenant_column
        self._found: TTLCache[ParentKey, str] = TTLCache(_ENTRIES_MAX, _TTL_S, clock)

    def configure(self, tenant_column: str) -> None:
        """After a reload; what was found by another column is forgotten."""
        if tenant_column != self.tenant_column:
            self.tenant_column = tenant_column
            self._found.clear()

    def peek(self, key: ParentKey) -> str | None:
        """The owner's id; None when it must be asked."""
        return self._found.get(key)

    async def find(
        self, keys: Sequence[ParentKey], snapshot: Snapshot, pools: Pools, pauses: Pauses
    ) -> dict[ParentKey, str]:
        """The owner's id of each row, empty when there is no such row: every database is asked.

        ``keys`` are of one table and column. A database that can't answer is no hindrance to what
        the others find; one that is paused is only waited for where they don't find all. Raises
        NoRoute, Paused, and what a database says.
        """
        shards = [shard for one in snapshot.industries.values() for shard in one.shards]
        paused = [shard for shard in shards if pauses.cover((shard,))]
        places = {shard.primary.address: shard.primary for shard in shards if shard not in paused}
        sql = self._sql(keys)
        asked = [_ask(pools.get(endpoint), sql) for endpoint in places.values()]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        found: dict[ParentKey, str] = {}
        for answer in answers:
            if not isinstance(answer, BaseException):
                self._take(answer, keys[0], found)
        if paused and len(found) < len(keys):
            await Passage(pauses).wait(paused)
            return await self.find(keys, snapshot, pools, pauses)
        failed = next((one for one in answers if isinstance(one, BaseException)), None)
        if failed is not None and len(found) < len(keys):
            raise failed
        self._found.update(found)
        return {key: found.get(key, "") for key in keys}

    def _take(self, rows: Rows, like: ParentKey, found: dict[ParentKey, str]) -> None:
        for value, owner in rows:
            key = ParentKey(like.table, like.column, value)
            if found.setdefault(key, owner) != owner:
                raise NoRoute(
                    f'"{key.table}"."{key.column}" = {value} is found with several owners',
                    hint="Name the owner as well, or keep such ids unique over all databases.",
                )

    def _sql(self, keys: Sequence[ParentKey]) -> str:
        """What asks for them; each value comes back as it was given."""
        values = ", ".join(f"({literal(key.value)})" for key in keys)
        table, column = _quoted(keys[0].table), _quoted(keys[0].column)
        return (
            f"SELECT DISTINCT asked.value, owned.{_quoted(self.tenant_column)}::text"
            f" FROM (VALUES {values}) AS asked (value), {table} AS owned"
            f" WHERE owned.{column} IN ({', '.join(literal(key.value) for key in keys)})"
            f" AND owned.{column}::text OPERATOR(pg_catalog.=) asked.value"
        )


async def _ask(pool: Pool, sql: str) -> Rows:
    """What a database answers; nothing where it has no such table. Raises ServerSaid."""
    visit = Visit(pool)
    server = await visit.lease()
    try:
        if server.settings:
            await visit.ask(replay_sql(server.settings, ()))
            server.settings = ()
        answer = await visit.ask(sql)
    except BaseException:
        visit.abandon()
        raise
    visit.leave()
    if answer.error is None:
        return [(_text(value), _text(owner)) for value, owner in answer.rows if owner is not None]
    if answer.error.get("C") == _NO_SUCH_TABLE:
        return []
    raise ServerSaid(answer.error)


def _text(cell: bytes | None) -> str:
    return (cell or b"").decode()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

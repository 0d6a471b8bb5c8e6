"""Whose a row of a parent table is: asked of the industries' databases, and kept.

That there is no such row is not kept: it may be there a moment later.

For tables that have no tenant column of their own. Ids must be unique over all databases: one that
is found twice is an error, never a guess.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from cachetools import TTLCache

from gateway.clock import Clock
from gateway.errors import NoRoute, ServerSaid
from gateway.pool.pool import Pool
from gateway.pool.pools import Pools
from gateway.pool.visit import Visit
from gateway.router.demand import ParentKey
from gateway.router.topology import Snapshot
from gateway.session.state import literal, replay_sql

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

    async def find(self, key: ParentKey, snapshot: Snapshot, pools: Pools) -> str:
        """Ask every database of the industries for the owner's id, empty when there is no such row.

        Raises NoRoute, and what a database says.
        """
        places = {
            shard.primary.address: shard.primary
            for industry in snapshot.industries.values()
            for shard in industry.shards
        }
        asked = [_ask(pools.get(endpoint), self._sql(key)) for endpoint in places.values()]
        owners = {owner for found in await asyncio.gather(*asked) for owner in found}
        if len(owners) > 1:
            raise NoRoute(
                f'"{key.table}"."{key.column}" = {key.value} is found with several owners',
                hint="Name the owner as well, or keep such ids unique over all databases.",
            )
        owner = owners.pop() if owners else ""
        if owner:
            self._found[key] = owner
        return owner

    def _sql(self, key: ParentKey) -> str:
        return (
            f"SELECT DISTINCT {_quoted(self.tenant_column)}::text FROM {_quoted(key.table)}"
            f" WHERE {_quoted(key.column)} = {literal(key.value)} LIMIT 2"
        )


async def _ask(pool: Pool, sql: str) -> Iterable[str]:
    """The first column of the answer; nothing where there is no such table. Raises ServerSaid."""
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
        return [row[0].decode() for row in answer.rows if row and row[0] is not None]
    if answer.error.get("C") == _NO_SUCH_TABLE:
        return ()
    raise ServerSaid(answer.error)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

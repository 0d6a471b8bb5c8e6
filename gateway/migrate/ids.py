"""Ids that are unique over all databases: each one draws numbers of a remainder of its own.

Rows of different databases meet in the hub and when an owner moves. A sequence that starts at its
database's number and steps by the stride never gives what another database gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.migrate.connect import Connection, connected, identifier
from gateway.migrate.plan import Plan, ProvisionError, Report

STRIDE = 128
"""Step of all sequences: room for 127 databases, and for 16.7 million rows of a table in each of
them where ids are of type integer."""

_SEQUENCES = """
    SELECT s.oid::regclass::text AS sequence, t.relname::text AS table, a.attname::text AS column,
           q.seqincrement AS increment, q.seqstart AS start
      FROM pg_sequence q
      JOIN pg_class s ON s.oid = q.seqrelid
      JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.oid
                      AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
      JOIN pg_class t ON t.oid = d.refobjid
      JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
     WHERE t.relnamespace = 'public'::regnamespace AND t.relname <> ALL ($1::text[])
     ORDER BY t.relname, a.attname"""

_KNOWN_STRIDE = "SELECT min(stride) FROM gateway.id_number"
_NEW_NUMBER = """
    INSERT INTO gateway.id_number (shard, number, stride)
    SELECT $1, (SELECT min(n) FROM generate_series(1, $2::integer) AS n
                 WHERE n NOT IN (SELECT number FROM gateway.id_number)), $2
    ON CONFLICT (shard) DO NOTHING"""


@dataclass(frozen=True, slots=True)
class _Sequence:
    """One column that draws its values, and how."""

    sequence: str
    table: str
    column: str
    increment: int
    start: int


async def spread_ids(
    meta: Connection, plans: Sequence[Plan], stride: int, *, used: bool, report: Report
) -> None:
    """Gives every database its number and puts its sequences on it.

    Tables that have rows keep their sequences unless ``used``. The new ids start above all ids of
    that table in all of ``plans``. Raises ProvisionError for another stride than the one in use.
    """
    numbers = await _numbers(meta, plans, stride)
    tops: dict[str, int] | None = None
    for plan in plans:
        number = numbers[plan.own_shards[0]]
        async with connected(plan.dsn) as shard:
            await _note_number(shard, number, stride)
            due, left = await _due(shard, plan, number, stride, used)
            if due and tops is None:
                tops = await _tops(plans)
            await _apply(shard, due, number, stride, tops or {})
        name = ", ".join(plan.own_shards)
        if due:
            report(f"{name}: {len(due)} sequences draw {number}, {number + stride}, ...")
        if left:
            report(f"{name}: {left} tables with rows keep their sequences (--stride-sequences)")


async def _numbers(meta: Connection, plans: Sequence[Plan], stride: int) -> Mapping[str, int]:
    async with meta.transaction():
        await meta.execute("LOCK TABLE gateway.id_number IN SHARE ROW EXCLUSIVE MODE")
        known = await meta.fetchval(_KNOWN_STRIDE)
        if known not in (None, stride):
            raise ProvisionError(f"ids step by {known} already; --id-stride can't be {stride}")
        shards = [plan.own_shards[0] for plan in plans]
        taken = set(await meta.fetch("SELECT shard FROM gateway.id_number"))
        if len(shards) + len({row[0] for row in taken} - set(shards)) > stride - 1:
            raise ProvisionError(f"--id-stride {stride} has room for {stride - 1} databases only")
        for shard in shards:
            await meta.execute(_NEW_NUMBER, shard, stride)
        rows = await meta.fetch("SELECT shard, number FROM gateway.id_number")
    return {row["shard"]: row["number"] for row in rows}


async def _note_number(shard: Connection, number: int, stride: int) -> None:
    await shard.execute(
        """INSERT INTO gateway.ids (number, stride) VALUES ($1, $2)
           ON CONFLICT (only_row) DO UPDATE SET number = $1, stride = $2
           WHERE (ids.number, ids.stride) <> ($1, $2)""",
        number,
        stride,
    )


async def _due(
    shard: Connection, plan: Plan, number: int, stride: int, used: bool
) -> tuple[list[_Sequence], int]:
    """The sequences to change, and how many have to stay because their table has rows."""
    due: list[_Sequence] = []
    left = 0
    for found in await _sequences(shard, plan):
        strided = found.increment == stride
        if strided and found.start == number:
            continue
        # One on another number of ours: the database is a copy of another one.
        if strided or used or await _is_empty(shard, found.table):
            due.append(found)
        else:
            left += 1
    return due, left


async def _sequences(shard: Connection, plan: Plan) -> list[_Sequence]:
    rows = await shard.fetch(_SEQUENCES, plan.spared_tables)
    return [_Sequence(*row) for row in rows]


async def _is_empty(shard: Connection, table: str) -> bool:
    found: bool = await shard.fetchval(
        f"SELECT NOT EXISTS (SELECT FROM public.{identifier(table)})"
    )
    return found


async def _tops(plans: Sequence[Plan]) -> dict[str, int]:
    """The highest id of each table over all databases."""
    tops: dict[str, int] = {}
    for plan in plans:
        async with connected(plan.dsn) as shard:
            for found in await _sequences(shard, plan):
                top = await shard.fetchval(
                    f"SELECT max({identifier(found.column)}) FROM public.{identifier(found.table)}"
                )
                tops[found.table] = max(tops.get(found.table, 0), top or 0)
    return tops


async def _apply(
    shard: Connection, due: Sequence[_Sequence], number: int, stride: int, tops: Mapping[str, int]
) -> None:
    async with shard.transaction():
        for one in due:
            await shard.execute(
                "SELECT gateway.stride_sequence($1::text::regclass, $2, $3, $4)",
                one.sequence,
                number,
                stride,
                tops.get(one.table, 0),
            )

"""Ids that are unique over all databases: each one draws numbers of a remainder of its own.

Rows of different databases meet in the hub and when an owner moves. A sequence that starts at its
database's number and steps by the stride never gives what another database gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from gateway.migrate.connect import Connection, connected
from gateway.migrate.plan import Plan, ProvisionError, Report

STRIDE = 128
"""Step of all sequences: room for 127 databases, and for 16.7 million rows of a table in each of
them where ids are of type integer."""

_KNOWN_STRIDE = "SELECT min(stride) FROM gateway.id_number"
_NEW_NUMBER = """
    INSERT INTO gateway.id_number (shard, number, stride)
    SELECT $1, (SELECT min(n) FROM generate_series(1, $2::integer) AS n
                 WHERE n NOT IN (SELECT number FROM gateway.id_number)), $2
    ON CONFLICT (shard) DO NOTHING"""
_NOTE_NUMBER = """
    INSERT INTO gateway.ids (number, stride) VALUES ($1, $2)
    ON CONFLICT (only_row) DO UPDATE SET number = $1, stride = $2
    WHERE (ids.number, ids.stride) <> ($1, $2)"""


@dataclass(frozen=True, slots=True)
class _Drawn:
    """One column that draws its values: how it goes on, and its highest value, None for no rows."""

    sequence: str
    table: str
    increment: int
    start: int
    top: int | None


@dataclass(frozen=True, slots=True)
class _Place:
    """A database, its number, and what draws there."""

    name: str
    connection: Connection
    number: int
    drawn: tuple[_Drawn, ...]


async def spread_ids(
    meta: Connection, plans: Sequence[Plan], stride: int, *, used: bool, report: Report
) -> None:
    """Gives every database its number and puts its sequences on it.

    Tables that have rows keep their sequences unless ``used``. The new ids start above all ids of
    that table in all of ``plans``. Raises ProvisionError for another stride than the one in use.
    """
    numbers = await _numbers(meta, plans, stride)
    tops: dict[str, int] = {}
    async with AsyncExitStack() as stack:
        places = []
        for plan in plans:
            connection = await stack.enter_async_context(connected(plan.dsn))
            rows = await connection.fetch(
                "SELECT * FROM gateway.drawn_columns($1)", plan.spared_tables
            )
            drawn = tuple(_Drawn(*row) for row in rows)
            number = numbers[plan.own_shards[0]]
            places.append(_Place(", ".join(plan.own_shards), connection, number, drawn))
            for one in drawn:
                tops[one.table] = max(tops.get(one.table, 0), one.top or 0)
        for place in places:
            await _spread(place, stride, used, tops, report)


async def _spread(
    place: _Place, stride: int, used: bool, tops: Mapping[str, int], report: Report
) -> None:
    number = place.number
    await place.connection.execute(_NOTE_NUMBER, number, stride)
    wrong = [one for one in place.drawn if (one.increment, one.start) != (stride, number)]
    # One that has our stride and another number: the database is a copy of another one.
    due = [one for one in wrong if one.top is None or used or one.increment == stride]
    if due:
        await place.connection.execute(
            """SELECT gateway.stride_sequence(sequence::regclass, $3, $4, above)
                 FROM unnest($1::text[], $2::bigint[]) AS due (sequence, above)""",
            [one.sequence for one in due],
            [tops[one.table] for one in due],
            number,
            stride,
        )
        report(f"{place.name}: {len(due)} sequences draw {number}, {number + stride}, ...")
    if left := len(wrong) - len(due):
        report(f"{place.name}: {left} tables with rows keep their sequences (--stride-sequences)")


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

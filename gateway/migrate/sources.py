"""What a database shows to the hub: a view per table, with its industry and shard.

Each view reads from an SQL function whose body is text, which the planner unfolds. So filters and
aggregates work on the table itself, and yet nothing depends on the table: the application can drop
or change its columns, and the next `gateway provision` follows.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.migrate.connect import Connection, identifier, literal
from gateway.migrate.plan import Plan

SCHEMA = "gateway_hub"
Columns = dict[str, str]
"""Names and types in the hub, in order."""

INDUSTRY, SHARD = "industry", "shard"

# Types that are not PostgreSQL's own (enums) are text in the hub, which then needs none of them and
# may send conditions on them to the shards.
_COLUMNS = """
    SELECT c.relname::text AS table, a.attname::text AS column,
           CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype <> 'd'
                THEN format_type(a.atttypid, a.atttypmod)
                WHEN t.typelem <> 0 AND t.typlen = -1 THEN 'text[]' ELSE 'text' END AS type
      FROM pg_class c
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      JOIN pg_type t ON t.oid = a.atttypid
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
       AND NOT c.relispartition AND c.relname <> ALL ($1::text[])
     ORDER BY c.relname, a.attnum"""


@dataclass(frozen=True, slots=True)
class Source:
    """A database that the hub shows; ``industry`` None is the meta database."""

    plan: Plan
    name: str
    industry: str | None


async def read_columns(connection: Connection, source: Source) -> dict[str, Columns]:
    """The tables of a source and their columns. "User" is the meta database's."""
    spared = [] if source.industry is None else ["User"]
    tables: dict[str, Columns] = {}
    for row in await connection.fetch(_COLUMNS, spared):
        start = {} if source.industry is None else {INDUSTRY: "text", SHARD: "text"}
        name = f"own_{row['column']}" if row["column"] in start else row["column"]
        tables.setdefault(row["table"], start)[name] = row["type"]
    return tables


def merge_columns(found: Sequence[Columns]) -> Columns:
    """The columns of all; text where types differ in more than their length or precision."""
    merged: Columns = {}
    for columns in found:
        for name, type_ in columns.items():
            merged[name] = _common(merged.get(name, type_), type_)
    return merged


def _common(one: str, other: str) -> str:
    if one == other:
        return one
    plain, other_plain = (re.sub(r"\([0-9, ]+\)", "", type_) for type_ in (one, other))
    # `character` without a length would be one character.
    return plain if plain == other_plain and plain != "character" else "text"


async def publish_source(
    connection: Connection,
    source: Source,
    wanted: Mapping[str, Columns],
    present: Mapping[str, Columns],
) -> None:
    """Makes the views of ``wanted``; touches only those that changed, and drops the rest."""
    async with connection.transaction():
        await connection.execute("SET LOCAL client_min_messages = warning")
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        known = {
            row[0]: row[1]
            for row in await connection.fetch(
                """SELECT relname::text, obj_description(oid, 'pg_class') FROM pg_class
                    WHERE relnamespace = $1::text::regnamespace AND relkind = 'v'""",
                SCHEMA,
            )
        }
        changes = []
        for table, columns in wanted.items():
            sql = _view(source, table, columns, present[table])
            mark = hashlib.md5(sql.encode(), usedforsecurity=False).hexdigest()
            if known.pop(table, None) != mark:
                view = f"{SCHEMA}.{identifier(table)}"
                changes += [_dropped(table), sql, f"COMMENT ON VIEW {view} IS {literal(mark)}"]
        changes += [_dropped(table) for table in known]
        if changes:
            await connection.execute(";".join(changes))


def _dropped(table: str) -> str:
    name = f"{SCHEMA}.{identifier(table)}"
    return f"DROP VIEW IF EXISTS {name}; DROP FUNCTION IF EXISTS {name}()"


def _view(source: Source, table: str, columns: Columns, present: Columns) -> str:
    """The function and the view. The function's name is the table's."""
    name = f"{SCHEMA}.{identifier(table)}"
    own = {column: kind for column, kind in columns.items() if not _is_tag(source, column)}
    picked = ", ".join(
        f"{identifier(_real(source, column))}::{kind}" if column in present else f"NULL::{kind}"
        for column, kind in own.items()
    )
    returned = ", ".join(f"{identifier(column)} {kind}" for column, kind in own.items())
    body = literal(f"SELECT {picked} FROM public.{identifier(table)}")
    tags = ""
    if source.industry is not None:
        tags = (
            f"{literal(source.industry)}::text AS {INDUSTRY},"
            f" {literal(source.name)}::text AS {SHARD}, "
        )
    return f"""
        CREATE FUNCTION {name}() RETURNS TABLE ({returned}) LANGUAGE sql STABLE AS {body};
        CREATE VIEW {name} AS SELECT {tags}t.* FROM {name}() AS t"""


def _is_tag(source: Source, column: str) -> bool:
    return source.industry is not None and column in (INDUSTRY, SHARD)


def _real(source: Source, column: str) -> str:
    if source.industry is not None and column in (f"own_{INDUSTRY}", f"own_{SHARD}"):
        return column.removeprefix("own_")
    return column

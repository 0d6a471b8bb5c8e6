"""What lies where: the rows of every owner, with ids that can be compared from place to place.

An id stands for its place in the order of that owner's ids in its table; both places make rows of
one owner in the same order. Times of the run are left out.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import asyncpg

from gateway.demo.rows import COLUMNS, META_COLUMNS

OWNED = tuple(table for table in COLUMNS if table not in ("User", "ConversationMessage"))
"""Tables of the industries whose rows say whose they are."""

META = tuple(table for table in META_COLUMNS if table != "Agency")

_PARENTS: Mapping[str, str] = {
    "leadId": "Lead",
    "campaignId": "Campaign",
    "workflowId": "Workflow",
    "conversationId": "Conversation",
    "invoiceId": "Invoice",
}
_TIMES = ("createdAt", "updatedAt", "expires", "lastUsedAt")
_MESSAGES = (
    'SELECT c."userId", m.* FROM "ConversationMessage" m'
    ' LEFT JOIN "Conversation" c ON c."id" = m."conversationId" ORDER BY m."id"'
)

_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"

Row = dict[str, Any]
Rows = dict[str, dict[Any, list[Row]]]
"""By table and owner, in the order of their ids."""


async def industry_rows(urls: Iterable[str]) -> dict[str, Rows]:
    """By URL, what the database holds of the industries' tables."""
    return {
        url: await _read(url, {**_queries(OWNED), "ConversationMessage": _MESSAGES}) for url in urls
    }


async def meta_rows(url: str) -> Rows:
    """What the database holds of the meta tables."""
    queries = _queries(table for table in META if table not in ("User", "VerificationToken"))
    users = 'SELECT "id" AS "userId", * FROM "User" ORDER BY "id"'
    return await _read(url, {**queries, "User": users})


async def users(url: str) -> list[tuple[Any, ...]]:
    """The part of "User" that every database has."""
    connection = await asyncpg.connect(url)
    try:
        found = await connection.fetch('SELECT "id", "email", "name", "industry" FROM "User"')
        return sorted(tuple(row) for row in found)
    finally:
        await connection.close()


def _queries(tables: Iterable[str]) -> dict[str, str]:
    return {table: f'SELECT * FROM "{table}" ORDER BY "id"' for table in tables}


async def _read(url: str, queries: Mapping[str, str]) -> Rows:
    found: Rows = {}
    connection = await asyncpg.connect(url)
    try:
        there = {row[0] for row in await connection.fetch(_TABLES)}
        for table, query in queries.items():
            if table not in there:
                continue  # of other industries only
            owners: dict[Any, list[Row]] = defaultdict(list)
            for row in await connection.fetch(query):
                owners[row["userId"]].append(dict(row))
            found[table] = dict(owners)
    finally:
        await connection.close()
    return found


def comparable(rows: Rows) -> dict[str, dict[Any, list[str]]]:
    """The rows of each owner as texts, without what differs from place to place."""
    places = {
        (table, owner): {row["id"]: place for place, row in enumerate(theirs)}
        for table, owners in rows.items()
        for owner, theirs in owners.items()
    }

    def plain(table: str, owner: Any, row: Row) -> str:
        values = {"id": places[table, owner][row["id"]]}
        for column, value in row.items():
            parent = _PARENTS.get(column)
            if parent is not None and value is not None:
                values[column] = places[parent, owner][value]
            elif column not in _TIMES and column != "id":
                values[column] = value
        return json.dumps(values, default=str, sort_keys=True, ensure_ascii=False)

    return {
        table: {
            owner: [plain(table, owner, row) for row in theirs] for owner, theirs in owners.items()
        }
        for table, owners in rows.items()
    }

"""Whatever a statement's condition is: where it is routed, it answers as one database would.

Random conditions over two tables, run in a database that has everybody's rows and in the one that
routing chose. Refusing is always right; another answer never is.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.demo.postgres import Cluster
from tests.conftest import FreshDatabase
from tests.unit.router.targets import Client, World, query

OWNERS = {"law": (7, 9), "dentist": (8,)}
ROWS_EACH = 3
CLIENT = Client(World())

Connections = dict[str, psycopg.Connection[tuple[object, ...]]]


def _fill(connection: psycopg.Connection[tuple[object, ...]], owners: tuple[int, ...]) -> None:
    connection.execute('CREATE TABLE "Lead" ("id" int, "userId" int, "n" int)')
    connection.execute('CREATE TABLE "Deal" ("id" int, "userId" int, "n" int, "leadId" int)')
    for owner in owners:
        for number in range(ROWS_EACH):
            lead, n = owner * 10 + number, None if number == 2 else number
            connection.execute('INSERT INTO "Lead" VALUES (%s, %s, %s)', (lead, owner, n))
            if number:
                connection.execute(
                    'INSERT INTO "Deal" VALUES (%s, %s, %s, %s)', (lead + 500, owner, n, lead)
                )
    connection.commit()


@pytest.fixture(scope="module")
async def databases(postgres: Cluster, fresh_database: FreshDatabase) -> dict[str, str]:
    """The URLs of one with all rows, and one for each industry."""
    return {name: await fresh_database(name) for name in ("all", *OWNERS)}


@pytest.fixture(scope="module")
def connections(databases: dict[str, str]) -> Iterator[Connections]:
    everybody = tuple(owner for owners in OWNERS.values() for owner in owners)
    found: Connections = {name: psycopg.connect(url) for name, url in databases.items()}
    for name, connection in found.items():
        _fill(connection, OWNERS.get(name, everybody))
    yield found
    for connection in found.values():
        connection.close()


# --- statements ---

KEYS = st.sampled_from((7, 8, 9))


def _of_key(alias: str) -> st.SearchStrategy[str]:
    """A condition on the key of one relation."""
    column = f'{alias}."userId"'
    forms = (
        *8 * ("{c} = {a}",),
        "{a} = {c}",
        "{c} IN ({a}, {b})",
        "{c} = ANY (ARRAY[{a}, {b}])",
        "{c} = ANY ('{{{a}}}')",
        "{c} <> {a}",
        "{c} NOT IN ({a})",
        "{c} <> ALL (ARRAY[{a}])",
        "{c} BETWEEN {a} AND {b}",
        "{c} IS NOT DISTINCT FROM {a}",
        "{c} IS DISTINCT FROM {a}",
        "COALESCE({c}, {a}) = {a}",
        "{c}::text = '{a}'",
        "({c}, {n}) = ({a}, 1)",
        "({c}, 1) IN (({a}, 1), ({b}, 0))",
        "({c}, {n}) > ({a}, 0)",
        "CASE WHEN {c} = {a} THEN true ELSE {n} = 1 END",
        "{c} = NULLIF({a}, {b})",
        "{c} = (SELECT {a})",
        "{c} IN (SELECT {a} UNION SELECT {b})",
        "{c} >= {a}",
        "{c} = {a} IS NOT FALSE",
        "({c} = {a}) = ({n} = 1)",
        "{c} = {a} + 0",
    )
    return st.builds(
        lambda form, a, b: form.format(c=column, n=f'{alias}."n"', a=a, b=b),
        st.sampled_from(forms),
        KEYS,
        KEYS,
    )


def _others(alias: str) -> st.SearchStrategy[str]:
    return st.sampled_from(
        (f'{alias}."n" = 1', f'{alias}."n" IS NULL', "true", "NULL", f'{alias}."id" > 80')
    )


def conditions(alias: str, nested: bool = True) -> st.SearchStrategy[str]:
    """A condition about one relation."""
    atoms = st.one_of(_of_key(alias), _of_key(alias), _others(alias))
    if nested:
        inner = conditions("s", nested=False)
        atoms |= st.builds(
            lambda form, condition: form.format(a=alias, condition=condition),
            st.sampled_from(
                (
                    'EXISTS (SELECT 1 FROM "Deal" s WHERE s."leadId" = {a}."id" AND {condition})',
                    'NOT EXISTS (SELECT 1 FROM "Deal" s WHERE s."leadId" = {a}."id"'
                    " AND {condition})",
                    '{a}."userId" IN (SELECT s."userId" FROM "Lead" s WHERE {condition})',
                    '{a}."userId" NOT IN (SELECT s."userId" FROM "Lead" s WHERE {condition})',
                )
            ),
            inner,
        )
    return st.recursive(
        atoms,
        lambda inside: st.one_of(
            st.builds("({} AND {})".format, inside, inside),
            st.builds("({} OR {})".format, inside, inside),
            st.builds("(NOT {})".format, inside),
            st.builds("({} IS TRUE)".format, inside),
        ),
        max_leaves=4,
    )


SHAPES = (
    'SELECT l."id", 0 FROM "Lead" l WHERE {one}',
    'SELECT l."id", 0 FROM (SELECT * FROM "Lead" l WHERE {other_l}) l WHERE {one}',
    'WITH l AS (SELECT * FROM "Lead" l WHERE {other_l}) SELECT l."id", 0 FROM l WHERE {one}',
    'SELECT l."id", 0 FROM (SELECT "id", "n", "userId" + ("n" = 1)::int AS "userId" FROM "Lead") l'
    " WHERE {one}",
    'SELECT l."id", d."id" FROM "Lead" l {join} JOIN "Deal" d ON d."leadId" = l."id" WHERE {one}',
    'SELECT l."id", d."id" FROM "Lead" l {join} JOIN "Deal" d ON d."leadId" = l."id" WHERE {two}',
    'SELECT l."id", d."id" FROM "Lead" l {join} JOIN "Deal" d ON d."leadId" = l."id" AND {one}',
    'SELECT l."id", d."id" FROM "Lead" l {join} JOIN "Deal" d ON d."leadId" = l."id" AND {two}',
    'SELECT l."id", d."id" FROM "Lead" l {join} JOIN (SELECT * FROM "Deal" d WHERE {two}) d'
    ' ON d."leadId" = l."id"',
    'SELECT l."id", d."id" FROM "Lead" l {join} JOIN "Deal" d USING ("userId") WHERE {one}',
    'UPDATE "Lead" l SET "n" = 5 WHERE {one} RETURNING l."id", 0',
    'UPDATE "Lead" l SET "n" = 5 FROM "Deal" d WHERE d."leadId" = l."id" AND {two}'
    ' RETURNING l."id", d."id"',
    'DELETE FROM "Lead" l WHERE {one} RETURNING l."id", 0',
    'DELETE FROM "Lead" l USING "Deal" d WHERE d."leadId" = l."id" AND {two} RETURNING l."id", 0',
    'WITH gone AS (DELETE FROM "Deal" d WHERE {two} RETURNING d."leadId")'
    ' SELECT l."id", 0 FROM "Lead" l JOIN gone ON gone."leadId" = l."id"',
)

STATEMENTS = st.builds(
    lambda shape, join, one, two, other: shape.format(join=join, one=one, two=two, other_l=other),
    st.sampled_from(SHAPES),
    st.sampled_from(("", "LEFT", "RIGHT", "FULL")),
    conditions("l"),
    conditions("d"),
    conditions("l", nested=False),
)


def rows(connection: psycopg.Connection[tuple[object, ...]], sql: str) -> list[tuple[object, ...]]:
    found = connection.execute(sql.encode()).fetchall()
    connection.rollback()
    return sorted(found, key=str)


@settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
@given(sql=STATEMENTS)
def test_trap_where_it_is_routed_it_answers_as_one_database_would(
    connections: Connections, sql: str
) -> None:
    target = CLIENT.run(query(sql)).removesuffix(", replica")
    shard = target.partition(" of ")[0]
    if shard in OWNERS:
        assert rows(connections[shard], sql) == rows(connections["all"], sql), target
    elif shard == "no rows":
        assert rows(connections["all"], sql) == []
    else:
        assert target.startswith("0A000"), target

"""What psycopg 3 has prepared, as a connection of it can list: its own statements and no others."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable, Iterator

import psycopg
import pytest

from tests.drivers.crm import Client

Connection = psycopg.Connection[tuple[object, ...]]
Script = Callable[[Connection], None]

COUNT = "SELECT count(*) FROM pg_prepared_statements"
TEXTS = "SELECT statement FROM pg_prepared_statements ORDER BY prepare_time"
TYPES = "SELECT parameter_types::text[] FROM pg_prepared_statements ORDER BY prepare_time"


def listed(connection: Connection, sql: str) -> list[object]:
    rows = connection.execute(sql.encode(), prepare=False).fetchall()
    return [value for (value,) in rows]


def after_the_threshold(connection: Connection) -> None:
    counts = [connection.execute(COUNT).fetchone() for _ in range(10)]
    assert counts == [(0,)] * 5 + [(1,)] * 5


def never(connection: Connection) -> None:
    connection.prepare_threshold = None
    for number in range(10):
        connection.execute("SELECT %s::int", [number])
    assert listed(connection, COUNT) == [0]


def in_order(connection: Connection) -> None:
    connection.prepare_threshold = 0
    connection.prepared_max = 3
    for number in range(8):
        connection.execute(b"SELECT %d" % number)
    assert listed(connection, TEXTS) == [f"SELECT {number}" for number in (5, 6, 7)]


def by_type(connection: Connection) -> None:
    connection.prepare_threshold = 0
    for value in (None, datetime.date(2000, 1, 1), 42, 41, datetime.date(2000, 1, 2)):
        connection.execute("SELECT %s", [value])
    assert listed(connection, TYPES) == [["text"], ["date"], ["smallint"]]


def not_after_an_error(connection: Connection) -> None:
    connection.prepare_threshold = 0
    for _ in range(6):
        with pytest.raises(psycopg.errors.UndefinedColumn), connection.transaction():
            connection.execute("SELECT nothing")
    assert listed(connection, "SELECT statement FROM pg_prepared_statements") == []


@pytest.mark.parametrize("autocommit", [False, True])
@pytest.mark.parametrize(
    "script", [after_the_threshold, never, in_order, by_type, not_after_an_error]
)
async def test_lists_its_own(clients: list[Client], script: Script, autocommit: bool) -> None:
    """The servers have prepared others' statements before."""

    def run() -> None:
        for connection in _connected(clients[:4], autocommit):
            script(connection)

    await asyncio.to_thread(run)


def _connected(clients: list[Client], autocommit: bool) -> Iterator[Connection]:
    for client in clients:
        with psycopg.connect(client.dsn, autocommit=autocommit) as connection:
            yield connection

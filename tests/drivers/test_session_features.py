"""What a session can do besides plain statements, by real drivers through a small pool."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import psycopg
import psycopg2
import psycopg2.errors
import psycopg2.extensions
import pytest

from tests.drivers.crm import Client, all_at_once

Connection = psycopg.Connection[tuple[object, ...]]


def connect(client: Client) -> Connection:
    return psycopg.connect(client.dsn, autocommit=True)


def value(connection: Connection, sql: str) -> object:
    row = connection.execute(sql.encode()).fetchone()
    assert row is not None
    return row[0]


@contextmanager
def taken(client: Client, servers: int) -> Iterator[None]:
    """So many servers are in somebody's transaction: the next statement is moved to another."""
    with ExitStack() as stack:
        for _ in range(servers):
            stack.enter_context(connect(client)).execute("BEGIN")
        yield


# --- large objects ---------------------------------------------------------------------------


async def test_large_objects_of_psycopg2(clients: list[Client]) -> None:
    """By the protocol's FunctionCall, several in one transaction; descriptors end with it."""

    def script(client: Client) -> None:
        data = client.tag.encode() * 20_000
        with closing(psycopg2.connect(client.dsn)) as connection:
            large = connection.lobject(0, "wb")
            assert large.write(data) == len(data)
            oid = large.oid
            connection.commit()
            for _ in range(3):
                large = connection.lobject(oid, "rb")
                large.seek(5)
                assert large.read(100) == data[5:105]
                assert large.tell() == 105
                connection.commit()
                with pytest.raises(psycopg2.Error):
                    large.read(1)
                connection.rollback()
            large = connection.lobject(oid, "wb")
            large.truncate(10)
            connection.rollback()
            large = connection.lobject(oid, "rb")
            assert len(large.read()) == len(data), "what was rolled back is in it"
            large.unlink()
            connection.commit()

    await all_at_once(script, clients)


# --- cursors ---------------------------------------------------------------------------------


async def test_scroll_and_held_cursors(clients: list[Client]) -> None:
    def script(client: Client) -> None:
        with psycopg.connect(client.dsn) as connection:
            sql = "SELECT n FROM generate_series(1, 100) n"
            with connection.cursor("scrolled", scrollable=True) as cursor:
                cursor.execute(sql)
                assert cursor.fetchmany(2) == [(1,), (2,)]
                cursor.scroll(-1)
                assert cursor.fetchone() == (2,)
                cursor.scroll(90, mode="absolute")
                assert cursor.fetchone() == (91,)
            connection.commit()
            with connection.cursor("held", withhold=True) as cursor:
                cursor.execute(sql)
                assert cursor.fetchmany(3) == [(1,), (2,), (3,)]
                connection.commit()
                connection.execute("SELECT 'another transaction'")
                connection.commit()
                assert cursor.fetchmany(2) == [(4,), (5,)]
            connection.commit()

    # One after the other: a held cursor keeps its server, and there are more clients than those.
    for client in clients:
        await all_at_once(script, [client])


async def test_refcursors_that_a_function_returns(clients: list[Client]) -> None:
    """Opened in a function, read by name in the same transaction, gone after it."""

    def script(client: Client) -> None:
        name = client.tag.replace("-", "_")
        with closing(psycopg2.connect(client.dsn)) as connection:
            cursor = connection.cursor()
            cursor.execute(
                f"CREATE FUNCTION {name}(refcursor) RETURNS refcursor LANGUAGE plpgsql AS"
                " $$ BEGIN OPEN $1 FOR SELECT generate_series(1, 5); RETURN $1; END $$"
            )
            connection.commit()
            for _ in range(3):
                cursor.callproc(name, ["portal"])
                with connection.cursor("portal") as named:
                    assert [row[0] for row in named.fetchall()] == [1, 2, 3, 4, 5]
                connection.commit()
                with pytest.raises(psycopg2.errors.InvalidCursorName):
                    cursor.execute("FETCH ALL FROM portal")
                connection.rollback()
            cursor.execute(f"DROP FUNCTION {name}")
            connection.commit()

    await all_at_once(script, clients)


# --- two-phase commit ------------------------------------------------------------------------


async def test_a_prepared_transaction_is_ended_by_another_client(clients: list[Client]) -> None:
    """Prepared by one, committed or rolled back by another: it is no part of any session."""

    def script(client: Client) -> None:
        table = client.tag.replace("-", "_")
        with connect(client) as one, connect(client) as other:
            one.execute(f"CREATE TABLE {table} (a int)".encode())
            for number, end in enumerate(("COMMIT PREPARED", "ROLLBACK PREPARED")):
                one.execute(f"BEGIN; INSERT INTO {table} VALUES ({number})".encode())
                one.execute(f"PREPARE TRANSACTION '{client.tag}'".encode())
                assert value(one, "SELECT 'another transaction'")
                with pytest.raises(psycopg.errors.ActiveSqlTransaction):
                    other.execute(f"BEGIN; {end} '{client.tag}'".encode())
                other.execute("ROLLBACK")
                other.execute(f"{end} '{client.tag}'".encode())
                with pytest.raises(psycopg.errors.UndefinedObject):
                    one.execute(f"{end} '{client.tag}'".encode())
            assert value(one, f"SELECT array_agg(a) FROM {table}") == [0]
            one.execute(f"DROP TABLE {table}".encode())

    await all_at_once(script, clients[:3])


async def test_psycopg_drives_two_phases(client: Client) -> None:
    def script(client: Client) -> None:
        with closing(psycopg.connect(client.dsn)) as one:
            xid = one.xid(7, client.tag, "branch")
            one.tpc_begin(xid)
            one.execute("SELECT 1")
            one.tpc_prepare()
        with closing(psycopg.connect(client.dsn)) as other:
            mine = [known for known in other.tpc_recover() if known.gtrid == client.tag]
            assert len(mine) == 1
            other.rollback()
            other.tpc_rollback(mine[0])
            assert client.tag not in [known.gtrid for known in other.tpc_recover()]

    await all_at_once(script, [client])


# --- transaction modes as a session's default ------------------------------------------------

MODES = {
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE": "serializable, off",
    "SET default_transaction_isolation = 'repeatable read'": "repeatable read, off",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY": "read committed, on",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY,"
    " DEFERRABLE": "serializable, on",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE": "read committed, off",
}
SHOWN = "SELECT current_setting('transaction_isolation') || ', ' || current_setting('transaction_read_only')"  # noqa: E501


@pytest.mark.parametrize("sql", MODES)
async def test_modes_set_as_the_default_go_with_the_client(client: Client, sql: str) -> None:
    def script(client: Client) -> None:
        with connect(client) as one, connect(client) as other:
            one.execute(sql.encode())
            for servers in (0, 1, 2, 0):
                with taken(client, servers):
                    assert value(one, SHOWN) == MODES[sql]
                    one.execute("BEGIN")
                    assert value(one, SHOWN) == MODES[sql]
                    one.execute("COMMIT")
                    assert value(other, SHOWN) == "read committed, off"
            one.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
            assert value(one, SHOWN) == "read committed, off"
            one.execute("COMMIT")
            one.execute("RESET ALL")
            assert value(one, SHOWN) == "read committed, off"

    await all_at_once(script, [client])


async def test_modes_that_drivers_set(clients: list[Client]) -> None:
    """By each driver's own properties, at once: none sees another's."""

    def script(client: Client) -> None:
        number = clients.index(client)
        level, name = (
            (psycopg.IsolationLevel.SERIALIZABLE, "serializable"),
            (psycopg.IsolationLevel.REPEATABLE_READ, "repeatable read"),
            (None, "read committed"),
        )[number % 3]
        with psycopg.connect(client.dsn) as one:
            one.isolation_level = level
            one.read_only = number % 2 == 0
            for _ in range(5):
                assert value(one, SHOWN) == f"{name}, {'on' if number % 2 == 0 else 'off'}"
                one.commit()
        with closing(psycopg2.connect(client.dsn)) as two:
            two.set_session(isolation_level=name.upper(), readonly=number % 2 == 0, autocommit=True)
            cursor = two.cursor()
            for _ in range(5):
                cursor.execute(SHOWN)
                assert cursor.fetchone() == (f"{name}, {'on' if number % 2 == 0 else 'off'}",)

    await all_at_once(script, clients)


async def test_serializable_transactions_that_conflict_fail_as_they_must(client: Client) -> None:
    def script(client: Client) -> None:
        table = client.tag.replace("-", "_")
        with connect(client) as one, connect(client) as other:
            one.execute(f"CREATE TABLE {table} AS SELECT 1 AS a".encode())
            for connection in (one, other):
                connection.execute("SET default_transaction_isolation = 'serializable'")
                connection.execute("BEGIN")
                assert value(connection, f"SELECT sum(a) FROM {table}") == 1
            one.execute(f"INSERT INTO {table} VALUES (2)".encode())
            other.execute(f"INSERT INTO {table} VALUES (3)".encode())
            one.execute("COMMIT")
            with pytest.raises(psycopg.errors.SerializationFailure):
                other.execute("COMMIT")
            assert value(other, f"SELECT sum(a) FROM {table}") == 3
            one.execute(f"DROP TABLE {table}".encode())

    await asyncio.wait_for(all_at_once(script, [client]), 30)

"""PREPARE by SQL on shared servers: every client finds its own statements and no one else's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import asyncpg
import psycopg
import pytest

from gateway.session.client import ClientSession
from tests.integration.conftest import Gateway, StartGateway

Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
async def gateway(start_gateway: StartGateway) -> Gateway:
    """One whose pools have three connections."""
    return await start_gateway({"pool": {"max": 3}})


def _connect(gateway: Gateway) -> Connection:
    login = gateway.provisioned.owners[0]
    connection: Connection = psycopg.connect(
        gateway.dsn(login.user, login.database), autocommit=True
    )
    connection.prepare_threshold = None
    return connection


def _rows(connection: Connection, sql: str) -> list[tuple[object, ...]]:
    return connection.execute(sql.encode()).fetchall()


@contextmanager
def _others_busy(gateway: Gateway) -> Iterator[None]:
    """Two of the three servers are taken, those used last among them."""
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(_connect(gateway)).execute("BEGIN")
        yield


def _pins(gateway: Gateway) -> set[str]:
    sessions = [one for one in gateway.worker.context.registry if isinstance(one, ClientSession)]
    return {str(pin) for session in sessions for pin in session.pins}


async def test_a_server_of_others_statements_changes_nothing(gateway: Gateway) -> None:
    """The server that a SET ran on is asked what it holds: that may be somebody else's."""

    def scenario() -> None:
        with _connect(gateway) as one, _connect(gateway) as other:
            one.execute("PREPARE mine AS SELECT 1")
            with _others_busy(gateway):
                other.execute("SET work_mem = '5MB'")
                other.execute("PREPARE yours AS SELECT 2")
            one.execute("SET work_mem = '6MB'")
            for _ in range(3):
                assert _rows(one, "EXECUTE mine") == [(1,)]
                assert _rows(other, "EXECUTE yours") == [(2,)]
            for connection, name in ((one, "yours"), (other, "mine")):
                with pytest.raises(psycopg.errors.InvalidSqlStatementName):
                    connection.execute(f"EXECUTE {name}".encode())

    await asyncio.to_thread(scenario)


async def test_a_statement_that_cannot_be_prepared_again_is_not_forgotten(
    gateway: Gateway,
) -> None:
    def scenario() -> None:
        with _connect(gateway) as one, _connect(gateway) as other:
            other.execute("CREATE TABLE comes_and_goes AS SELECT 1 AS a")
            try:
                one.execute("PREPARE it AS SELECT a FROM comes_and_goes")
                one.execute("PREPARE still AS SELECT 7")
                with _others_busy(gateway):
                    one.execute("DROP TABLE comes_and_goes")
                    with pytest.raises(psycopg.errors.UndefinedTable, match="comes_and_goes"):
                        one.execute("EXECUTE it")
                    one.execute("BEGIN")
                    with pytest.raises(psycopg.errors.UndefinedTable, match="comes_and_goes"):
                        one.execute("EXECUTE it")
                    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
                        one.execute("EXECUTE it")
                    one.execute("ROLLBACK")
                    with pytest.raises(psycopg.errors.DivisionByZero):
                        one.execute("SELECT 1/0; EXECUTE it")
                    one.execute("BEGIN")
                    assert _rows(one, "EXECUTE still") == [(7,)]
                    one.execute("COMMIT")
                    one.execute("CREATE TABLE comes_and_goes AS SELECT 2 AS a")
                    assert _rows(one, "EXECUTE it") == [(2,)]
            finally:
                other.execute("DROP TABLE IF EXISTS comes_and_goes")

    await asyncio.to_thread(scenario)


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "in one transaction"])
async def test_a_statement_keeps_the_meaning_it_was_prepared_with(
    gateway: Gateway, together: bool
) -> None:
    def scenario() -> None:
        with _connect(gateway) as one:
            one.execute("SET datestyle = 'ISO, DMY'")
            if together:
                one.execute("BEGIN")
                one.execute("SET LOCAL datestyle = 'ISO, MDY'")
            else:
                one.execute("SET datestyle = 'ISO, MDY'")
            one.execute("PREPARE day AS SELECT '01/02/2020'::date::text")
            if together:
                one.execute("COMMIT")
            else:
                with _others_busy(gateway):
                    one.execute("SET datestyle = 'ISO, DMY'")
            with _others_busy(gateway):
                assert _rows(one, "EXECUTE day") == [("2020-01-02",)]
            assert _pins(gateway) == {"prepared by SQL"}
            one.execute("DEALLOCATE day")
            assert _rows(one, "SELECT 1") == [(1,)]
            assert _pins(gateway) == set()

    await asyncio.to_thread(scenario)


async def test_many_clients_with_the_same_names(gateway: Gateway) -> None:
    def work(number: int) -> None:
        with _connect(gateway) as one:
            for turn in range(15):
                one.execute(f"PREPARE q AS SELECT {number}, {turn}".encode())
                one.execute(f"SET work_mem = '{turn + 1}MB'".encode())
                assert _rows(one, "EXECUTE q") == [(number, turn)]
                assert _rows(one, "SELECT name FROM pg_prepared_statements") == [("q",)]
                one.execute("DEALLOCATE q" if turn % 2 else "DEALLOCATE ALL")
                one.execute("CREATE TEMP TABLE short_lived AS SELECT 5 AS a")
                one.execute("PREPARE q AS SELECT a FROM short_lived")
                one.execute("DROP TABLE short_lived")
                with pytest.raises(psycopg.errors.UndefinedTable):
                    one.execute("EXECUTE q")
                one.execute("DEALLOCATE q")

    def scenario() -> None:
        with ThreadPoolExecutor(6) as threads:
            assert list(threads.map(work, range(6))) == [None] * 6

    await asyncio.to_thread(scenario)
    assert _pins(gateway) == set()


async def test_execute_by_sql_of_what_the_protocol_prepared(gateway: Gateway) -> None:
    """asyncpg names a statement so; it is found on whichever server, and errors call it so."""
    login = gateway.provisioned.owners[0]
    assert login.shard is not None
    direct = await _executes(gateway.provisioned.url(login.shard))
    assert direct[0] == (6, "SELECT 1")
    assert await _executes(gateway.dsn(login.user, login.database)) == direct


async def _executes(url: str) -> list[object]:
    one, *others = [await asyncpg.connect(url) for _ in range(3)]
    blocks = [other.transaction() for other in others]
    outcome: list[object] = []

    async def attempt(sql: str) -> None:
        try:
            outcome.append((await one.fetchval(sql), await one.execute(sql)))
        except asyncpg.PostgresError as error:
            outcome.append((type(error), str(error)))

    texts = (
        'EXECUTE "Two words"(1)',
        " execute  PLAIN ; ",
        "EXECUTE unknown",
        'EXECUTE "PLAIN"',
    )
    await one.execute("CREATE TABLE executed AS SELECT 5 AS a")
    kept = [
        await one.prepare("SELECT a + $1::int FROM executed", name="Two words"),
        await one.prepare("SELECT 7", name="plain"),
    ]
    for sql in texts:
        await attempt(sql)
    for block in blocks:
        await block.start()
    for sql in texts:
        await attempt(sql)
    await one.execute("DROP TABLE executed")
    await attempt('EXECUTE "Two words"(1)')
    for block in blocks:
        await block.rollback()
    await attempt('EXECUTE "Two words"(1)')
    await one.execute('DEALLOCATE "Two words"')
    await attempt('EXECUTE "Two words"(1)')
    assert [statement.get_name() for statement in kept] == ["Two words", "plain"]
    for connection in (one, *others):
        await connection.close()
    return outcome


async def test_who_lists_what_is_prepared_finds_no_others_statements(gateway: Gateway) -> None:
    """Those of the protocol, too: by Query, by a batch, and in a transaction that has failed."""
    listed = "SELECT statement FROM pg_prepared_statements"

    def scenario() -> None:
        with _connect(gateway) as one, _connect(gateway) as other, _others_busy(gateway):
            other.execute("SELECT 1", prepare=True)
            assert _rows(one, listed) == []
            one.execute("SELECT 2", prepare=True)
            assert other.execute(listed, prepare=False, binary=True).fetchall() == []
            other.execute("BEGIN")
            with pytest.raises(psycopg.errors.UndefinedTable):
                other.execute("SELECT 1 FROM nowhere")
            with pytest.raises(psycopg.errors.InFailedSqlTransaction):
                other.execute(listed)
            other.execute("ROLLBACK")
            for connection, value in ((one, 2), (other, 1)):
                rows = connection.execute(f"SELECT {value}", prepare=True).fetchall()
                assert rows == [(value,)]

    await asyncio.to_thread(scenario)

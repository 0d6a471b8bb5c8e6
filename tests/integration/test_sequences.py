"""currval after nextval, on a server that has drawn values for others before."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from tests.integration.conftest import Gateway, StartGateway

Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
async def gateway(start_gateway: StartGateway) -> Gateway:
    """One whose pools have a single connection."""
    return await start_gateway({"pool": {"max": 1}})


def _connect(gateway: Gateway) -> Connection:
    login = gateway.provisioned.owners[0]
    connection: Connection = psycopg.connect(
        gateway.dsn(login.user, login.database), autocommit=True
    )
    return connection


def _value(connection: Connection, sql: str) -> object:
    row = connection.execute(sql.encode()).fetchone()
    assert row is not None
    return row[0]


async def test_trap_currval_knows_what_its_client_drew_and_nothing_else(gateway: Gateway) -> None:
    def scenario() -> None:
        with _connect(gateway) as one:
            one.execute("CREATE SEQUENCE ones")
            one.execute("CREATE SEQUENCE twos START 100")
            try:
                assert _value(one, "SELECT nextval('ones')") == 1
                with _connect(gateway) as two:
                    assert _value(two, "SELECT nextval('twos')") == 100
                    assert _value(two, "SELECT currval('twos')") == 100
                    assert _value(two, "SELECT lastval()") == 100
                    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
                        two.execute("SELECT currval('ones')")
            finally:
                one.execute("DROP SEQUENCE ones, twos")

    await asyncio.to_thread(scenario)


async def test_trap_currval_knows_what_a_columns_default_drew(gateway: Gateway) -> None:
    """The first to ask, too: nothing has told before that clients of this login do."""

    def scenario() -> None:
        with _connect(gateway) as one, _connect(gateway) as two:
            one.execute("CREATE TABLE drawn (id serial, by_whom text)")
            try:
                one.execute("INSERT INTO drawn (by_whom) VALUES ('one')")
                two.execute("INSERT INTO drawn (by_whom) VALUES ('two')")
                assert _value(two, "SELECT currval('drawn_id_seq')") == 2
                assert _value(two, "SELECT lastval()") == 2
            finally:
                two.execute("DROP TABLE drawn")

    await asyncio.to_thread(scenario)


async def test_currval_inside_a_function_is_learnt_of_by_its_error(
    start_gateway: StartGateway,
) -> None:
    """What no text tells: who was told "not yet defined" keeps its server after the next draw."""
    gateway = await start_gateway({"pool": {"max": 3}})

    def scenario() -> None:
        with _connect(gateway) as one, _connect(gateway) as two, _connect(gateway) as three:
            one.execute("CREATE SEQUENCE hidden")
            one.execute(
                "CREATE FUNCTION last_hidden() RETURNS bigint LANGUAGE plpgsql"
                " AS $$ BEGIN RETURN currval('hidden'); END $$"
            )
            try:
                one.execute("SELECT nextval('hidden')")
                two.execute("BEGIN")  # on the server that was used last
                with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
                    one.execute("SELECT last_hidden()")
                assert _value(one, "SELECT nextval('hidden')") == 2
                three.execute("BEGIN")
                assert _value(one, "SELECT last_hidden()") == 2
            finally:
                two.rollback()
                three.rollback()
                one.execute("DROP FUNCTION last_hidden(); DROP SEQUENCE hidden")

    await asyncio.to_thread(scenario)

"""What needs more than one statement, through a service login: cursors, locks, copies and such."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import psycopg
import pytest

from gateway.demo.seed import SeedLogin
from tests.conftest import Provisioned
from tests.integration.conftest import Gateway
from tests.wire import Message, Place, Wire, sqlstate

WHERE = 'SELECT current_database() FROM "Lead" WHERE "userId" = '


@pytest.fixture
def place(gateway: Gateway, service: SeedLogin) -> Place:
    return Place("127.0.0.1", gateway.port, service.user, service.password, "crm")


@pytest.fixture
async def wire(place: Place) -> AsyncIterator[Wire]:
    connection = await Wire.logged_in(place)
    yield connection
    await connection.close()


@pytest.fixture
def law(provisioned: Provisioned) -> str:
    return str(provisioned.owner_on("law").owner)


@pytest.fixture
def dentist(provisioned: Provisioned) -> str:
    return str(provisioned.owner_on("dentist").owner)


def rows(messages: list[Message]) -> list[bytes | None]:
    return [one.cells[0] for one in messages if one.tag == "D"]


async def test_a_cursor_is_fetched_where_it_was_declared(
    wire: Wire, law: str, dentist: str
) -> None:
    await wire.query("BEGIN")
    assert sqlstate(await wire.query(f"DECLARE c CURSOR FOR {WHERE}{law}")) is None
    assert rows(await wire.query("FETCH 1 FROM c")) == [b"crm_law"]
    assert sqlstate(await wire.query(f"{WHERE}{dentist}")) == "0A000"
    await wire.query("ROLLBACK")
    assert await wire.value(f"{WHERE}{dentist} LIMIT 1") == "crm_dentist"


async def test_a_cursor_with_hold_keeps_its_database(wire: Wire, law: str, dentist: str) -> None:
    assert sqlstate(await wire.query(f"DECLARE c CURSOR WITH HOLD FOR {WHERE}{law}")) is None
    assert rows(await wire.query("FETCH 1 FROM c")) == [b"crm_law"]
    refused = await wire.query(f"{WHERE}{dentist}")
    assert sqlstate(refused) == "0A000"
    assert "held by" in refused[0].fields["M"]
    assert sqlstate(await wire.query("CLOSE c")) is None
    assert await wire.value(f"{WHERE}{dentist} LIMIT 1") == "crm_dentist"


async def test_sessions_of_different_owners_hear_each_other(
    place: Place, gateway: Gateway, service: SeedLogin, law: str
) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    listener = await asyncpg.connect(gateway.dsn(service.user, "crm"))
    sender = await Wire.logged_in(place)
    try:
        await listener.add_listener("leads", lambda *said: heard.put_nowait(str(said[-1])))
        assert await sender.value(f"{WHERE}{law} LIMIT 1") == "crm_law"
        assert sqlstate(await sender.query("NOTIFY leads, 'new'")) is None
        async with asyncio.timeout(10):
            assert await heard.get() == "new"
    finally:
        await sender.close()
        await listener.close()


async def test_an_advisory_lock_is_one_lock_for_all(
    wire: Wire, place: Place, law: str, dentist: str
) -> None:
    other = await Wire.logged_in(place)
    try:
        assert await wire.value(f"{WHERE}{law} LIMIT 1") == "crm_law"
        assert await other.value(f"{WHERE}{dentist} LIMIT 1") == "crm_dentist"
        assert await wire.value("SELECT pg_try_advisory_lock(4711)") == "t"
        assert await other.value("SELECT pg_try_advisory_lock(4711)") == "f"
        assert await wire.value("SELECT pg_advisory_unlock(4711)") == "t"
        assert await other.value("SELECT pg_try_advisory_lock(4711)") == "t"
        assert await other.value("SELECT pg_advisory_unlock(4711)") == "t"
        assert await other.value(f"{WHERE}{law} LIMIT 1") == "crm_law"
    finally:
        await other.close()


async def test_a_temporary_table_is_where_its_owner_is(wire: Wire, law: str, dentist: str) -> None:
    assert sqlstate(await wire.query("CREATE TEMP TABLE mine (a int)")) == "0A000"
    assert sqlstate(await wire.query(f"/* owner='{law}' */ CREATE TEMP TABLE mine (a int)")) is None
    assert sqlstate(await wire.query("INSERT INTO mine VALUES (7)")) is None
    assert await wire.value(f'SELECT count(*) FROM mine, "Lead" WHERE "userId" = {law}') != "0"
    assert sqlstate(await wire.query(f"{WHERE}{dentist}")) == "0A000"
    assert sqlstate(await wire.query("DROP TABLE mine")) is None
    assert await wire.value(f"{WHERE}{dentist} LIMIT 1") == "crm_dentist"


async def test_copies_go_where_it_is_said(
    gateway: Gateway, provisioned: Provisioned, service: SeedLogin, law: str
) -> None:
    dsn = gateway.dsn(service.user, "crm")
    copy = 'COPY "Lead" ("userId", "name", "email") FROM STDIN'
    direct = await asyncpg.connect(provisioned.url("law"))
    connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    try:
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            async with connection.cursor().copy(copy) as rows_in:
                await rows_in.write_row((int(law), "copied", "c@example.com"))
        async with connection.cursor().copy(f"/* owner='{law}' */ {copy}") as rows_in:
            for _ in range(3):
                await rows_in.write_row((int(law), "copied", "c@example.com"))
        assert await direct.fetchval('SELECT count(*) FROM "Lead" WHERE "name" = \'copied\'') == 3
        out = f'COPY (SELECT 1 FROM "Lead" WHERE "userId" = {law} AND name = \'copied\') TO STDOUT'
        async with connection.cursor().copy(out) as rows_out:
            assert [bytes(row) async for row in rows_out] == [b"1\n"] * 3
    finally:
        await direct.execute('DELETE FROM "Lead" WHERE "name" = \'copied\'')
        await direct.close()
        await connection.close()


async def test_large_objects_are_of_the_owner_that_is_said(
    wire: Wire, law: str, dentist: str
) -> None:
    assert await wire.value(f"{WHERE}{law} LIMIT 1") == "crm_law"
    for text in ("SELECT lo_from_bytea(0, 'x')", "SELECT lo_get(1)", "SELECT lo_unlink(1)"):
        assert sqlstate(await wire.query(text)) == "0A000", text
    made = await wire.value(f"/* owner='{law}' */ SELECT lo_from_bytea(0, 'theirs')")
    try:
        assert (
            sqlstate(await wire.query(f"/* owner='{dentist}' */ SELECT lo_get({made})")) == "42704"
        )
        await wire.query("BEGIN")
        assert await wire.value(f"{WHERE}{law} LIMIT 1") == "crm_law"
        assert await wire.value(f"SELECT convert_from(lo_get({made}), 'UTF8')") == "theirs"
        await wire.query("COMMIT")
    finally:
        await wire.query(f"/* owner='{law}' */ SELECT lo_unlink({made})")

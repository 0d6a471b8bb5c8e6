"""A temporary table hides a table of the same name, whoever had temporary tables there before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from gateway.protocol.messages import SYNC
from gateway.worker import Worker
from tests.conftest import Provisioned
from tests.running import changed, place, rest, running
from tests.wire import Place, Wire, bind, execute, parse_

SHARD = "technology"
SELECT = "SELECT a FROM hidden"
PUBLIC, TEMPORARY = [[b"1"]], [[b"2"]]
WAYS = {
    "by its name": "CREATE TEMP TABLE hidden AS SELECT 2 AS a",
    "by SELECT INTO": "SELECT 2 AS a INTO TEMP hidden",
    "by a view": "CREATE TEMP VIEW hidden AS SELECT 2 AS a",
    "by DO": "DO $$BEGIN CREATE TEMP TABLE hidden AS SELECT 2 AS a; END$$",
    "by a function": "SELECT hide()",
}


@pytest.fixture(scope="module")
async def gateway(provisioned: Provisioned) -> AsyncIterator[Worker]:
    async with running(changed(provisioned.settings, pool={"max": 1})) as worker:
        yield worker
        await rest(worker)


@pytest.fixture
async def where(provisioned: Provisioned, gateway: Worker) -> AsyncIterator[Place]:
    """The gateway, before one server whose process has had a temporary table."""
    made = (
        "CREATE TABLE hidden (a int); INSERT INTO hidden VALUES (1);"
        "CREATE FUNCTION hide() RETURNS void LANGUAGE plpgsql AS"
        " $$BEGIN CREATE TEMP TABLE hidden AS SELECT 2 AS a; END$$"
    )
    connection = await asyncpg.connect(provisioned.url(SHARD))
    await connection.execute(made)
    there = place(gateway, provisioned.owner_on(SHARD))
    async with client(there) as earlier:
        await earlier.query("CREATE TEMP TABLE past (); DROP TABLE past")
    yield there
    await connection.execute("DROP TABLE hidden; DROP FUNCTION hide()")
    await connection.close()


@asynccontextmanager
async def client(where: Place) -> AsyncIterator[Wire]:
    wire = await Wire.logged_in(where)
    try:
        yield wire
    finally:
        await wire.close()


async def rows(wire: Wire, *before: bytes) -> list[list[bytes | None]]:
    """Of the statement ``mine``, after what is to be sent before."""
    wire.send(*before, bind("mine"), execute(), SYNC)
    return [one.cells for one in await wire.until("Z") if one.tag == "D"]


@pytest.mark.parametrize("way", WAYS)
async def test_from_statements_prepared_before(way: str, where: Place) -> None:
    async with client(where) as wire:
        assert await rows(wire, parse_("mine", SELECT)) == PUBLIC
        await wire.query(WAYS[way])
        assert await rows(wire) == TEMPORARY


@pytest.mark.parametrize("way", WAYS)
async def test_from_texts_that_others_have_prepared(way: str, where: Place) -> None:
    async with client(where) as other:
        assert await rows(other, parse_("mine", SELECT)) == PUBLIC
    async with client(where) as wire:
        await wire.query(WAYS[way])
        assert await rows(wire, parse_("mine", SELECT)) == TEMPORARY


@pytest.mark.parametrize("way", [way for way in WAYS if way != "by a function"])
async def test_from_such_texts_in_the_same_transaction(way: str, where: Place) -> None:
    async with client(where) as other:
        assert await rows(other, parse_("mine", SELECT)) == PUBLIC
    async with client(where) as wire:
        await wire.query("BEGIN")
        await wire.query(WAYS[way])
        assert await rows(wire, parse_("mine", SELECT)) == TEMPORARY

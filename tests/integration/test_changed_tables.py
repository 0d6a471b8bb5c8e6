"""Statements prepared before their tables changed: the same is told on whichever server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from gateway.protocol import messages
from gateway.worker import Worker
from tests.conftest import Provisioned
from tests.running import changed, place, rest, running
from tests.wire import Message, Place, Wire, bind, close_, describe, execute, parse_, transcript

SHARD = "technology"
SYNC = messages.SYNC
SELECT = "SELECT * FROM altered"
CHANGES = {
    "another column": "ALTER TABLE altered ADD COLUMN b int",
    "another type": "ALTER TABLE altered ALTER COLUMN a TYPE bigint",
    "another name": "ALTER TABLE altered RENAME COLUMN a TO z",
    "another table of the same shape": "DROP TABLE altered; CREATE TABLE altered (a int)",
    "an index": "CREATE INDEX ON altered (a)",
    "another table altogether": "CREATE TABLE altered_2 (); DROP TABLE altered_2",
    "none any more": "DROP TABLE altered",
    "nothing": "SELECT 1",
}


@pytest.fixture(scope="module")
async def gateway(provisioned: Provisioned) -> AsyncIterator[Worker]:
    async with running(changed(provisioned.settings, pool={"max": 3})) as worker:
        yield worker
        await rest(worker)


@pytest.fixture
def places(provisioned: Provisioned, gateway: Worker) -> list[Place]:
    """PostgreSQL itself, then the gateway."""
    return [
        Place.of(provisioned.url(SHARD)),
        place(gateway, provisioned.owner_on(SHARD)),
    ]


@asynccontextmanager
async def elsewhere(where: Place, wire: Wire) -> AsyncIterator[None]:
    """Two of three servers are taken, the one that ``wire`` used last among them."""
    others = [await Wire.logged_in(where) for _ in range(2)]
    for other in others:
        await other.query("BEGIN")
    try:
        yield
    finally:
        for other in others:
            await other.close()


def _shown(heard: list[Message]) -> list[object]:
    """Without what differs from run to run: numbers of tables, lines of the server's source.

    Nor what PostgreSQL tells of a statement's parameters before it refuses to tell more.
    """
    shown: list[object] = []
    for one in heard:
        if one.tag == "E":
            if shown and shown[-1] == ("t", bytes(2)):
                shown.pop()
            shown.append({code: text for code, text in one.fields.items() if code != "L"})
        elif one.tag == "T":
            count = int.from_bytes(one.body[:2], "big")
            shown.append(("T", count))
        else:
            shown.append((one.tag, one.body))
    return shown


@pytest.mark.parametrize(
    ("name", "described"),
    [("old", "statement"), ("old", "portal"), ("old", "never"), ("", "statement"), ("", "portal")],
)
@pytest.mark.parametrize("change", CHANGES)
async def test_a_statement_from_before(
    change: str, name: str, described: str, places: list[Place]
) -> None:
    async def script(wire: Wire) -> None:
        async def run() -> None:
            wire.send(bind(name), describe("P"), execute(), SYNC)
            await wire.until("Z")

        other = await Wire.logged_in(where)
        await other.query("DROP TABLE IF EXISTS altered; CREATE TABLE altered (a int)")
        await other.query("INSERT INTO altered VALUES (1)")
        if described == "statement":
            wire.send(parse_(name, SELECT), describe("S", name), SYNC)
            await wire.until("Z")
        elif described == "portal":
            wire.send(parse_(name, SELECT), bind(name), describe("P"), execute(), SYNC)
            await wire.until("Z")
        else:
            wire.send(parse_(name, SELECT), SYNC)
            await wire.until("Z")
        await other.query(CHANGES[change])
        async with elsewhere(where, wire):
            for _ in range(2):
                await run()
            if name:
                wire.send(describe("S", name), SYNC)
                await wire.until("Z")
                await wire.query("BEGIN")
                await run()
                await wire.query("SELECT 1")
                await wire.query("ROLLBACK")
                wire.send(close_("S", name), parse_(name, SELECT), SYNC)
                await wire.until("Z")
                await run()
        await run()
        wire.send(close_("S", name), SYNC)
        await wire.until("Z")
        await other.query("DROP TABLE IF EXISTS altered")
        await other.close()

    told = {}
    for where in places:
        told[where] = _shown(await transcript(where, script))
    direct, through = told.values()
    assert through == direct


async def test_a_driver_that_remembers_columns_recovers(
    gateway: Worker, provisioned: Provisioned
) -> None:
    """asyncpg reads rows by what it was told at first; it knows the error and prepares again."""
    here = place(gateway, provisioned.owner_on(SHARD))
    one, *others = [
        await asyncpg.connect(
            host=here.host,
            port=here.port,
            user=here.user,
            password=here.password,
            database=here.database,
        )
        for _ in range(3)
    ]
    try:
        await one.execute("CREATE TABLE altered AS SELECT 1 AS a")
        assert [tuple(row) for row in await one.fetch(SELECT)] == [(1,)]
        await one.execute("ALTER TABLE altered ADD COLUMN b text DEFAULT 'x'")
        blocks = [other.transaction() for other in others]
        for block in blocks:
            await block.start()
        assert [tuple(row) for row in await one.fetch(SELECT)] == [(1, "x")]
        for block in blocks:
            await block.rollback()
    finally:
        await one.execute("DROP TABLE altered")
        await asyncio.gather(*(connection.close() for connection in (one, *others)))

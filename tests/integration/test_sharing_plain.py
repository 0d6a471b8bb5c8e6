"""What reads more than a table gets in no line: it may write, and would have to be sent twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from gateway.pool.pool import Pool
from gateway.protocol import messages
from tests.conftest import FreshDatabase, Provisioned
from tests.running import (
    changed,
    eventually,
    knows_its_tables,
    moved,
    past_the_gateway,
    place,
    pool_of,
    rest,
    running,
)
from tests.wire import Wire

TABLES = (
    "CREATE TABLE item AS SELECT n AS id, 'item ' || n AS name FROM generate_series(1, 9) n",
    "CREATE TABLE seen (id int)",
    "CREATE FUNCTION see(int) RETURNS int LANGUAGE sql VOLATILE AS"
    " 'INSERT INTO seen VALUES ($1) RETURNING 1'",
    "CREATE FUNCTION sees(a int, b int) RETURNS bool LANGUAGE sql VOLATILE AS"
    " 'INSERT INTO seen VALUES ($1) RETURNING $1 = $2'",
)
VIEW = "CREATE VIEW looked AS SELECT id, see(id) FROM item WHERE id = 3"
PLAIN = "SELECT name FROM item WHERE id = 3"
WAYS = {
    "a view": (
        (VIEW,),
        "SELECT id FROM (SELECT id, see FROM looked OFFSET 0) AS one",
    ),
    "a view of a view": (
        (VIEW, "CREATE VIEW again AS SELECT * FROM looked"),
        "SELECT id, see FROM again",
    ),
    "a policy": (
        (
            "CREATE POLICY looks ON item USING (see(id) = 1 AND id = 3)",
            "ALTER TABLE item ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        ),
        "SELECT id FROM item",
    ),
    "a row's function": (
        ("CREATE FUNCTION cost(item) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT see($1.id)'",),
        "SELECT item.cost FROM item WHERE id = 3",
    ),
    "an operator": (
        ("CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = sees)",),
        "SELECT id FROM item WHERE id === 3 AND id = 3",
    ),
}


class Lane:
    """A gateway whose database has one server, and three clients."""

    def __init__(self, url: str, pool: Pool, holder: Wire, wires: list[Wire]) -> None:
        self.url = url
        self.pool = pool
        self.holder = holder
        self._wires = wires

    async def rides(self, text: str) -> int:
        """How many get in line behind a plain read of the first, if they ask this."""
        before = self.pool.counters.rides
        await self.holder.query("BEGIN")
        for waiting, wire in enumerate(self._wires):
            wire.send(messages.query(text if waiting else PLAIN))
            await eventually(lambda at=waiting: len(self.pool.core.queue) == at + 1)  # type: ignore[misc]
        await self.holder.query("COMMIT")
        for wire in self._wires:
            assert "E" not in {one.tag for one in await wire.until("Z")}
        return self.pool.counters.rides - before


@pytest.fixture(params=[""])
async def lane(
    provisioned: Provisioned, fresh_database: FreshDatabase, request: pytest.FixtureRequest
) -> AsyncIterator[Lane]:
    url = await fresh_database("plain")
    for sql in (*TABLES, *(WAYS[request.param][0] if request.param else ())):
        await past_the_gateway(url, sql)
    pool = {"max": 1, "share_depth": 8, "share_ms": 1000.0}
    settings = moved(changed(provisioned.settings, pool=pool), "LAW", url)
    async with running(settings) as worker:
        where = place(worker, provisioned.owner_on("law"))
        wires = [await Wire.logged_in(where) for _ in range(4)]
        for text in (PLAIN, *(text for _, text in WAYS.values())):
            timing = worker.context.facts.facts(text.encode()).timing
            assert timing is not None, "it would be in no line anyway"
            for _ in range(8):
                timing.took(0.0)
        await knows_its_tables(worker, url, where)
        yield Lane(url, pool_of(worker, url), wires[0], wires[1:])
        for wire in wires:
            await wire.close()
        await rest(worker)


@pytest.mark.parametrize(("lane", "text"), [(way, WAYS[way][1]) for way in WAYS], indirect=["lane"])
async def test_what_may_write_by(lane: Lane, text: str) -> None:
    assert await lane.rides(text) == 0


async def test_reads_of_tables_get_in_line(lane: Lane) -> None:
    assert await lane.rides(PLAIN) == 2


async def test_a_view_made_through_the_gateway_is_known_when_it_is_there(lane: Lane) -> None:
    text = WAYS["a view"][1]
    await lane.holder.query(VIEW)
    assert await lane.rides(text) == 0, "it is asked anew before any line is formed"
    for _ in range(100):
        if await lane.rides(PLAIN) == 2:
            break
        await asyncio.sleep(0.05)
    else:
        pytest.fail("no lines are formed any more")
    assert await lane.rides(text) == 0


async def test_no_lines_and_no_wait_where_the_server_does_not_answer(lane: Lane) -> None:
    plain = lane.pool.sharing.plain
    await lane.holder.query("ALTER TABLE seen ADD COLUMN more int")
    admin = await asyncpg.connect(lane.url)
    async with admin.transaction():
        await admin.execute("LOCK TABLE pg_catalog.pg_depend")
        plain.wanted = True
        async with asyncio.timeout(10):
            for _ in range(3):
                assert await lane.rides(PLAIN) == 0
    assert not plain.wanted
    await admin.close()

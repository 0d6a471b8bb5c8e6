"""``/* scatter */``: one read asked of every industry's databases, rows one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from gateway.pool.core import ServerState
from gateway.router.identity import LoginKind
from tests.conftest import Provisioned
from tests.integration.conftest import Gateway, until
from tests.wire import Message, Place, Wire, parse_, run

SYNC = b"S\0\0\0\4"
COUNT = 'SELECT current_database() AS here, count(*)::int AS leads FROM "Lead"'


def place_of(gateway: Gateway, kind: LoginKind) -> Place:
    login = next(one for one in gateway.provisioned.logins.values() if one.kind is kind)
    return Place("127.0.0.1", gateway.port, login.user, login.password, "meta")


@pytest.fixture(params=[LoginKind.SERVICE, LoginKind.OPERATOR])
async def wire(gateway: Gateway, request: pytest.FixtureRequest) -> AsyncIterator[Wire]:
    connection = await Wire.logged_in(place_of(gateway, request.param))
    yield connection
    await connection.close()


async def counts(provisioned: Provisioned) -> dict[bytes, bytes]:
    found = {}
    for shard in provisioned.snapshot.shards:
        if shard != "meta":
            direct = await asyncpg.connect(provisioned.url(shard))
            row = await direct.fetchrow(COUNT)
            await direct.close()
            assert row is not None
            found[row[0].encode()] = str(row[1]).encode()
    return found


def cells(messages: list[Message]) -> list[list[bytes | None]]:
    return [one.cells for one in messages if one.tag == "D"]


async def test_all_databases_answer_as_one(wire: Wire, provisioned: Provisioned) -> None:
    expected = await counts(provisioned)
    text = f"/* scatter */ {COUNT}"
    wire.send(run(text) + SYNC)
    for messages in (await wire.until("Z"), await wire.query(text)):
        assert {row[0]: row[1] for row in cells(messages)} == expected
        once = "".join(one.tag for one in messages if one.tag != "D")
        assert once.removeprefix("12").removeprefix("T") == "CZ"
        complete = next(one for one in messages if one.tag == "C")
        assert complete.body == b"SELECT %d\0" % len(expected)
    assert await wire.value("SELECT 1") == "1"


async def test_a_column_says_where_a_row_is_from(wire: Wire) -> None:
    messages = await wire.query(f"/* scatter source='shard' */ {COUNT}")
    for here, _, shard in cells(messages):
        assert here == b"crm_" + (shard or b"")
    described = next(one for one in messages if one.tag == "T")
    assert b"shard\0" in described.body
    one = await wire.query(f"/* scatter source='shard', industry='medical' */ {COUNT}")
    assert sorted(row[2] or b"" for row in cells(one)) == [b"medical_1", b"medical_2"]


async def test_an_error_of_one_is_the_answer_of_all(wire: Wire) -> None:
    messages = await wire.query("/* scatter */ SELECT 1 / (current_database() <> 'crm_law')::int")
    assert [one.fields["C"] for one in messages if one.tag == "E"] == ["22012"]
    assert messages[-1].body == b"I"
    assert await wire.value("SELECT 1") == "1"


@pytest.mark.parametrize(
    "text",
    [
        'DELETE FROM "Lead"',
        'SELECT * FROM "Lead" FOR UPDATE',
        "SELECT 1; SELECT nextval('x')",
    ],
)
async def test_only_reads_are_scattered(wire: Wire, text: str) -> None:
    messages = await wire.query(f"/* scatter */ {text}")
    assert messages[0].fields["C"] == "0A000"
    assert messages[-1].body == b"I"


async def test_a_named_statement_is_not_scattered(wire: Wire) -> None:
    wire.send(parse_("s", f"/* scatter */ {COUNT}") + SYNC)
    messages = await wire.until("Z")
    assert messages[0].fields["C"] == "0A000"


async def test_cancel_reaches_all_of_them(gateway: Gateway) -> None:
    wire = await Wire.logged_in(place_of(gateway, LoginKind.SERVICE))
    waiting = asyncio.create_task(
        wire.query(
            "/* scatter industry='medical' */ SELECT count(*) FROM generate_series(1, 90000000)"
        )
    )
    session = next(iter(gateway.worker.context.registry))
    try:
        await until(lambda: busy(gateway) >= 2)
        # As with PostgreSQL: one that comes before its server has begun is forgotten.
        while not waiting.done():
            session.cancel()
            await asyncio.wait([waiting], timeout=0.5)
        messages = await waiting
        assert messages[-2].fields["C"] == "57014"
        assert await wire.value("SELECT 1") == "1"
    finally:
        await wire.close()
    await until(lambda: not busy(gateway))


async def test_a_client_that_leaves_takes_its_reads_along(gateway: Gateway) -> None:
    wire = await Wire.logged_in(place_of(gateway, LoginKind.SERVICE))
    text = b"/* scatter industry='medical' */ SELECT generate_series(1, 9000000)\0"
    wire.send(b"Q" + (len(text) + 4).to_bytes(4, "big") + text)
    await wire.sent()
    await until(lambda: busy(gateway) >= 2)
    wire.rst()
    await until(lambda: not busy(gateway), 15)


def busy(gateway: Gateway) -> int:
    pools = list(gateway.worker.context.pools)
    states = (ServerState.BUSY, ServerState.CLEANING)
    return sum(pool.core.count(state) for pool in pools for state in states)

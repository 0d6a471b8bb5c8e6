"""Work that was routed by what is no longer true is refused by the database, and goes elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from gateway.router.identity import LoginKind
from tests.conftest import Provisioned
from tests.integration.conftest import Gateway
from tests.wire import Place, Wire, bind, execute, parse_, run, sqlstate

SYNC = b"S\0\0\0\4"


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def next_epoch(provisioned: Provisioned, owner: int) -> int:
    async with connected(provisioned.url("meta")) as meta:
        found = await meta.fetchval("SELECT epoch FROM gateway.owner WHERE id = $1", str(owner))
        return int(found) + 1


async def move(provisioned: Provisioned, owner: int, shard: str) -> None:
    """The owner moves from medical_1, without any gateway hearing of it."""
    epoch = await next_epoch(provisioned, owner)
    await fence(provisioned, "medical_1", owner, epoch, False)
    async with connected(provisioned.url("meta")) as meta:
        await meta.execute("SET session_replication_role = replica")
        await meta.execute(
            "INSERT INTO gateway.placement (owner_id, shard, epoch) VALUES ($1, $2, $3)"
            " ON CONFLICT (owner_id) DO UPDATE SET shard = $2, epoch = $3",
            str(owner),
            shard,
            epoch,
        )


async def fence(provisioned: Provisioned, shard: str, owner: int, epoch: int, here: bool) -> None:
    async with connected(provisioned.url(shard)) as database:
        await database.execute("SELECT gateway.fence($1, $2, $3)", str(owner), epoch, here)


async def notes(provisioned: Provisioned, shard: str) -> int:
    async with connected(provisioned.url(shard)) as database:
        found = await database.fetchval('SELECT count(*) FROM "Note" WHERE "body" = \'moved\'')
        assert isinstance(found, int)
        return found


INSERT = 'INSERT INTO "Note" ("userId", "body") VALUES ({}, \'moved\')'


async def user_in(provisioned: Provisioned, shard: str, owner: int) -> None:
    """The users of an industry are in all of its databases."""
    async with connected(provisioned.url(shard)) as database:
        await database.execute(
            'INSERT INTO "User" ("id", "email", "name", "industry") VALUES'
            " ($1, 'moved' || $1::int, 'moved', 'MEDICAL') ON CONFLICT DO NOTHING",
            owner,
        )


@pytest.fixture
async def owner(provisioned: Provisioned) -> AsyncIterator[int]:
    """An owner of medical_1, who is back there afterwards."""
    number = int(provisioned.owner_on("medical_1").owner or 0)
    yield number
    async with connected(provisioned.url("meta")) as meta:
        await meta.execute("DELETE FROM gateway.placement WHERE owner_id = $1", str(number))
    for shard in ("medical_1", "medical_2"):
        async with connected(provisioned.url(shard)) as database:
            await database.execute('DELETE FROM "Note" WHERE "body" = \'moved\'')
            await database.execute(
                "DELETE FROM gateway.placement_epoch WHERE owner_id = $1", str(number)
            )
            await database.execute('DELETE FROM "User" WHERE "name" = \'moved\'')


async def login(gateway: Gateway, provisioned: Provisioned, kind: LoginKind) -> Wire:
    one = provisioned.owner_on("medical_1")
    if kind is LoginKind.SERVICE:
        one = next(each for each in provisioned.logins.values() if each.kind is kind)
    return await Wire.logged_in(Place("127.0.0.1", gateway.port, one.user, one.password, "crm"))


@pytest.mark.parametrize("kind", [LoginKind.OWNER, LoginKind.SERVICE])
@pytest.mark.parametrize("how", ["query", "extended", "transaction", "prepared"])
async def test_a_stale_route_costs_a_retry_or_a_true_error(
    gateway: Gateway, provisioned: Provisioned, owner: int, kind: LoginKind, how: str
) -> None:
    wire = await login(gateway, provisioned, kind)
    await user_in(provisioned, "medical_2", owner)
    text = INSERT.format(owner)
    assert sqlstate(await wire.query(text)) is None
    assert await notes(provisioned, "medical_1") == 1
    wire.send(parse_("s", text) + SYNC)
    await wire.until("Z")
    await move(provisioned, owner, "medical_2")
    if how == "query":
        messages = await wire.query(text)
    elif how == "extended":
        wire.send(run(text) + SYNC)
        messages = await wire.until("Z")
    elif how == "prepared":
        wire.send(bind("s") + execute() + SYNC)
        messages = await wire.until("Z")
    else:
        await wire.query("BEGIN")
        messages = await wire.query(text)
    if how == "transaction" and kind is LoginKind.OWNER:
        assert (sqlstate(messages), messages[-1].body) == ("40001", b"E")
        await wire.query("ROLLBACK")
        messages = await wire.query(text)
    assert sqlstate(messages) is None, messages
    done = [one.body for one in messages if one.tag == "C"]
    assert done == [b"INSERT 0 1\0"]
    if how == "transaction":
        await wire.query("COMMIT")
    assert await notes(provisioned, "medical_1") == 1
    assert await notes(provisioned, "medical_2") == 1
    await wire.close()


async def test_a_database_that_knows_better_than_the_meta_database_is_believed(
    gateway: Gateway, provisioned: Provisioned, owner: int
) -> None:
    """The owner is nowhere yet: one retry, then the error; never a loop."""
    wire = await login(gateway, provisioned, LoginKind.OWNER)
    epoch = await next_epoch(provisioned, owner)
    await fence(provisioned, "medical_1", owner, epoch, False)
    messages = await wire.query(INSERT.format(owner))
    assert (sqlstate(messages), messages[-1].body) == ("40001", b"I")
    assert await wire.value("SELECT 1") == "1"
    assert await notes(provisioned, "medical_1") == 0
    await wire.close()


async def test_an_operator_writes_without_a_stamp(
    gateway: Gateway, provisioned: Provisioned, owner: int
) -> None:
    epoch = await next_epoch(provisioned, owner)
    await fence(provisioned, "medical_1", owner, epoch, False)
    one = next(each for each in provisioned.logins.values() if each.kind is LoginKind.OPERATOR)
    place = Place("127.0.0.1", gateway.port, one.user, one.password, "medical_1")
    wire = await Wire.logged_in(place)
    assert sqlstate(await wire.query(INSERT.format(owner))) is None
    await wire.close()


async def test_clients_may_not_stamp_their_work_themselves(
    gateway: Gateway, provisioned: Provisioned, owner: int
) -> None:
    for kind in (LoginKind.OWNER, LoginKind.SERVICE):
        wire = await login(gateway, provisioned, kind)
        for text in ("SET gateway.stamp = ''", "SELECT set_config('gateway.stamp', '', false)"):
            assert sqlstate(await wire.query(text)) == "42501"
        await wire.close()

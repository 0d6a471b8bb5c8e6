"""Stamped work: refused when its owner has moved, checked at little cost, and never in the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import asyncpg
import pytest

from gateway.demo.postgres import Cluster
from gateway.migrate.connect import Connection, connect, connected
from gateway.migrate.plan import plans
from gateway.migrate.provision import Options, provision
from gateway.settings.model import Settings

LEAD = """INSERT INTO "Lead" ("userId", "name", "email") VALUES ($1, 'L', 'l@x')"""


@dataclass(slots=True)
class Shard:
    """An industry database, and how to open sessions on it."""

    settings: Settings
    stack: AsyncExitStack

    async def session(self, stamp: str | None = None) -> Connection:
        connection = await connect(plans(self.settings)[1].dsn)
        self.stack.push_async_callback(connection.close)
        if stamp is not None:
            await connection.execute("SELECT set_config('gateway.stamp', $1, false)", stamp)
        return connection


@pytest.fixture(scope="module")
def settings(postgres: Cluster) -> Settings:
    return Settings.model_validate(
        {
            "meta": {"primary": postgres.dsn("stamps_meta")},
            "industries": {"LAW": {"shards": [{"primary": postgres.dsn("stamps_law")}]}},
        }
    )


@pytest.fixture
async def shard(settings: Settings) -> AsyncIterator[Shard]:
    await provision(settings, report=lambda line: None)
    async with AsyncExitStack() as stack:
        one = Shard(settings, stack)
        operator = await one.session()
        await operator.execute(
            """TRUNCATE "User", gateway.placement_epoch CASCADE;
               INSERT INTO "User" VALUES (1, 'a@x', 'A', 'LAW'), (2, 'b@x', 'B', 'LAW')"""
        )
        yield one


async def refused(session: Connection, statement: str, *values: object) -> asyncpg.PostgresError:
    with pytest.raises(asyncpg.PostgresError) as caught:
        await session.execute(statement, *values)
    return caught.value


async def test_stale_work_is_refused_and_fresh_work_is_not(shard: Shard) -> None:
    operator = await shard.session()
    await operator.execute("SELECT gateway.learn_epoch('1', 5, true)")
    stale = await shard.session("4:1")
    for statement in (
        LEAD.replace("$1", "1"),
        'UPDATE "Lead" SET "score" = 1 WHERE false',
        'DELETE FROM "Lead"',
        """INSERT INTO "Case" ("userId", "number", "title", "openedOn")
           VALUES (1, 'n', 't', 'now')""",
        """MERGE INTO "Lead" l USING (VALUES (1)) AS v (id) ON l."id" = v.id
           WHEN MATCHED THEN DELETE""",
        """WITH gone AS (DELETE FROM "Lead" RETURNING 1) SELECT count(*) FROM gone""",
    ):
        error = await refused(stale, statement)
        assert error.sqlstate == "RG001", statement
    assert 'owner "1" has moved' in str(error)
    assert await stale.fetchval('SELECT count(*) FROM "Lead"') == 0
    for stamp in ("5:1", "6:1", "0:2", ""):
        session = await shard.session(stamp)
        await session.execute(LEAD, 1)
    await operator.execute(LEAD, 1)
    assert await operator.fetchval('SELECT count(*) FROM "Lead"') == 5


async def test_copy_is_work_too(shard: Shard) -> None:
    operator = await shard.session()
    await operator.execute("SELECT gateway.learn_epoch('1', 5, true)")
    stale = await shard.session("4:1")
    with pytest.raises(asyncpg.PostgresError) as caught:
        await stale.copy_records_to_table(
            "Lead", records=[(1, "L", "l@x")], columns=["userId", "name", "email"]
        )
    assert caught.value.sqlstate == "RG001"


async def test_news_never_go_back(shard: Shard) -> None:
    operator = await shard.session()
    for epoch in (5, 3, 5):
        await operator.execute("SELECT gateway.learn_epoch('1', $1, true)", epoch)
    assert await operator.fetchval("SELECT epoch FROM gateway.placement_epoch") == 5


@pytest.mark.parametrize("stamp", ["x", "1", ":1", "1:", "-1:1", "1234567890123456789:1"])
async def test_a_malformed_stamp_is_refused(shard: Shard, stamp: str) -> None:
    session = await shard.session(stamp)
    for statement in (LEAD.replace("$1", "1"), 'DELETE FROM "Lead"'):
        assert (await refused(session, statement)).sqlstate == "RG002", statement


async def test_an_owner_id_may_hold_anything(shard: Shard) -> None:
    operator = await shard.session()
    owner = "a:b'c é"
    await operator.execute("SELECT gateway.learn_epoch($1, 2, true)", owner)
    session = await shard.session(f"1:{owner}")
    assert (await refused(session, 'DELETE FROM "Lead"')).sqlstate == "RG001"


async def test_who_lives_elsewhere_is_refused_at_the_same_epoch_too(shard: Shard) -> None:
    operator = await shard.session()
    await operator.execute("SELECT gateway.learn_epoch('1', 5, false)")
    for stamp, state in (("5:1", "RG001"), ("6:1", None)):
        session = await shard.session(stamp)
        if state is None:
            await session.execute(LEAD, 1)
        else:
            assert (await refused(session, LEAD, 1)).sqlstate == state


async def test_a_fence_waits_for_work_that_runs_and_stops_what_comes(shard: Shard) -> None:
    """What a move relies on: when the fence is up, no write of an older epoch is still to come."""
    worker, late, mover = [await shard.session(stamp) for stamp in ("0:1", "0:1", None)]
    transaction = worker.transaction()
    await transaction.start()
    await worker.execute(LEAD, 1)
    fence = asyncio.ensure_future(mover.execute("SELECT gateway.fence('1', 1)"))
    await asyncio.sleep(0.2)
    assert not fence.done()
    other = await shard.session("0:2")
    await other.execute(LEAD, 2)
    late_work = asyncio.ensure_future(refused(late, LEAD, 1))
    await asyncio.sleep(0.1)
    assert not late_work.done()
    await transaction.commit()
    await fence
    assert (await late_work).sqlstate == "RG001"
    # Called off: the next epoch lets the owner in again.
    await mover.execute("SELECT gateway.fence('1', 2, true)")
    await (await shard.session("2:1")).execute(LEAD, 1)
    assert (await refused(late, LEAD, 1)).sqlstate == "RG001"


UPDATE = 'UPDATE "Lead" SET "score" = 1 WHERE "userId" = $1'


async def checks(session: Connection) -> int:
    """How often the check has run in this transaction."""
    found = await session.fetchval(
        "SELECT sum(calls)::int FROM pg_stat_xact_user_functions WHERE funcname = 'check_stamp'"
    )
    return found or 0


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ([LEAD, LEAD, UPDATE, LEAD], 1),
        ([UPDATE, UPDATE, 'DELETE FROM "Lead" WHERE "userId" = $1', UPDATE], 1),
        # The first INSERT looks for the user.
        ([UPDATE, UPDATE, LEAD, LEAD, UPDATE], 2),
    ],
)
async def test_a_transaction_is_checked_once(
    shard: Shard, statements: list[str], expected: int
) -> None:
    session, operator = await shard.session("0:1"), await shard.session()
    await session.execute("SET track_functions = 'pl'")
    async with session.transaction():
        for statement in statements:
            await session.execute(statement, 1)
        assert await checks(session) == expected
    # What is used up was one transaction's: the next one is checked.
    await operator.execute("SELECT gateway.fence('1', 1)")
    for statement in set(statements):
        assert (await refused(session, statement, 1)).sqlstate == "RG001"


@pytest.mark.parametrize("first", [LEAD, UPDATE])
async def test_a_check_undone_by_a_savepoint_is_done_again(shard: Shard, first: str) -> None:
    """Its lock went as well: a fence did not wait for it."""
    session, mover = await shard.session("0:1"), await shard.session()
    transaction = session.transaction()
    await transaction.start()
    await session.execute("SAVEPOINT s")
    await session.execute(first, 1)
    await session.execute("ROLLBACK TO s")
    await asyncio.wait_for(mover.execute("SELECT gateway.fence('1', 1)"), 10)
    assert (await refused(session, LEAD, 1)).sqlstate == "RG001"
    await transaction.rollback()


async def test_a_released_savepoint_leaves_its_check_behind(shard: Shard) -> None:
    session, mover = await shard.session("0:1"), await shard.session()
    await session.execute("SET track_functions = 'pl'")
    transaction = session.transaction()
    await transaction.start()
    await session.execute("SAVEPOINT s")
    await session.execute(LEAD, 1)
    await session.execute("RELEASE s")
    fence = asyncio.ensure_future(mover.execute("SELECT gateway.fence('1', 1)"))
    await asyncio.sleep(0.1)
    await session.execute(LEAD, 1)
    assert await checks(session) == 1
    assert not fence.done()
    await transaction.commit()
    await fence


async def test_another_stamp_in_one_transaction_is_checked_too(shard: Shard) -> None:
    """Statements sent together are one transaction, and may be several owners'."""
    operator = await shard.session()
    await operator.execute("SELECT gateway.learn_epoch('2', 5, true)")
    session = await shard.session("0:1")
    transaction = session.transaction()
    await transaction.start()
    await session.execute(LEAD, 1)
    await session.execute("SET gateway.stamp = '5:2'")
    await session.execute(LEAD, 2)
    await transaction.commit()
    transaction = session.transaction()
    await transaction.start()
    await session.execute(LEAD, 2)
    await session.execute("SET gateway.stamp = '4:2'")
    assert (await refused(session, LEAD, 2)).sqlstate == "RG001"
    await transaction.rollback()
    assert await session.fetchval("SELECT current_setting('gateway.stamp')") == "5:2"


async def test_the_check_of_earlier_versions_is_replaced(shard: Shard) -> None:
    operator, session = await shard.session(), await shard.session("0:1")
    await operator.execute(
        """DROP TRIGGER gateway_stamp ON "Lead"; DROP TRIGGER gateway_stamp_insert ON "Lead";
           CREATE TRIGGER gateway_stamp BEFORE INSERT OR UPDATE OR DELETE ON "Lead"
           FOR EACH STATEMENT WHEN (current_setting('gateway.stamp', true) <> '')
           EXECUTE FUNCTION gateway.check_stamp()"""
    )
    await provision(shard.settings, report=lambda line: None)
    await session.execute("SET track_functions = 'pl'")
    async with session.transaction():
        for statement in (UPDATE, UPDATE, LEAD):
            await session.execute(statement, 1)
        assert await checks(session) == 2


async def test_a_row_after_an_update_waits_for_its_user_too(shard: Shard) -> None:
    session, operator = await shard.session("0:9"), await shard.session()
    async with session.transaction():
        await session.execute(UPDATE, 9)
        first = asyncio.ensure_future(session.execute(LEAD, 9))
        await asyncio.sleep(0.2)
        assert not first.done()
        await operator.execute("""INSERT INTO "User" VALUES (9, 'z@x', 'Z', 'LAW')""")
        await first


async def test_a_new_owners_first_row_waits_for_its_user(shard: Shard) -> None:
    session, operator = await shard.session("0:9"), await shard.session()
    first = asyncio.ensure_future(session.execute(LEAD, 9))
    await asyncio.sleep(0.2)
    assert not first.done()
    await operator.execute("""INSERT INTO "User" VALUES (9, 'z@x', 'Z', 'LAW')""")
    await first
    assert await operator.fetchval('SELECT "userId" FROM "Lead"') == 9


async def test_a_user_who_never_comes_is_a_foreign_key_error(shard: Shard) -> None:
    session = await shard.session("0:10")
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await asyncio.wait_for(session.execute(LEAD, 10), 10)
    # A fixed snapshot would wait for nothing.
    async with session.transaction(isolation="serializable"):
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            async with session.transaction():
                await asyncio.wait_for(session.execute(LEAD, 10), 1)


async def test_the_check_can_be_switched_off_and_on(shard: Shard) -> None:
    stale, operator = await shard.session("0:1"), await shard.session()
    await operator.execute("SELECT gateway.learn_epoch('1', 5, true)")
    assert (await refused(stale, LEAD, 1)).sqlstate == "RG001"
    await provision(shard.settings, report=lambda line: None, options=Options(stamp_check=False))
    await stale.execute(LEAD, 1)
    await provision(shard.settings, report=lambda line: None)
    assert (await refused(stale, LEAD, 1)).sqlstate == "RG001"


async def test_a_role_of_the_application_is_checked_without_rights_on_our_tables(
    shard: Shard,
) -> None:
    operator = await shard.session()
    await operator.execute("SELECT gateway.learn_epoch('1', 5, true)")
    stale = await shard.session("4:1")
    async with operator.transaction():
        await operator.execute(
            """DO $$ BEGIN CREATE ROLE stamps_app NOLOGIN;
               EXCEPTION WHEN duplicate_object THEN NULL; END $$;
               GRANT SELECT, INSERT, DELETE ON ALL TABLES IN SCHEMA public TO stamps_app;
               GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO stamps_app"""
        )
    await stale.execute("SET ROLE stamps_app")
    assert (await refused(stale, LEAD, 1)).sqlstate == "RG001"
    await stale.execute("SELECT set_config('gateway.stamp', '5:1', false)")
    await stale.execute(LEAD, 1)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await stale.execute("SELECT gateway.fence('1', 7)")


async def test_meta_tables_beside_industry_tables_are_not_checked(postgres: Cluster) -> None:
    url = postgres.dsn("stamps_one")
    settings = Settings.model_validate(
        {"meta": {"primary": url}, "industries": {"LAW": {"shards": [{"primary": url}]}}}
    )
    await provision(settings, report=lambda line: None)
    async with connected(plans(settings)[0].dsn) as connection:
        await connection.execute(
            """INSERT INTO "User" ("email", "name", "industry") VALUES ('a@x', 'A', 'LAW');
               INSERT INTO gateway.placement VALUES ('1', 'elsewhere', 5);
               SET gateway.stamp = '4:1';
               INSERT INTO "Session" ("userId", "sessionToken", "expires") VALUES (1, 't', now())"""
        )
        assert (await refused(connection, LEAD, 1)).sqlstate == "RG001"
        await connection.execute("UPDATE gateway.placement SET shard = 'law'")
        await connection.execute("SET gateway.stamp = '6:1'")
        await connection.execute(LEAD, 1)

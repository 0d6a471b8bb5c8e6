"""The subset of "User" in industry databases follows the meta database, by either means."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import asyncpg
import pytest

from gateway.demo.binaries import find_postgres
from gateway.demo.postgres import FAST, Cluster
from gateway.migrate import outbox, replication
from gateway.migrate.connect import Connection, connect
from gateway.migrate.plan import plans
from gateway.migrate.provision import Options, ProvisionError, UserSync, provision
from gateway.settings.dsn import parse
from gateway.settings.model import Settings

SHARDS = ("law", "medical_1", "medical_2")


async def eventually(condition: Callable[[], Awaitable[bool]], timeout_s: float = 15) -> None:
    deadline = monotonic() + timeout_s
    while not await condition():
        if monotonic() > deadline:
            raise TimeoutError("it did not come true")
        await asyncio.sleep(0.02)


@dataclass(slots=True)
class World:
    """A meta database and three shards, and a connection to each by name."""

    settings: Settings
    stack: AsyncExitStack
    connections: dict[str, Connection] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    async def provision(self, sync: UserSync | None, **options: object) -> None:
        self.lines.clear()
        chosen = Options(user_sync=sync, **options)  # type: ignore[arg-type]
        await provision(self.settings, report=self.lines.append, options=chosen)

    async def to(self, name: str) -> Connection:
        if name not in self.connections:
            url = next(plan.dsn for plan in plans(self.settings) if name in plan.shards)
            connection = await connect(url)
            self.stack.push_async_callback(connection.close)
            self.connections[name] = connection
        return self.connections[name]

    async def sql(self, name: str, statement: str, *values: object) -> None:
        await (await self.to(name)).execute(statement, *values)

    async def users(self, shard: str) -> set[tuple[int, str]]:
        rows = await (await self.to(shard)).fetch('SELECT "id", "email" FROM "User"')
        return {(row[0], row[1]) for row in rows}

    async def value(self, name: str, query: str, *values: object) -> object:
        return await (await self.to(name)).fetchval(query, *values)

    async def empty(self) -> None:
        """As it was before the test."""
        await self.sql("meta", 'TRUNCATE "User", gateway.placement CASCADE')
        for shard in SHARDS:
            await self.sql(
                shard,
                """TRUNCATE "User", gateway.left_behind, gateway.placement,
                            gateway.placement_epoch CASCADE;
                   ALTER TABLE "User" DROP COLUMN IF EXISTS "timezone",
                                      DROP CONSTRAINT IF EXISTS not_bad""",
            )

    async def sees(self, shard: str, *users: tuple[int, str]) -> None:
        async def same() -> bool:
            return await self.users(shard) == set(users)

        try:
            await eventually(same)
        except TimeoutError:
            assert await self.users(shard) == set(users)


def world_on(meta: Cluster, shards: Cluster, stack: AsyncExitStack) -> World:
    def url(cluster: Cluster, name: str) -> dict[str, str]:
        return {"primary": cluster.dsn(f"users_{name}")}

    settings = Settings.model_validate(
        {
            "meta": url(meta, "meta"),
            "industries": {
                "LAW": {"shards": [url(shards, "law")]},
                "MEDICAL": {"shards": [url(shards, "medical_1"), url(shards, "medical_2")]},
            },
        }
    )
    return World(settings, stack)


@pytest.fixture
async def world(postgres: Cluster) -> AsyncIterator[World]:
    """All databases on one server, whose subscriptions are gone again after the test."""
    async with AsyncExitStack() as stack:
        one = world_on(postgres, postgres, stack)
        await one.provision(None)
        yield one
        await one.provision(UserSync.NONE)
        await one.empty()


@pytest.fixture
async def deliverer(world: World) -> AsyncIterator[None]:
    """`gateway sync-users`, in this process."""
    task = asyncio.ensure_future(outbox.follow(world.settings))
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


ADD = """INSERT INTO "User" ("id", "email", "name", "industry") VALUES ($1, $2, 'N', $3)"""
MOVE = """UPDATE "User" SET "industry" = $2 WHERE "id" = $1"""
LEAD = """INSERT INTO "Lead" ("userId", "name", "email") VALUES ($1, 'L', 'l@x')"""


@pytest.mark.parametrize("means", [UserSync.LOGICAL, UserSync.TRIGGER])
@pytest.mark.usefixtures("deliverer")
async def test_users_follow_the_meta_database(world: World, means: UserSync) -> None:
    await world.sql("meta", ADD, 1, "before@x", "LAW")
    await world.sql("meta", ADD, 2, "m@x", "MEDICAL")
    await world.provision(means)
    await world.sees("law", (1, "before@x"))
    for shard in ("medical_1", "medical_2"):
        await world.sees(shard, (2, "m@x"))

    await world.sql("meta", ADD, 3, "new@x", "LAW")
    await world.sql("meta", """UPDATE "User" SET "email" = 'after@x' WHERE "id" = 1""")
    await world.sql("meta", """UPDATE "User" SET "phone" = '1' WHERE "id" = 1""")
    await world.sees("law", (1, "after@x"), (3, "new@x"))

    await world.sql("meta", MOVE, 3, "MEDICAL")
    await world.sees("law", (1, "after@x"))
    await world.sees("medical_1", (2, "m@x"), (3, "new@x"))
    await world.sql("meta", 'DELETE FROM "User" WHERE "id" = 2')
    await world.sees("medical_2", (3, "new@x"))


@pytest.mark.parametrize("means", [UserSync.LOGICAL, UserSync.TRIGGER])
@pytest.mark.usefixtures("deliverer")
async def test_who_leaves_rows_behind_stays_and_is_noted(world: World, means: UserSync) -> None:
    """Foreign keys don't fire on replication: no lead may vanish, and none may lose its user."""
    await world.provision(means)
    await world.sql("meta", ADD, 1, "a@x", "LAW")
    await world.sees("law", (1, "a@x"))
    await world.sql("law", LEAD, 1)
    await world.sql("meta", MOVE, 1, "MEDICAL")
    await world.sees("medical_1", (1, "a@x"))

    async def noted() -> bool:
        return await world.value("law", "SELECT owner_id FROM gateway.left_behind") == "1"

    await eventually(noted)
    assert await world.users("law") == {(1, "a@x")}
    assert await world.value("law", 'SELECT count(*) FROM "Lead"') == 1
    await world.provision(means)
    assert any("1 owners left rows behind" in line for line in world.lines)

    # The same e-mail for somebody new must not stop the feed, and coming back clears the note.
    await world.sql("meta", """UPDATE "User" SET "email" = 'b@x' WHERE "id" = 1""")
    await world.sql("meta", ADD, 2, "a@x", "LAW")
    await world.sees("law", (1, "a@x"), (2, "a@x"))
    await world.sql("meta", MOVE, 1, "LAW")
    await world.sees("law", (1, "b@x"), (2, "a@x"))
    assert await world.value("law", "SELECT count(*) FROM gateway.left_behind") == 0
    with pytest.raises(asyncpg.RaiseError, match="has not left"):
        await world.sql("law", "SELECT gateway.purge_owner('1')")

    await world.sql("meta", 'DELETE FROM "User" WHERE "id" = 1')
    await eventually(noted)
    await world.sql("law", "SELECT gateway.purge_owner('1')")
    assert await world.users("law") == {(2, "a@x")}
    assert await world.value("law", 'SELECT count(*) FROM "Lead"') == 0


@pytest.mark.parametrize("means", [UserSync.LOGICAL, UserSync.TRIGGER])
@pytest.mark.usefixtures("deliverer")
async def test_epochs_travel_with_placements(world: World, means: UserSync) -> None:
    await world.sql("meta", "INSERT INTO gateway.placement VALUES ('1', 'medical_2', 3)")
    await world.provision(means)
    query = "SELECT (epoch, here)::text FROM gateway.placement_epoch WHERE owner_id = '1'"

    async def known(shard: str, text: str) -> None:
        async def same() -> bool:
            return await world.value(shard, query) == text

        await eventually(same)

    await known("medical_1", "(3,f)")
    await known("medical_2", "(3,t)")
    await world.sql("meta", "UPDATE gateway.placement SET shard = 'medical_1'")
    await known("medical_1", "(4,t)")
    await known("medical_2", "(4,f)")
    await known("law", "(4,f)")
    await world.sql("meta", "DELETE FROM gateway.placement")
    await known("medical_2", "(5,t)")
    await world.sql("meta", ADD, 1, "a@x", "MEDICAL")
    await world.sql("meta", MOVE, 1, "LAW")
    await known("medical_2", "(6,t)")


async def test_epochs_only_grow(world: World) -> None:
    await world.sql("meta", "INSERT INTO gateway.placement VALUES ('1', 'medical_2', 3)")
    epoch = "SELECT epoch FROM gateway.owner WHERE id = '1'"
    await world.sql("meta", ADD, 1, "a@x", "MEDICAL")
    seen = [await world.value("meta", epoch)]
    for change in (
        "UPDATE gateway.placement SET shard = 'medical_1'",
        "UPDATE gateway.placement SET epoch = 1",
        "DELETE FROM gateway.placement",
        "INSERT INTO gateway.placement VALUES ('1', 'medical_2')",
        """UPDATE "User" SET "industry" = 'LAW'""",
        """UPDATE "User" SET "industry" = 'MEDICAL'""",
    ):
        await world.sql("meta", change)
        seen.append(await world.value("meta", epoch))
    assert seen == [3, 4, 4, 5, 6, 7, 8]
    assert await world.value("meta", "SELECT shard FROM gateway.owner") is None


async def test_a_second_run_keeps_the_subscriptions(world: World) -> None:
    await world.provision(UserSync.LOGICAL)
    query = "SELECT array_agg(oid ORDER BY oid)::text FROM pg_subscription"
    before = await world.value("law", query)
    await world.provision(UserSync.AUTO)
    assert await world.value("law", query) == before
    assert sum("users follow by subscription" in line for line in world.lines) == 3


async def test_one_means_takes_the_place_of_the_other(world: World) -> None:
    await world.provision(UserSync.LOGICAL)
    await world.sql("meta", ADD, 1, "a@x", "LAW")
    await world.provision(UserSync.TRIGGER)
    await world.sees("law", (1, "a@x"))
    ours = """SELECT (SELECT count(*) FROM pg_publication)
        + (SELECT count(*) FROM pg_replication_slots WHERE database = current_database())"""
    assert await world.value("meta", ours) == 0
    await world.sql("meta", ADD, 2, "b@x", "LAW")
    await world.provision(UserSync.LOGICAL)
    await world.sees("law", (1, "a@x"), (2, "b@x"))
    assert await world.value("meta", "SELECT to_regclass('gateway.outbox')") is None
    await world.provision(UserSync.NONE)
    assert await world.value("meta", ours) == 0
    await world.sql("meta", MOVE, 1, "MEDICAL")
    assert await world.users("law") == {(1, "a@x"), (2, "b@x")}


async def test_rows_that_were_there_already_are_made_true(world: World) -> None:
    """As after a split by copying whole databases: copies again, and removes who is gone."""
    await world.sql("meta", ADD, 1, "a@x", "LAW")
    for number in (1, 2, 3):
        await world.sql("law", ADD, number, "stale@x", "LAW")
    await world.sql("law", LEAD, 1)
    await world.sql("law", LEAD, 2)
    await world.provision(UserSync.LOGICAL)
    await world.sees("law", (1, "a@x"), (2, "stale@x"))
    assert await world.value("law", "SELECT owner_id FROM gateway.left_behind") == "2"
    assert await world.value("law", 'SELECT count(*) FROM "Lead"') == 2


async def test_a_lost_slot_is_made_again(world: World) -> None:
    """As after a failover of the meta database, whose slots stayed with the old primary."""
    await world.provision(UserSync.LOGICAL)
    slot = str(await world.value("law", _SLOT))
    await world.sql("law", f"ALTER SUBSCRIPTION {slot} DISABLE")

    async def dropped() -> bool:
        try:
            await world.sql("meta", "SELECT pg_drop_replication_slot($1)", slot)
        except asyncpg.ObjectInUseError:
            return False
        return True

    await eventually(dropped)
    await world.sql("meta", ADD, 1, "a@x", "LAW")
    await world.provision(UserSync.LOGICAL)
    await world.sees("law", (1, "a@x"))


_SLOT = """SELECT subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
            WHERE d.datname = current_database()"""


async def test_a_column_more_is_copied_too(world: World) -> None:
    await world.provision(UserSync.LOGICAL)
    await world.sql("meta", ADD, 1, "a@x", "LAW")
    for shard in SHARDS:
        await world.sql(shard, 'ALTER TABLE "User" ADD COLUMN "timezone" text')
    await world.provision(UserSync.LOGICAL)
    await world.sees("law", (1, "a@x"))
    assert await world.value("law", 'SELECT "timezone" FROM "User"') == "UTC"


async def test_a_queue_waits_for_a_database_that_refuses(world: World) -> None:
    await world.provision(UserSync.TRIGGER)
    await world.sql(
        "law", """ALTER TABLE "User" ADD CONSTRAINT not_bad CHECK ("email" <> 'bad@x')"""
    )
    await world.sql("meta", ADD, 1, "bad@x", "LAW")
    await world.sql("meta", ADD, 2, "m@x", "MEDICAL")
    assert await outbox.deliver_once(world.settings) == 2
    assert await world.users("medical_1") == {(2, "m@x")}
    assert await world.users("law") == set()
    await world.sql("meta", """UPDATE "User" SET "email" = 'good@x' WHERE "id" = 1""")
    assert await outbox.deliver_once(world.settings) == 2
    assert await world.users("law") == {(1, "good@x")}
    assert await world.value("meta", "SELECT count(*) FROM gateway.outbox") == 0


async def test_two_deliverers_never_bring_older_states(world: World) -> None:
    await world.provision(UserSync.TRIGGER)

    async def deliver() -> None:
        for _ in range(20):
            await outbox.deliver_once(world.settings)

    async def change() -> None:
        await world.sql("meta", ADD, 1, "0@x", "LAW")
        for number in range(1, 60):
            await world.sql("meta", """UPDATE "User" SET "email" = $1""", f"{number}@x")

    await asyncio.gather(deliver(), deliver(), change())
    await outbox.deliver_once(world.settings)
    assert await world.users("law") == {(1, "59@x")}


async def test_auto_takes_the_trigger_where_replication_is_not_to_be_had(postgres: Cluster) -> None:
    """By a role that owns all databases and has no right to replicate."""
    connection = await asyncpg.connect(postgres.dsn())
    try:
        await connection.execute("CREATE ROLE plain_owner LOGIN CREATEDB PASSWORD 'plain'")
    finally:
        await connection.close()
    settings = Settings.model_validate(
        {
            "meta": {"primary": postgres.dsn("plain_meta", "plain_owner", "plain")},
            "industries": {
                "LAW": {"shards": [{"primary": postgres.dsn("plain_law", "plain_owner", "plain")}]}
            },
        }
    )
    lines: list[str] = []
    await provision(settings, report=lines.append, options=Options(user_sync=UserSync.AUTO))
    assert any("may not replicate" in line for line in lines)
    assert any("gateway sync-users" in line for line in lines)
    with pytest.raises(ProvisionError, match="logical replication can't be had"):
        logical = Options(user_sync=UserSync.LOGICAL)
        await provision(settings, report=lines.append, options=logical)
    meta = await connect(parse(settings.meta.primary.get_secret_value()))
    try:
        await meta.execute(ADD, 1, "a@x", "LAW")
        assert await outbox.deliver_once(settings) == 1
    finally:
        await meta.close()


async def test_a_copy_that_does_not_end_is_taken_back(world: World) -> None:
    await world.sql("meta", ADD, 1, "bad@x", "LAW")
    await world.sql(
        "law", """ALTER TABLE "User" ADD CONSTRAINT not_bad CHECK ("email" <> 'bad@x')"""
    )
    with pytest.raises(ProvisionError, match="law: users were not copied in 3 s; taken back"):
        await world.provision(UserSync.LOGICAL, sync_timeout_s=3)
    assert await world.value("law", _SLOT) is None
    assert await world.value("medical_1", _SLOT) is not None
    slots = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"
    assert await world.value("meta", slots) == 2


async def test_no_slot_stays_when_the_shard_can_not_reach_the_meta_database(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(replication, "libpq_text", lambda dsn: "host=127.0.0.1 port=1")
        with pytest.raises(ProvisionError, match="could not connect to the publisher"):
            await world.provision(UserSync.LOGICAL)
    slots = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"
    assert await world.value("meta", slots) == 0
    await world.provision(UserSync.LOGICAL)
    assert await world.value("meta", slots) == 3


async def test_shards_on_a_server_of_their_own(postgres: Cluster, cluster_folder: Path) -> None:
    other = Cluster(find_postgres(), cluster_folder / "users", name="users", settings=FAST)
    await other.initdb()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(other.stop)
        await other.start()
        world = world_on(postgres, other, stack)
        await world.provision(UserSync.LOGICAL)
        await world.sql("meta", ADD, 1, "a@x", "LAW")
        await world.sees("law", (1, "a@x"))
        await other.restart()
        world.connections.clear()
        await world.sql("meta", ADD, 2, "b@x", "LAW")
        await world.sees("law", (1, "a@x"), (2, "b@x"))
        await world.provision(UserSync.NONE)

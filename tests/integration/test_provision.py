"""Provisioning on a real server: databases, tables, the directory's functions and triggers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import count
from random import Random
from typing import TypeAlias
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import pytest

from gateway.demo.postgres import Cluster
from gateway.migrate.provision import ProvisionError, provision
from gateway.router.slots import SLOTS, slot_of
from gateway.settings.model import Settings
from tests.conftest import FreshDatabase, Provisioned

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"  # subscripts are for the checker only

CORE_TABLES = {
    *("User", "Lead", "Deal", "Campaign", "Workflow", "WorkflowInstance", "Website", "Task"),
    *("Conversation", "ConversationMessage", "CallLog", "BookingAppointment", "EmailCampaign"),
    *("SmsCampaign", "Payment", "Invoice", "Note"),
}
META_TABLES = {
    *("User", "Session", "Account", "Agency", "UserSubscription", "ApiKey", "UserFeatureToggle"),
    "VerificationToken",
}


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


def settings_of(meta: str, law: str, restaurant: str) -> Settings:
    return Settings.model_validate(
        {
            "meta": {"primary": meta},
            "industries": {
                "LAW": {"shards": [{"primary": law}]},
                "RESTAURANT": {"shards": [{"primary": restaurant}]},
            },
        }
    )


async def tables_of(url: str) -> set[str]:
    query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    async with connected(url) as connection:
        return {row["tablename"] for row in await connection.fetch(query)}


async def dump(url: str) -> list[tuple[str, ...]]:
    """Every relation, column, constraint, trigger and function of our schemas, to compare."""
    query = """
        SELECT n.nspname::text, c.relname::text, c.oid::text, a.attname::text, a.atttypid::text
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          JOIN pg_attribute a ON a.attrelid = c.oid
         WHERE n.nspname IN ('public', 'gateway')
        UNION ALL
        SELECT 'constraint', conname, conrelid::text, '', '' FROM pg_constraint
        UNION ALL
        SELECT 'trigger', tgname, tgrelid::text, '', '' FROM pg_trigger
        UNION ALL
        SELECT 'function', proname, oid::text, '', '' FROM pg_proc
         WHERE pronamespace = 'gateway'::regnamespace
        ORDER BY 1, 2, 3, 4, 5"""
    async with connected(url) as connection:
        return [tuple(row.values()) for row in await connection.fetch(query)]


@pytest.fixture(scope="session")
def urls(postgres: Cluster) -> Callable[[str], str]:
    """URLs of databases that do not exist yet."""
    numbers = count(1)
    return lambda name: postgres.dsn(f"provision {next(numbers)} {name}")


async def test_missing_databases_are_created_with_their_tables(urls: Callable[[str], str]) -> None:
    meta, law, restaurant = urls("meta"), urls("law"), urls("restaurant")
    lines: list[str] = []
    await provision(settings_of(meta, law, restaurant), report=lines.append)
    assert await tables_of(meta) == META_TABLES
    assert await tables_of(law) == CORE_TABLES | {"Case"}
    assert await tables_of(restaurant) == CORE_TABLES | {"MenuItem", "Reservation"}
    assert sum("created, tables ready" in line for line in lines) == 3
    password = urlsplit(meta).password
    assert password
    assert password not in "\n".join(lines)


async def test_a_second_run_changes_nothing(urls: Callable[[str], str]) -> None:
    meta, law = urls("meta"), urls("law")
    settings = settings_of(meta, law, law)
    await provision(settings, report=lambda line: None)
    before = await dump(meta)
    async with connected(law) as connection:
        await connection.execute("""INSERT INTO "User" VALUES (1, 'a@x', 'A', 'LAW')""")
    lines: list[str] = []
    await provision(settings, report=lines.append)
    assert await dump(meta) == before
    assert len(lines) == 2
    assert all("was there" in line for line in lines)
    async with connected(law) as connection:
        assert await connection.fetchval('SELECT count(*) FROM "User"') == 1


async def test_two_runs_at_once_do_not_disturb_each_other(urls: Callable[[str], str]) -> None:
    settings = settings_of(urls("meta"), urls("law"), urls("restaurant"))
    await asyncio.gather(*(provision(settings, report=lambda line: None) for _ in range(3)))


async def test_a_single_database_holds_everything(urls: Callable[[str], str]) -> None:
    one = urls("legacy")
    lines: list[str] = []
    await provision(settings_of(one, one, one), report=lines.append)
    assert sum("tables ready" in line for line in lines) == 1
    extras = {"Case", "MenuItem", "Reservation"}
    assert await tables_of(one) == META_TABLES | CORE_TABLES | extras
    async with connected(one) as connection:
        await connection.execute(
            """INSERT INTO "User" (email, name, industry) VALUES ('a@x', 'A', 'LAW');
               INSERT INTO "Lead" ("userId", name, email) VALUES (1, 'B', 'b@x')"""
        )


async def test_all_failures_are_told_and_the_rest_is_ready(
    urls: Callable[[str], str], postgres: Cluster
) -> None:
    meta = urls("meta")
    away = "postgresql://nobody:secret-word@127.0.0.1:1/law"
    wrong = postgres.dsn("x", password="secret-word")
    with pytest.raises(ProvisionError) as caught:
        await provision(settings_of(meta, away, wrong), report=lambda line: None)
    text = str(caught.value)
    assert re.search(r"^law \(127\.0\.0\.1:1/law\)", text, re.MULTILINE)
    assert "restaurant" in text
    assert "password authentication failed" in text
    assert "secret-word" not in text
    assert await tables_of(meta) == META_TABLES


async def test_generated_and_enum_columns_work(provisioned: Provisioned) -> None:
    async with connected(provisioned.url("law")) as connection:
        row = await connection.fetchrow('SELECT net, "taxRate" AS rate, total FROM "Invoice"')
        assert row is not None
        assert row["total"] == pytest.approx(row["net"] * (1 + row["rate"]), abs=Decimal("0.01"))
        with pytest.raises(asyncpg.InvalidTextRepresentationError):
            await connection.execute("""UPDATE "Lead" SET status = 'SOLD'""")


def _any_text(random: Random) -> str:
    """Of any characters that text can hold: all of Unicode but NUL and surrogates."""
    points = (random.choice((0x7F, 0x7FF, 0xD7FF, 0x10FFFF)) for _ in range(random.randrange(30)))
    chosen = (random.randrange(1, point + 1) for point in points)
    return "".join(chr(point) for point in chosen if not 0xD800 <= point <= 0xDFFF)


async def test_slots_are_the_same_in_sql_and_in_python(provisioned: Provisioned) -> None:
    random = Random(6432)
    ids = [str(number) for number in range(-10_000, 40_000)]
    ids += [str(UUID(int=random.getrandbits(128))) for _ in range(30_000)]
    ids += [_any_text(random) for _ in range(20_000)]
    for database in ("meta", "law", "medical_2"):
        async with connected(provisioned.url(database)) as connection:
            rows = await connection.fetch(
                "SELECT id, gateway.slot(id) AS slot FROM unnest($1::text[]) AS id", ids
            )
        assert len(rows) == 100_000
        assert all(slot_of(row["id"]) == row["slot"] for row in rows)
        assert {row["slot"] for row in rows} == set(range(SLOTS))


async def test_the_owner_view_is_read_by_index(urls: Callable[[str], str]) -> None:
    meta, other = urls("meta"), urls("law")
    await provision(settings_of(meta, other, other), report=lambda line: None)
    async with connected(meta) as connection:
        await connection.execute(
            """INSERT INTO "User" (email, name, industry)
               SELECT n || '@x', 'N', 'LAW' FROM generate_series(1, 20000) AS n;
               INSERT INTO gateway.placement SELECT n::text, 'law', n
                 FROM generate_series(1, 20000, 2) AS n;
               ANALYZE"""
        )
        statement = "SELECT id, industry, shard, epoch FROM gateway.owner WHERE id = $1"
        explain = "EXPLAIN " + statement.replace("$1", "'77'")
        plan = "\n".join(row[0] for row in await connection.fetch(explain))
        assert "user_id_text_idx" in plan
        assert "placement_pkey" in plan
        assert "Seq Scan" not in plan
        placed, unplaced = [
            tuple((await connection.fetchrow(statement, owner)) or ()) for owner in ("77", "78")
        ]
    assert placed == ("77", "LAW", "law", 77)
    assert unplaced == ("78", "LAW", None, 0)


@pytest.mark.parametrize(
    "row",
    [
        "('x', 'owner', '', NULL)",
        "('x', 'service', '', '1')",
        "('x', 'root', '', NULL)",
        "('', 'service', '', NULL)",
        f"('{'x' * 256}', 'service', '', NULL)",
    ],
)
async def test_impossible_logins_are_refused(provisioned: Provisioned, row: str) -> None:
    async with connected(provisioned.url("meta")) as connection:
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(
                f"INSERT INTO gateway.login (name, kind, verifier, owner_id) VALUES {row}"
            )


class Ear:
    """Hears invalidations; ``heard`` waits for those of a transaction that is committed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._payloads: list[str] = []
        self._end = asyncio.Event()

    def _take(self, *event: object) -> None:
        payload = str(event[-1])
        if payload == "test-end":
            self._end.set()
        else:
            self._payloads.append(payload)

    async def start(self) -> None:
        await self._connection.add_listener("gateway_invalidate", self._take)

    async def heard(self) -> set[str]:
        self._end.clear()
        await self._connection.execute("NOTIFY gateway_invalidate, 'test-end'")
        await asyncio.wait_for(self._end.wait(), 10)
        payloads, self._payloads = set(self._payloads), []
        return payloads


@pytest.fixture(scope="module")
async def meta_url(fresh_database: FreshDatabase) -> str:
    url = await fresh_database("notify")
    await provision(settings_of(url, url, url), report=lambda line: None)
    return url


@pytest.fixture
async def meta(meta_url: str) -> AsyncIterator[Connection]:
    async with connected(meta_url) as connection:
        yield connection


CHANGES = [
    (
        """INSERT INTO "User" (id, email, name, industry)
           VALUES (1, 'a@x', 'A', 'LAW'), (2, 'b@x', 'B', 'LAW')""",
        {"owner:1", "owner:2"},
    ),
    ("""UPDATE "User" SET name = 'C', phone = '1'""", set()),
    ("""UPDATE "User" SET industry = 'LAW' WHERE id = 1""", set()),
    ("""UPDATE "User" SET industry = 'RESTAURANT' WHERE id = 1""", {"owner:1"}),
    ("""UPDATE "User" SET id = 3 WHERE id = 2""", {"owner:2", "owner:3"}),
    ("""DELETE FROM "User" WHERE id = 3""", {"owner:3"}),
    ("INSERT INTO gateway.placement VALUES ('1', 'law')", {"owner:1"}),
    ("UPDATE gateway.placement SET epoch = 2", {"owner:1"}),
    ("DELETE FROM gateway.placement", {"owner:1"}),
    (
        "INSERT INTO gateway.login (name, kind) VALUES ('svc', 'service'), ('o''p', 'operator')",
        {"login:svc", "login:o'p"},
    ),
    ("UPDATE gateway.login SET disabled = true WHERE name = 'o''p'", {"login:o'p"}),
    ("INSERT INTO gateway.login_grant VALUES ('svc', 'owner', '1')", {"login:svc"}),
    (
        "INSERT INTO gateway.api_key (id, login, hash) VALUES ('k', 'svc', repeat('0', 64))",
        {"login:svc"},
    ),
    ("UPDATE gateway.api_key SET disabled = true", {"login:svc"}),
    ("UPDATE gateway.login SET name = 'web' WHERE name = 'svc'", {"login:svc", "login:web"}),
    ("DELETE FROM gateway.login WHERE name = 'web'", {"login:web"}),
    ("TRUNCATE gateway.login CASCADE", {"all"}),
    ("TRUNCATE gateway.placement", {"all"}),
    ("""TRUNCATE "User" CASCADE""", {"all"}),
]


async def test_changes_are_announced_and_nothing_else(meta: Connection) -> None:
    ear = Ear(meta)
    await ear.start()
    for statement, payloads in CHANGES:
        await meta.execute(statement)
        assert await ear.heard() == payloads, statement


async def test_trap_invalidation_is_sent_with_the_commit_and_not_before(
    meta: Connection, meta_url: str
) -> None:
    ear = Ear(meta)
    await ear.start()
    async with connected(meta_url) as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("INSERT INTO gateway.placement VALUES ('9', 'law')")
        assert await ear.heard() == set()
        await transaction.commit()
        assert await ear.heard() == {"owner:9"}
        async with other.transaction():
            await other.execute("DELETE FROM gateway.placement")
            await other.execute("SAVEPOINT s")
            await other.execute("INSERT INTO gateway.placement VALUES ('10', 'law')")
            await other.execute("ROLLBACK TO SAVEPOINT s")
        assert await ear.heard() == {"owner:9"}


async def test_a_payload_too_long_for_notify_becomes_all(meta: Connection) -> None:
    ear = Ear(meta)
    await ear.start()
    await meta.execute("ALTER TABLE gateway.placement DROP CONSTRAINT placement_owner_id_check")
    await meta.execute("INSERT INTO gateway.placement VALUES (repeat('x', 7993), 'law')")
    assert await ear.heard() == {f"owner:{'x' * 7993}"}
    await meta.execute("INSERT INTO gateway.placement VALUES (repeat('x', 7994), 'law')")
    assert await ear.heard() == {"all"}


async def test_the_directory_role_reads_what_lookups_need_and_no_more(meta: Connection) -> None:
    async with meta.transaction():
        await meta.execute("SET LOCAL ROLE gateway_directory")
        for relation in ("login", "api_key", "login_grant", "placement", "owner"):
            await meta.fetch(f"SELECT * FROM gateway.{relation} LIMIT 1")
    for statement in (
        'SELECT * FROM "User"',
        'SELECT * FROM "ApiKey"',
        "UPDATE gateway.login SET disabled = false",
        "DELETE FROM gateway.placement",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with meta.transaction():
                await meta.execute("SET LOCAL ROLE gateway_directory")
                await meta.execute(statement)


async def test_a_role_without_rights_on_our_schema_can_still_change_users(
    meta: Connection,
) -> None:
    ear = Ear(meta)
    await ear.start()
    async with meta.transaction():
        await meta.execute("CREATE ROLE webapp NOLOGIN")
        await meta.execute('GRANT INSERT ON "User" TO webapp; SET LOCAL ROLE webapp')
        await meta.execute("""INSERT INTO "User" (id, email, name, industry)
                              VALUES (50, 'w@x', 'W', 'LAW')""")
        await meta.execute('RESET ROLE; REVOKE ALL ON "User" FROM webapp; DROP ROLE webapp')
    assert await ear.heard() == {"owner:50"}

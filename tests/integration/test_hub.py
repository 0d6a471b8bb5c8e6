"""The hub: one database whose SQL spans all industries, with the same answers as all together."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from decimal import Decimal

import asyncpg
import pytest
from pydantic import SecretStr

from gateway.demo.postgres import Cluster
from gateway.demo.seed import seed
from gateway.migrate.connect import Connection, connect, connected
from gateway.migrate.plan import plans
from gateway.migrate.provision import Admin, Options, ProvisionError, provision
from gateway.settings.dsn import parse
from gateway.settings.model import HubSettings, Settings
from gateway.worker import Worker
from tests.conftest import Provisioned
from tests.integration.conftest import Gateway

SHARDS = {"LAW": ["law"], "MEDICAL": ["medical_1", "medical_2"], "RESTAURANT": ["restaurant"]}


def settings_on(postgres: Cluster, shards: dict[str, list[str]], prefix: str = "hub") -> Settings:
    return Settings.model_validate(
        {
            "meta": {"primary": postgres.dsn(f"{prefix}_meta")},
            "industries": {
                industry: {
                    "shards": [
                        {"primary": postgres.dsn(f"{prefix}_{name}"), "name": name}
                        for name in names
                    ]
                }
                for industry, names in shards.items()
            },
        }
    )


@dataclass(slots=True)
class Hub:
    """Seeded databases, the hub over them, and a connection to each by name."""

    settings: Settings
    stack: AsyncExitStack
    postgres: Cluster
    connections: dict[str, Connection] = field(default_factory=dict)

    async def to(self, name: str) -> Connection:
        if name not in self.connections:
            dsn = parse(self.postgres.dsn("hub_all"))
            if name != "hub":
                dsn = next(plan.dsn for plan in plans(self.settings) if name in plan.shards)
            self.connections[name] = await connect(dsn)
            self.stack.push_async_callback(self.connections[name].close)
        return self.connections[name]

    async def everywhere(self, query: str) -> Counter[tuple[object, ...]]:
        """What all shards answer, each row with its industry and shard in front."""
        rows: Counter[tuple[object, ...]] = Counter()
        for plan in plans(self.settings)[1:]:
            for row in await (await self.to(plan.shards[0])).fetch(query):
                rows[(plan.industries[0], plan.shards[0], *row.values())] += 1
        return rows

    async def asked(self, query: str) -> Counter[tuple[object, ...]]:
        return Counter(tuple(row) for row in await (await self.to("hub")).fetch(query))

    async def plan_of(self, query: str) -> str:
        rows = await (await self.to("hub")).fetch(f"EXPLAIN (VERBOSE, COSTS off) {query}")
        return "\n".join(row[0] for row in rows)


async def build(settings: Settings, **options: object) -> list[str]:
    lines: list[str] = []
    chosen = Options(**{"hub": "hub_all", **options})  # type: ignore[arg-type]
    await provision(settings, report=lines.append, options=chosen)
    return lines


@pytest.fixture(scope="module")
async def built(postgres: Cluster) -> Provisioned:
    settings = settings_on(postgres, SHARDS)
    await provision(settings, report=lambda line: None)
    logins = await seed(settings, owners=16)
    lines = await build(settings)
    assert "hub of 5 databases" in lines[-1]
    return Provisioned(settings, {login.user: login for login in logins})


@pytest.fixture
async def hub(postgres: Cluster, built: Provisioned) -> AsyncIterator[Hub]:
    async with AsyncExitStack() as stack:
        yield Hub(built.settings, stack, postgres)


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("Lead", '"id", "userId", "status"::text, "tags", "createdAt", "score"'),
        ("Deal", '"id", "amount", "currency", "closesOn"'),
        ("BookingAppointment", '"id", "startsAt", "status"::text'),
        ("Invoice", '"id", "total", "items"::text'),
        ("ConversationMessage", '"id", "conversationId", "body"'),
    ],
)
async def test_every_row_is_there_once(hub: Hub, table: str, columns: str) -> None:
    here = await (await hub.to("hub")).fetch(f'SELECT industry, shard, {columns} FROM "{table}"')
    there = []
    for plan in plans(hub.settings)[1:]:
        rows = await (await hub.to(plan.shards[0])).fetch(f'SELECT {columns} FROM "{table}"')
        there += [(plan.industries[0], plan.shards[0], *row.values()) for row in rows]
    assert len(there) >= 48
    assert sorted(json.dumps(tuple(row), default=str) for row in here) == sorted(
        json.dumps(row, default=str) for row in there
    )


async def test_aggregates_are_those_of_all_databases_together(hub: Hub) -> None:
    grouped = """SELECT {} status::text, count(*), sum(score), min("createdAt")
                   FROM "Lead" GROUP BY {} status"""
    tags = "industry, shard,"
    assert await hub.asked(grouped.format(tags, tags)) == await hub.everywhere(
        grouped.format("", "")
    )
    parts = await hub.everywhere('SELECT count(*), sum("amount"), max("amount") FROM "Deal"')
    amounts = [row[3] for row in parts]
    tops = [row[4] for row in parts]
    total = await (await hub.to("hub")).fetchrow(
        'SELECT count(*), sum("amount"), max("amount") FROM "Deal"'
    )
    assert total is not None
    assert total[0] == sum(int(str(row[2])) for row in parts)
    assert total[1] == sum(Decimal(str(amount)) for amount in amounts)
    assert total[2] == max(Decimal(str(top)) for top in tops)


async def test_joins_with_meta_tables_and_with_each_other(hub: Hub) -> None:
    joined = """SELECT u."industry", u."id", count(*) FROM "Lead" l
                  JOIN "User" u ON u."id" = l."userId" AND u."industry" = l.industry
                 GROUP BY 1, 2"""
    there = await hub.everywhere('SELECT "userId", count(*) FROM "Lead" GROUP BY 1')
    assert await hub.asked(joined) == Counter((row[0], row[2], row[3]) for row in there)
    assert await (await hub.to("hub")).fetchval('SELECT count(*) FROM "Session"') == 16


async def test_only_those_asked_about_are_asked(hub: Hub) -> None:
    plan = await hub.plan_of("""SELECT * FROM "Lead" WHERE industry = 'LAW'""")
    assert 'law."Lead"' in plan
    assert "medical" not in plan and "restaurant" not in plan
    plan = await hub.plan_of("""SELECT * FROM "Lead" WHERE shard = 'medical_2'
                                                       AND industry = 'MEDICAL'""")
    assert "medical_2" in plan and "medical_1" not in plan


async def test_work_is_done_where_the_rows_are(hub: Hub) -> None:
    plan = await hub.plan_of(
        """SELECT industry, shard, count(*) FROM "Lead" WHERE status = 'NEW' GROUP BY 1, 2"""
    )
    assert plan.count("Aggregate on") == 4
    assert plan.count("Remote SQL: SELECT industry, shard, count(*)") == 4
    assert plan.count("((status = 'NEW'))") == 4
    plan = await hub.plan_of(
        """SELECT l."name", d."amount" FROM "Lead" l
             JOIN "Deal" d ON d.industry = l.industry AND d.shard = l.shard AND d."leadId" = l."id"
            WHERE l."userId" = 3"""
    )
    assert plan.count("Foreign Scan") == 4
    assert "Hash Join" not in plan and "Nested Loop" not in plan
    law = await hub.to("law")
    remote = await law.fetch(
        """EXPLAIN SELECT * FROM gateway_hub."Lead" WHERE "userId" = 3 AND industry = 'LAW'"""
    )
    assert any("Lead_userId_idx" in row[0] or 'on "Lead"' in row[0] for row in remote)
    assert not any("Function Scan" in row[0] for row in remote)


async def test_the_hub_is_for_reading(hub: Hub) -> None:
    for statement in (
        """DELETE FROM "Lead" WHERE "id" = 1""",
        """UPDATE "User" SET "name" = 'x'""",
    ):
        with pytest.raises(asyncpg.PostgresError, match="does not allow"):
            await (await hub.to("hub")).execute(statement)


async def test_the_application_may_change_its_tables(hub: Hub) -> None:
    """And the next run follows; what people made in the hub stays."""
    center = await hub.to("hub")
    await center.execute('CREATE OR REPLACE VIEW our_leads AS SELECT industry, "id" FROM "Lead"')
    law = await hub.to("law")
    await law.execute(
        """ALTER TABLE "Website" DROP COLUMN "theme", ADD COLUMN "visits" bigint DEFAULT 7;
           ALTER TABLE "Campaign" ALTER "budget" TYPE numeric(20, 4);
           CREATE TABLE "Verdict" ("id" serial PRIMARY KEY, "text" text, "industry" text);
           INSERT INTO "Verdict" ("text", "industry") VALUES ('guilty', 'own')"""
    )
    await build(hub.settings)
    assert await center.fetchval("""SELECT sum("visits") FROM "Website"
                                     WHERE industry = 'LAW'""") == 7 * await law.fetchval(
        'SELECT count(*) FROM "Website"'
    )
    assert await center.fetchval("""SELECT count("theme") FROM "Website"
                                     WHERE industry = 'MEDICAL'""")
    budget = await center.fetchval("""SELECT sum("budget") FROM "Campaign"
                                       WHERE industry = 'LAW'""")
    assert budget == await law.fetchval('SELECT sum("budget") FROM "Campaign"')
    row = await center.fetchrow('SELECT * FROM "Verdict"')
    assert row is not None
    assert tuple(row) == ("LAW", "law", 1, "guilty", "own")
    assert await center.fetchval("SELECT count(*) FROM our_leads") > 50
    await law.execute('DROP TABLE "Verdict"')
    await build(hub.settings)
    assert await center.fetchval("SELECT count(*) FROM our_leads") > 50


async def test_a_shard_more_and_an_industry_less(hub: Hub, postgres: Cluster) -> None:
    center = await hub.to("hub")
    await center.execute('CREATE OR REPLACE VIEW our_deals AS SELECT shard, "id" FROM "Deal"')
    before = await center.fetchval("SELECT count(*) FROM our_deals")
    more = settings_on(postgres, {**SHARDS, "LAW": ["law", "law_b"], "DENTIST": ["dentist"]})
    await build(more)
    for name in ("law_b", "dentist"):
        dsn = next(plan.dsn for plan in plans(more) if name in plan.shards)
        async with connected(dsn) as connection:
            await connection.execute(
                """INSERT INTO "User" VALUES (900, 'x@x', 'X', 'ANY') ON CONFLICT DO NOTHING;
                   INSERT INTO "Deal" ("userId", "title", "amount") VALUES (900, 't', 1)"""
            )
    assert await center.fetchval("SELECT count(*) FROM our_deals") == before + 2
    grouped = 'SELECT industry, shard, count(*) FROM "Deal" GROUP BY 1, 2'
    assert (await hub.plan_of(grouped)).count("Aggregate on") == 6
    await build(more)
    await build(hub.settings)
    assert await center.fetchval("SELECT count(*) FROM our_deals") == before
    assert await center.fetchval("SELECT to_regnamespace('law_b')") is None


async def test_operators_reach_the_hub_through_the_gateway_and_nobody_else_does(
    postgres: Cluster, built: Provisioned
) -> None:
    settings = built.settings.model_copy(
        update={"hub": HubSettings(primary=SecretStr(postgres.dsn("hub_all")))}
    )
    worker = Worker(settings, lambda: settings)
    await worker.start()
    try:
        gateway = Gateway(worker, built)
        operator = await asyncpg.connect(gateway.dsn("operator", "hub"))
        try:
            count = await operator.fetchval("""SELECT count(DISTINCT industry) FROM "Lead" """)
        finally:
            await operator.close()
        assert count == 3
        owner = built.owner_on("law")
        for user, database in (("app", "hub"), (owner.user, "hub")):
            with pytest.raises(asyncpg.PostgresError):
                connection = await asyncpg.connect(gateway.dsn(user, database))
                try:
                    await connection.fetchval("SELECT count(*) FROM our_leads")
                finally:
                    await connection.close()
    finally:
        await worker.stop()


async def test_shards_that_share_a_database_are_refused(postgres: Cluster) -> None:
    url = postgres.dsn("hub_shared")
    settings = Settings.model_validate(
        {
            "meta": {"primary": postgres.dsn("hub_meta")},
            "industries": {
                "LAW": {"shards": [{"primary": url}]},
                "MEDICAL": {"shards": [{"primary": url}]},
            },
        }
    )
    with pytest.raises(ProvisionError, match="law, medical share one"):
        await build(settings, hub="hub_of_shared")


async def test_a_plain_role_needs_help_once(postgres: Cluster) -> None:
    async with connected(parse(postgres.dsn())) as connection:
        await connection.execute("CREATE ROLE hub_owner LOGIN CREATEDB PASSWORD 'it''s \\ plain'")

    def url(name: str) -> str:
        return postgres.dsn(name, "hub_owner", "it's \\ plain")

    settings = Settings.model_validate(
        {
            "meta": {"primary": url("plain_hub_meta")},
            "industries": {"LAW": {"shards": [{"primary": url("plain_hub_law")}]}},
            "operator_role": {"user": "hub_owner"},
        }
    )
    with pytest.raises(ProvisionError, match="as a superuser there: CREATE EXTENSION"):
        await build(settings, hub="plain_hub")
    await build(settings, hub="plain_hub", admin=Admin("postgres", postgres.password))
    await build(settings, hub="plain_hub")
    async with connected(parse(url("plain_hub"))) as connection:
        assert await connection.fetchval('SELECT count(*) FROM "Lead"') == 0

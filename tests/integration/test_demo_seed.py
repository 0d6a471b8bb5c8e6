"""Seeded databases: who is where, whose each row is, and that life goes on from there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import asyncpg
import pytest

from gateway.demo.postgres import Cluster
from gateway.demo.rows import COLUMNS
from gateway.demo.seed import seed
from gateway.migrate.provision import provision
from gateway.protocol.passwords import check_password
from gateway.router.identity import LoginKind, Owner
from gateway.router.route import home_of
from gateway.settings.model import INDUSTRIES, Settings
from tests.conftest import OWNERS, Provisioned

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def test_owners_cover_every_industry_and_shard(provisioned: Provisioned) -> None:
    assert len(provisioned.owners) == OWNERS
    assert {owner.industry for owner in provisioned.owners} == set(INDUSTRIES)
    assert {owner.shard for owner in provisioned.owners} == set(provisioned.snapshot.shards) - {
        "meta"
    }
    kinds = {login.kind for login in provisioned.logins.values()}
    assert kinds == set(LoginKind)


async def test_the_directory_and_the_seed_agree(provisioned: Provisioned) -> None:
    async with connected(provisioned.url("meta")) as connection:
        logins = await connection.fetch("SELECT name, kind, verifier, owner_id FROM gateway.login")
        owners = await connection.fetch("SELECT id, industry, shard, epoch FROM gateway.owner")
        grants = await connection.fetch("SELECT login, scope, value FROM gateway.login_grant")
    assert [tuple(grant) for grant in grants] == [("app", "all", None)]
    assert len(logins) == len(provisioned.logins)
    for row in logins:
        login = provisioned.logins[row["name"]]
        assert (row["kind"], row["owner_id"]) == (login.kind.value, login.owner)
        assert check_password(login.password, row["verifier"], login.user)
    homes = {login.owner: login.shard for login in provisioned.owners}
    assert len(owners) == len(homes)
    for row in owners:
        home = home_of(provisioned.snapshot, Owner(**row))
        assert home is not None
        assert home.name == homes[row["id"]]


async def test_verifiers_are_salted_each_on_its_own(provisioned: Provisioned) -> None:
    async with connected(provisioned.url("meta")) as connection:
        salts = "SELECT count(DISTINCT split_part(verifier, '$', 2)) FROM gateway.login"
        assert await connection.fetchval(salts) == len(provisioned.logins)


async def test_rows_live_with_their_owner_and_name_no_other(provisioned: Provisioned) -> None:
    for shard in ("law", "medical_1", "medical_2", "real_estate_1", "real_estate_2"):
        here = {int(owner.owner or 0) for owner in provisioned.owners if owner.shard == shard}
        async with connected(provisioned.url(shard)) as connection:
            assert await connection.fetchval("SELECT current_database()") == f"crm_{shard}"
            assert {row[0] for row in await connection.fetch('SELECT id FROM "User"')} == here
            for table in COLUMNS:
                if await connection.fetchval("SELECT to_regclass($1)", f'"{table}"') is None:
                    continue
                owner = {"User": "id", "ConversationMessage": "NULL"}.get(table, '"userId"')
                foreign = await connection.fetchval(
                    f"""SELECT count(*) FROM "{table}" AS t, regexp_matches(t::text,
                        'owner-(\\d+)', 'g') AS m
                        WHERE m[1]::int <> coalesce({owner}, m[1]::int) OR m[1]::int <> ALL($1)""",
                    list(here),
                )
                assert foreign == 0, table
                empty = await connection.fetchval(
                    f"""SELECT count(*) FROM "{table}" AS t WHERE t::text !~ 'owner-\\d+'"""
                )
                assert empty == 0, table


async def test_ids_of_two_shards_do_not_meet_and_inserts_go_on(provisioned: Provisioned) -> None:
    ids: list[set[int]] = []
    for shard in ("medical_1", "medical_2"):
        owner = provisioned.owner_on(shard)
        async with connected(provisioned.url(shard)) as connection:
            ids.append({row[0] for row in await connection.fetch('SELECT id FROM "Patient"')})
            transaction = connection.transaction()
            await transaction.start()
            new = await connection.fetchval(
                """INSERT INTO "Patient" ("userId", name, email, "bornOn")
                   VALUES ($1, 'N', 'n@x', '2000-01-01') RETURNING id""",
                int(owner.owner or 0),
            )
            await transaction.rollback()
            assert new > max(ids[-1])
    assert not ids[0] & ids[1]


@pytest.fixture
async def single(postgres: Cluster) -> Settings:
    """One legacy database that is the meta database and two industries."""
    url = postgres.dsn("legacy_all_in_one")
    settings = Settings.model_validate(
        {
            "meta": {"primary": url},
            "industries": {
                "LAW": {"shards": [{"primary": url}]},
                "MEDICAL": {"shards": [{"primary": url, "name": "a"}, {"primary": url}]},
            },
        }
    )
    await provision(settings, report=lambda line: None)
    return settings


async def test_one_database_for_all_is_filled_too(single: Settings) -> None:
    steps: list[tuple[int, int]] = []
    logins = await seed(single, owners=9, progress=lambda *step: steps.append(step))
    assert len(logins) == 11
    assert steps[-1][0] == steps[-1][1]
    assert steps == sorted(steps)
    async with connected(single.meta.primary.get_secret_value()) as connection:
        assert await connection.fetchval('SELECT count(*) FROM "User"') == 9
        assert await connection.fetchval('SELECT count(DISTINCT "userId") FROM "Lead"') == 9

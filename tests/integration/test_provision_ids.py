"""New ids never meet: every database draws numbers of its own."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count

import pytest

from gateway.demo.postgres import Cluster
from gateway.migrate.connect import connected
from gateway.migrate.plan import plans
from gateway.migrate.provision import Options, ProvisionError, provision
from gateway.settings.model import Settings

_NUMBERS = count(1)
LEAD = """INSERT INTO "Lead" ("userId", "name", "email") VALUES (1, 'L', 'l@x') RETURNING "id" """


def settings_on(
    postgres: Cluster, prefix: str, industries: Mapping[str, tuple[str, ...]]
) -> Settings:
    def shard(name: str) -> dict[str, str]:
        return {"primary": postgres.dsn(f"{prefix}_{name}"), "name": name}

    return Settings.model_validate(
        {
            "meta": {"primary": postgres.dsn(f"{prefix}_meta")},
            "industries": {
                industry: {"shards": [shard(name) for name in names]}
                for industry, names in industries.items()
            },
        }
    )


@pytest.fixture
def prefix() -> str:
    return f"ids_{next(_NUMBERS)}"


async def run(settings: Settings, **options: object) -> list[str]:
    lines: list[str] = []
    chosen = Options(**options)  # type: ignore[arg-type]
    await provision(settings, report=lines.append, options=chosen)
    return lines


async def insert(settings: Settings, shard: str, times: int) -> list[int]:
    dsn = next(plan.dsn for plan in plans(settings) if shard in plan.shards)
    async with connected(dsn) as connection:
        await connection.execute(
            """INSERT INTO "User" ("id", "email", "name", "industry") VALUES (1, 'a@x', 'A', 'LAW')
               ON CONFLICT DO NOTHING"""
        )
        return [await connection.fetchval(LEAD) for _ in range(times)]


async def execute(settings: Settings, shard: str, statement: str) -> None:
    dsn = next(plan.dsn for plan in plans(settings) if shard in plan.shards)
    async with connected(dsn) as connection:
        await connection.execute(statement)


async def test_each_database_draws_its_own_numbers(postgres: Cluster, prefix: str) -> None:
    settings = settings_on(postgres, prefix, {"LAW": ("a", "b"), "MEDICAL": ("m",)})
    await run(settings)
    seen = {name: await insert(settings, name, 3) for name in ("a", "b", "m")}
    assert seen == {"a": [1, 129, 257], "b": [2, 130, 258], "m": [3, 131, 259]}
    more = settings_on(postgres, prefix, {"DENTIST": ("d",), "LAW": ("c", "a", "b")})
    lines = await run(more)
    assert sum("sequences draw" in line for line in lines) == 2
    # A new one starts above all that there is, so that rows may come to it under their ids.
    assert await insert(more, "d", 1) == [260]
    assert await insert(more, "c", 1) == [261]
    assert await insert(more, "a", 1) == [385]
    await execute(more, "a", 'TRUNCATE "Lead" RESTART IDENTITY CASCADE')
    assert await insert(more, "a", 1) == [1]


async def test_tables_with_rows_keep_their_sequences_unless_told_otherwise(
    postgres: Cluster, prefix: str
) -> None:
    settings = settings_on(postgres, prefix, {"LAW": ("a",), "MEDICAL": ("m",)})
    await run(settings)
    for shard in ("a", "m"):  # as an application of its own would have made it
        await execute(
            settings, shard, 'ALTER SEQUENCE "Lead_id_seq" INCREMENT BY 1 RESTART START 1'
        )
    await insert(settings, "a", 5)
    lines = await run(settings)
    assert any(line.startswith("a: 1 tables with rows keep") for line in lines)
    assert await insert(settings, "a", 1) == [6]
    assert await insert(settings, "m", 1) == [130]
    await run(settings, stride_sequences=True)
    assert await insert(settings, "a", 2) == [257, 385]
    assert await insert(settings, "m", 1) == [258]


async def test_a_copied_database_gets_numbers_of_its_own(postgres: Cluster, prefix: str) -> None:
    settings = settings_on(postgres, prefix, {"LAW": ("a",)})
    await run(settings)
    assert await insert(settings, "a", 1) == [1]
    async with connected(plans(settings)[0].dsn) as connection:
        await connection.execute(f'CREATE DATABASE "{prefix}_b" TEMPLATE "{prefix}_a"')
    both = settings_on(postgres, prefix, {"LAW": ("a", "b")})
    await run(both)
    assert await insert(both, "a", 1) == [129]
    assert await insert(both, "b", 1) == [2]


async def test_the_stride_stays(postgres: Cluster, prefix: str) -> None:
    settings = settings_on(postgres, prefix, {"LAW": ("a", "b")})
    with pytest.raises(ProvisionError, match="room for 1 databases only"):
        await run(settings, id_stride=2)
    await run(settings, id_stride=3)
    assert await insert(settings, "b", 2) == [2, 5]
    with pytest.raises(ProvisionError, match="step by 3 already"):
        await run(settings, id_stride=4)

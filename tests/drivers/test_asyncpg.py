"""asyncpg: prepared statements everywhere, Flush, type introspection, a pool that resets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from tests.conftest import Provisioned
from tests.drivers.crm import ROUNDS, SHARD, Client

INSERT = (
    'INSERT INTO "Lead" ("userId", "name", "email", "source")'
    ' VALUES ($1, $2, $3, $4) RETURNING "id"'
)
MINE = 'SELECT "name" FROM "Lead" WHERE "source" = $1 ORDER BY "name"'
REMOVE = 'DELETE FROM "Lead" WHERE "source" = $1'


@asynccontextmanager
async def connected(client: Client) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(client.url(), timeout=20, command_timeout=20)
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


def _plain(row: asyncpg.Record | None) -> tuple[object, ...]:
    assert row is not None
    return tuple(row)


async def test_crud(clients: list[Client]) -> None:
    async def script(client: Client) -> None:
        async with connected(client) as connection:
            for number in range(ROUNDS):
                async with connection.transaction():
                    lead = await connection.fetchval(
                        INSERT, client.owner, f"lead {number}", client.email(number), client.tag
                    )
                    await connection.execute(
                        'INSERT INTO "Deal" ("userId", "leadId", "title", "amount", "stage")'
                        " VALUES ($1, $2, $3, $4, $5)",
                        *(client.owner, lead, client.tag, Decimal("7.25"), "WON"),
                    )
            rows = await connection.fetch(MINE, client.tag)
            assert [row["name"] for row in rows] == [f"lead {n}" for n in range(ROUNDS)]
            with pytest.raises(asyncpg.NotNullViolationError):
                async with connection.transaction():
                    await connection.execute(REMOVE, client.tag)
                    await connection.execute(INSERT, None, "x", "x", client.tag)
            query = 'DELETE FROM "Deal" WHERE "title" = $1'
            assert await connection.execute(query, client.tag) == f"DELETE {ROUNDS}"
            assert await connection.execute(REMOVE, client.tag) == f"DELETE {ROUNDS}"

    await asyncio.gather(*map(script, clients))


async def test_prepared_statements_outlive_transactions(clients: list[Client]) -> None:
    async def script(client: Client) -> None:
        async with connected(client) as connection:
            doubled = await connection.prepare("SELECT $1::int * 2 AS doubled, $2::text AS tag")
            assert [a.name for a in doubled.get_attributes()] == ["doubled", "tag"]
            for number in range(20):
                assert _plain(await doubled.fetchrow(number, client.tag)) == (
                    number * 2,
                    client.tag,
                )
                if number % 5 == 0:
                    with pytest.raises(asyncpg.UndefinedTableError):
                        await connection.fetch(f'SELECT * FROM "{client.tag}"')

    await asyncio.gather(*map(script, clients))


async def test_cursors_and_nested_transactions(clients: list[Client]) -> None:
    async def script(client: Client) -> None:
        async with connected(client) as connection, connection.transaction():
            series = "SELECT n, $1::text AS tag FROM generate_series(1, 100) n"
            walked = [
                _plain(row) async for row in connection.cursor(series, client.tag, prefetch=9)
            ]
            assert walked == [(n, client.tag) for n in range(1, 101)]
            cursor = await connection.cursor(series, client.tag)
            await cursor.forward(10)
            assert _plain(await cursor.fetchrow()) == (11, client.tag)
            with pytest.raises(asyncpg.DivisionByZeroError):
                async with connection.transaction():
                    await connection.execute("SELECT 1 / 0")
            assert _plain(await cursor.fetchrow()) == (12, client.tag)

    await asyncio.gather(*map(script, clients))


async def test_copy_and_executemany(clients: list[Client]) -> None:
    async def script(client: Client) -> None:
        async with connected(client) as connection:
            rows = [(client.owner, f"{n:03}", client.email(n), client.tag) for n in range(300)]
            await connection.copy_records_to_table(
                "Lead", records=rows[:200], columns=["userId", "name", "email", "source"]
            )
            await connection.executemany(INSERT, rows[200:])
            names = [row["name"] for row in await connection.fetch(MINE, client.tag)]
            assert names == [f"{n:03}" for n in range(300)]
            lines: list[bytes] = []

            async def take(data: bytes) -> None:
                lines.append(data)

            assert await connection.copy_from_query(MINE, client.tag, output=take) == "COPY 300"
            assert b"".join(lines).count(b"\n") == 300
            await connection.execute(REMOVE, client.tag)

    await asyncio.gather(*map(script, clients))


async def test_types_are_introspected(clients: list[Client], provisioned: Provisioned) -> None:
    direct = await asyncpg.connect(provisioned.url(SHARD))
    await direct.execute("CREATE TYPE driver_test_place AS (street text, number int)")
    try:

        async def script(client: Client) -> None:
            async with connected(client) as connection:
                place = await connection.fetchval("SELECT ROW('Elm', 7)::driver_test_place")
                assert (place["street"], place["number"]) == ("Elm", 7)
                stages = await connection.fetchval('SELECT $1::"DealStage"[]', ["WON", "LOST"])
                assert stages == ["WON", "LOST"]
                await connection.set_type_codec(
                    "jsonb", schema="pg_catalog", encoder=lambda _: "{}", decoder=len
                )
                assert await connection.fetchval("SELECT $1::jsonb", {}) == 2

        await asyncio.gather(*map(script, clients))
    finally:
        await direct.execute("DROP TYPE driver_test_place")
        await direct.close()


async def test_pool_resets_what_its_users_leave(client: Client) -> None:
    async def visit(pool: asyncpg.Pool[asyncpg.Record], number: int) -> None:
        async with pool.acquire() as connection:
            assert await connection.fetchval("SHOW work_mem") == "4MB"
            await connection.execute(f"SET work_mem = '{number + 100}kB'")
            assert await connection.fetchval("SHOW work_mem") == f"{number + 100}kB"
            async with connection.transaction():
                await connection.fetchval(INSERT, client.owner, f"{number}", "x", client.tag)

    async with asyncpg.create_pool(client.url(), min_size=2, max_size=8) as pool:
        await asyncio.gather(*(visit(pool, number) for number in range(30)))
        assert len(await pool.fetch(MINE, client.tag)) == 30
        await pool.execute(REMOVE, client.tag)


async def test_notifications_reach_the_listener(clients: list[Client]) -> None:
    async def script(client: Client) -> None:
        heard: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        async with connected(client) as connection:

            def hear(_: object, pid: int, channel: str, payload: object) -> None:
                heard.put_nowait((channel, payload))

            await connection.add_listener(client.tag, hear)
            for n in range(ROUNDS):
                await connection.execute("SELECT pg_notify($1, $2)", client.tag, str(n))
            got = [await asyncio.wait_for(heard.get(), 10) for _ in range(ROUNDS)]
            assert got == [(client.tag, str(n)) for n in range(ROUNDS)]
            await connection.remove_listener(client.tag, hear)

    await asyncio.gather(*map(script, clients))

"""psycopg 3, asynchronous."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from tests.drivers.crm import ROUNDS, Client

INSERT = 'INSERT INTO "Lead" ("userId", "name", "email", "source") VALUES (%s, %s, %s, %s)'
MINE = 'SELECT "name" FROM "Lead" WHERE "source" = %s ORDER BY "name"'
REMOVE = 'DELETE FROM "Lead" WHERE "source" = %s'


@pytest.mark.parametrize("threshold", [0, None])
async def test_crud(clients: list[Client], threshold: int | None) -> None:
    async def script(client: Client) -> None:
        connection = await psycopg.AsyncConnection.connect(client.dsn, prepare_threshold=threshold)
        async with connection, connection.cursor() as cursor:
            for number in range(ROUNDS):
                row = (client.owner, f"lead {number}", client.email(number), client.tag)
                await cursor.execute(INSERT, row)
                await connection.commit()
                await cursor.execute(INSERT, row)
                await connection.rollback()
            await cursor.execute(MINE, (client.tag,))
            assert await cursor.fetchall() == [(f"lead {n}",) for n in range(ROUNDS)]
            await cursor.execute('UPDATE "Lead" SET "score" = 9 WHERE "source" = %s', (client.tag,))
            await cursor.execute(REMOVE + " RETURNING score", (client.tag,))
            assert await cursor.fetchall() == [(9,)] * ROUNDS

    await asyncio.gather(*map(script, clients))


async def test_pipeline_of_transactions(clients: list[Client]) -> None:
    async def script(client: Client) -> None:
        connection = await psycopg.AsyncConnection.connect(client.dsn, prepare_threshold=0)
        async with connection, connection.pipeline() as pipeline:
            for number in range(ROUNDS):
                async with connection.transaction():
                    await connection.execute(
                        INSERT, (client.owner, f"{number}", client.email(number), client.tag)
                    )
            await pipeline.sync()
            rows = await (await connection.execute(MINE, (client.tag,))).fetchall()
            assert rows == [(f"{n}",) for n in range(ROUNDS)]
            await connection.execute(REMOVE, (client.tag,))

    await asyncio.gather(*map(script, clients))


async def test_copy_and_stream(clients: list[Client]) -> None:
    async def script(client: Client) -> None:
        connection = await psycopg.AsyncConnection.connect(client.dsn)
        async with connection, connection.cursor() as cursor:
            statement = (
                'COPY "Lead" ("userId", "name", "email", "source") FROM STDIN (FORMAT BINARY)'
            )
            async with cursor.copy(statement) as copy:
                copy.set_types(["int4", "text", "text", "text"])
                for n in range(200):
                    await copy.write_row((client.owner, f"{n:03}", client.email(n), client.tag))
            streamed = [row[0] async for row in cursor.stream(MINE, (client.tag,))]
            assert streamed == [f"{n:03}" for n in range(200)]
            await cursor.execute(REMOVE, (client.tag,))

    await asyncio.gather(*map(script, clients))


async def test_notifications_reach_the_listener(clients: list[Client]) -> None:
    async def script(client: Client) -> None:
        connection = await psycopg.AsyncConnection.connect(client.dsn, autocommit=True)
        async with connection:
            await connection.execute(f'LISTEN "{client.tag}"')
            for n in range(ROUNDS):
                await connection.execute("SELECT pg_notify(%s, %s)", (client.tag, str(n)))
            heard = [
                (notice.channel, notice.payload)
                async for notice in connection.notifies(timeout=10, stop_after=ROUNDS)
            ]
            assert heard == [(client.tag, str(n)) for n in range(ROUNDS)]

    await asyncio.gather(*map(script, clients))

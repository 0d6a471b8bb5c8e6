"""psycopg2: libpq's simple query protocol."""

from __future__ import annotations

import io

import psycopg2
import psycopg2.extras
import pytest

from tests.drivers.crm import ROUNDS, Client, all_at_once

INSERT = 'INSERT INTO "Lead" ("userId", "name", "email", "source") VALUES (%s, %s, %s, %s)'
MINE = 'SELECT "name" FROM "Lead" WHERE "source" = %s ORDER BY "name"'
REMOVE = 'DELETE FROM "Lead" WHERE "source" = %s'


async def test_crud(clients: list[Client]) -> None:
    def script(client: Client) -> None:
        connection = psycopg2.connect(client.dsn)
        with connection, connection.cursor(cursor_factory=psycopg2.extras.DictCursor) as cursor:
            for number in range(ROUNDS):
                row = (client.owner, f"lead {number}", client.email(number), client.tag)
                cursor.execute(INSERT, row)
                connection.commit()
                cursor.execute(INSERT, row)
                connection.rollback()
            cursor.execute(MINE, (client.tag,))
            assert [row["name"] for row in cursor] == [f"lead {n}" for n in range(ROUNDS)]
            cursor.execute('UPDATE "Lead" SET "tags" = %s WHERE "source" = %s', (["a"], client.tag))
            cursor.execute(REMOVE + ' RETURNING "tags"', (client.tag,))
            assert cursor.fetchall() == [[["a"]]] * ROUNDS
        connection.close()

    await all_at_once(script, clients)


async def test_bulk_copy_and_named_cursor(clients: list[Client]) -> None:
    def script(client: Client) -> None:
        connection = psycopg2.connect(client.dsn)
        with connection, connection.cursor() as cursor:
            rows = [(client.owner, f"{n:03}", client.email(n), client.tag) for n in range(200)]
            columns = '("userId", "name", "email", "source")'
            psycopg2.extras.execute_values(
                cursor, f'INSERT INTO "Lead" {columns} VALUES %s', rows[:100]
            )
            text = "".join("\t".join(map(str, row)) + "\n" for row in rows[100:])
            cursor.copy_expert(f'COPY "Lead" {columns} FROM STDIN', io.StringIO(text))
            with connection.cursor("walk") as walk:
                walk.itersize = 33
                walk.execute(MINE, (client.tag,))
                assert [row[0] for row in walk] == [f"{n:03}" for n in range(200)]
            cursor.execute(REMOVE, (client.tag,))
        connection.close()

    await all_at_once(script, clients)


async def test_errors_notices_and_notifications(clients: list[Client]) -> None:
    def script(client: Client) -> None:
        connection = psycopg2.connect(client.dsn)
        connection.autocommit = True
        cursor = connection.cursor()
        with pytest.raises(psycopg2.errors.UniqueViolation):
            cursor.execute('INSERT INTO "User" SELECT * FROM "User" LIMIT 1')
        cursor.execute(f"DO $$ BEGIN RAISE WARNING '{client.tag}'; END $$")
        assert connection.notices == [f"WARNING:  {client.tag}\n"]
        cursor.execute(f'LISTEN "{client.tag}"')
        cursor.execute(f"NOTIFY \"{client.tag}\", 'hello'")
        while not connection.notifies:
            cursor.execute("SELECT pg_sleep(0.01)")
            connection.poll()
        assert [(n.channel, n.payload) for n in connection.notifies] == [(client.tag, "hello")]
        connection.close()

    await all_at_once(script, clients)

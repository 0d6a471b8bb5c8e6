"""psycopg 3, blocking, as an application uses it."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal
from typing import cast

import psycopg
import pytest
from psycopg import generators, sql
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGresult
from psycopg.rows import dict_row
from psycopg.waiting import wait

from tests.drivers.crm import ROUNDS, Client, all_at_once

INSERT = (
    'INSERT INTO "Lead" ("userId", "name", "email", "source")'
    ' VALUES (%s, %s, %s, %s) RETURNING "id"'
)
MINE = 'SELECT "name", "email" FROM "Lead" WHERE "source" = %s ORDER BY "name"'
REMOVE = 'DELETE FROM "Lead" WHERE "source" = %s'

Connection = psycopg.Connection[tuple[object, ...]]


def crud(client: Client, connection: Connection) -> None:
    for number in range(ROUNDS):
        with connection.transaction():
            row = connection.execute(
                INSERT, (client.owner, f"lead {number}", client.email(number), client.tag)
            ).fetchone()
            assert row is not None
            connection.execute(
                'INSERT INTO "Deal" ("userId", "leadId", "title", "amount")'
                " VALUES (%s, %s, %s, %s)",
                (client.owner, row[0], client.tag, Decimal("12.50")),
            )
    rows = connection.execute(MINE, (client.tag,)).fetchall()
    assert rows == [(f"lead {n}", client.email(n)) for n in range(ROUNDS)]
    updated = connection.execute(
        'UPDATE "Deal" SET "stage" = %s, "amount" = "amount" + 1 WHERE "title" = %s',
        ("WON", client.tag),
    )
    assert updated.rowcount == ROUNDS
    total = connection.execute(
        'SELECT sum(d."amount") FROM "Deal" d JOIN "Lead" l ON l."id" = d."leadId"'
        ' WHERE l."source" = %s AND d."stage" = %s',
        (client.tag, "WON"),
    ).fetchone()
    assert total == (Decimal("13.50") * ROUNDS,)
    assert connection.execute('DELETE FROM "Deal" WHERE "title" = %s', (client.tag,)).rowcount == 5
    assert connection.execute(REMOVE, (client.tag,)).rowcount == ROUNDS


@pytest.mark.parametrize("threshold", [0, 5, None])
@pytest.mark.parametrize("autocommit", [True, False])
async def test_crud(clients: list[Client], threshold: int | None, autocommit: bool) -> None:
    def script(client: Client) -> None:
        with psycopg.connect(
            client.dsn, prepare_threshold=threshold, autocommit=autocommit
        ) as connection:
            crud(client, connection)

    await all_at_once(script, clients)


async def test_savepoints_roll_back_to_where_they_say(clients: list[Client]) -> None:
    def script(client: Client) -> None:
        with psycopg.connect(client.dsn, prepare_threshold=0) as connection:
            connection.execute(INSERT, (client.owner, "kept", client.email(0), client.tag))
            with connection.transaction():
                connection.execute(INSERT, (client.owner, "also", client.email(1), client.tag))
                with connection.transaction(force_rollback=True):
                    connection.execute(REMOVE, (client.tag,))
                with pytest.raises(psycopg.errors.NotNullViolation), connection.transaction():
                    connection.execute(INSERT, (None, "never", client.email(2), client.tag))
            assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
            connection.commit()
            assert [row[0] for row in connection.execute(MINE, (client.tag,))] == ["also", "kept"]
            connection.execute(REMOVE, (client.tag,))
            connection.rollback()
            assert connection.execute(REMOVE, (client.tag,)).rowcount == 2

    await all_at_once(script, clients)


async def test_pipeline_keeps_order_and_survives_an_error(clients: list[Client]) -> None:
    def script(client: Client) -> None:
        with psycopg.connect(client.dsn, autocommit=True, prepare_threshold=0) as connection:
            with connection.pipeline():
                cursors = [
                    connection.execute("SELECT %s::text, %s::int", (client.tag, number))
                    for number in range(50)
                ]
                answers = [cursor.fetchone() for cursor in cursors]
            assert answers == [(client.tag, number) for number in range(50)]
            with pytest.raises(psycopg.errors.DivisionByZero), connection.pipeline() as pipeline:
                connection.execute("SELECT 1 / %s::int", (0,))
                connection.execute("SELECT %s::text", (client.tag,))
                pipeline.sync()
            assert connection.execute("SELECT %s::text", (client.tag,)).fetchone() == (client.tag,)

    await all_at_once(script, clients)


async def test_executemany_and_copy(clients: list[Client]) -> None:
    def script(client: Client) -> None:
        with psycopg.connect(client.dsn) as connection:
            cursor = connection.cursor()
            cursor.executemany(
                INSERT,
                [(client.owner, f"many {n:03}", client.email(n), client.tag) for n in range(100)],
                returning=True,
            )
            with cursor.copy(
                'COPY "Lead" ("userId", "name", "email", "source") FROM STDIN'
            ) as copy:
                for n in range(100, 500):
                    copy.write_row((client.owner, f"many {n:03}", client.email(n), client.tag))
            query = sql.SQL('COPY (SELECT "name" FROM "Lead" WHERE "source" = {}) TO STDOUT')
            with cursor.copy(query.format(sql.Literal(client.tag))) as copy:
                names = sorted(row[0] for row in copy.rows())
            assert names == [f"many {n:03}" for n in range(500)]
            with (
                pytest.raises(psycopg.errors.BadCopyFileFormat),
                connection.transaction(),
                cursor.copy('COPY "Lead" ("userId", "name") FROM STDIN') as copy,
            ):
                copy.write("1\n")
            assert cursor.execute(REMOVE, (client.tag,)).rowcount == 500

    await all_at_once(script, clients)


async def test_server_side_cursors(clients: list[Client]) -> None:
    def script(client: Client) -> None:
        with psycopg.connect(client.dsn) as connection:
            with connection.cursor("walk", row_factory=dict_row) as cursor:
                cursor.itersize = 7
                cursor.execute("SELECT n, %s AS tag FROM generate_series(1, 100) n", (client.tag,))
                seen = list(cursor)
            assert [row["n"] for row in seen] == list(range(1, 101))
            assert {row["tag"] for row in seen} == {client.tag}
            with connection.cursor("held", withhold=True, scrollable=True) as cursor:
                cursor.execute("SELECT n, %s FROM generate_series(1, 10) n", (client.tag,))
                connection.commit()
                assert cursor.fetchmany(3)[-1] == (3, client.tag)
                cursor.scroll(1, mode="absolute")
                assert cursor.fetchone() == (2, client.tag)

    await all_at_once(script, clients)


async def test_settings_follow_their_client(clients: list[Client]) -> None:
    def script(client: Client) -> None:
        with psycopg.connect(
            client.dsn, application_name=client.tag, autocommit=True
        ) as connection:
            connection.execute(f"SET work_mem = '{client.owner + 100}kB'")
            connection.execute("SELECT set_config('app.tag', %s, false)", (client.tag,))
            for _ in range(ROUNDS):
                assert connection.execute("SHOW application_name").fetchone() == (client.tag,)
                assert connection.execute("SHOW app.tag").fetchone() == (client.tag,)
                assert connection.execute("SHOW work_mem").fetchone() == (
                    f"{client.owner + 100}kB",
                )
            connection.execute("SET TimeZone = 'Asia/Tokyo'")
            assert str(connection.info.timezone) == "Asia/Tokyo"

    await all_at_once(script, clients)


async def test_notices_errors_and_version_are_the_servers(clients: list[Client]) -> None:
    def script(client: Client) -> None:
        with psycopg.connect(client.dsn, autocommit=True) as connection:
            heard: list[str | None] = []
            connection.add_notice_handler(lambda notice: heard.append(notice.message_primary))
            connection.execute(f"DO $$ BEGIN RAISE NOTICE '{client.tag}'; END $$")
            assert heard == [client.tag]
            with pytest.raises(psycopg.errors.UndefinedColumn) as error:
                connection.execute(f'SELECT "{client.tag}" FROM "Lead"')
            assert error.value.diag.statement_position == "8"
            version = connection.execute("SHOW server_version_num").fetchone()
            assert version == (str(connection.info.server_version),)

    await all_at_once(script, clients)


async def test_statement_is_cancelled(client: Client) -> None:
    def script(client: Client) -> None:
        with psycopg.connect(client.dsn, autocommit=True) as connection:
            cancel = threading.Timer(0.3, connection.cancel_safe)
            cancel.start()
            with pytest.raises(psycopg.errors.QueryCanceled):
                connection.execute("SELECT pg_sleep(20)")
            cancel.join()
            assert connection.execute("SELECT 1").fetchone() == (1,)

    await all_at_once(script, [client])


async def test_the_number_of_a_client_ends_nobody(clients: list[Client]) -> None:
    """A driver takes it for the process id of its server; servers know no such process."""

    def run() -> None:
        with psycopg.connect(clients[0].dsn) as one, psycopg.connect(clients[1].dsn) as other:
            other.execute("SELECT 1")
            said: list[str | None] = []
            one.add_notice_handler(lambda notice: said.append(notice.message_primary))
            number = other.info.backend_pid
            for function in ("pg_terminate_backend", "pg_cancel_backend"):
                refused = one.execute(f"SELECT {function}(%s)".encode(), (number,)).fetchone()
                assert refused == (False,)
            assert len(said) == 2
            assert all(text is not None and f"PID {number} is not" in text for text in said)
            assert other.execute("SELECT 2").fetchone() == (2,)

    await asyncio.to_thread(run)


async def test_an_unnamed_statement_too_long_to_keep_lives_on(clients: list[Client]) -> None:
    """Parsed, described and run in three batches; a Query does away with it."""
    text = b"SELECT length('" + b"x" * 700_000 + b"') + $1::int"

    def run() -> None:
        with psycopg.connect(clients[0].dsn, autocommit=True) as connection:
            low = connection.pgconn

            def answer() -> PGresult:  # the calls that wait themselves keep the GIL meanwhile
                (result,) = wait(generators.execute(low), low.socket)
                return cast(PGresult, result)

            for number in (5, 6):
                low.send_prepare(b"", text)
                assert answer().status == ExecStatus.COMMAND_OK
                low.send_describe_prepared(b"")
                assert answer().nparams == 1
                low.send_query_prepared(b"", [b"%d" % number])
                assert answer().get_value(0, 0) == b"%d" % (700_000 + number)
            assert connection.execute("SET TimeZone = 'UTC'").statusmessage == "SET"
            low.send_query(b"SELECT 2")
            assert answer().get_value(0, 0) == b"2"
            low.send_query_prepared(b"", [b"7"])
            assert answer().error_field(DiagnosticField.SQLSTATE) == b"26000"

    await asyncio.to_thread(run)

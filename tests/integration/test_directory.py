"""The directory on a real meta database: answers, news of changes, outages, unwanted settings."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from gateway.clock import monotonic
from gateway.demo.postgres import FAST, Cluster, StopMode, find_postgres
from gateway.directory.directory import Directory
from gateway.directory.invalidation import InvalidationListener, Kind
from gateway.directory.meta import MetaDatabase
from gateway.errors import DirectoryUnavailable
from gateway.migrate import schema
from gateway.protocol.passwords import hash_api_key
from gateway.router.identity import LoginKind, Owner
from gateway.settings.dsn import Dsn, parse
from gateway.settings.model import Directory as DirectorySettings

Sql = Callable[[str], Awaitable[object]]

LONG_S = 3600.0
SEED = """
    INSERT INTO "User" ("id", "email", "name", "industry")
    VALUES (1, 'ann@example.com', 'Ann', 'LAW'), (2, 'bob@example.com', 'Bob', 'MEDICAL');
    INSERT INTO gateway.login (name, kind, verifier, owner_id)
    VALUES ('ann', 'owner', 'SCRAM-SHA-256$ann', '1'), ('bob', 'owner', 'SCRAM-SHA-256$bob', '2');
    INSERT INTO gateway.login (name, kind) VALUES ('web', 'service'), ('root', 'operator');
"""


# -- a server, a database of each test's own, a directory on it


@pytest.fixture(scope="module")
async def server(cluster_folder: Path) -> AsyncIterator[Cluster]:
    """A server of this module's own, for it is stopped and started; template_meta is seeded."""
    cluster = Cluster(find_postgres(), cluster_folder / "directory", settings=FAST)
    await cluster.initdb()
    await cluster.start()
    try:
        await _execute(cluster.dsn(), "CREATE DATABASE template_meta")
        await _execute(cluster.dsn("template_meta"), schema.read(schema.META), SEED)
        yield cluster
    finally:
        await cluster.stop(StopMode.IMMEDIATE)
        cluster.remove()


@pytest.fixture
async def meta(server: Cluster) -> AsyncIterator[Dsn]:
    """A fresh copy of the meta database."""
    await _execute(
        server.dsn(),
        "DROP DATABASE IF EXISTS meta WITH (FORCE)",
        "CREATE DATABASE meta TEMPLATE template_meta",
    )
    yield parse(server.dsn("meta"))


@pytest.fixture
def sql(server: Cluster, meta: Dsn) -> Sql:
    """Runs statements in the meta database, as its superuser and on another connection."""
    return lambda text: _execute(server.dsn("meta"), text)


@pytest.fixture
async def directory(meta: Dsn) -> AsyncIterator[Directory]:
    """A directory that hears of changes and whose answers age only after the test."""
    async with running(meta) as directory:
        await eventually(lambda: directory.connected)
        yield directory


def options(**changes: object) -> DirectorySettings:
    """Settings under which nothing ages by itself, so that only invalidations can refresh."""
    kept: dict[str, object] = {"ttl_s": LONG_S, "negative_ttl_s": LONG_S}
    return DirectorySettings.model_validate(kept | changes)


@contextlib.asynccontextmanager
async def running(dsn: Dsn, settings: DirectorySettings | None = None) -> AsyncIterator[Directory]:
    directory = Directory(dsn, settings or options())
    await directory.start()
    try:
        yield directory
    finally:
        await directory.close()


async def eventually(true: Callable[[], bool], within_s: float = 10) -> None:
    """Wait until ``true()``; fail when that takes too long."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "did not come true in time"
        await asyncio.sleep(0.01)


async def becomes(ask: Callable[[], Awaitable[object]], expected: object) -> None:
    """Wait until ``ask()`` answers ``expected``."""
    deadline = time.monotonic() + 10
    while (answer := await ask()) != expected:
        assert time.monotonic() < deadline, f"still {answer!r}"
        await asyncio.sleep(0.01)


async def _execute(url: str, *texts: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for text in texts:
            await connection.execute(text)
    finally:
        await connection.close()


async def _backends(server: Cluster) -> int:
    """Connections of directories to the meta database."""
    connection = await asyncpg.connect(server.dsn())
    try:
        count = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = 'meta' AND application_name = 'gateway directory'"
        )
    finally:
        await connection.close()
    return int(count)


END_LISTENERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'meta'
    AND application_name = 'gateway directory' AND query ~ 'LISTEN|pg_listening_channels'
"""


# -- answers


async def test_logins_and_owners(directory: Directory, sql: Sql) -> None:
    ann = await directory.login("ann")
    assert ann is not None
    assert (ann.kind, ann.owner, ann.verifier) == (LoginKind.OWNER, "1", "SCRAM-SHA-256$ann")
    assert (ann.disabled, ann.valid_until) == (False, None)
    root = await directory.login("root")
    assert root is not None
    assert (root.kind, root.owner, root.verifier) == (LoginKind.OPERATOR, None, "")
    assert await directory.login("nobody") is None
    assert await directory.login("Ann") is None
    assert await directory.owner("1") == Owner("1", "LAW")
    assert await directory.owner("99") is None


async def test_expiry_is_told_in_seconds_since_1970(directory: Directory, sql: Sql) -> None:
    await sql("UPDATE gateway.login SET valid_until = '2030-01-01T00:00Z' WHERE name = 'ann'")
    await sql("UPDATE gateway.login SET valid_until = 'infinity' WHERE name = 'bob'")
    ann, bob = await directory.login("ann"), await directory.login("bob")
    assert ann is not None and bob is not None
    assert ann.valid_until == 1893456000.0
    assert bob.valid_until is None


async def test_peek_answers_only_what_is_at_hand(directory: Directory) -> None:
    assert directory.peek_owner("1") is None
    await directory.owner("1")
    assert directory.peek_owner("1") == Owner("1", "LAW")


async def test_a_thousand_concurrent_look_ups_are_one(directory: Directory) -> None:
    answers = await asyncio.gather(*(directory.login("ann") for _ in range(1000)))
    assert {answer.name for answer in answers if answer} == {"ann"}
    assert directory.stats()["lookups"] == 1


async def test_trap_a_storm_of_unknown_logins_is_bounded(meta: Dsn, server: Cluster) -> None:
    async with running(meta, options(connections_max=2)) as directory:
        await eventually(lambda: directory.connected)
        storm = asyncio.gather(*(directory.login(f"x{n % 400}") for n in range(2000)))
        seen = [await _backends(server) for _ in range(3)]
        assert set(await storm) == {None}
        seen.append(await _backends(server))
        assert max(seen) <= 3  # two of the pool and the listener
        assert directory.stats()["lookups"] == 400


async def test_names_that_cannot_exist_are_not_looked_up(directory: Directory) -> None:
    for name in ("", "a\0b", "x" * 256, "é" * 128, "\udce9"):
        assert await directory.login(name) is None
        assert await directory.owner(name) is None
        assert not await directory.api_key(name, "key")
        assert await directory.grants(name) == ()
    assert await directory.login("é" * 127) is None
    assert directory.stats()["lookups"] == 1


async def test_api_keys(directory: Directory, sql: Sql) -> None:
    def row(key: str, login: str, valid_until: str) -> str:
        return (
            "INSERT INTO gateway.api_key (id, login, hash, valid_until)"
            f" VALUES ('{key}', '{login}', '{hash_api_key(key)}', {valid_until})"
        )

    assert not await directory.api_key("ann", "key-1")
    await sql(row("key-1", "ann", "NULL"))
    await sql(row("key-2", "ann", "'infinity'"))
    await sql(row("key-3", "ann", "now() + interval '1 second'"))
    await sql(row("key-4", "ann", "now() - interval '1 second'"))
    await sql(row("key-5", "bob", "NULL"))
    await becomes(lambda: directory.api_key("ann", "key-3"), True)
    assert await directory.api_key("ann", "key-1")
    assert await directory.api_key("ann", "key-2")
    assert not await directory.api_key("ann", "key-4")
    assert not await directory.api_key("ann", "key-5")
    assert not await directory.api_key("nobody", "key-1")
    lookups = directory.stats()["lookups"]
    for guess in range(50):
        assert not await directory.api_key("ann", f"guess {guess}")
    assert directory.stats()["lookups"] == lookups
    await becomes(lambda: directory.api_key("ann", "key-3"), False)  # it ended by itself
    await sql("UPDATE gateway.api_key SET disabled = true WHERE id = 'key-1'")
    await becomes(lambda: directory.api_key("ann", "key-1"), False)


# -- news of changes


async def test_trap_a_new_login_is_known_at_once_in_spite_of_a_negative_answer(
    directory: Directory, sql: Sql
) -> None:
    assert await directory.login("new") is None
    assert await directory.owner("3") is None
    await sql("""INSERT INTO "User" ("id", "email", "name", "industry")
                 VALUES (3, 'new@example.com', 'New', 'DENTIST')""")
    await sql("INSERT INTO gateway.login (name, kind, owner_id) VALUES ('new', 'owner', '3')")
    await eventually(lambda: directory.stats()["notifications"] == 2)
    new = await directory.login("new")
    assert new is not None and new.owner == "3"
    assert await directory.owner("3") == Owner("3", "DENTIST")


async def test_changes_of_logins_and_places_arrive(directory: Directory, sql: Sql) -> None:
    told: list[tuple[Kind, str]] = []
    unsubscribe = directory.subscribe(lambda kind, key: told.append((kind, key)))
    await directory.login("ann")
    await directory.owner("1")
    await sql("INSERT INTO gateway.placement (owner_id, shard, epoch) VALUES ('1', 'law_2', 5)")
    await becomes(lambda: directory.owner("1"), Owner("1", "LAW", "law_2", 5))
    await sql("""UPDATE "User" SET "industry" = 'HOSPITAL' WHERE "id" = 1""")
    await becomes(lambda: directory.owner("1"), Owner("1", "HOSPITAL", None, 6))
    await sql("UPDATE gateway.login SET verifier = 'SCRAM-SHA-256$new' WHERE name = 'ann'")
    await eventually(lambda: len(told) == 3)
    ann = await directory.login("ann")
    assert ann is not None and ann.verifier == "SCRAM-SHA-256$new"
    unsubscribe()
    await sql("DELETE FROM gateway.login WHERE name = 'ann'")
    await becomes(lambda: directory.login("ann"), None)
    assert told == [(Kind.OWNER, "1"), (Kind.OWNER, "1"), (Kind.LOGIN, "ann")]


async def test_a_failing_subscriber_keeps_nobody_else_from_the_news(
    directory: Directory, sql: Sql
) -> None:
    told: list[Kind] = []

    def broken(_kind: Kind, _key: str) -> None:
        raise RuntimeError("broken")

    directory.subscribe(broken)
    directory.subscribe(lambda kind, _key: told.append(kind))
    await sql("TRUNCATE gateway.placement")
    await eventually(lambda: told == [Kind.ALL])
    assert directory.connected


async def test_unknown_news_and_truncate_drop_everything(directory: Directory, sql: Sql) -> None:
    for text in ("NOTIFY gateway_invalidate, 'what is this'", "TRUNCATE gateway.placement"):
        await directory.owner("1")
        assert directory.peek_owner("1") is not None
        await sql(text)
        await eventually(lambda: directory.peek_owner("1") is None)


async def test_trap_no_news_before_the_commit(
    directory: Directory, server: Cluster, meta: Dsn
) -> None:
    await directory.login("ann")
    connection = await asyncpg.connect(server.dsn("meta"))
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("UPDATE gateway.login SET disabled = true WHERE name = 'ann'")
        await asyncio.sleep(0.2)
        assert directory.stats()["notifications"] == 0
        before = await directory.login("ann")
        assert before is not None and not before.disabled
        await transaction.commit()
        await eventually(lambda: directory.stats()["notifications"] == 1)
        after = await directory.login("ann")
        assert after is not None and after.disabled

        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("UPDATE gateway.login SET disabled = false WHERE name = 'ann'")
        await transaction.rollback()
        await connection.execute("UPDATE gateway.login SET disabled = true WHERE name = 'bob'")
        await eventually(lambda: directory.stats()["notifications"] == 2)
    finally:
        await connection.close()


async def test_trap_a_lost_listener_flushes_and_comes_back(directory: Directory, sql: Sql) -> None:
    told: list[tuple[Kind, str]] = []
    await directory.owner("1")
    directory.subscribe(lambda kind, key: told.append((kind, key)))
    # A change nobody is told of, as if it had come while nobody listened.
    await sql(
        "SET session_replication_role = replica;"
        """UPDATE "User" SET "industry" = 'HOSPITAL' WHERE "id" = 1"""
    )
    assert await directory.owner("1") == Owner("1", "LAW")
    await sql(END_LISTENERS)
    await eventually(lambda: directory.stats()["listener_connects"] == 2 and directory.connected)
    assert told == [(Kind.ALL, ""), (Kind.ALL, "")]
    assert directory.peek_owner("1") is None
    assert await directory.owner("1") == Owner("1", "HOSPITAL")
    # And the new connection is told of what comes.
    await sql("""UPDATE "User" SET "industry" = 'LAW' WHERE "id" = 1""")
    await becomes(lambda: directory.owner("1"), Owner("1", "LAW", None, 1))


async def test_answers_are_kept_briefly_while_nobody_listens(meta: Dsn, sql: Sql) -> None:
    # Never started, the directory only looks up: as if LISTEN never succeeded.
    directory = Directory(meta, options(negative_ttl_s=0.3))
    await directory._meta.open()
    try:
        assert await directory.owner("1") == Owner("1", "LAW")
        assert not directory.connected
        await sql("""UPDATE "User" SET "industry" = 'HOSPITAL' WHERE "id" = 1""")
        await becomes(lambda: directory.owner("1"), Owner("1", "HOSPITAL", None, 1))
    finally:
        await directory.close()


# -- outages


async def test_known_answers_serve_while_the_meta_database_is_down(
    server: Cluster, meta: Dsn, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(meta) as directory:
        await eventually(lambda: directory.connected)
        ann, owner = await directory.login("ann"), await directory.owner("1")
        assert ann is not None and owner is not None
        await server.stop(StopMode.IMMEDIATE)
        try:
            await eventually(lambda: not directory.connected)
            for _ in range(100):
                assert await directory.login("ann") == ann
                assert await directory.owner("1") == owner
            assert directory.peek_owner("1") == owner
            began = time.monotonic()
            for n in range(100):
                with pytest.raises(DirectoryUnavailable):
                    await directory.login(f"unknown {n}")
            assert time.monotonic() - began < 1
            errors = [record for record in caplog.records if record.levelname == "ERROR"]
            assert 1 <= len(errors) <= 2  # once for logins, once for owners at most
        finally:
            await server.start()
        await eventually(lambda: directory.connected)
        assert await directory.login("ann") == ann
        assert await directory.login("unknown 1") is None
        await sql("DELETE FROM gateway.login WHERE name = 'ann'")
        await becomes(lambda: directory.login("ann"), None)


async def test_an_outage_is_bridged_for_the_stated_time_only(server: Cluster, meta: Dsn) -> None:
    now = [monotonic()]
    directory = Directory(meta, options(outage_ttl_s=60), clock=lambda: now[0])
    await directory.start()
    try:
        await eventually(lambda: directory.connected)
        await directory.login("ann")
        await server.stop(StopMode.IMMEDIATE)
        now[0] += LONG_S * 0.9 + 59
        assert await directory.login("ann") is not None
        now[0] += LONG_S * 0.2 + 2
        with pytest.raises(DirectoryUnavailable):
            await directory.login("ann")
    finally:
        await server.start()
        await directory.close()


async def test_a_meta_database_that_is_down_at_the_start_is_awaited(
    server: Cluster, meta: Dsn
) -> None:
    await server.stop(StopMode.FAST)
    try:
        directory = Directory(meta, options())
        await directory.start()
        with pytest.raises(DirectoryUnavailable):
            await directory.login("ann")
        assert not directory.connected
    finally:
        await server.start()
    await eventually(lambda: directory.connected)
    assert await directory.login("ann") is not None
    await directory.close()


async def test_look_ups_pause_no_longer_than_the_outage(server: Cluster, meta: Dsn) -> None:
    # On a clock that stands still the pause after a failure never ends by itself.
    directory = Directory(meta, options(), clock=lambda: 1000.0)
    await directory.start()
    try:
        await server.stop(StopMode.IMMEDIATE)
        for _ in range(3):
            with pytest.raises(DirectoryUnavailable):
                await directory.login("ann")
        await eventually(lambda: not directory.connected)
    finally:
        await server.start()
    await eventually(lambda: directory.connected)
    assert await directory.login("ann") is not None
    await directory.close()


async def test_a_connection_that_dies_under_a_look_up_is_not_noticed_by_who_asks(
    meta: Dsn, sql: Sql
) -> None:
    slow = options().login_query.replace("WHERE", "CROSS JOIN pg_sleep(0.3) WHERE")
    async with running(meta, options(login_query=slow)) as directory:
        look_up = asyncio.create_task(directory.login("ann"))
        await asyncio.sleep(0.15)
        await sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = 'meta' AND wait_event = 'PgSleep'"
        )
        assert await look_up is not None
        assert directory.stats()["lookup_failures"] == 0


async def test_connections_that_died_idle_are_replaced(directory: Directory, sql: Sql) -> None:
    for times in range(10):
        await asyncio.gather(*(directory.login(f"x{times}_{n}") for n in range(20)))
        await sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'meta'"
            " AND application_name = 'gateway directory'"
        )
        assert await directory.login(f"x{times}") is None
    assert directory.stats()["lookup_failures"] == 0


async def test_a_look_up_ends_in_time_when_the_network_goes_silent(meta: Dsn) -> None:
    async with silenceable(meta) as (through, silence):
        settings = options(lookup_timeout_ms=300)
        async with running(through, settings) as directory:
            await eventually(lambda: directory.connected)
            assert await directory.login("ann") is not None
            silence.set()
            for name in ("bob", "eve"):  # one loss alone says little
                began = time.monotonic()
                with pytest.raises(DirectoryUnavailable):
                    await directory.login(name)
                assert 0.25 < time.monotonic() - began < 1
            began = time.monotonic()
            with pytest.raises(DirectoryUnavailable):
                await directory.login("root")
            assert time.monotonic() - began < 0.2, "asked again without a pause"


def stand_still(seconds: float) -> None:
    """Stop the whole process, not one task of it alone."""
    time.sleep(seconds)


async def test_who_asks_after_a_standstill_is_answered(meta: Dsn) -> None:
    # A process that was stopped finds all it had asked out of time; the next one must not suffer.
    slow = options().login_query.replace("WHERE", "CROSS JOIN pg_sleep(0.1) WHERE")
    async with running(meta, options(login_query=slow, lookup_timeout_ms=400)) as directory:
        await eventually(lambda: directory.connected)
        asked = [asyncio.create_task(directory.login(name)) for name in ("bob", "eve", "root")]
        await asyncio.sleep(0.05)
        stand_still(1)
        await asyncio.wait(asked)
        assert any(isinstance(task.exception(), DirectoryUnavailable) for task in asked)
        assert await directory.login("ann") is not None


async def test_a_silent_death_of_the_listener_is_noticed(meta: Dsn) -> None:
    async with silenceable(meta) as (through, silence):
        gaps: list[float] = []
        database = MetaDatabase(through, options(lookup_timeout_ms=300), monotonic)
        listener = InvalidationListener(
            database.connect,
            lambda kind, key: None,
            lambda: gaps.append(time.monotonic()),
            timeout_s=0.3,
            keepalive_s=0.1,
        )
        listener.start()
        try:
            await eventually(lambda: listener.connected)
            await asyncio.sleep(0.3)
            assert len(gaps) == 1, "a live connection was given up"
            silence.set()
            await eventually(lambda: not listener.connected, within_s=2)
            assert len(gaps) == 2
        finally:
            await listener.close()


@contextlib.asynccontextmanager
async def silenceable(dsn: Dsn) -> AsyncIterator[tuple[Dsn, asyncio.Event]]:
    """A way to the server that swallows every byte once the event is set, and closes nothing."""
    silence = asyncio.Event()
    pumps: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if not silence.is_set():
                    writer.write(data)
            if not silence.is_set():
                writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(dsn.host, dsn.port)
        writers.extend((writer, far_writer))
        for one, other in ((reader, far_writer), (far_reader, writer)):
            pumps.add(asyncio.create_task(pump(one, other)))

    gate = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = gate.sockets[0].getsockname()[1]
    through = Dsn("127.0.0.1", port, dsn.database, dsn.user, dsn.password, dsn.sslmode)
    try:
        yield through, silence
    finally:
        gate.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.wait(pumps)


# -- other schemas, and what must not get in


async def test_queries_for_another_schema(meta: Dsn, sql: Sql) -> None:
    await sql("""CREATE TABLE public.account (id int PRIMARY KEY, pw text, line text);
                 INSERT INTO public.account VALUES (7, NULL, 'LAW')""")
    settings = options(
        login_query="SELECT id::text AS name, 'owner' AS kind, pw AS verifier, id AS owner_id,"
        " NULL AS valid_until, false AS disabled FROM public.account WHERE id = $1::text::int",
        owner_query="SELECT id, line AS industry, NULL AS shard, NULL AS epoch"
        " FROM public.account WHERE id = $1::text::int",
    )
    async with running(meta, settings) as directory:
        login = await directory.login("7")
        assert login is not None
        assert (login.owner, login.verifier) == ("7", "")
        assert await directory.owner("7") == Owner("7", "LAW")
        # What can't be a number can't be a login: no error, and no outage.
        assert await directory.login("ann'; DROP TABLE account") is None
        assert await directory.login("99999999999999999999") is None
        # The same row under another name is nobody.
        assert await directory.login("07") is None


@pytest.mark.parametrize(
    "query",
    [
        "SELECT name FROM gateway.login WHERE name = $1",
        "SELECT * FROM no.such WHERE name = $1",
        "SELECT",
        "SELECT * FROM gateway.login",
    ],
)
async def test_a_query_that_cannot_work_is_an_outage_with_one_log_line(
    meta: Dsn, caplog: pytest.LogCaptureFixture, query: str
) -> None:
    async with running(meta, options(login_query=query)) as directory:
        for _ in range(5):
            with pytest.raises(DirectoryUnavailable):
                await directory.login("ann")
        errors = [record.message for record in caplog.records if record.levelname == "ERROR"]
        assert len(errors) == 1
        assert "login look-up failed" in errors[0]


async def test_a_malformed_row_is_logged_and_nobody(
    directory: Directory, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    await sql(
        "ALTER TABLE gateway.login DROP CONSTRAINT login_kind_check,"
        " DROP CONSTRAINT login_owner_only_for_owners"
    )
    await sql("UPDATE gateway.login SET kind = 'admin' WHERE name = 'ann'")
    await becomes(lambda: directory.login("ann"), None)
    assert "kind is 'admin'" in caplog.text
    assert "SCRAM-SHA-256$ann" not in caplog.text


async def test_a_meta_database_without_our_tables_has_no_keys_and_grants(
    meta: Dsn, sql: Sql
) -> None:
    await sql("DROP SCHEMA gateway CASCADE")
    async with running(meta) as directory:
        assert not await directory.api_key("ann", "key")
        assert await directory.grants("web") == ()
        with pytest.raises(DirectoryUnavailable):
            await directory.login("ann")


async def test_trap_settings_never_reach_the_look_ups(
    meta: Dsn, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    """CVE-2025-12819: with a foreign search_path, "=" could be anybody's operator."""
    await sql("""
        CREATE SCHEMA evil;
        CREATE FUNCTION evil.always(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
        CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.always);
        ALTER DATABASE meta SET search_path = evil, pg_catalog;
        ALTER DATABASE meta SET default_transaction_read_only = off;
    """)
    async with running(meta) as directory:
        await eventually(lambda: directory.connected)
        for name in ("nobody", "ann' OR true --", "options=-csearch_path=evil"):
            assert await directory.login(name) is None
            assert await directory.owner(name) is None
        assert "can't be used" not in caplog.text, "foreign rows were found"

    database = MetaDatabase(meta, options(), monotonic)
    connection = await database.connect()
    try:
        shown = {
            name: await connection.fetchval("SELECT pg_catalog.current_setting($1)", name)
            for name in ("search_path", "application_name", "default_transaction_read_only")
        }
        assert shown == {
            "search_path": "pg_catalog",
            "application_name": "gateway directory",
            "default_transaction_read_only": "on",
        }
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute("DELETE FROM gateway.login")
    finally:
        await connection.close()

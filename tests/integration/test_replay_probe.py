"""The question what a session holds, and the replay of the answer, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg import sql

from gateway.demo.postgres import Cluster
from gateway.session import state
from gateway.session.state import UNSEEN, Found, Pin, Settings, probe_sql, read_probe, replay_sql
from tests.conftest import FreshDatabase

LOGIN = "postgres"
CUSTOM = ("my.var", "my.other", "app.Ünïcode", "plpgsql.extra_warnings")
ROLES = ("plain", 'Röle "with" quotes', "back\\slash's")


def run(connection: psycopg.Connection, text: str) -> list[list[bytes | None]]:
    """A simple Query as the gateway sends it, with the rows of its last statement."""
    result = connection.pgconn.exec_(text.encode())
    assert result.status in (psycopg.pq.ExecStatus.COMMAND_OK, psycopg.pq.ExecStatus.TUPLES_OK), (
        f"{text}: {result.error_message.decode('utf-8', 'replace')}"
    )
    return [
        [result.get_value(row, column) for column in range(result.nfields)]
        for row in range(result.ntuples)
    ]


def found_on(connection: psycopg.Connection, custom: tuple[str, ...] = CUSTOM) -> Found:
    return read_probe(run(connection, probe_sql(custom)), LOGIN)


def everything(connection: psycopg.Connection) -> dict[str, str]:
    """All settings as a client sees them; a custom one that was never set is like an empty one."""
    names = run(connection, "SELECT name FROM pg_catalog.pg_settings WHERE name NOT LIKE '%.%'")
    asked = [name[0].decode() for name in names if name[0]]
    asked += [*CUSTOM, "role", "session_authorization"]
    columns = ", ".join(
        "pg_catalog.encode(pg_catalog.convert_to(coalesce(pg_catalog.current_setting("
        f"{state.literal(name)}, true), ''), 'UTF8'), 'hex')"
        for name in asked
    )
    row = run(connection, f"SELECT ARRAY[{columns}]")[0][0]
    assert row is not None
    return dict(zip(asked, row.decode("ascii").strip("{}").split(","), strict=True))


def replay(connection: psycopg.Connection, have: Settings, want: Settings) -> None:
    request = replay_sql(have, want)
    assert request.isascii()
    assert bool(request) == (have != want)
    if request:
        run(connection, request)


def set_all(connection: psycopg.Connection, wanted: dict[str, str]) -> None:
    """What a client would do; the role comes last, so that it may set the rest."""
    for name in sorted(wanted, key=lambda name: name == "role"):
        run(
            connection,
            f"SELECT pg_catalog.set_config({state.literal(name)},"
            f" {state.literal(wanted[name])}, false) IS NULL",
        )


@pytest.fixture(scope="module")
async def database(fresh_database: FreshDatabase) -> str:
    return await fresh_database("replay")


@pytest.fixture(scope="module")
async def roles(database: str) -> AsyncIterator[None]:
    """Roles that the login may become; they are of the whole cluster, so they go again."""
    with psycopg.connect(database, autocommit=True) as connection:
        for role in ROLES:
            connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
        connection.execute(
            sql.SQL("GRANT {} TO {}").format(sql.Identifier(ROLES[1]), sql.Identifier(ROLES[0]))
        )
        yield
        for role in ROLES:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


@contextmanager
def session(database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database, autocommit=True, client_encoding="UTF8") as connection:
        yield connection


# --- any settings, from any other settings ---------------------------------------------------

LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
TEXTS = st.text(LETTERS, max_size=20) | st.sampled_from(
    ["'", "\\", "\\'; DROP TABLE x; --", "$$", "E'\\x41'", "${x}", "%s", "é€日本"]
)
SCHEMAS = st.lists(st.sampled_from(["public", '"a b"', "pg_catalog", '"q""q"', "x", '"$user"']))
WISHES = {
    "my.var": TEXTS,
    "my.other": TEXTS,
    "app.Ünïcode": TEXTS,
    # Short: since PostgreSQL 16 other bytes become four each, cut off at 63 when set again.
    "application_name": st.text(LETTERS, max_size=3),
    "search_path": SCHEMAS.map(", ".join),
    "DateStyle": st.sampled_from(["German", "SQL, DMY", "ISO, YMD", "Postgres"]),
    "IntervalStyle": st.sampled_from(["iso_8601", "sql_standard"]),
    "TimeZone": st.sampled_from(["Europe/Berlin", "<+0530>-05:30", "-3.5", "PST8PDT", "utc"]),
    "work_mem": st.sampled_from(["64kB", "3MB", "1GB"]),
    "statement_timeout": st.sampled_from(["1min", "90000", "2h"]),
    "random_page_cost": st.sampled_from(["1.1", "2.3456789", "0"]),
    "enable_seqscan": st.sampled_from(["on", "off", "no", "1"]),
    "client_encoding": st.sampled_from(["LATIN1", "SJIS", "WIN1252", "EUC_JP", "UTF8"]),
    "standard_conforming_strings": st.sampled_from(["on", "off"]),
    "backslash_quote": st.sampled_from(["on", "off", "safe_encoding"]),
    "bytea_output": st.sampled_from(["escape", "hex"]),
    "default_transaction_isolation": st.sampled_from(["serializable", "repeatable read"]),
    "default_transaction_read_only": st.sampled_from(["on", "off"]),
    "session_replication_role": st.sampled_from(["replica", "origin"]),
    "default_text_search_config": st.sampled_from(["german", "pg_catalog.simple"]),
    "log_min_messages": st.sampled_from(["error", "debug1"]),
    "role": st.sampled_from(ROLES),
}
SESSIONS = st.fixed_dictionaries({}, optional=WISHES)


@settings(max_examples=60, deadline=None)
@given(before=SESSIONS, wanted=SESSIONS)
@example(
    before={"client_encoding": "SJIS", "my.var": "x", "role": ROLES[0]},
    wanted={"client_encoding": "LATIN1", "my.var": "é\\'", "role": ROLES[1]},
)
@example(before={"standard_conforming_strings": "off"}, wanted={"my.var": "\\\\'"})
async def test_a_replay_makes_any_session_like_any_other(
    database: str, roles: None, before: dict[str, str], wanted: dict[str, str]
) -> None:
    with session(database) as first, session(database) as second:
        set_all(first, wanted)
        set_all(second, before)
        have, want = found_on(second), found_on(first)
        replay(second, have.settings, want.settings)
        assert everything(second) == everything(first)
        again = found_on(second)
        assert without_empty(again.settings) == without_empty(want.settings)
        assert not again.pins and not want.pins


def without_empty(found: Settings) -> Settings:
    """A custom setting, once set, can be emptied but not unset."""
    return tuple(setting for setting in found if setting[1] or "." not in setting[0])


@pytest.mark.parametrize(
    "change",
    [
        "SET search_path = \"a b\", public, 'c''d'",
        "SET search_path = ''",
        "SET TIME ZONE INTERVAL '-08:30' HOUR TO MINUTE",
        "SET TIME ZONE 2.5",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE",
        "SET NAMES 'LATIN1'",
        "SET my.var = ''",
        "SET my.var TO DEFAULT",
        "SET plpgsql.extra_warnings = 'all'",
        "SET geqo_seed = 0.123456789",
        "DO $$ BEGIN PERFORM set_config('my.var', 'from a block', false); END $$",
        "BEGIN; SET work_mem = '1MB'; SAVEPOINT s; SET work_mem = '2MB'; ROLLBACK TO s; COMMIT",
        "SET SESSION AUTHORIZATION plain; SET my.var = 'as plain'",
        "SET SESSION AUTHORIZATION plain; SET ROLE 'Röle \"with\" quotes'",
        "SET ROLE plain; SET work_mem = '7MB'; SET default_tablespace = pg_default",
        "SET log_statement = 'all'; SET ROLE plain",
    ],
)
async def test_what_statements_change_is_found_and_moved(
    database: str, roles: None, change: str
) -> None:
    with session(database) as first, session(database) as second:
        run(first, change)
        want = found_on(first)
        replay(second, (), want.settings)
        assert everything(second) == everything(first)
        assert found_on(second) == want
        replay(second, want.settings, ())
        with session(database) as fresh:
            assert everything(second) == everything(fresh)


@pytest.mark.parametrize(
    "change",
    [
        "SELECT 1",
        "BEGIN; SET work_mem = '1MB'; ROLLBACK",
        "BEGIN; SET LOCAL work_mem = '1MB'; SET LOCAL ROLE plain; COMMIT",
        "BEGIN; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE; COMMIT",
        "SET transaction_isolation = 'serializable'",
        "SET work_mem = '1MB'; RESET work_mem",
        "SET work_mem = '1MB'; SET my.var = 'x'; SET ROLE plain; DISCARD ALL",
        "SET SESSION AUTHORIZATION plain; SET ROLE plain; RESET SESSION AUTHORIZATION",
    ],
)
async def test_trap_what_was_rolled_back_or_reset_is_not_found(
    database: str, roles: None, change: str
) -> None:
    with session(database) as connection:
        for statement in change.split("; "):
            run(connection, statement)
        assert without_empty(found_on(connection).settings) == ()


async def test_trap_one_clients_isolation_level_does_not_break_the_next_clients_replay(
    database: str,
) -> None:
    """RESET transaction_isolation is an error, so it must never be part of a replay."""
    with session(database) as connection:
        run(connection, "SET transaction_isolation = 'serializable'")
        run(connection, "SET work_mem = '2MB'")
        assert found_on(connection).settings == (("work_mem", "2048"),)


async def test_reset_all_takes_away_what_no_query_lists(database: str) -> None:
    with session(database) as connection:
        run(connection, "SET hidden.tenant = 'of another client'")
        have = found_on(connection, custom=())
        assert have.settings == ()
        replay(connection, (UNSEEN, *have.settings), (("work_mem", "2048"),))
        assert run(connection, "SELECT current_setting('hidden.tenant')") == [[b""]]
        assert found_on(connection, custom=()).settings == (("work_mem", "2048"),)


async def test_identity_is_taken_off_while_settings_are_changed(database: str, roles: None) -> None:
    """log_min_messages is for superusers: the role that both sessions have could not set it."""
    with session(database) as first, session(database) as second:
        run(first, "SET log_min_messages = 'error'; SET ROLE plain")
        run(second, "SET ROLE plain")
        replay(second, found_on(second).settings, found_on(first).settings)
        assert found_on(second) == found_on(first)


# --- other encodings -------------------------------------------------------------------------


async def test_trap_values_are_not_garbled_by_the_sessions_encodings(database: str) -> None:
    with session(database) as first, session(database) as second:
        run(first, "SET my.var = 'é€日本'")
        run(first, "SET client_encoding = 'LATIN1'")
        run(second, "SET client_encoding = 'SJIS'")
        have, want = found_on(second), found_on(first)
        assert dict(want.settings)["my.var"] == "é€日本"
        replay(second, have.settings, want.settings)
        assert everything(second) == everything(first)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP"])
async def test_databases_of_other_encodings(postgres: Cluster, encoding: str) -> None:
    name = f"replay_{encoding.lower()}"
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
    url = postgres.dsn(name)
    value = {"LATIN1": "é", "SQL_ASCII": "é", "EUC_JP": "日本"}[encoding]
    with session(url) as first, session(url) as second:
        run(first, f"SET my.var = '{value}'")
        want = found_on(first, ("my.var",))
        replay(second, (), want.settings)
        assert run(second, "SELECT current_setting('my.var')") == [[value.encode()]]


# --- what pins -------------------------------------------------------------------------------

PINNING = [
    ("CREATE TEMP TABLE pinned (a int)", Pin.TEMPORARY),
    ("CREATE TEMP VIEW pinned AS SELECT 1", Pin.TEMPORARY),
    ("CREATE TEMP SEQUENCE pinned", Pin.TEMPORARY),
    ("CREATE TYPE pg_temp.pinned AS (a int)", Pin.TEMPORARY),
    ("CREATE FUNCTION pg_temp.pinned() RETURNS int LANGUAGE sql AS 'SELECT 1'", Pin.TEMPORARY),
    ("SELECT 1 AS a INTO TEMP pinned", Pin.TEMPORARY),
    ("SELECT pg_advisory_lock(1)", Pin.ADVISORY_LOCK),
    ("SELECT pg_advisory_lock_shared(1, 2)", Pin.ADVISORY_LOCK),
    ("SELECT pg_try_advisory_lock(3)", Pin.ADVISORY_LOCK),
    ("DECLARE pinned CURSOR WITH HOLD FOR SELECT 1", Pin.HELD_CURSOR),
    ("PREPARE pinned AS SELECT 1", Pin.SQL_PREPARED),
    ("LISTEN pinned", Pin.LISTEN),
]


@pytest.mark.parametrize(("statement", "pin"), PINNING)
async def test_what_pins_is_found_and_goes_with_discard_all(
    database: str, statement: str, pin: Pin
) -> None:
    with session(database) as other, session(database) as connection:
        run(connection, statement)
        assert found_on(connection).pins == {pin}
        assert not found_on(other).pins
        run(connection, "DISCARD ALL")
        assert not found_on(connection).pins


@pytest.mark.parametrize(
    "statement",
    [
        "BEGIN; CREATE TEMP TABLE t (a int) ON COMMIT DROP; COMMIT",
        "BEGIN; CREATE TEMP TABLE t (a int); ROLLBACK",
        "CREATE TEMP TABLE t (a int); DROP TABLE t",
        "BEGIN; SELECT pg_advisory_xact_lock(1); COMMIT",
        "SELECT pg_advisory_lock(1); SELECT pg_advisory_unlock(1)",
        "BEGIN; DECLARE c CURSOR FOR SELECT 1; COMMIT",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1; CLOSE c",
        "PREPARE p AS SELECT 1; DEALLOCATE p",
        "LISTEN a; UNLISTEN a",
        "BEGIN; LISTEN a; ROLLBACK",
    ],
)
async def test_what_is_over_does_not_pin(database: str, statement: str) -> None:
    with session(database) as connection:
        for part in statement.split("; "):
            run(connection, part)
        assert not found_on(connection).pins


async def test_a_statement_of_the_protocol_is_not_one_of_sql(database: str) -> None:
    with session(database) as connection:
        connection.pgconn.prepare(b"by_protocol", b"SELECT 1")
        assert not found_on(connection).pins


async def test_channels_are_told_as_the_server_has_them(database: str) -> None:
    with session(database) as connection:
        run(connection, 'LISTEN "a b"')
        run(connection, 'LISTEN "É"')
        run(connection, "SET client_encoding = 'LATIN1'")
        assert found_on(connection).channels == {b"a b", "É".encode()}


# --- a hostile session -----------------------------------------------------------------------


async def test_trap_operators_and_functions_of_the_clients_search_path_do_not_fool_the_probe(
    database: str,
) -> None:
    lies = """
        CREATE SCHEMA evil;
        CREATE FUNCTION evil.no(text, text) RETURNS bool LANGUAGE sql AS 'SELECT false';
        CREATE FUNCTION evil.no(oid, oid) RETURNS bool LANGUAGE sql AS 'SELECT false';
        CREATE FUNCTION evil.no(int, int) RETURNS bool LANGUAGE sql AS 'SELECT false';
        CREATE OPERATOR evil.= (FUNCTION = evil.no, LEFTARG = text, RIGHTARG = text);
        CREATE OPERATOR evil.= (FUNCTION = evil.no, LEFTARG = oid, RIGHTARG = oid);
        CREATE OPERATOR evil.= (FUNCTION = evil.no, LEFTARG = int, RIGHTARG = int);
        CREATE OPERATOR evil.<> (FUNCTION = evil.no, LEFTARG = text, RIGHTARG = text);
        CREATE VIEW evil.pg_settings AS SELECT ''::text AS name, ''::text AS setting WHERE false;
        CREATE FUNCTION evil.pg_backend_pid() RETURNS int LANGUAGE sql AS 'SELECT 0';
        CREATE FUNCTION evil.current_setting(text, bool) RETURNS text
            LANGUAGE sql AS $$ SELECT 'none' $$;
        CREATE FUNCTION evil.encode(bytea, text) RETURNS text LANGUAGE sql AS $$ SELECT '' $$;
        CREATE FUNCTION evil.set_config(text, text, bool) RETURNS text
            LANGUAGE sql AS $$ SELECT '' $$;
        CREATE DOMAIN evil.text AS int; CREATE DOMAIN evil.regclass AS int;
    """
    with session(database) as first, session(database) as second:
        run(first, lies)
        for connection in (first, second):
            run(connection, "SET search_path = evil, pg_catalog; SET my.var = 'x'")
        run(first, "SET work_mem = '2MB'; CREATE TEMP TABLE t (a pg_catalog.int4)")
        run(first, "SELECT pg_catalog.pg_advisory_lock(1)")
        want = found_on(first)
        assert want.pins == {Pin.TEMPORARY, Pin.ADVISORY_LOCK}
        assert want.settings == (
            ("my.var", "x"),
            ("search_path", "evil, pg_catalog"),
            ("work_mem", "2048"),
        )
        replay(second, found_on(second).settings, want.settings)
        assert found_on(second).settings == want.settings
        run(first, "DISCARD ALL")
        run(first, "DROP SCHEMA evil CASCADE")

"""SQL texts of random dialogues: what clients may say, weighted so that most of it makes sense.

Names, tables, settings and locks come from few, and are the same for all clients: sharing is what
a pool must get right.
"""

from __future__ import annotations

from hypothesis import strategies as st

from tests.differential.twins import HELPER


def one(*texts: str) -> st.SearchStrategy[str]:
    """One of these."""
    return st.sampled_from(texts)


READS = one(
    "SELECT 1",
    "SELECT 'text' AS a, NULL AS b, 1.5 AS c, true",
    "SELECT n, 'row ' || n FROM generate_series(1, 4) AS n",
    "SELECT * FROM item ORDER BY id",
    "SELECT v FROM item WHERE id = 2",
    "SELECT * FROM place",
    "SELECT * FROM shape",
    "TABLE tmp",
    "SELECT DATE '2020-02-03', TIMESTAMPTZ '2020-02-03 04:05:06+00', INTERVAL '1 day 2 hours'",
    "SELECT 1e0::float8 / 3, '\\x00ff'::bytea, 'ok'::public.mood",
    "SELECT current_user, session_user, current_schemas(false)",
    "SELECT 'it''s', E'a\\nb', 'back\\slash', U&'\\00e9', 'äöü'",
    "VALUES (1), (2)",
    "SELECT 10 / (n - 3) FROM generate_series(1, 5) AS n",
    "",
    ";",
    "-- nothing",
)
WRITES = one(
    "INSERT INTO item VALUES (7, 'seven') RETURNING *",
    "INSERT INTO item (id) VALUES (8), (9)",
    "INSERT INTO item VALUES (1, 'more') ON CONFLICT (id) DO UPDATE SET v = excluded.v RETURNING v",
    "UPDATE item SET v = v || '!' WHERE id = 1 RETURNING *",
    "UPDATE item SET v = 'new' WHERE id > 3",
    "DELETE FROM item WHERE id = 7 RETURNING id",
    "INSERT INTO counted (v) VALUES ('x') RETURNING id",
    "INSERT INTO part VALUES (99, 1)",
    "INSERT INTO part VALUES (1, 2)",
    "SELECT * FROM item WHERE id = 2 FOR UPDATE",
    "INSERT INTO shape (a) VALUES (5)",
)
ERRORS = one(
    "SELEC 1",
    "SELECT 1/0",
    "SELECT * FROM no_such_table",
    "SELECT no_such_column FROM item",
    "INSERT INTO item VALUES (1, 'twice')",
    "INSERT INTO item VALUES (1, NULL)",
    "INSERT INTO part VALUES (1, -1)",
    "SELECT 'x'::int",
    "SELECT no_such_function(1)",
    "SELECT 'unfinished",
    "SELECT $1",
    "DO $$ BEGIN RAISE EXCEPTION 'no' USING DETAIL = 'd', HINT = 'h', ERRCODE = 'P0042'; END $$",
)
BEGINS = one(
    "BEGIN",
    "begin work",
    "START TRANSACTION",
    "BEGIN ISOLATION LEVEL REPEATABLE READ",
    "BEGIN READ ONLY",
    "BEGIN ISOLATION LEVEL SERIALIZABLE, READ WRITE",
)
ENDS = one(
    "COMMIT",
    "ROLLBACK",
    "END",
    "ABORT",
    "COMMIT AND CHAIN",
    "ROLLBACK AND CHAIN",
    "COMMIT AND NO CHAIN",
)
WITHIN = one(
    "SAVEPOINT a",
    "SAVEPOINT b",
    "ROLLBACK TO a",
    "ROLLBACK TO SAVEPOINT b",
    "RELEASE a",
    "RELEASE SAVEPOINT b",
    "SET TRANSACTION READ ONLY",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET CONSTRAINTS ALL IMMEDIATE",
    "SHOW transaction_isolation",
    "SHOW transaction_read_only",
)
TWO_PHASE = one(
    "PREPARE TRANSACTION 'one'",
    "COMMIT PREPARED 'one'",
    "ROLLBACK PREPARED 'one'",
    "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()",
)

_VALUES: dict[str, tuple[str, ...]] = {
    "work_mem": ("'5MB'", "'64kB'", "9999", "'nonsense'"),
    "search_path": ("public", "s1, public", "'S 2'", '"$user", public', "pg_catalog", "''", "s1"),
    "TimeZone": ("'Asia/Tokyo'", "'UTC'", "'Nowhere/Land'", "'+02:30'"),
    "DateStyle": ("'German'", "'SQL, DMY'", "'ISO'", "Postgres, MDY", "'nonsense'"),
    "application_name": ("'app'", "'it''s'", "'äö\u2713'", "''"),
    "statement_timeout": ("'1min'", "0", "60001"),
    "my.var": ("'one'", "'it''s'", "'ä\u2713 \"q\"'", "E'a\\\\b'", "''", "1"),
    '"my.Other"': ("'two'", "'x y'"),
    "extra_float_digits": ("0", "3"),
    "IntervalStyle": ("iso_8601", "'postgres_verbose'"),
    "standard_conforming_strings": ("off", "on"),
    "client_encoding": ("'UTF8'", "'LATIN1'", "'nonsense'"),
    "bytea_output": ("escape", "hex"),
    "default_transaction_isolation": ("'serializable'", "'read committed'"),
    "default_transaction_read_only": ("on", "off"),
    "client_min_messages": ("error", "debug1", "notice"),
    "role": (HELPER, "none", "nobody_there"),
    "no_such_setting": ("1",),
}
_TOUCHED = tuple(_VALUES)


@st.composite
def _changes(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(_TOUCHED))
    value = draw(st.sampled_from(_VALUES[name]))
    how = draw(one("SET", "SET", "SET SESSION", "SET LOCAL", "config", "config local", "DEFAULT"))
    if how == "DEFAULT" and "my." not in name:
        return f"SET {name} TO DEFAULT"
    if how.startswith("config"):
        text = value if value.startswith(("'", "E'")) else "'" + value.replace("'", "''") + "'"
        local = "true" if how == "config local" else "false"
        return f"SELECT set_config('{name.strip(chr(34))}', {text}, {local})"
    return f"SET {name} = {value}" if how == "DEFAULT" else f"{how} {name} = {value}"


CHANGES = _changes()
"""A setting is changed."""

# Not those that clients name at startup: see the documented differences.
_SESSION_SETTINGS = (
    "SELECT name, setting FROM pg_settings WHERE source = 'session' AND name IN"
    " ('bytea_output', 'statement_timeout', 'extra_float_digits', 'IntervalStyle') ORDER BY 1"
)

_RESETS = st.one_of(
    st.sampled_from([name for name in _TOUCHED if "my." not in name]).map(
        lambda name: f"RESET {name}"
    ),
    one("RESET ALL", "RESET ROLE", "RESET SESSION AUTHORIZATION", "DISCARD ALL"),
)
SHOWS = st.one_of(
    st.sampled_from([name for name in _TOUCHED if "my." not in name]).map(
        lambda name: f"SHOW {name}"
    ),
    st.sampled_from([*_TOUCHED[:-1], "my.other"]).map(
        # Not NULL: see the documented differences.
        lambda name: f"SELECT coalesce(current_setting('{name.strip(chr(34))}', true), '')"
    ),
)
SETTINGS = st.one_of(
    CHANGES,
    CHANGES,
    SHOWS,
    SHOWS,
    _RESETS,
    one(
        f"SET ROLE {HELPER}",
        f"SET SESSION AUTHORIZATION {HELPER}",
        f"SET LOCAL ROLE {HELPER}",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET TIME ZONE 'America/New_York'",
        "SET TIME ZONE LOCAL",
        "SET NAMES 'UTF8'",
        "SET SCHEMA 's1'",
        "SELECT public.set_it('work_mem', '6MB')",
        "SELECT public.set_it('my.var', 'unseen')",
        "SELECT public.set_it('search_path', 's1')",
        "SELECT public.path_it()",
        "DO $$ BEGIN PERFORM set_config('TimeZone', 'Europe/Zurich', false); END $$",
        _SESSION_SETTINGS,
        "SELECT count(*) FROM secret",
    ),
)

TEMPORARY = one(
    "CREATE TEMP TABLE tmp (a int, b text)",
    "CREATE TEMP TABLE tmp AS SELECT 'made' AS c",
    "CREATE TEMP TABLE tmp (a int) ON COMMIT DROP",
    "CREATE TEMP TABLE tmp (a int) ON COMMIT DELETE ROWS",
    "CREATE TABLE pg_temp.tmp (d date)",
    "SELECT 1 AS e INTO TEMP tmp",
    "CREATE TEMP VIEW tmp_view AS SELECT 'view' AS v",
    "TABLE tmp_view",
    "CREATE TEMP SEQUENCE tmp_seq",
    "SELECT nextval('tmp_seq')",
    "SELECT public.temp_it()",
    "INSERT INTO tmp VALUES (1)",
    "INSERT INTO tmp VALUES (1, 'one') RETURNING *",
    "SELECT * FROM tmp",
    "SELECT * FROM made_unseen",
    "DROP TABLE tmp",
    "DROP TABLE IF EXISTS tmp",
    "DROP VIEW tmp_view",
    "DROP SEQUENCE tmp_seq",
    "DISCARD TEMP",
)
LOCKS = one(
    "SELECT pg_try_advisory_lock(1)",
    "SELECT pg_try_advisory_lock(2, 2)",
    "SELECT pg_advisory_lock(1)",
    "SELECT public.lock_it(1)",
    "SELECT pg_try_advisory_xact_lock(1)",
    "SELECT pg_advisory_unlock(1)",
    "SELECT pg_advisory_unlock(2, 2)",
    "SELECT pg_advisory_unlock_all()",
)
CURSORS = one(
    "DECLARE cur CURSOR FOR SELECT * FROM generate_series(1, 6) AS n",
    "DECLARE cur SCROLL CURSOR WITH HOLD FOR SELECT id FROM item ORDER BY id",
    "FETCH 2 FROM cur",
    "FETCH cur",
    "MOVE 1 IN cur",
    "FETCH PRIOR FROM cur",
    "DECLARE cur CURSOR WITH HOLD FOR SELECT 10 / (n - 3) FROM generate_series(1, 5) AS n",
    "DECLARE cur BINARY CURSOR FOR SELECT id FROM item ORDER BY id",
    "MOVE ALL IN cur",
    "UPDATE item SET v = 'at cur' WHERE CURRENT OF cur",
    "FETCH 1 FROM p",
    "CLOSE p",
    "CLOSE cur",
    "CLOSE ALL",
    "SELECT name, is_holdable FROM pg_cursors WHERE name = 'cur'",
)
PREPARED = one(
    # Not the names of the protocol's: see the documented differences.
    "PREPARE sa AS SELECT 'sql a'",
    "PREPARE sb (int) AS SELECT $1 + 100",
    "PREPARE sa AS SELECT * FROM place",
    "EXECUTE sa",
    "EXECUTE sb (1)",
    "EXECUTE sb ('x')",
    "DEALLOCATE sa",
    "DEALLOCATE PREPARE sb",
    "SELECT name, statement FROM pg_prepared_statements WHERE from_sql ORDER BY 1",
    "DEALLOCATE ALL",
    "DISCARD PLANS",
    "EXPLAIN (COSTS off) EXECUTE sa",
)
LISTENS = one(
    "LISTEN c1",
    'LISTEN "C 2"',
    "NOTIFY c1",
    "NOTIFY c1, 'payload'",
    "NOTIFY \"C 2\", 'it''s'",
    "SELECT pg_notify('c1', 'by function')",
    "UNLISTEN c1",
    "UNLISTEN *",
)
LARGE_OBJECTS = one(
    "SELECT lo_create(4242)",
    "SELECT lo_from_bytea(4242, 'large')",
    "SELECT lo_open(4242, 393216)",
    "SELECT lowrite(0, 'written')",
    "SELECT loread(0, 4)",
    "SELECT lo_lseek(0, 1, 0)",
    "SELECT lo_close(0)",
    "SELECT lo_get(4242)",
    "SELECT lo_unlink(4242)",
)
SEQUENCES = one(
    "SELECT nextval('seq')",
    # What a session took from a sequence is asked for at once: see the documented differences.
    "SELECT nextval('seq'); SELECT currval('seq'), lastval()",
    "SELECT setval('seq', 20)",
    "INSERT INTO counted DEFAULT VALUES",
    "INSERT INTO counted DEFAULT VALUES; SELECT currval('counted_id_seq')",
    "DISCARD SEQUENCES",
)
SHAPES = one(
    "ALTER TABLE shape ADD COLUMN c int DEFAULT 3",
    "ALTER TABLE shape DROP COLUMN c",
    "ALTER TABLE shape ALTER COLUMN a TYPE text",
    "ALTER TABLE shape ALTER COLUMN a TYPE int USING a::int",
    "DROP TABLE shape",
    "CREATE TABLE shape (a int, z date)",
    "CREATE TABLE s1.shape (only_in_s1 int)",
    "CREATE TABLE extra (e int)",
    "DROP TABLE IF EXISTS extra",
    "ALTER TABLE item RENAME COLUMN v TO w",
    "ALTER TABLE item RENAME COLUMN w TO v",
)
OTHERS = one(
    "SELECT public.tell_it('hello')",
    "DROP TABLE IF EXISTS never_there",
    "DO $$ BEGIN RAISE WARNING 'warned'; END $$",
    "CALL public.commit_it(31)",
    "EXPLAIN (COSTS off) SELECT * FROM item",
    "COPY (SELECT n FROM generate_series(1, 3) AS n) TO STDOUT",
    "COPY item TO STDOUT (FORMAT csv)",
    "COPY item TO STDOUT (FORMAT binary)",
    "COPY (SELECT 10 / (n - 3) FROM generate_series(1, 5) AS n) TO STDOUT",
    "LOCK TABLE item IN EXCLUSIVE MODE",
    "VACUUM shape",
    "TRUNCATE part",
    "LOAD 'plpgsql'",
    "SHOW server_encoding",
    f"SELECT length('{'x' * 70_000}')",
    f"SELECT length('{'y' * 300_000}')",
    "SELECT repeat('r', 30000) FROM generate_series(1, 3)",
)

SQL = st.one_of(
    READS, READS, WRITES, ERRORS, BEGINS, ENDS, ENDS, WITHIN, TWO_PHASE, SETTINGS, SETTINGS,
    TEMPORARY, LOCKS, CURSORS, PREPARED, LISTENS, LARGE_OBJECTS, SEQUENCES, SHAPES, OTHERS,
)  # fmt: skip
"""Any statement."""

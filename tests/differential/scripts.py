"""Random scripts: what clients may say, weighted so that most of it makes sense together.

Names, tables, settings and locks come from few, and are the same for all clients: sharing is what
a pool must get right.
"""

from __future__ import annotations

import struct

from hypothesis import strategies as st

from gateway.protocol import messages
from tests.differential.script import (
    COPY_DONE,
    FLUSH,
    SYNC,
    How,
    Leave,
    Say,
    Script,
    Step,
    bind,
    close,
    copy_data,
    copy_fail,
    describe,
    execute,
    function_call,
    parse,
    query,
    run,
    say,
    without_later_portals,
    without_resets,
)
from tests.differential.talk import Part
from tests.differential.twins import HELPER

CLIENTS = 4
FRAGMENTS_MAX = 24
_STRIDES = 6

INT4, TEXT = 23, 25
_INT4PL, _TEXTCAT, _NEXTVAL = 177, 1258, 1574

Steps = st.SearchStrategy[tuple[Step, ...]]


def _one(*texts: str) -> st.SearchStrategy[str]:
    return st.sampled_from(texts)


# --- SQL texts -------------------------------------------------------------------------------

READS = _one(
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
    "",
    ";",
    "-- nothing",
)
WRITES = _one(
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
ERRORS = _one(
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
BEGINS = _one(
    "BEGIN",
    "begin work",
    "START TRANSACTION",
    "BEGIN ISOLATION LEVEL REPEATABLE READ",
    "BEGIN READ ONLY",
    "BEGIN ISOLATION LEVEL SERIALIZABLE, READ WRITE",
)
ENDS = _one(
    "COMMIT",
    "ROLLBACK",
    "END",
    "ABORT",
    "COMMIT AND CHAIN",
    "ROLLBACK AND CHAIN",
    "COMMIT AND NO CHAIN",
)
WITHIN = _one(
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
TWO_PHASE = _one(
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
    how = draw(_one("SET", "SET", "SET SESSION", "SET LOCAL", "config", "config local", "DEFAULT"))
    if how == "DEFAULT" and "my." not in name:
        return f"SET {name} TO DEFAULT"
    if how.startswith("config"):
        text = value if value.startswith(("'", "E'")) else "'" + value.replace("'", "''") + "'"
        local = "true" if how == "config local" else "false"
        return f"SELECT set_config('{name.strip(chr(34))}', {text}, {local})"
    return f"SET {name} = {value}" if how == "DEFAULT" else f"{how} {name} = {value}"


# Not those that clients name at startup: see the documented differences.
_SESSION_SETTINGS = (
    "SELECT name, setting FROM pg_settings WHERE source = 'session' AND name IN"
    " ('bytea_output', 'statement_timeout', 'extra_float_digits', 'IntervalStyle') ORDER BY 1"
)

_RESETS = st.one_of(
    st.sampled_from([name for name in _TOUCHED if "my." not in name]).map(
        lambda name: f"RESET {name}"
    ),
    _one("RESET ALL", "RESET ROLE", "RESET SESSION AUTHORIZATION", "DISCARD ALL"),
)
_SHOWS = st.one_of(
    st.sampled_from([name for name in _TOUCHED if "my." not in name]).map(
        lambda name: f"SHOW {name}"
    ),
    st.sampled_from([*_TOUCHED[:-1], "my.other"]).map(
        # Not NULL: see the documented differences.
        lambda name: f"SELECT coalesce(current_setting('{name.strip(chr(34))}', true), '')"
    ),
)
SETTINGS = st.one_of(
    _changes(),
    _changes(),
    _SHOWS,
    _SHOWS,
    _RESETS,
    _one(
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

TEMPORARY = _one(
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
LOCKS = _one(
    "SELECT pg_try_advisory_lock(1)",
    "SELECT pg_try_advisory_lock(2, 2)",
    "SELECT pg_advisory_lock(1)",
    "SELECT public.lock_it(1)",
    "SELECT pg_try_advisory_xact_lock(1)",
    "SELECT pg_advisory_unlock(1)",
    "SELECT pg_advisory_unlock(2, 2)",
    "SELECT pg_advisory_unlock_all()",
)
CURSORS = _one(
    "DECLARE cur CURSOR FOR SELECT * FROM generate_series(1, 6) AS n",
    "DECLARE cur SCROLL CURSOR WITH HOLD FOR SELECT id FROM item ORDER BY id",
    "FETCH 2 FROM cur",
    "FETCH cur",
    "MOVE 1 IN cur",
    "FETCH PRIOR FROM cur",
    "CLOSE cur",
    "CLOSE ALL",
    "SELECT name, is_holdable FROM pg_cursors WHERE name = 'cur'",
)
PREPARED = _one(
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
LISTENS = _one(
    "LISTEN c1",
    'LISTEN "C 2"',
    "NOTIFY c1",
    "NOTIFY c1, 'payload'",
    "NOTIFY \"C 2\", 'it''s'",
    "SELECT pg_notify('c1', 'by function')",
    "UNLISTEN c1",
    "UNLISTEN *",
)
SEQUENCES = _one(
    "SELECT nextval('seq')",
    # What a session took from a sequence is asked for at once: see the documented differences.
    "SELECT nextval('seq'); SELECT currval('seq'), lastval()",
    "SELECT setval('seq', 20)",
    "INSERT INTO counted DEFAULT VALUES",
    "INSERT INTO counted DEFAULT VALUES; SELECT currval('counted_id_seq')",
    "DISCARD SEQUENCES",
)
SHAPES = _one(
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
OTHERS = _one(
    "SELECT public.tell_it('hello')",
    "DROP TABLE IF EXISTS never_there",
    "DO $$ BEGIN RAISE WARNING 'warned'; END $$",
    "CALL public.commit_it(31)",
    "EXPLAIN (COSTS off) SELECT * FROM item",
    "COPY (SELECT n FROM generate_series(1, 3) AS n) TO STDOUT",
    "COPY item TO STDOUT (FORMAT csv)",
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
    TEMPORARY, LOCKS, CURSORS, PREPARED, LISTENS, SEQUENCES, SHAPES, OTHERS,
)  # fmt: skip
"""Any statement."""

# --- the extended protocol -------------------------------------------------------------------

_NAMES = _one("", "", "a", "b")
_NAMES_OF_BOTH = _one("", "", "a", "b", "a", "b", "sa", "sb")
_PORTALS = _one("", "", "p", "q")
_PARAMETERS = st.sampled_from(
    [(), (), (b"5",), (b"5",), (None,), (b"x",), (b"5", b"five"), (struct.pack("!i", 5),)]
)
WITH_PARAMETERS = _one(
    "SELECT $1::int + 1",
    "SELECT $1",
    "SELECT $1::text, current_schemas(false)",
    "INSERT INTO item VALUES ($1, 'bound') RETURNING *",
    "SELECT generate_series(1, $1)",
    "SELECT * FROM item WHERE id = $1",
    "UPDATE item SET v = $1 WHERE id = 3",
    "SELECT set_config('work_mem', $1, false)",
)
_TO_PARSE = st.one_of(
    READS, READS, WITH_PARAMETERS, WITH_PARAMETERS, WITH_PARAMETERS, WRITES, ERRORS, SQL
)
_TYPES = st.sampled_from([(), (), (), (INT4,), (TEXT,), (0,), (999999,)])

_PARSES = st.builds(parse, _NAMES, _TO_PARSE, _TYPES)
_BINDS = st.builds(bind, _PORTALS, _NAMES_OF_BOTH, _PARAMETERS, binary=st.booleans())
_DESCRIBES = st.one_of(
    st.builds(describe, st.just("S"), _NAMES_OF_BOTH), st.builds(describe, st.just("P"), _PORTALS)
)
_EXECUTES = st.builds(execute, _PORTALS, st.sampled_from([0, 0, 1, 2]))
_CLOSES = st.one_of(
    st.builds(close, st.just("S"), _NAMES_OF_BOTH), st.builds(close, st.just("P"), _PORTALS)
)
_RUNS = st.one_of(
    st.builds(run, SQL, name=_NAMES, portal=_PORTALS),
    st.builds(run, WITH_PARAMETERS, st.sampled_from([b"5", b"6", None]), name=_NAMES),
)
_PIECE = st.one_of(
    _PARSES.map(lambda part: (part,)),
    _BINDS.map(lambda part: (part,)),
    st.tuples(_BINDS, _EXECUTES),
    _DESCRIBES.map(lambda part: (part,)),
    _EXECUTES.map(lambda part: (part,)),
    _CLOSES.map(lambda part: (part,)),
    _RUNS,
    _RUNS,
    st.just((SYNC,)),
    st.just((FLUSH,)),
    SQL.map(lambda text: (query(text),)),
)
_CUTS = st.sampled_from([0, 0, 0, 0, 1, 2, 5])


@st.composite
def _pipelines(draw: st.DrawFn) -> Say:
    pieces = draw(st.lists(_PIECE, min_size=1, max_size=6))
    end = draw(st.sampled_from([SYNC, SYNC, SYNC, SYNC, FLUSH]))
    parts = [part for piece in pieces for part in piece]
    return Say((*without_later_portals(parts), end), draw(_CUTS))


# --- fragments: steps of one client that belong together --------------------------------------


def _alone(step: st.SearchStrategy[Say]) -> Steps:
    return step.map(lambda one: (one,))


_SIMPLE = st.builds(lambda text, cuts: say(text, cuts=cuts), SQL, _CUTS)
_MULTI = st.lists(SQL, min_size=2, max_size=4).map(lambda texts: say("; ".join(texts)))
_SEVERAL = st.lists(SQL, min_size=2, max_size=5).map(lambda texts: say(*texts))
# Alone in its text: see the documented differences.
_DEALLOCATES = st.sampled_from([say("DEALLOCATE a"), Say((*run("DEALLOCATE b"), SYNC))])
_SINGLE_RUN = st.builds(lambda parts, cuts: Say((*parts, SYNC), cuts), _RUNS, _CUTS)


def _transaction(texts: list[str], begin: str, end: str) -> tuple[Step, ...]:
    return tuple(map(say, (begin, *texts, end)))


_TRANSACTIONS: Steps = st.builds(
    _transaction, st.lists(st.one_of(SQL, WITHIN), min_size=1, max_size=4), BEGINS, ENDS
)


def _prepared_use(name: str, text: str, between: str) -> tuple[Step, ...]:
    """Prepare once, use twice, with something in between, then close."""
    use = (bind("", name), describe("P", ""), execute(""), SYNC)
    return (
        say(parse(name, text), describe("S", name), SYNC),
        say(*use),
        say(between),
        say(*use),
        say(close("S", name), SYNC),
    )


_PREPARED_USES: Steps = st.builds(_prepared_use, _NAMES, st.one_of(READS, SQL), SQL)


def _prepared_with_parameter(name: str, text: str, between: Say) -> tuple[Step, ...]:
    return (
        say(parse(name, text), SYNC),
        say(bind("", name, (b"5",)), execute(""), SYNC),
        between,
        say(bind("", name, (b"6",), binary=True), describe("P", ""), execute(""), SYNC),
    )


def _portal(name: str, text: str, rows: int) -> tuple[Step, ...]:
    """A portal in parts, over several Syncs inside a transaction."""
    return (
        say("BEGIN"),
        say(parse("", text), bind(name, ""), describe("P", name), execute(name, rows), SYNC),
        say(execute(name, rows), FLUSH),
        say(execute(name), SYNC),
        say("COMMIT"),
    )


_PORTALS_IN_PARTS: Steps = st.builds(
    _portal, _PORTALS, st.one_of(READS, SQL), st.sampled_from([1, 2])
)

_GOOD = b"41\tcopied\n42\talso\n"
_BAD = b"43\tgood\nnot a number\tbad\n44\tnever\n"
_COPY_TEXT = _one(
    "COPY item FROM STDIN",
    "COPY item (id, v) FROM STDIN (FORMAT text)",
    "COPY no_such FROM STDIN",
    "COPY tmp FROM STDIN",
)
_COPY_ENDS = st.sampled_from(
    [
        (copy_data(_GOOD), COPY_DONE),
        (copy_data(_GOOD[:7]), copy_data(_GOOD[7:]), COPY_DONE),
        (copy_data(_BAD), COPY_DONE),
        (copy_data(_BAD), copy_data(_GOOD), copy_data(_GOOD), COPY_DONE),
        (copy_data(_GOOD), copy_fail("changed my mind")),
        (copy_fail("at once"),),
        (COPY_DONE,),
        (copy_data(b"".join(b"%d\tmany\n" % n for n in range(100, 9000))), COPY_DONE),
    ]
)


def _copy(text: str, end: tuple[Part, ...], how: str) -> tuple[Step, ...]:
    extended = (parse("", text), bind("", ""), execute(""))
    if how == "simple":
        return (say(text), say(*end))
    if how == "at once":
        return (say(query(text), *end),)
    if how == "several statements":
        return (say(query(f"SELECT 1; {text}; SELECT 2")), say(*end))
    if how == "in a transaction":
        return (say("BEGIN"), say(text), say(*end), say("ROLLBACK"))
    if how == "extended":
        return (say(*extended, FLUSH), say(*end, SYNC))
    return (say(*extended, *end, SYNC),)


_COPY_WAYS = _one(
    "simple", "at once", "several statements", "in a transaction", "extended", "extended at once"
)


def _copy_past_sync(end: tuple[Part, ...], behind: tuple[Part, ...]) -> tuple[Step, ...]:
    """As libpq does: the copy swallows the Sync behind its Execute."""
    extended = (parse("", "COPY part (n) FROM STDIN"), bind("", ""), execute(""), SYNC)
    return (say(*extended), say(*end, SYNC, *behind))


_COPIES: Steps = st.one_of(
    st.builds(_copy, _COPY_TEXT, _COPY_ENDS, _COPY_WAYS),
    st.builds(
        _copy_past_sync,
        st.one_of(
            _COPY_ENDS,
            st.sampled_from([b"1\n2\n", b"1\n-1\n", b"3\n" * 20000]).map(
                lambda data: (copy_data(data), COPY_DONE)
            ),
        ),
        st.sampled_from([(), (*run("SELECT 3"), SYNC), (query("SELECT 4"),)]),
    ),
)
_CALLS = _alone(
    st.sampled_from(
        [
            say(function_call(_INT4PL, b"40", b"2")),
            say(function_call(_INT4PL, b"x", b"2")),
            say(function_call(_TEXTCAT, b"a", None)),
            say(function_call(999999)),
        ]
    )
)
_HALF = messages.query("SELECT 'never whole'")[:12]
_LEAVES: Steps = st.builds(
    Leave,
    st.sampled_from(How),
    st.sampled_from(
        [
            b"",
            b"",
            _HALF,
            b"".join(part.data for part in run("INSERT INTO item VALUES (77, 'lost')")),
            messages.query("SELECT repeat('r', 1000) FROM generate_series(1, 20000)"),
        ]
    ),
).map(lambda leave: (leave if leave.how is not How.GOODBYE else Leave(leave.how),))

FRAGMENTS: Steps = st.one_of(
    _alone(_SIMPLE),
    _alone(_SIMPLE),
    _alone(_SIMPLE),
    _alone(_SIMPLE),
    _alone(_MULTI),
    _alone(_SEVERAL),
    _alone(_SINGLE_RUN),
    _alone(_SINGLE_RUN),
    _alone(_pipelines()),
    _alone(_pipelines()),
    _alone(_pipelines()),
    _TRANSACTIONS,
    _TRANSACTIONS,
    _PREPARED_USES,
    st.builds(_prepared_with_parameter, _NAMES, WITH_PARAMETERS, st.one_of(_SIMPLE, _pipelines())),
    _PORTALS_IN_PARTS,
    _COPIES,
    _CALLS,
    _alone(_DEALLOCATES),
    _LEAVES,
)

_STARTUPS = st.sampled_from(
    [
        {},
        {},
        {},
        {"application_name": "from startup"},
        {"TimeZone": "Asia/Tokyo", "DateStyle": "German"},
        {"options": "-c work_mem=7MB -c lock_timeout=140"},
        {"options": "-c search_path=s1,public"},
        {"options": "-c my.var=started", "client_encoding": "UTF8"},
    ]
)


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    """A script: fragments of several clients, drawn apart so that they mesh."""
    least = draw(st.sampled_from([1, 6, 12]))
    fragment = st.tuples(st.integers(0, CLIENTS - 1), FRAGMENTS, st.integers(0, _STRIDES))
    fragments = draw(st.lists(fragment, min_size=least, max_size=FRAGMENTS_MAX))
    placed = [
        (at + nth * stride, at, nth, client, step)
        for at, (client, fragment, stride) in enumerate(fragments)
        for nth, step in enumerate(fragment)
    ]
    placed.sort(key=lambda one: one[:3])
    startup = draw(st.tuples(*[_STARTUPS] * CLIENTS))
    steps = tuple(
        (client, without_resets(step, startup[client])) for _, _, _, client, step in placed
    )
    return Script(steps, startup)

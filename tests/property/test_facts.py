"""Generated statements: a write never passes for a read, what stands in quotes never counts."""

from __future__ import annotations

from ctypes import Structure, c_char_p, c_int, c_size_t, c_void_p, string_at
from importlib import import_module
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.router import sqlparse
from gateway.router.facts import UNKNOWN_FACTS, Const, Effect, Name
from gateway.router.hints import hint
from gateway.router.literals import Mark, constants_of, follows, may_be_followed
from gateway.router.sqltree import names
from tests.unit.router.corpus import CASES, Case, new_cache
from tests.unit.router.describe import describe

CACHE = new_cache(entries=200)
PG_QUERY = import_module("postgast.pg_query_pb2")  # its type stubs are broken

# ---- statements that hold something that is no read ----------------------------------------------

# Expressions that no replica may run.
POISON = [
    "nextval('s')",
    "pg_catalog.setval('s', 1)",
    "random()",
    "my_function(1)",
    "crm.lower('x')",
    "set_config('a.b', 'c', false)",
    "pg_advisory_lock(1)",
    "pg_notify('a', 'b')",
    "lo_unlink(1)",
    "txid_current()",
    "(SELECT 1 FROM t FOR UPDATE)",
    "(SELECT 1 FROM t FOR KEY SHARE)",
    "(SELECT id FROM t LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)",
]
# Statements that no replica may run, and that can be a CTE.
WRITES = [
    "INSERT INTO t (a) VALUES (1) RETURNING a",
    "UPDATE t SET a = 1 RETURNING a",
    "DELETE FROM t RETURNING a",
    "MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE RETURNING t.a",
    "SELECT a FROM t FOR SHARE",
]
AROUND_EXPRESSIONS = [
    "{}",
    "({})",
    "{} + 1",
    "- {}",
    "NOT ({}) IS NULL",
    "{}::text",
    "CAST({} AS text)",
    "COALESCE(NULL, {})",
    "GREATEST(1, {})",
    "NULLIF({}, 1)",
    "CASE WHEN {} IS NULL THEN 1 ELSE 2 END",
    "CASE 1 WHEN 1 THEN {} END",
    "ARRAY[1, {}]",
    "(ARRAY[1])[{}]",
    "ROW(1, {})",
    "lower({}::text)",
    "count({})",
    "count(*) FILTER (WHERE {} IS NULL)",
    "sum(1) OVER (PARTITION BY {})",
    "string_agg('a', 'b' ORDER BY {})",
    "1 IN (2, {})",
    "1 BETWEEN 0 AND {}",
    "1 = ANY (ARRAY[{}])",
    "'a' LIKE {}::text",
    '{} COLLATE "C"',
    "{} AT TIME ZONE 'UTC'",
    "EXTRACT(year FROM {})",
    "(SELECT {})",
    "EXISTS (SELECT 1 WHERE {} IS NULL)",
    "1 IN (SELECT {})",
    "ARRAY(SELECT {})",
    "(SELECT 1 FROM (SELECT {} AS a) x)",
    "(WITH w AS (SELECT {}) SELECT 1 FROM w)",
    "(SELECT 1 UNION SELECT {})",
    "(VALUES ({}))",
    "json_object('a': {})",
    "xmlelement(name a, {})",
    "({} IS DISTINCT FROM 1)",
    "({}, 2) = (1, 2)",
]
AROUND_SELECTS = [
    "SELECT {}",
    "SELECT 1 AS a, {} AS b FROM t",
    "SELECT 1 FROM t WHERE {} IS NULL",
    "SELECT 1 FROM t WHERE a = 1 AND (b = 2 OR {} IS NULL)",
    "SELECT 1 FROM t GROUP BY {}",
    "SELECT 1 FROM t HAVING {} IS NULL",
    "SELECT 1 FROM t ORDER BY {}",
    "SELECT 1 FROM t LIMIT {}",
    "SELECT 1 FROM t OFFSET {}",
    "SELECT DISTINCT ON ({}) 1 FROM t",
    "SELECT 1 FROM t JOIN s ON {} IS NULL",
    "SELECT 1 FROM t LEFT JOIN LATERAL (SELECT {}) x ON true",
    "SELECT 1 FROM t, (SELECT {}) x",
    "SELECT 1 FROM generate_series(1, {}) g",
    "SELECT 1 FROM t WINDOW w AS (ORDER BY {})",
    "SELECT 1 FROM t TABLESAMPLE SYSTEM ({})",
    "VALUES (1), ({})",
    "WITH w AS MATERIALIZED (SELECT {}) SELECT 1",
    "SELECT 1 UNION ALL SELECT {}",
    "(SELECT {} EXCEPT SELECT 2) ORDER BY 1",
    "TABLE t UNION SELECT {}",
]
AROUND_STATEMENTS = [
    "{}",
    "EXPLAIN ANALYZE {}",
    "EXPLAIN (ANALYZE, FORMAT json) {}",
    "EXPLAIN (ANALYZE true) {}",
    "COPY ({}) TO STDOUT",
    "SELECT 1; {}",
    "{}; SELECT 1",
    "DECLARE c CURSOR FOR {}",
    "CREATE TEMP TABLE x AS {}",
]
ANY_STATEMENT = 7  # the last two take queries only
AROUND_CTES = [
    "WITH w AS ({}) SELECT 1",
    "WITH v AS (SELECT 1), w AS ({}) SELECT * FROM v",
    "WITH RECURSIVE w AS ({}) SELECT * FROM w",
    "SELECT * FROM (WITH w AS ({}) SELECT * FROM w) x",
    "SELECT (WITH w AS ({}) SELECT 1)",
    "SELECT 1 UNION (WITH w AS ({}) SELECT 1)",
    "WITH a AS (WITH w AS ({}) SELECT * FROM w) SELECT * FROM a",
]


@st.composite
def poisoned(draw: st.DrawFn) -> str:
    """A statement with an expression somewhere that is no read."""
    text = draw(st.sampled_from(POISON))
    for shape in draw(st.lists(st.sampled_from(AROUND_EXPRESSIONS), max_size=4)):
        text = shape.format(f"({text})")
    text = draw(st.sampled_from(AROUND_SELECTS)).format(text)
    return draw(st.sampled_from(AROUND_STATEMENTS)).format(text)


@st.composite
def writing(draw: st.DrawFn) -> str:
    """A statement with a write somewhere in it."""
    text = draw(st.sampled_from(WRITES))
    shapes = draw(st.lists(st.sampled_from(AROUND_CTES), max_size=3))
    for shape in shapes:
        text = shape.format(text)
    around = AROUND_STATEMENTS if shapes else AROUND_STATEMENTS[:ANY_STATEMENT]
    return draw(st.sampled_from(around)).format(text)


@pytest.mark.parametrize("poison", POISON)
def test_trap_each_place_for_an_expression_is_looked_into(poison: str) -> None:
    for shape in AROUND_EXPRESSIONS:
        for select in AROUND_SELECTS:
            text = select.format(shape.format(poison))
            facts = CACHE.facts(text.encode())
            assert facts.known, text
            assert not facts.read_only, text


def test_the_same_places_with_something_harmless_are_read_only() -> None:
    # Else the test above would pass if nothing were ever read-only.
    for shape in AROUND_EXPRESSIONS:
        for select in AROUND_SELECTS:
            text = select.format(shape.format("abs(1)"))
            assert CACHE.facts(text.encode()).read_only, text


@given(poisoned())
def test_trap_no_statement_with_a_write_lock_or_volatile_function_is_read_only(text: str) -> None:
    facts = CACHE.facts(text.encode())
    assert facts.known, text
    assert not facts.read_only, text


@given(writing())
def test_trap_a_write_in_a_cte_is_not_read_only(text: str) -> None:
    facts = CACHE.facts(text.encode())
    assert facts.known, text
    assert not facts.read_only, text


@given(st.lists(st.sampled_from(CASES), min_size=1, max_size=4))
def test_a_text_is_what_its_statements_are(cases: list[Case]) -> None:
    whole = [case for case in cases if case.expected not in ("unknown", "nothing")]
    facts = CACHE.facts("\n;\n".join(case.sql for case in whole).encode())
    assert describe(facts) == (" ; ".join(case.expected for case in whole) or "nothing")


# ---- text inside quotes and comments -------------------------------------------------------------

INSIDE = st.one_of(
    st.sampled_from(
        [
            "nextval('s')",
            "; DELETE FROM t; --",
            "FOR UPDATE",
            "\"userId\" = 'u2'",
            "*/ /* owner='u2' */",
            "owner='u2'",
            "$1",
            "\\",
            "''",
            '""',
            "$$",
            "/*",
            "--",
            "\n",
        ]
    ),
    st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=20),
)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _identifier(text: str) -> str:
    return '"' + (text.replace('"', '""') or "x") + '"'


def _comment(text: str) -> str:
    return "/*" + text.replace("*", "+").replace("/", "|") + "*/"


@given(INSIDE, INSIDE, INSIDE)
def test_trap_what_stands_in_quotes_or_comments_is_not_sql(one: str, two: str, three: str) -> None:
    text = (
        f'SELECT {_literal(one)}, a AS {_identifier(two)}{_comment(three)} FROM "Lead" '
        f"WHERE name = {_literal(two)} {_comment(one)} AND \"userId\" = 'u1' -- "
    ) + three.replace("\n", " ").replace("\r", " ")
    facts = CACHE.facts(text.encode())
    assert describe(facts) == "SELECT ro r=Lead [Lead.userId read 'u1']"


@given(INSIDE, INSIDE, INSIDE)
def test_trap_a_hint_in_quotes_or_between_tokens_is_not_obeyed(
    one: str, two: str, three: str
) -> None:
    hinted = f"{one} /* owner='u2' */"
    text = f"SELECT {_literal(hinted)} {_comment(three)} AS {_identifier(two + hinted)}"
    assert hint(text.encode()) == {}
    between = f"SELECT /* owner='u2' */ {_literal(one)} -- owner='u2'\n , 1"
    assert hint(between.encode()) == {}


@given(st.text(st.characters(blacklist_categories=["Cs"]), max_size=30), INSIDE)
def test_a_hint_at_either_end_says_what_was_encoded(value: str, inside: str) -> None:
    comment = f"/*framework='x',owner='{quote(value)}'*/"
    statement = f"SELECT {_literal(inside)}"
    assert hint(f"{comment} {statement}".encode()) == {"owner": value}
    assert hint(f"{statement} {comment} ;".encode()) == {"owner": value}


# ---- the cache gives what a parse gives ----------------------------------------------------------

LITERALS = st.one_of(
    INSIDE.map(_literal),
    st.integers(0, 10**12).map(str),
    st.sampled_from(["E'a\\'b'", "$q$it's$q$", "U&'d\\0061t'", "'a'\n'b'", "'a' -- c\n 'b'"]),
    st.sampled_from(sorted(names("007 1e3 0x1F 1_000 1.5 b'01' x'1F' N'a' '' NULL"))),
)
SHAPES = [
    'SELECT * FROM "Lead" WHERE "userId" = {} AND name = {} LIMIT 5',
    'SELECT * FROM "Lead" WHERE "userId" IN ({}, {}) OR "userId" = {}',
    'INSERT INTO "Lead" (name, "userId") VALUES ({}, {}), ({}, {}) RETURNING id',
    'UPDATE "Lead" SET "userId" = {}, name = {} WHERE "userId" = {}::text',
    'DELETE FROM "Lead" WHERE "userId" = ANY (ARRAY[{}, {}]) /* {} */',
    'WITH x AS (SELECT {} AS a) SELECT * FROM x JOIN "Lead" ON "Lead"."userId" = {}',
    "SELECT set_config('a.b', {}, false), {}",
    "SET a.b = {}",
    'EXECUTE q ({}, {})',
    'EXPLAIN SELECT * FROM "Lead" WHERE "userId" = {}',
    'SELECT {}; SELECT * FROM "Lead" WHERE "userId" = {}; DELETE FROM "Lead" WHERE "userId" = {}',
]  # fmt: skip


@given(st.sampled_from(SHAPES), st.lists(st.lists(LITERALS, min_size=4, max_size=4), max_size=6))
def test_facts_by_skeleton_are_those_of_a_parse(shape: str, rounds: list[list[str]]) -> None:
    cache = new_cache()
    for literals in rounds:
        text = shape.format(*literals).encode()
        assert cache.facts(text) == new_cache().facts(text), text


@given(st.binary(max_size=200))
@settings(max_examples=500)
def test_facts_never_raise(text: bytes) -> None:
    facts = CACHE.facts(text)
    if b"\0" in text:
        assert facts is UNKNOWN_FACTS
    if not facts.known:
        assert facts.effects == Effect.UNKNOWN


TOKENS = st.sampled_from(
    sorted(
        names(
            """
    SELECT FROM WHERE UPDATE SET INSERT INTO VALUES ( ) , = ; t "userId" 'u1' $1 1 AND OR NOT WITH x
    AS JOIN ON * UNION ALL ANY ARRAY [ ] :: text nextval IN LATERAL EXISTS COPY TO STDOUT EXPLAIN
    ANALYZE BEGIN READ ONLY LOCAL RESET DECLARE c CURSOR FOR MERGE USING WHEN MATCHED THEN DELETE .
            """
        )
    )
)


@given(st.lists(TOKENS, max_size=25))
@settings(max_examples=1_000)
def test_facts_never_raise_on_what_looks_like_sql(words: list[str]) -> None:
    CACHE.facts(" ".join(words).encode())


@given(st.sampled_from(CASES), st.integers(0, 200), st.integers(0, 20), st.sampled_from(CASES))
def test_facts_never_raise_on_damaged_statements(
    case: Case, at: int, cut: int, other: Case
) -> None:
    text = case.text[:at] + case.text[at + cut :]
    CACHE.facts(text)
    CACHE.facts(case.text[:at] + other.text[-cut:])


# ---- the scanner's answer ------------------------------------------------------------------------


PIECES = st.sampled_from([*"aZ_1$.5 x\"'éE-+/*(),;=", "$1", "$$", "a1", "1a", ".5", "::", "--"])


@given(
    st.one_of(
        st.lists(st.one_of(LITERALS, TOKENS, INSIDE.map(_comment), INSIDE), max_size=60),
        st.lists(PIECES, max_size=8).map(lambda pieces: ["".join(pieces)]),
    )
)
@settings(max_examples=500)
def test_marks_are_the_constants_and_comments_that_the_scanner_found(words: list[str]) -> None:
    text = " ".join(words).encode()
    try:
        scanned = sqlparse.scan(text)
        scanned_answer = sqlparse._answer_of(text)
    except sqlparse.Unparsable:
        return
    answer = PG_QUERY.ScanResult.FromString(scanned_answer)
    wanted = {260: b"\x84", 261: b"\x85", 262: b"\x86", 263: b"\x87", 264: b"\x88", 266: b"\x8a"}
    wanted |= {275: b"\x93", 276: b"\x94"}
    assert scanned.marks == [
        (token.start, token.end, wanted[token.token])
        for token in answer.tokens
        if token.token in wanted
    ]
    assert sqlparse._tokens(scanned_answer) == [(t.start, t.end) for t in answer.tokens]


PLAIN = st.sampled_from(
    [*"aZ_1$. x\"'é-+/*(),;=&\n", "'a'", "'a''b'", "E'", "12345678", "1234567890", "4294967296"]
)


@given(st.lists(PLAIN, max_size=10).map("".join))
@settings(max_examples=2_000)
@example("SELECT 'a' 'b'")
@example("SELECT 'a'\n'b'")
@example('SELECT a$1, $1, t."x", -7, \'é\' FROM "1" WHERE x=3')
def test_constants_of_plain_texts_are_those_that_the_scanner_finds(text: str) -> None:
    found = constants_of(text.encode())
    if found is not None:
        assert found == sqlparse._marks(sqlparse._answer_of(text.encode()))


CONSTANTS = st.sampled_from(
    ["0", "7", "007", "123456789", "1234567890", "''", "'a'", "'a b'", "'a''b'", "'\\'", "1.5", "x"]
)
BETWEEN = st.sampled_from(
    [*"aZ_$. +-/*(,;=&\n'\"", "$1", "E", "U&", " = ", "--", "/*", "a1", '"x"', "\0", "é"]
)


@given(
    st.lists(st.tuples(st.lists(BETWEEN, max_size=3).map("".join), CONSTANTS, CONSTANTS)),
    st.lists(BETWEEN, max_size=2).map("".join),
)
@settings(max_examples=2_000)
@example([("SELECT ", "'a'", "'b'"), (" ", "1", "2")], "")
@example([("", "1", "12"), ("", "'a'", "'b'")], "")
@example([("x = ", "'a'", "'b'")], " 'c'")
def test_who_follows_a_model_has_its_skeleton(parts: list[tuple[str, str, str]], end: str) -> None:
    model = ("".join(between + one for between, one, _ in parts) + end).encode()
    text = ("".join(between + other for between, _, other in parts) + end).encode()
    marks = constants_of(model)
    if marks is None or not may_be_followed(model, marks):
        return
    found: list[Mark] = []
    assert follows(model, model, marks, None)
    if follows(text, model, marks, found):
        assert found == constants_of(text)
        assert sqlparse.scan(text).skeleton == sqlparse.scan(model).skeleton
        assert follows(text, model, marks, None)
    elif (others := constants_of(text)) is not None and may_be_followed(text, others):
        assert sqlparse.scan(text).skeleton != sqlparse.scan(model).skeleton


def test_most_texts_of_the_simple_protocol_are_plain() -> None:
    text = b"UPDATE \"Lead\" SET name = 'Ann', n = 12345678901 WHERE \"userId\" = 'u1' AND id=-7;"
    assert [kind for _, _, kind in constants_of(text) or ()] == [b"\x85", b"\x84", b"\x85", b"\x8a"]


def test_token_numbers_are_those_of_this_libpg_query() -> None:
    numbers = {"FCONST": 260, "SCONST": 261, "USCONST": 262, "BCONST": 263, "XCONST": 264}
    numbers |= {"Op": 265, "ICONST": 266, "SQL_COMMENT": 275, "C_COMMENT": 276}
    assert {name: PG_QUERY.Token.Value(name) for name in numbers} == numbers


def test_every_character_survives_the_parser() -> None:
    for code in [*range(1, 0x250), 0x2028, 0xFFFF, 0x1F600]:
        literal = _literal(chr(code))
        facts = new_cache().facts(f'SELECT * FROM t WHERE "userId" = {literal}'.encode())
        assert facts.statements[0].tenant[0].sources == (Const(chr(code)),)


# ---- libpg_query's own list of what is called ----------------------------------------------------


class _SummaryResult(Structure):
    _fields_ = (
        ("length", c_size_t),
        ("data", c_void_p),
        ("stderr_buffer", c_char_p),
        ("error", c_void_p),
    )


def _functions_by_libpg_query(text: str) -> set[Name]:
    """The functions that pg_query_summary finds, by a tree walk that is not ours."""
    call = sqlparse._LIBRARY.pg_query_summary
    call.argtypes, call.restype = [c_char_p, c_int, c_int], _SummaryResult
    result = call(text.encode(), 0, -1)
    assert not result.error, text
    summary = PG_QUERY.SummaryResult.FromString(string_at(result.data, result.length))
    return {(found.schema_name or None, found.function_name) for found in summary.functions}


@given(st.one_of(poisoned(), writing()))
def test_no_function_call_is_overlooked(text: str) -> None:
    called = {name for s in CACHE.facts(text.encode()).statements for name in s.functions}
    assert _functions_by_libpg_query(text) <= called


QUERIES = ("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "EXPLAIN", "COPY", "DECLARE", "EXECUTE")


@pytest.mark.parametrize("case", [case for case in CASES if case.expected.startswith(QUERIES)])
def test_no_function_call_of_the_corpus_is_overlooked(case: Case) -> None:
    called = {name for s in CACHE.facts(case.text).statements for name in s.functions}
    assert _functions_by_libpg_query(case.sql) <= called

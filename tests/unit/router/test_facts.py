"""Facts of statement texts: the corpus, the cache and its bounds, the shortcuts of a whole text."""

from __future__ import annotations

import tracemalloc

import pytest

from gateway.router import facts as facts_module
from gateway.router import functions, sqlparse
from gateway.router.facts import UNKNOWN_FACTS, Const, Effect, FactsCache, Verb
from tests.unit.router.corpus import CASES, Case, new_cache
from tests.unit.router.describe import describe


def _ids(case: Case) -> str:
    return f"{case.section}: {' '.join(case.sql.split())[:60]}"


# ---- the corpus --------------------------------------------------------------------------------


def test_the_corpus_is_as_large_as_promised_and_has_no_statement_twice() -> None:
    assert len(CASES) >= 300
    assert len({(case.section, case.sql) for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=_ids)
def test_facts_of(case: Case) -> None:
    assert describe(new_cache().facts(case.text)) == case.expected


def test_facts_are_the_same_whichever_statements_came_before() -> None:
    cache = new_cache()
    for _ in range(2):
        for case in CASES:
            assert describe(cache.facts(case.text)) == case.expected
    assert cache.hits >= len(CASES) - cache.unparsable - cache.too_long


def test_a_comment_changes_no_facts_and_costs_no_parse() -> None:
    cache = new_cache()
    for case in CASES:
        expected = cache.facts(case.text)
        before = cache.misses
        commented = case.text + b"\n/* owner='x', traceparent='00-1' */"
        if not expected.known or b"/* not closed" in case.text:
            continue
        assert cache.facts(commented) == expected, case.sql
        again = cache.facts(case.text + b"\n-- another")
        assert again == expected, case.sql
        assert cache.misses <= before + 2


# ---- the cache ---------------------------------------------------------------------------------


def test_a_text_is_parsed_once() -> None:
    cache = new_cache()
    first = cache.facts(b"SELECT $1")
    assert cache.facts(b"SELECT $1") is first
    assert (cache.misses, cache.hits) == (1, 1)


def test_other_literals_cost_no_parse_and_tenant_constants_are_read_anew() -> None:
    cache = new_cache()
    shape = """SELECT * FROM "Lead" WHERE name = '%s' AND "userId" = '%s' LIMIT %d"""
    cache.facts((shape % ("a", "u1", 5)).encode())
    other = cache.facts((shape % ("userId = $1", "u-2", 7)).encode())
    assert (cache.misses, cache.skeleton_hits) == (1, 1)
    assert other.statements[0].tenant[0].sources == (Const("u-2"),)


def test_facts_without_tenant_constants_are_one_object_for_all_literals() -> None:
    cache = new_cache()
    first = cache.facts(b"SELECT * FROM t WHERE a = 'x' AND b = 1")
    assert cache.facts(b"SELECT * FROM t WHERE a = 'y''z' AND b = 22") is first


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        ("'u2'", "u2"),
        ("E'u\\x32'", "u2"),
        ("'O''Brien'", "O'Brien"),
        ("$q$u2$q$", "u2"),
        ("7", "7"),
        ("0x1F", "31"),
        ("1_000", "1000"),
        ("007", "7"),
        ("99999999999", "99999999999"),
    ],
)
def test_constants_however_they_are_written(literal: str, value: str) -> None:
    cache = new_cache()
    cache.facts(b"""UPDATE "Lead" SET a = 1 WHERE "userId" = 'u1'""")
    cache.facts(b"""UPDATE "Lead" SET a = 1 WHERE "userId" = 1""")
    facts = cache.facts(f"""UPDATE "Lead" SET a = 1 WHERE "userId" = {literal}""".encode())
    assert facts.statements[0].tenant[0].sources == (Const(value),)


def test_a_number_that_is_no_id_does_not_hide_one_that_is() -> None:
    cache = new_cache()
    shape = 'SELECT * FROM "Lead" WHERE "userId" = %s'
    assert "?" in describe(cache.facts((shape % "1.5").encode()))
    assert "'9999999999'" in describe(cache.facts((shape % "9999999999").encode()))
    assert "?" in describe(cache.facts((shape % "2.5").encode()))


def test_literals_that_decide_are_never_shared() -> None:
    cache = new_cache()
    assert cache.facts(b"EXPLAIN (ANALYZE 0) SELECT nextval('s')").effects == Effect.NONE
    ran = cache.facts(b"EXPLAIN (ANALYZE 1) SELECT nextval('s')")
    assert ran.effects == Effect.SEQUENCE_WRITE
    for name in ("a.b", "c.d"):
        facts = cache.facts(f"SELECT set_config('{name}', 'x', false)".encode())
        assert facts.statements[0].setting_names == (name,)
        facts = cache.facts(f"SET search_path = '{name}'".encode())
        assert facts.statements[0].settings[0].values == (Const(name),)
        assert cache.facts(f"LOAD '{name}'".encode()).statements[0].name == name


def test_the_cache_is_bounded_in_entries() -> None:
    cache = new_cache(entries=10)
    for number in range(100):
        cache.facts(f"SELECT * FROM t{number} WHERE a = 'x'".encode())
    assert cache.entries == 20  # ten texts and ten skeletons


def test_the_cache_is_bounded_in_bytes() -> None:
    cache = new_cache(bytes_max=100_000)
    for number in range(200):
        cache.facts(f"SELECT '{number:01000}' FROM t{number}".encode())
    assert 50_000 < cache.bytes_held <= 100_000
    assert cache.entries < 100


def test_what_the_cache_reckons_is_what_it_takes() -> None:
    # Statements with few and with many tenant values; the reckoning may be high, but not low.
    tracemalloc.start()
    try:
        for rows in (1, 300):
            cache = new_cache()
            before = tracemalloc.get_traced_memory()[0]
            for number in range(50):
                values = ",".join(f"('u{number}', {row})" for row in range(rows))
                cache.facts(f'INSERT INTO "T{number}" ("userId", n) VALUES {values}'.encode())
            taken = tracemalloc.get_traced_memory()[0] - before
            assert taken < cache.bytes_held < 5 * taken
    finally:
        tracemalloc.stop()


def test_a_text_larger_than_the_cache_is_answered_but_not_kept() -> None:
    cache = new_cache(bytes_max=400)
    assert cache.facts(b"SELECT 1").read_only
    assert cache.entries == 0


def test_a_text_over_64_kib_is_never_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = new_cache()
    text = b"SELECT '" + b"x" * sqlparse.TEXT_BYTES_MAX + b"'"
    monkeypatch.setattr(sqlparse, "scan", _must_not_run)
    assert cache.facts(text) is UNKNOWN_FACTS
    assert (cache.too_long, cache.misses) == (1, 0)


def test_a_text_of_64_kib_is_parsed() -> None:
    text = b"SELECT '" + b"x" * (sqlparse.TEXT_BYTES_MAX - 9) + b"'"
    assert len(text) == sqlparse.TEXT_BYTES_MAX
    assert new_cache().facts(text).read_only


def test_an_unparsable_text_is_never_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = new_cache()
    assert cache.facts(b"SELEC 1") is UNKNOWN_FACTS
    monkeypatch.setattr(sqlparse, "scan", _must_not_run)
    assert cache.facts(b"SELEC 1") is UNKNOWN_FACTS
    assert cache.unparsable == 2


def test_what_is_remembered_as_unparsable_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts_module, "UNPARSABLE_MAX", 5)
    cache = new_cache()
    for number in range(20):
        cache.facts(f"SELEC {number}".encode())
    assert len(cache._unparsable) == 5


def _must_not_run(*_: object) -> None:
    raise AssertionError("scanned again")


def test_a_text_not_known_is_a_write_with_unknown_effects() -> None:
    facts = new_cache().facts(b"GARBAGE")
    assert not facts.known
    assert not facts.read_only
    assert not facts.single
    assert facts.effects == Effect.UNKNOWN
    assert facts.first is facts.last is Verb.UNKNOWN


# ---- a whole text ------------------------------------------------------------------------------


def test_the_shortcuts_of_several_statements() -> None:
    facts = new_cache().facts(b"BEGIN; SET a.b = 1; SELECT nextval('s'); COMMIT")
    assert not facts.single
    assert not facts.read_only
    assert facts.effects == Effect.SETTING | Effect.SEQUENCE_WRITE
    assert (facts.first, facts.last) == (Verb.BEGIN, Verb.COMMIT)


def test_all_statements_must_read_only() -> None:
    cache = new_cache()
    assert cache.facts(b"SELECT 1; SELECT 2").read_only
    assert not cache.facts(b"SELECT 1; DELETE FROM t").read_only


def test_an_empty_text() -> None:
    facts = new_cache().facts(b" ; ")
    assert facts.known
    assert facts.first is facts.last is Verb.EMPTY
    assert not facts.single
    assert not facts.effects


# ---- bytes that aren't plain text --------------------------------------------------------------


def test_latin_1_is_read() -> None:
    facts = new_cache().facts("""SELECT 'é' FROM "Lead" WHERE "userId" = 'ü'""".encode("latin-1"))
    (source,) = facts.statements[0].tenant[0].sources
    assert isinstance(source, Const)
    assert source.value.encode(errors="surrogateescape") == b"\xfc"


def test_trap_a_backslash_that_may_be_half_a_character_is_not_trusted() -> None:
    text = "SELECT E'表'; DELETE FROM t; --'".encode("shift-jis")
    assert b"\\" in text
    assert new_cache().facts(text) is UNKNOWN_FACTS


def test_a_nul_is_not_read_past() -> None:
    assert new_cache().facts(b"SELECT 1\0; DELETE FROM t") is UNKNOWN_FACTS


# ---- the functions -----------------------------------------------------------------------------


def test_every_volatile_built_in_was_reviewed_once() -> None:
    groups = [
        functions.HARMLESS,
        functions.TRIGGERS,
        functions.MONITORING,
        functions.SERVER_WIDE,
        functions.TRANSACTION_LOCKS,
        *functions.WITH_EFFECT.values(),
    ]
    names = [name for group in groups for name in group]
    assert len(names) == len(set(names))
    assert set(names) == functions.VOLATILE
    assert functions.ASSIGN_XID <= functions.STABLE


def test_no_volatile_built_in_is_read_only() -> None:
    cache = new_cache()
    for name in sorted(functions.VOLATILE | functions.ASSIGN_XID):
        assert not cache.facts(f'SELECT pg_catalog."{name}"()'.encode()).read_only, name


def test_functions_that_the_settings_call_harmless() -> None:
    cache = FactsCache(10, 1_000_000, harmless=["st_area", "gis.st_area"])
    assert cache.facts(b"SELECT st_area(x), gis.st_area(x) FROM t").read_only
    assert not cache.facts(b"SELECT public.st_area(x) FROM t").read_only
    assert not cache.facts(b"SELECT st_length(x) FROM t").read_only


def test_a_text_of_a_known_skeleton_is_remembered_when_it_comes_again() -> None:
    cache = FactsCache(1_000, 1 << 20)
    text = b"SELECT a /* not plain */ FROM t WHERE id = %d"
    cache.facts(text % 1)
    held = cache.entries
    for number in range(2, 500):
        cache.facts(text % number)
    assert (cache.entries, cache.misses, cache.hits) == (held, 1, 0)
    assert cache.facts(text % 499).read_only
    assert (cache.entries, cache.hits) == (held, 1), "twice in a row says nothing of later"
    for _ in range(3):
        assert cache.facts(text % 498).read_only
    assert (cache.entries, cache.hits) == (held + 1, 3)


def test_a_plain_text_is_told_by_the_last_one_like_it() -> None:
    cache = FactsCache(1_000, 1 << 20)
    text = b"SELECT a FROM t WHERE id = %d AND \"userId\" = 'u%d'"
    first = cache.facts(text % (1, 1))
    cache.facts(text % (2, 2))
    held = cache.entries
    for number in (3, 3, 12, 123_456_789, 1_234_567_890, 3):
        told = cache.facts(text % (number, number))
        assert [one.sources for one in told.statements[0].tenant] == [(Const(f"u{number}"),)]
    assert (cache.entries, cache.misses) == (held, 1)
    assert cache.facts(text % (1, 1)) == first
    assert cache.facts(text % (1, 1) + b" OR true") != first

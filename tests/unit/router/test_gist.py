"""What operators are shown of a statement: never a value."""

from __future__ import annotations

import pytest

from gateway.router.facts import UNKNOWN_FACTS, FactsCache
from gateway.router.gist import READ_MAX_BYTES, gist

SECRET = "s3cret"


def shown(text: str) -> str:
    data = text.encode()
    return gist(FactsCache(10, 1 << 20).facts(data), data)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CREATE TEMP TABLE a AS\n  SELECT 's3cret'", "CREATE TEMP TABLE a AS SELECT ?"),
        ("SELECT pg_advisory_lock(777)", "SELECT pg_advisory_lock(?)"),
        ("SELECT f($1, 's3cret', 1.5e3, X'F0')", "SELECT f($1, ?, ?, ?)"),
        ("/* s3cret */ LISTEN a -- s3cret", "LISTEN a"),
        ("DO $x$ BEGIN PERFORM 's3cret'; END $x$", "DO ?"),
        ("ALTER ROLE a PASSWORD 's3cret'; LOAD 's3cret'", "ALTER ROLE a PASSWORD ?; LOAD ?"),
        ('SELECT $$s3cret$$ AS "it\'s"', 'SELECT ? AS "it\'s"'),
        ("SELECT 's3cret", "UNKNOWN ..."),
        ("INSERT INTO a VALUES ('\\', 's3cret')", "INSERT ..."),
        ("INSERT INTO a VALUES (E'\\'s3cret')", "INSERT ..."),
        (f"SELECT f('{SECRET * READ_MAX_BYTES}')", "SELECT ..."),
    ],
)
def test_values_are_not_shown(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_a_text_that_is_not_understood_shows_nothing() -> None:
    assert SECRET not in gist(UNKNOWN_FACTS, b"SELECT 's3cret'")


def test_what_is_behind_a_text_in_a_parse_message_is_not_shown() -> None:
    text = b"SELECT pg_advisory_lock($1)"
    facts = FactsCache(10, 1 << 20).facts(text)
    assert gist(facts, text + b"\0\0\1\0\0\0\x14") == text.decode()


def test_a_long_one_is_shortened() -> None:
    found = shown(f"CREATE TEMP TABLE a AS SELECT {', '.join(f'column_{n}' for n in range(200))}")
    assert len(found) == 200
    assert found.endswith("...")

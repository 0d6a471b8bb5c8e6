"""Statements are kept once, for as long as anybody knows them, and counted."""

from __future__ import annotations

from gateway.pool.prepared import Statements
from gateway.router.facts import FactsCache

ONE, OTHER = b"SELECT 1\0\0\0", b"SELECT $1::int\0\0\1\0\0\0\x17"
SCOPE = (("search_path", "app"),)


def test_what_nobody_knows_any_more_takes_nothing() -> None:
    statements = Statements(FactsCache(10, 10_000))
    one, other = statements.get(ONE, ()), statements.get(OTHER, ())
    assert statements.get(ONE, ()) is one
    scoped = statements.get(ONE, SCOPE)
    assert scoped is not one
    assert (len(statements), statements.kept_bytes) == (3, 2 * len(ONE) + len(OTHER))
    del one, scoped
    assert (len(statements), statements.kept_bytes) == (1, len(OTHER))
    del other
    assert (len(statements), statements.kept_bytes) == (0, 0)


def test_what_is_read_anew_is_counted_anew() -> None:
    statements = Statements(FactsCache(10, 10_000))
    before = statements.get(ONE, ())
    statements.forget()
    after = statements.get(ONE, ())
    assert after is not before
    del before
    assert (len(statements), statements.kept_bytes) == (1, len(ONE))

"""Which reads may be sent in a line, by what the server says of their tables."""

from __future__ import annotations

import pytest

from gateway.pool.plain import Plain
from gateway.router.facts import FactsCache

ITEM = frozenset(["item"])


def told(*names: bytes | None) -> Plain:
    plain = Plain()
    plain.told(names, 0, 0.0)
    return plain


def test_nothing_is_plain_before_the_server_was_asked() -> None:
    plain = Plain()
    assert (plain.are(ITEM, 0, 0.0), plain.wanted) == (False, True)


def test_a_read_of_tables_alone_is_plain() -> None:
    plain = told(b"recent", b"mine")
    assert plain.are(ITEM, 0, 1.0)
    assert plain.are(frozenset(), 0, 1.0)
    assert not plain.are(ITEM | {"mine"}, 0, 1.0)
    assert not plain.are(None, 0, 1.0)
    assert not plain.wanted


@pytest.mark.parametrize("names", [(None,), (b"recent", None), [b"v%d" % n for n in range(1001)]])
def test_nothing_is_plain_where_anything_may_write_or_too_much_does(
    names: tuple[bytes | None, ...],
) -> None:
    assert not told(*names).are(ITEM, 0, 1.0)


def test_the_server_is_asked_again_after_a_change_and_after_a_while_but_not_at_once() -> None:
    plain = told()
    assert (plain.are(ITEM, 1, 0.9), plain.wanted) == (False, False)
    assert (plain.are(ITEM, 1, 1.0), plain.wanted) == (False, True)
    plain.asked(1.0)
    plain.told((), 1, 2.0)
    assert plain.are(ITEM, 1, 61.9)
    assert (plain.are(ITEM, 1, 62.0), plain.wanted) == (False, True)


def test_a_server_that_does_not_answer_is_not_asked_again_for_a_while() -> None:
    plain = Plain()
    plain.asked(1.0)
    assert (plain.are(ITEM, 0, 60.9), plain.wanted) == (False, False)
    assert (plain.are(ITEM, 0, 61.0), plain.wanted) == (False, True)


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ('SELECT * FROM item JOIN s."Mine" m ON true WHERE id IN (SELECT n FROM x)', "item Mine x"),
        ("WITH c AS (SELECT 1 FROM b) SELECT * FROM c, d", "b d"),
        ("SELECT 1", ""),
    ],
)
def test_what_a_read_names_is_known_from_its_text(text: str, tables: str) -> None:
    timing = FactsCache(10, 1 << 20).facts(text.encode()).timing
    assert timing is not None
    assert timing.tables == frozenset(tables.split())


def test_names_beyond_ascii_depend_on_an_encoding() -> None:
    timing = FactsCache(10, 1 << 20).facts('SELECT * FROM "größe"'.encode()).timing
    assert timing is not None
    assert timing.tables is None

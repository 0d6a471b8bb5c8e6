"""Console texts cut into statements and tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admin.errors import CommandSyntax
from gateway.admin.words import Kind, Statement, statements


def texts(statement: Statement) -> list[str]:
    return [token.text for token in statement]


def test_words_are_upper_case_and_quoted_texts_are_as_written() -> None:
    (statement,) = statements("show \"Pools\" 'it''s' = $1")
    assert texts(statement) == ["SHOW", "Pools", "it's", "=", "$1"]
    assert [token.kind for token in statement] == [
        Kind.WORD,
        Kind.TEXT,
        Kind.TEXT,
        Kind.SIGN,
        Kind.WORD,
    ]
    assert statement[0].raw == "show"


def test_semicolons_part_statements_but_not_inside_quotes_or_comments() -> None:
    text = "a ';' ; -- b;\n/* c; /* d; */ e; */ f \";\" ;;"
    assert [texts(one) for one in statements(text)] == [["A", ";"], ["F", ";"]]


@pytest.mark.parametrize("text", ["", "  \n", ";", "; ;", "-- nothing", "/* nothing */;"])
def test_nothing_is_no_statement(text: str) -> None:
    assert statements(text) == []


@pytest.mark.parametrize("text", ["select 'a", 'select "a', "select /* a", "/* /* */"])
def test_what_is_not_closed_is_refused(text: str) -> None:
    with pytest.raises(CommandSyntax):
        statements(text)


@given(st.text(max_size=200))
def test_any_text_is_cut_or_refused_and_loses_nothing_but_space_and_comments(text: str) -> None:
    try:
        found = statements(text)
    except CommandSyntax:
        return
    again = statements(";".join(" ".join(token.raw for token in one) for one in found))
    assert again == found

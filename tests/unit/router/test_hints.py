"""Comment hints: where they count, where they don't, what they may look like."""

from __future__ import annotations

import pytest

from gateway.errors import NoRoute
from gateway.router import sqlparse
from gateway.router.hints import hint

OBEYED = [
    ("/* owner='1' */ SELECT 1", {"owner": "1"}),
    ("/*owner='1'*/SELECT 1", {"owner": "1"}),
    ("\n\t /* owner='1' */ SELECT 1", {"owner": "1"}),
    (" " * 500 + "/* owner='1' */ SELECT 1", {"owner": "1"}),
    ("-- owner='1'\nSELECT 1", {"owner": "1"}),
    ("-- owner='1'\rSELECT 1", {"owner": "1"}),
    ("SELECT 1 /* owner='1' */", {"owner": "1"}),
    ("SELECT 1 /* owner='1' */;", {"owner": "1"}),
    ("SELECT 1; /* owner='1' */", {"owner": "1"}),
    ("SELECT 1 /* owner='1' */" + " \n" * 300 + ";", {"owner": "1"}),
    ("SELECT 1 -- owner='1'", {"owner": "1"}),
    ("SELECT 1 -- owner='1'\n;\n", {"owner": "1"}),
    ("/* owner='1' */", {"owner": "1"}),
    ("/* owner='1', industry='LAW', role='replica' */ SELECT 1", None),
    ("/* owner='1' industry='LAW' role='replica' */ SELECT 1", None),
    ("/* owner='1' */ /* industry='LAW' */ SELECT 1 -- role='replica'", None),
    ("SELECT 1 /*action='%2Fx*d',owner='a%20b%27c',traceparent='00-5bd6-01'*/", {"owner": "a b'c"}),
    ("SELECT 1 /*owner='a\\'b'*/", {"owner": "a'b"}),
    ("SELECT 1 /*owner='%C3%BC'*/", {"owner": "ü"}),
    ("SELECT 1 /*owner='ü'*/", {"owner": "ü"}),
    ("SELECT 1 /*owner=''*/", {"owner": ""}),
    ("/* application:Crm */ /* owner='1' */ SELECT 1", {"owner": "1"}),
    ("SELECT 1 /* prose */ /* owner='1' */ -- more prose", {"owner": "1"}),
    ("/* scatter */ SELECT 1", {"scatter": ""}),
    ("/* scatter, industry='LAW' */ SELECT 1", {"scatter": "", "industry": "LAW"}),
    ("/* owner='1' */ SELECT 1 /* owner='1' */", {"owner": "1"}),
    ("SELECT '/* owner=''2'' */' /* owner='1' */", {"owner": "1"}),
    ("SELECT 'x--y' /* owner='1' */", {"owner": "1"}),
    ("/* owner='1' */ SELEC garbage 'not closed", {"owner": "1"}),
]
IGNORED = [
    "",
    " ",
    "SELECT 1",
    "SELECT 1 -- nothing",
    "SELECT '/* owner=''1'' */'",
    "SELECT '-- owner=''1'''",
    "SELECT ' /* owner=''1'' */",
    "SELECT 1 AS \"/* owner='1' */\"",
    "SELECT $$ /* owner='1' */ $$",
    "SELECT $a$ /* owner='1' */$a$",
    "SELECT E'\\'/* owner=1 */'",
    "SELECT /* owner='1' */ 1",
    "SELECT 1 /* owner='1' */ + 1",
    "SELECT 1 /* owner='1' */; SELECT 2",
    "SELECT 1 -- owner='1'\n + 1",
    "/* /* owner='1' */ */ SELECT 1",
    "SELECT 1 /* /* owner='1' */ */",
    "SELECT 1 -- /* owner='1' */",
    "/*+ owner='1' */ SELECT 1",
    "/* the owner='1' */ SELECT 1",
    "/* owner='1' is who */ SELECT 1",
    "/* owner='1'x */ SELECT 1",
    "/* owner=1 */ SELECT 1",
    '/* owner="1" */ SELECT 1',
    "/* owner='1 */ SELECT 1",
    "/* owner = '1' */ SELECT 1",
    "/* ='1' */ SELECT 1",
    "/* scatter everything */ SELECT 1",
    "/* scattered */ SELECT 1",
    "/* framework='x' */ SELECT 1",
    "/* owner='1'",
    "/* owner='1' x",
    "SELECT 1 /* owner='1'",
    "SELECT 'not closed /* owner='1' */",
]


@pytest.mark.parametrize(("text", "expected"), OBEYED)
def test_a_hint_is_obeyed(text: str, expected: dict[str, str] | None) -> None:
    three = {"owner": "1", "industry": "LAW", "role": "replica"}
    assert hint(text.encode()) == (three if expected is None else expected)


@pytest.mark.parametrize("text", IGNORED)
def test_trap_what_is_no_hint_is_not_obeyed(text: str) -> None:
    assert hint(text.encode()) == {}


@pytest.mark.parametrize(
    "text",
    [
        "/* owner='1' */ SELECT 1 /* owner='2' */",
        "/* owner='1', owner='2' */ SELECT 1",
        "SELECT 1 /*owner='1'*/ /*owner='2'*/",
    ],
)
def test_two_owners_in_one_text_are_refused(text: str) -> None:
    with pytest.raises(NoRoute, match="two values for owner"):
        hint(text.encode())


def test_bytes_that_are_no_utf_8_are_no_hint() -> None:
    assert hint("SELECT 'é' /* owner='é' */".encode("latin-1")) == {}
    assert hint("SELECT 'é' /* owner='1' */".encode("latin-1")) == {"owner": "1"}


def test_a_leading_hint_of_a_huge_text_counts() -> None:
    text = b"/* owner='1' */ INSERT INTO t VALUES ('" + b"x" * (2 << 20) + b"')"
    assert hint(text) == {"owner": "1"}


def test_a_trailing_hint_of_a_huge_text_is_refused_not_overlooked() -> None:
    text = b"INSERT INTO t VALUES ('" + b"x" * (2 << 20) + b"')"
    with pytest.raises(NoRoute, match="at the end"):
        hint(text + b" /* owner='1' */")
    assert hint(text + b" /* traceparent='1' */") == {}
    assert hint(text) == {}


def test_a_text_without_comments_at_its_ends_is_not_scanned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def must_not_run(text: bytes) -> None:
        raise AssertionError("scanned")

    monkeypatch.setattr(sqlparse, "scan", must_not_run)
    assert hint(b"SELECT * FROM t WHERE a = '/*' AND b /* c */ = $1") == {}
    assert hint(b"/* owner='1' */ SELECT 1") == {"owner": "1"}

"""What a session holds, as text: the answer read, the replay written. The server's side is tested
in tests/integration/test_replay_probe.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ProtocolViolation
from gateway.session.state import (
    UNSEEN,
    Found,
    Pin,
    Settings,
    custom_names,
    literal,
    may_fail,
    merged,
    ordered,
    probe_sql,
    read_probe,
    replay_sql,
    scope_of,
)

Row = list[bytes | None]


def hexed(text: str) -> bytes:
    return text.encode().hex().encode()


def setting(name: str, value: str | None) -> Row:
    return [b"setting", hexed(name), None if value is None else hexed(value)]


NOBODY = [setting("role", "none"), setting("session_authorization", "gw")]

# --- the answer ------------------------------------------------------------------------------


def test_a_fresh_session_holds_nothing() -> None:
    assert read_probe(NOBODY, "gw") == Found((), frozenset())


def test_settings_are_sorted_and_in_lower_case() -> None:
    rows = [setting("TimeZone", "UTC"), setting("DateStyle", "ISO, DMY"), *NOBODY]
    assert read_probe(rows, "gw").settings == (("datestyle", "ISO, DMY"), ("timezone", "UTC"))


def test_a_role_is_a_setting() -> None:
    rows = [setting("role", "r"), setting("session_authorization", "s")]
    assert read_probe(rows, "gw").settings == (("role", "r"), ("session_authorization", "s"))


def test_a_custom_setting_counts_once_it_was_set_even_to_nothing() -> None:
    rows = [setting("my.unset", None), setting("my.empty", ""), *NOBODY]
    assert read_probe(rows, "gw").settings == (("my.empty", ""),)


def test_an_empty_search_path_is_a_value() -> None:
    assert read_probe([setting("search_path", ""), *NOBODY], "gw").settings == (
        ("search_path", ""),
    )


def test_pins_and_channels() -> None:
    rows: list[Row] = [
        [b"temporary object", b"", b""],
        [b"listen", hexed("a"), b""],
        [b"listen", hexed("É"), b""],
        *NOBODY,
    ]
    found = read_probe(rows, "gw")
    assert found.pins == {Pin.TEMPORARY, Pin.LISTEN}
    assert found.channels == {b"a", "É".encode()}


@pytest.mark.parametrize(
    "row",
    [
        [b"something else", b"", b""],
        [None, b"", b""],
        [b"setting", b"6", b""],
        [b"setting", b"zz", b""],
        [b"setting", b"\xff", b""],
        [b"setting"],
        [b"setting", b"", b"", b""],
    ],
)
def test_a_malformed_answer_is_a_protocol_violation(row: Row) -> None:
    with pytest.raises(ProtocolViolation):
        read_probe([row], "gw")


@given(raw=st.binary())
def test_values_of_any_encoding_come_back_as_they_went(raw: bytes) -> None:
    found = read_probe([[b"setting", hexed("my.x"), raw.hex().encode()], *NOBODY], "gw")
    assert read_literal(literal(dict(found.settings)["my.x"])) == raw


# --- the replay ------------------------------------------------------------------------------


def read_literal(text: str) -> bytes:
    """What PostgreSQL makes of an E'' constant that knows no other escape than hexadecimal ones."""
    assert text.startswith("E'") and text.endswith("'")
    parts = text[2:-1].split("\\x")
    assert not any("'" in part or "\\" in part for part in parts)
    return parts[0].encode() + b"".join(
        bytes([int(part[:2], 16)]) + part[2:].encode() for part in parts[1:]
    )


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_trap_values_are_replayed_quoted(text: str) -> None:
    quoted = literal(text)
    assert quoted.isascii() and quoted.isprintable()
    assert read_literal(quoted) == text.encode()


def test_nothing_to_replay() -> None:
    assert replay_sql((), ()) == ""
    assert replay_sql((("a", "1"), ("role", "r")), (("a", "1"), ("role", "r"))) == ""


def test_only_differences_are_replayed() -> None:
    sql = replay_sql((("a", "1"), ("b", "2"), ("c", "3")), (("a", "1"), ("b", "x"), ("d", "4")))
    assert sql == (
        "SELECT pg_catalog.set_config(name, value, false) IS NULL"
        " FROM (VALUES (E'c', NULL), (E'b', E'x'), (E'd', E'4')) AS setting (name, value)"
    )


def test_a_role_is_set_last_and_after_the_session_user() -> None:
    sql = replay_sql((), (("a", "1"), ("role", "r"), ("session_authorization", "s")))
    first, *identity = sql.split("; ")
    assert "(E'a', E'1')" in first
    assert identity == [
        "SELECT pg_catalog.set_config('session_authorization', E's', false) IS NULL",
        "SELECT pg_catalog.set_config('role', E'r', false) IS NULL",
    ]


def test_a_role_is_taken_off_first_even_if_it_comes_back() -> None:
    sql = replay_sql((("role", "r"),), (("a", "1"), ("role", "r")))
    assert sql.split("; ")[:2] == ["RESET ROLE", "RESET SESSION AUTHORIZATION"]
    assert sql.split("; ")[-1] == "SELECT pg_catalog.set_config('role', E'r', false) IS NULL"


def test_what_was_not_seen_is_reset_with_all_the_rest() -> None:
    sql = replay_sql((UNSEEN, ("a", "1"), ("b", "2")), (("a", "1"),))
    assert sql.split("; ") == [
        "RESET ALL",
        "SELECT pg_catalog.set_config(name, value, false) IS NULL"
        " FROM (VALUES (E'a', E'1')) AS setting (name, value)",
    ]


@pytest.mark.parametrize(
    ("have", "want", "changes"),
    [
        ((), (("a", "1"),), False),
        ((), (("role", "r"),), True),
        ((("role", "r"),), (), True),
        ((), (("my.x", "1"),), True),
        ((("my.x", "1"),), (("my.x", "2"),), True),
        ((("my.x", "1"),), (("a", "1"), ("my.x", "1")), False),
        ((("role", "r"),), (("role", "r"),), False),
        ((("role", "r"),), (("a", "1"), ("role", "r")), True),
    ],
)
def test_trap_a_replay_that_may_fail_must_be_waited_for(
    have: Settings, want: Settings, changes: bool
) -> None:
    assert may_fail(have, want) is changes


# --- small parts -----------------------------------------------------------------------------


def test_back_to_the_default_is_back_to_the_wish_at_startup() -> None:
    startup = (("my.x", "1"), ("timezone", "UTC"))
    assert merged(startup, (("my.x", ""), ("my.y", ""), ("search_path", ""))) == (
        ("my.x", "1"),
        ("my.y", ""),
        ("search_path", ""),
        ("timezone", "UTC"),
    )
    assert merged(startup, (("my.x", "2"), ("timezone", "PST8PDT"))) == (
        ("my.x", "2"),
        ("timezone", "PST8PDT"),
    )


def test_custom_names_are_those_with_a_dot() -> None:
    assert custom_names((("a", "1"), ("my.x", "1")), {"my.y", "work_mem", "*"}) == {"my.x", "my.y"}


def test_custom_names_are_quoted_in_the_question() -> None:
    assert "E'my.\\x27; DROP x'" in probe_sql(["my.'; DROP x"])


def test_the_scope_of_a_text_is_its_search_path_and_identity() -> None:
    settings = ordered({"role": "r", "search_path": "a", "timezone": "UTC"})
    assert scope_of(settings) == (("role", "r"), ("search_path", "a"))

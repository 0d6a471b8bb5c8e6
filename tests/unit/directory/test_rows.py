"""Rows become logins, owners and keys, or an error that names what is wrong and no secret."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from gateway.directory.rows import (
    ApiKey,
    MalformedRow,
    Row,
    WrongQuery,
    api_keys_of,
    grants_of,
    login_of,
    owner_of,
)
from gateway.router.identity import Grant, Login, LoginKind, Owner, Scope

LOGIN: dict[str, object] = {
    "name": "ann",
    "kind": "owner",
    "verifier": "SCRAM-SHA-256$secret",
    "owner_id": "7",
    "valid_until": None,
    "disabled": False,
}
OWNER: dict[str, object] = {"id": "7", "industry": "LAW", "shard": None, "epoch": 0}


def test_no_row_is_no_such() -> None:
    assert login_of("ann", []) is None
    assert owner_of("7", []) is None
    assert api_keys_of([], 0.0) is None
    assert grants_of([]) is None


def test_a_login() -> None:
    expected = Login("ann", LoginKind.OWNER, "SCRAM-SHA-256$secret", "7")
    assert login_of("ann", [LOGIN]) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("1700000000.5"), 1700000000.5),
        (1700000000, 1700000000.0),
        (datetime(2030, 1, 1, tzinfo=UTC), 1893456000.0),
        (datetime(2030, 1, 1), 1893456000.0),
        (Decimal("Infinity"), None),
        (Decimal("-Infinity"), -math.inf),
        (None, None),
    ],
)
def test_when_a_login_ends(value: object, expected: float | None) -> None:
    login = login_of("ann", [LOGIN | {"valid_until": value}])
    assert login is not None
    assert login.valid_until == expected


@pytest.mark.parametrize("owner_id", [7, "7"])
def test_ids_become_text(owner_id: object) -> None:
    login = login_of("ann", [LOGIN | {"owner_id": owner_id}])
    assert login is not None
    assert login.owner == "7"


def test_a_uuid_is_an_id() -> None:
    uuid = UUID("00000000-0000-0000-0000-000000000007")
    assert owner_of(str(uuid), [OWNER | {"id": uuid}]) == Owner(str(uuid), "LAW")


def test_only_owner_logins_have_an_owner() -> None:
    login = login_of("ann", [LOGIN | {"kind": "operator"}])
    assert login is not None
    assert login.owner is None


def test_a_login_without_password_has_an_empty_verifier() -> None:
    login = login_of("ann", [LOGIN | {"verifier": None}])
    assert login is not None
    assert login.verifier == ""


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"kind": "admin"}, "kind"),
        ({"kind": None}, "kind"),
        ({"verifier": b"bytes"}, "verifier"),
        ({"owner_id": None}, "owner_id"),
        ({"owner_id": ""}, "owner_id"),
        ({"disabled": None}, "disabled"),
        ({"disabled": "f"}, "disabled"),
        ({"valid_until": "tomorrow"}, "valid_until"),
        ({"valid_until": Decimal("NaN")}, "valid_until"),
        ({"valid_until": True}, "valid_until"),
    ],
)
def test_a_login_that_cannot_be_used(change: dict[str, object], wrong: str) -> None:
    with pytest.raises(MalformedRow, match=wrong) as caught:
        login_of("ann", [LOGIN | change])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("other", ["Ann", "ann ", "bob", None])
def test_trap_an_unknown_user_never_becomes_another_user(other: object) -> None:
    with pytest.raises(MalformedRow, match="another login"):
        login_of("ann", [LOGIN | {"name": other}])
    with pytest.raises(MalformedRow):
        owner_of("8", [OWNER])


def test_two_rows_are_nobody() -> None:
    with pytest.raises(MalformedRow, match="2 rows"):
        login_of("ann", [LOGIN, LOGIN])


@pytest.mark.parametrize("column", list(LOGIN))
def test_a_login_query_without_a_column_is_wrong(column: str) -> None:
    row = {name: value for name, value in LOGIN.items() if name != column}
    with pytest.raises(WrongQuery, match=column):
        login_of("ann", [row])


def test_an_owner() -> None:
    assert owner_of("7", [OWNER]) == Owner("7", "LAW")
    placed = owner_of("7", [OWNER | {"shard": "law_2", "epoch": 3}])
    assert placed == Owner("7", "LAW", "law_2", 3)
    assert owner_of("7", [OWNER | {"epoch": None}]) == Owner("7", "LAW")


@pytest.mark.parametrize(
    "change",
    [{"industry": None}, {"industry": ""}, {"shard": ""}, {"epoch": "1"}, {"epoch": True}],
)
def test_an_owner_that_cannot_be_used(change: dict[str, object]) -> None:
    with pytest.raises(MalformedRow):
        owner_of("7", [OWNER | change])


def test_api_keys_end_on_the_clock() -> None:
    rows: list[Row] = [{"hash": "aa", "remaining_s": 5.0}, {"hash": "bb", "remaining_s": None}]
    assert api_keys_of(rows, 100.0) == (ApiKey("aa", 105.0), ApiKey("bb", math.inf))
    assert "aa" not in repr(ApiKey("aa", 105.0))


def test_grants() -> None:
    rows: list[Row] = [{"scope": "all", "value": None}, {"scope": "owner", "value": "7"}]
    assert grants_of(rows) == (Grant(Scope.ALL), Grant(Scope.OWNER, "7"))
    for bad in ({"scope": "world", "value": None}, {"scope": "agency", "value": None}):
        with pytest.raises(MalformedRow):
            grants_of([bad])

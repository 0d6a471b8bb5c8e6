"""From rows of the meta database to logins, owners and keys; what doesn't fit is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from sys import intern

from gateway.router.identity import Grant, Login, LoginKind, Owner, Scope

Row = Mapping[str, object]


class WrongQuery(Exception):
    """The configured query doesn't return the columns it must: no answer of it can be used."""


class MalformedRow(Exception):
    """This one row can't be used; others may. The text holds no verifier and no hash."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One usable key of a login: its hash, and the clock's time (seconds) it ends at."""

    hash: str
    expires: float

    def __repr__(self) -> str:
        return f"ApiKey(expires={self.expires!r})"


def login_of(name: str, rows: Sequence[Row]) -> Login | None:
    """The login in the rows of ``login_query`` for ``name``; None when there are none.

    A row for another name is refused: nobody ends up as somebody else (CVE-2015-6817).
    """
    row = _only(rows)
    if row is None:
        return None
    if _column(row, "name") != name:
        raise MalformedRow("the row found is another login's")
    kind = _kind(_column(row, "kind"))
    return Login(
        name=name,
        kind=kind,
        verifier=_verifier(_column(row, "verifier")),
        owner=_owner_id(_column(row, "owner_id")) if kind is LoginKind.OWNER else None,
        valid_until=_epoch_s(_column(row, "valid_until")),
        disabled=_flag("disabled", _column(row, "disabled")),
    )


def owner_of(owner_id: str, rows: Sequence[Row]) -> Owner | None:
    """The owner in the rows of ``owner_query`` for ``owner_id``; None when there are none."""
    row = _only(rows)
    if row is None:
        return None
    if _text("id", _column(row, "id")) != owner_id:
        raise MalformedRow("the row found is another owner's")
    shard = _column(row, "shard")
    agency, plan = row.get("agency"), row.get("plan")
    return Owner(
        id=owner_id,
        industry=_word("industry", _column(row, "industry")),
        shard=None if shard is None else _word("shard", shard),
        epoch=_count("epoch", _column(row, "epoch")),
        agency=None if agency is None else _text("agency", agency),
        plan=None if plan is None else _word("plan", plan),
    )


def api_keys_of(rows: Sequence[Row], now: float) -> tuple[ApiKey, ...] | None:
    """The keys in rows of (hash, remaining_s) at ``now`` on the clock; None when there are none."""
    keys = (
        ApiKey(_text("hash", _column(row, "hash")), _expiry(now, _column(row, "remaining_s")))
        for row in rows
    )
    return tuple(keys) or None


def grants_of(rows: Sequence[Row]) -> tuple[Grant, ...] | None:
    """The grants in rows of (scope, value); None when there are none."""
    return tuple(_grant(_column(row, "scope"), _column(row, "value")) for row in rows) or None


def _only(rows: Sequence[Row]) -> Row | None:
    if len(rows) > 1:
        raise MalformedRow(f"{len(rows)} rows found where one at most may be")
    return rows[0] if rows else None


def _column(row: Row, name: str) -> object:
    try:
        return row[name]
    except KeyError:
        raise WrongQuery(f'the query returns no column "{name}"') from None


def _kind(value: object) -> LoginKind:
    try:
        return LoginKind(str(value))
    except ValueError:
        raise MalformedRow(f"kind is {value!r}, not owner, service or operator") from None


def _grant(scope: object, value: object) -> Grant:
    try:
        reach = Scope(str(scope))
    except ValueError:
        raise MalformedRow(f"scope is {scope!r}, not all, agency or owner") from None
    return Grant(reach) if reach is Scope.ALL else Grant(reach, _text("value", value))


def _verifier(value: object) -> str:
    """A login without a password may have null or an empty text."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise MalformedRow(f"verifier is of type {type(value).__name__}, not text")
    return value


def _owner_id(value: object) -> str:
    if value is None:
        raise MalformedRow("an owner login without owner_id")
    return _text("owner_id", value)


def _text(name: str, value: object) -> str:
    """Text of ids and names; an id may also be a number or a UUID."""
    if value is None or isinstance(value, bool | float | bytes):
        raise MalformedRow(f"{name} is {'null' if value is None else type(value).__name__}")
    text = str(value)
    if not text:
        raise MalformedRow(f"{name} is empty")
    return text


def _word(name: str, value: object) -> str:
    """Text that the rows of many have in common, held once."""
    return intern(_text(name, value))


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise MalformedRow(f"{name} is {value!r}, not true or false")
    return value


def _count(name: str, value: object) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        raise MalformedRow(f"{name} is {value!r}, not a whole number")
    return value


def _epoch_s(value: object) -> float | None:
    """Seconds since 1970 UTC; None for null and infinity. A timestamp without zone is UTC."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    seconds = _seconds("valid_until", value)
    return None if seconds == math.inf else seconds


def _expiry(now: float, remaining_s: object) -> float:
    return math.inf if remaining_s is None else now + _seconds("remaining_s", remaining_s)


def _seconds(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise MalformedRow(f"{name} is {value!r}, not a number of seconds")
    seconds = float(value)
    if math.isnan(seconds):
        raise MalformedRow(f"{name} is not a number")
    return seconds

"""What clients say by habit, on connecting or around every command: answered, mostly ignored.

Drivers check a connection with SELECT 1, wrap commands in transactions and set what they like; a
console that refuses it can't be used with them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from gateway.admin.order import Conversation, Order
from gateway.admin.view import Row
from gateway.admin.words import Kind, Statement


def habit(statement: Statement, talk: Conversation) -> Order | None:
    """The order for a statement that is no command of ours; None when it is no habit either."""
    if statement[0].kind is not Kind.WORD:
        return None
    answer = _HABITS.get(statement[0].text)
    return None if answer is None else answer(statement, talk)


# --- accepted, and nothing happens ---


def _accepted(tag: str) -> Callable[[Statement, Conversation], Order]:
    async def run() -> Iterable[Row]:
        return ()

    return lambda statement, talk: Order(tag, run)


def _transaction(tag: str, status: bytes) -> Callable[[Statement, Conversation], Order]:
    """Drivers look at the status to know whether a COMMIT is due."""

    def understood(statement: Statement, talk: Conversation) -> Order:
        async def run() -> Iterable[Row]:
            talk.status = status
            return ()

        return Order(tag, run)

    return understood


def _rollback(statement: Statement, talk: Conversation) -> Order:
    if any(token.text == "TO" for token in statement):
        return _accepted("ROLLBACK")(statement, talk)
    return _transaction("ROLLBACK", b"I")(statement, talk)


# --- prepared statements of the driver's that it wants gone ---


def _deallocate(statement: Statement, talk: Conversation) -> Order | None:
    name = statement[-1]
    everything = name.kind is Kind.WORD and name.text == "ALL"
    if len(statement) < 2:
        return None

    async def run() -> Iterable[Row]:
        if everything:
            talk.statements.clear()
        else:
            talk.statements.pop(name.text if name.kind is Kind.TEXT else name.raw.lower(), None)
        return ()

    return Order("DEALLOCATE ALL" if everything else "DEALLOCATE", run)


def _discard(statement: Statement, talk: Conversation) -> Order | None:
    if len(statement) != 2:
        return None

    async def run() -> Iterable[Row]:
        if statement[1].text == "ALL":
            talk.statements.clear()
        return ()

    return Order(f"DISCARD {statement[1].text}", run)


# --- small questions ---

_EXPRESSION = re.compile(
    r"""(?:(?P<number>\d+(?:\.\d+)?)
      | '(?P<text>(?:[^']|'')*)'
      | (?:pg_catalog\.)?(?P<name>\w+)(?:\s\(\s\))?)
      (?:\s(?:as\s)?"?(?P<alias>(?!\d)\w+)"?)?""",
    re.VERBOSE | re.IGNORECASE,
)


def _select(statement: Statement, talk: Conversation) -> Order | None:
    """A constant, or one of the functions that clients ask a connection about itself with."""
    match = _EXPRESSION.fullmatch(" ".join(token.raw for token in statement[1:]))
    if match is None:
        return None
    name = (match["name"] or "?column?").lower()
    value: str | None
    if match["name"] is not None:
        function = _FUNCTIONS.get(name)
        if function is None:
            return None
        value = function(talk)
    else:
        value = match["number"] or (match["text"] or "").replace("''", "'")

    async def run() -> Iterable[Row]:
        return [(value,)]

    return Order("SELECT", run, (match["alias"] or name,))


_FUNCTIONS: dict[str, Callable[[Conversation], str | None]] = {
    "version": lambda talk: f"PostgreSQL {talk.parameters['server_version']}",
    "current_database": lambda talk: talk.database,
    "current_catalog": lambda talk: talk.database,
    "current_schema": lambda talk: None,
    "current_user": lambda talk: talk.user,
    "session_user": lambda talk: talk.user,
    "user": lambda talk: talk.user,
    "pg_backend_pid": lambda talk: str(talk.number),
    "pg_is_in_recovery": lambda talk: "f",
    "pg_advisory_unlock_all": lambda talk: "",
}


def _show(statement: Statement, talk: Conversation) -> Order | None:
    """A setting that every PostgreSQL has."""
    name = " ".join(token.raw for token in statement[1:]).lower()
    name = _LONG_NAMES.get(name, name)
    known = {key.lower(): (key, value) for key, value in {**_SETTINGS, **talk.parameters}.items()}
    if name not in known:
        return None
    shown, value = known[name]

    async def run() -> Iterable[Row]:
        return [(value,)]

    return Order("SHOW", run, (shown,))


_LONG_NAMES = {
    "transaction isolation level": "transaction_isolation",
    "time zone": "timezone",
    "session authorization": "session_authorization",
}
_SETTINGS = {
    "default_transaction_isolation": "read committed",
    "lc_collate": "C",
    "max_identifier_length": "63",
    "search_path": "",
    "server_version_num": "140000",
    "transaction_isolation": "read committed",
    "transaction_read_only": "off",
}

_HABITS: dict[str, Callable[[Statement, Conversation], Order | None]] = {
    "ABORT": _transaction("ROLLBACK", b"I"),
    "BEGIN": _transaction("BEGIN", b"T"),
    "CLOSE": _accepted("CLOSE CURSOR ALL"),
    "COMMIT": _transaction("COMMIT", b"I"),
    "DEALLOCATE": _deallocate,
    "DISCARD": _discard,
    "END": _transaction("COMMIT", b"I"),
    "RELEASE": _accepted("RELEASE"),
    "RESET": _accepted("RESET"),
    "ROLLBACK": _rollback,
    "SAVEPOINT": _accepted("SAVEPOINT"),
    "SELECT": _select,
    "SET": _accepted("SET"),
    "SHOW": _show,
    "START": _transaction("START TRANSACTION", b"T"),
    "UNLISTEN": _accepted("UNLISTEN"),
}

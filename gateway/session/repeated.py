"""What a transaction began with and can be said again, word by word, on another server.

BEGIN, SAVEPOINT, SET with constants, and a SELECT of set_config() with the values that
were bound.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.router.facts import Const, Effect, Param, SettingChange, StatementFacts, Verb
from gateway.router.values import Incomplete, Parameters, Unreadable
from gateway.session.state import literal
from gateway.session.unit import Ask
from gateway.settings.model import KeyType

SETS = Effect.SETTING | Effect.SETTING_LOCAL

_ONLY_SETTINGS = frozenset(
    (schema, name) for schema in (None, "pg_catalog") for name in ("set_config", "current_setting")
)


def repeated(ask: Ask, statement: StatementFacts) -> tuple[bytes, StatementFacts] | None:
    """The text to say again, and what it does; None when it can't be said again."""
    if statement.verb is Verb.SET:
        return (ask.text, statement) if repeatable_set(statement) else None
    if statement.verb in (Verb.BEGIN, Verb.SAVEPOINT):
        return ask.text, statement
    if statement.verb is Verb.SELECT and statement.effects:
        return _set_config(ask, statement)
    return None


def with_constants(ask: Ask, statement: StatementFacts) -> StatementFacts:
    """The statement with those of its settings of which the values can be told."""
    changes = [_with_constant(change, ask.values) for change in statement.settings]
    return replace(statement, settings=tuple(one for one in changes if one is not None))


def repeatable_set(statement: StatementFacts) -> bool:
    """SET with constants, and SET TRANSACTION: the same words do the same on another server."""
    if not statement.effects or statement.effects & ~SETS:
        return False
    if not statement.settings:
        return statement.transaction is not None
    return all(
        change.values and all(isinstance(value, Const) for value in change.values)
        for change in statement.settings
    )


def _set_config(ask: Ask, statement: StatementFacts) -> tuple[bytes, StatementFacts] | None:
    """A SELECT that sets and does nothing else, as one with constants."""
    if statement.effects & ~SETS or statement.reads or statement.functions - _ONLY_SETTINGS:
        return None
    changes = [_with_constant(change, ask.values) for change in statement.settings]
    known = tuple(change for change in changes if change is not None)
    if len(known) < len(changes) or not known:
        return None
    calls = ", ".join(_call(change) for change in known)
    return f"SELECT {calls}".encode(), replace(statement, settings=known)


def _with_constant(change: SettingChange, bound: Parameters | None) -> SettingChange | None:
    """The change with the value bound to its parameter; None when not all of it can be told."""
    if change.name == "*" or not change.certain or len(change.values) != 1:
        return None
    source = change.values[0]
    if isinstance(source, Const):
        return change
    if not isinstance(source, Param) or bound is None:
        return None
    try:
        value = bound.one(KeyType.TEXT, source.number)
    except (Unreadable, Incomplete):
        return None
    return None if value is None else replace(change, values=(Const(value),))


def _call(change: SettingChange) -> str:
    value = change.values[0]
    assert isinstance(value, Const)
    name, text = literal(change.name), literal(value.value)
    return f"pg_catalog.set_config({name}, {text}, {str(change.local).lower()})"

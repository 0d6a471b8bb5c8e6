"""What a PostgreSQL session holds, as the server itself tells it, and how to give it to another.

Settings are moved: replayed on the next server. The rest pins the client to its server for as
long as it lasts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

Setting = tuple[str, str]
Settings = tuple[Setting, ...]
"""Sorted by name; names in lower case."""


class Pin(StrEnum):
    """Why a client keeps its server."""

    SESSION_MODE = "session mode"
    TEMPORARY = "temporary object"
    ADVISORY_LOCK = "advisory lock"
    HELD_CURSOR = "held cursor"
    SQL_PREPARED = "prepared by SQL"
    LISTEN = "listen"
    PREPARED = "prepared statement"
    LOADED = "loaded library"
    SEQUENCE = "sequence value"
    RANDOM_SEED = "random seed"
    UNKNOWN = "unknown state"


LASTING = frozenset({Pin.SESSION_MODE, Pin.LOADED, Pin.SEQUENCE, Pin.RANDOM_SEED, Pin.PREPARED})
"""Pins that the server can't tell of, so that only the client's end removes them."""

_PROBE = """\
SELECT 'setting', name, setting FROM pg_catalog.pg_settings
 WHERE source OPERATOR(pg_catalog.=) 'session'
UNION ALL SELECT 'setting', 'role', pg_catalog.current_setting('role')
UNION ALL SELECT 'setting', 'session_authorization',
 pg_catalog.current_setting('session_authorization')
UNION ALL (SELECT 'temporary object', '', '' FROM pg_catalog.pg_depend
 WHERE refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
 AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() LIMIT 1)
UNION ALL (SELECT 'advisory lock', '', '' FROM pg_catalog.pg_locks
 WHERE locktype OPERATOR(pg_catalog.=) 'advisory'
 AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() LIMIT 1)
UNION ALL (SELECT 'held cursor', '', '' FROM pg_catalog.pg_cursors WHERE is_holdable LIMIT 1)
UNION ALL (SELECT 'prepared by SQL', '', '' FROM pg_catalog.pg_prepared_statements
 WHERE from_sql LIMIT 1)
UNION ALL SELECT 'listen', channel, '' FROM pg_catalog.pg_listening_channels() channel"""

_ROLE_NAMES = ("role", "session_authorization")
_SCOPE_NAMES = ("search_path", *_ROLE_NAMES)


@dataclass(frozen=True, slots=True)
class Found:
    """What a probe found: settings that differ from a fresh session's, and reasons to pin."""

    settings: Settings
    pins: frozenset[Pin]
    channels: frozenset[bytes] = frozenset()
    """What the session listens to; a reason to pin only until that is moved."""


def probe_sql(custom_names: Iterable[str]) -> str:
    """The query that tells what the session holds.

    ``custom_names`` are the settings with a dot that were ever touched: pg_settings hides them.
    """
    return _PROBE + "".join(
        f"\nUNION ALL SELECT 'setting', {literal(name)},"
        f" pg_catalog.current_setting({literal(name)}, true)"
        for name in sorted(custom_names)
    )


def read_probe(rows: Iterable[list[bytes | None]], session_user: str) -> Found:
    """The answer to `probe_sql`; ``session_user`` is whom the connection logged in as."""
    settings: dict[str, str] = {}
    pins: set[Pin] = set()
    channels: set[bytes] = set()
    for kind, name, value in rows:
        if kind == b"listen":
            channels.add(name or b"")
        if kind != b"setting":
            pins.add(Pin((kind or b"").decode()))
            continue
        key, text = (
            (name or b"").decode().lower(),
            (value or b"").decode("utf-8", "surrogateescape"),
        )
        if not _is_default(key, text, session_user):
            settings[key] = text
    return Found(ordered(settings), frozenset(pins), frozenset(channels))


def _is_default(name: str, value: str, session_user: str) -> bool:
    if name == "role":
        return value == "none"
    if name == "session_authorization":
        return value == session_user
    return "." in name and value == ""


def ordered(settings: dict[str, str]) -> Settings:
    """A mapping in the form that is compared and kept."""
    return tuple(sorted(settings.items()))


def replay_sql(have: Settings, want: Settings) -> str:
    """Statements that bring a session from ``have`` to ``want``; empty when nothing differs.

    Identity first goes back to the login, so that the rest is set with its rights, and is set
    last.
    """
    current, target = dict(have), dict(want)
    changed = {name: value for name, value in target.items() if current.get(name) != value}
    gone = [name for name in current if name not in target]
    resets = [f"RESET {identifier(name)}" for name in _ROLE_NAMES[::-1] if name in gone]
    resets += [f"RESET {identifier(name)}" for name in gone if name not in _ROLE_NAMES]
    calls = [
        f"pg_catalog.set_config({literal(name)}, {literal(value)}, false)"
        for name, value in changed.items()
        if name not in _ROLE_NAMES
    ]
    identity = [
        f"SELECT pg_catalog.set_config({literal(name)}, {literal(changed[name])}, false)"
        for name in _ROLE_NAMES[::-1]
        if name in changed
    ]
    statements = resets + (["SELECT " + ", ".join(calls)] if calls else []) + identity
    return "; ".join(statements)


def changes_identity(have: Settings, want: Settings) -> bool:
    """Whether a replay sets a role, which may fail and must be waited for."""
    return _identity(have) != _identity(want)


def _identity(settings: Settings) -> list[Setting]:
    return [setting for setting in settings if setting[0] in _ROLE_NAMES]


def scope_of(settings: Settings) -> Settings:
    """The settings that change what a statement's text means."""
    return tuple(setting for setting in settings if setting[0] in _SCOPE_NAMES)


def literal(text: str) -> str:
    """An SQL string constant that means ``text`` whatever standard_conforming_strings is."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A setting's name as SQL: each part between dots quoted."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


def custom_names(settings: Settings, touched: Collection[str]) -> set[str]:
    """The names with a dot among what is set and what was touched."""
    return {name for name in (*touched, *(name for name, _ in settings)) if "." in name}

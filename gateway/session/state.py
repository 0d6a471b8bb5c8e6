"""What a PostgreSQL session holds, as the server itself tells it, and how to give it to another.

Settings are moved: replayed on the next server. The rest pins the client to its server for as
long as it lasts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from gateway.errors import ProtocolViolation

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
    LOADED = "state of its process"
    SEQUENCE = "sequence value"
    RANDOM_SEED = "random seed"
    UNKNOWN = "unknown state"


LASTING = frozenset({Pin.SESSION_MODE, Pin.LOADED, Pin.SEQUENCE, Pin.RANDOM_SEED, Pin.PREPARED})
"""Pins that the server can't tell of, so that only the client's end removes them."""

UNSEEN: Setting = ("*", "")
"""Among what a server has: settings that no query lists may have been changed too."""

_HELD = """\
SELECT 'setting' AS kind, name, setting AS value FROM pg_catalog.pg_settings
 WHERE source OPERATOR(pg_catalog.=) 'session' AND name OPERATOR(pg_catalog.<>) ALL
 (ARRAY['transaction_isolation', 'transaction_read_only', 'transaction_deferrable'])
UNION ALL (SELECT 'temporary object', '', '' FROM pg_catalog.pg_depend
 WHERE refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
 AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() LIMIT 1)
UNION ALL (SELECT 'advisory lock', '', '' FROM pg_catalog.pg_locks
 WHERE locktype OPERATOR(pg_catalog.=) 'advisory'
 AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() LIMIT 1)
UNION ALL (SELECT 'held cursor', '', '' FROM pg_catalog.pg_cursors WHERE is_holdable LIMIT 1)
UNION ALL SELECT 'prepared by SQL', name, statement FROM pg_catalog.pg_prepared_statements
 WHERE from_sql
UNION ALL SELECT 'listen', channel, '' FROM pg_catalog.pg_listening_channels() channel"""

_OURS = "gateway."
"""Settings that no library knows better."""

_HEX = "pg_catalog.encode(pg_catalog.convert_to({}, pg_catalog.getdatabaseencoding()), 'hex')"
"""Text as the server has it, whatever the session's client_encoding can say."""

ROLE_NAMES = ("session_authorization", "role")
"""In the order in which they must be set: the first puts an end to the second."""

_SCOPE_NAMES = ("search_path", "standard_conforming_strings", *ROLE_NAMES)

_DURATION = re.compile(r"\s*(\d+)\s*(us|ms|s|min|h|d|)\s*")
_UNITS_S = {"us": 1e-6, "ms": 1e-3, "": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}

_ESCAPED = tuple(
    chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\x{byte:02x}"
    for byte in range(256)
)


@dataclass(frozen=True, slots=True)
class Found:
    """What a probe found: settings that differ from a fresh session's, and reasons to pin."""

    settings: Settings
    pins: frozenset[Pin]
    channels: frozenset[bytes] = frozenset()
    """What the session listens to; a reason to pin only until that is moved."""
    prepared: tuple[tuple[str, str], ...] = ()
    """What was prepared by SQL: name and the text that did it."""


def probe_sql(custom_names: Iterable[str]) -> str:
    """The query that tells what the session holds.

    ``custom_names`` are the settings with a dot that were ever touched: pg_settings hides them.
    Nothing in it depends on the session's search_path or client_encoding.
    """
    unlisted = [literal(name) for name in (*ROLE_NAMES, *sorted(custom_names))]
    held = _HELD + "".join(
        f"\nUNION ALL SELECT 'setting', {name}, pg_catalog.current_setting({name}, true)"
        for name in unlisted
    )
    return f"SELECT kind, {_HEX.format('name')}, {_HEX.format('value')} FROM ({held}) AS held"


def read_probe(rows: Iterable[list[bytes | None]], session_user: str) -> Found:
    """The answer to `probe_sql`; ``session_user`` is whom the connection logged in as.

    Raises ProtocolViolation when it isn't one.
    """
    settings: dict[str, str] = {}
    pins: set[Pin] = set()
    channels: set[bytes] = set()
    prepared: list[tuple[str, str]] = []
    try:
        for kind, name, value in rows:
            if kind == b"setting":
                key, text = _unhex(name or b"").lower(), None if value is None else _unhex(value)
                if not _is_default(key, text, session_user):
                    settings[_text(key)] = _text(text or b"")
                continue
            pins.add(Pin((kind or b"").decode()))
            if kind == b"listen":
                channels.add(_unhex(name or b""))
            elif kind == b"prepared by SQL":
                prepared.append((_text(_unhex(name or b"")), _text(_unhex(value or b""))))
    except ValueError:
        raise ProtocolViolation("the server's answer about its session is malformed") from None
    return Found(ordered(settings), frozenset(pins), frozenset(channels), tuple(prepared))


def _is_default(name: bytes, value: bytes | None, session_user: str) -> bool:
    """A setting with a dot is NULL until it is first set; a RESET leaves it empty."""
    if name == b"role":
        return value == b"none"
    if name == b"session_authorization":
        return value == session_user.encode()
    return value is None


def _unhex(digits: bytes) -> bytes:
    return bytes.fromhex(digits.decode("ascii"))


def _text(raw: bytes) -> str:
    """Text, or whatever bytes a database of another encoding holds; `literal` is the way back."""
    return raw.decode("utf-8", "surrogateescape")


def merged(startup: Settings, found: Settings) -> Settings:
    """What the client's session has, where ``found`` is what its server has.

    Back to its default is, for the client, back to what it asked for at startup.
    """
    settings = {name: value for name, value in found if value or "." not in name}
    return ordered({**dict(found), **dict(startup), **settings})


def ordered(settings: dict[str, str]) -> Settings:
    """A mapping in the form that is compared and kept."""
    return tuple(sorted(settings.items()))


def replay_sql(have: Settings, want: Settings) -> str:
    """Statements that bring a session from ``have`` to ``want``; empty when nothing differs.

    Identity first goes back to the login, so that the rest is set with its rights, and is set
    last. All ASCII, to mean the same in every client_encoding, and without the values in the
    answer, which not every client_encoding can say.
    """
    if have == want:
        return ""
    current, target = dict(have), dict(want)
    statements = ["RESET ROLE", "RESET SESSION AUTHORIZATION"] if _identity(have) else []
    if UNSEEN in have:
        statements.append("RESET ALL")
        current = {}
    changes = [(name, "NULL") for name in current if name not in target]
    changes += [(name, literal(value)) for name, value in want if current.get(name) != value]
    rows = [f"({literal(name)}, {value})" for name, value in changes if name not in ROLE_NAMES]
    if rows:
        statements.append(
            "SELECT pg_catalog.set_config(name, value, false) IS NULL"
            f" FROM (VALUES {', '.join(rows)}) AS setting (name, value)"
        )
    statements += [
        f"SELECT pg_catalog.set_config('{name}', {literal(target[name])}, false) IS NULL"
        for name in ROLE_NAMES
        if name in target
    ]
    return "; ".join(statements)


def may_fail(have: Settings, want: Settings) -> bool:
    """Whether a replay must be waited for, because a statement must not run after it has failed.

    A role may have been dropped, or be what gives the right to the rest; a name with a dot may
    belong to a library that is loaded here and knows better. PostgreSQL's own settings, with
    values it took before, are safe.
    """
    if have == want:
        return False
    changed = {name for name, _ in set(have) ^ set(want)}
    dotted = any("." in name and not name.startswith(_OURS) for name in changed)
    return dotted or bool(_identity(have) or _identity(want))


def _identity(settings: Settings) -> list[Setting]:
    return [setting for setting in settings if setting[0] in ROLE_NAMES]


def scope_of(settings: Settings) -> Settings:
    """The settings that change what a statement's text means."""
    return tuple(setting for setting in settings if setting[0] in _SCOPE_NAMES)


def idle_limit_s(settings: Settings) -> float:
    """A session's own idle_session_timeout in seconds; 0: none. A server is not to end by it."""
    if not settings:
        return 0.0
    found = _DURATION.fullmatch(dict(settings).get("idle_session_timeout", ""))
    return 0.0 if found is None else int(found[1]) * _UNITS_S[found[2]]


def literal(text: str) -> str:
    """An SQL string constant in ASCII that means ``text`` whatever the session's settings are."""
    return "E'" + "".join(map(_ESCAPED.__getitem__, text.encode("utf-8", "surrogateescape"))) + "'"


def custom_names(settings: Settings, touched: Collection[str]) -> set[str]:
    """The names with a dot among what is set and what was touched."""
    return {name for name in (*touched, *(name for name, _ in settings)) if "." in name}

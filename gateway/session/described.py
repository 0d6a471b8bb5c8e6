"""What a prepared statement returns, so that a change of tables is told as PostgreSQL tells it.

A server that has prepared a statement refuses it once its columns are others ("cached plan must not
change result type"), and drivers rely on that: they read rows by the columns they were told at
first. A server that gets to know the statement only afterwards would return the new ones.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.pool.prepared import NAME_PREFIX, Described, Statement
from gateway.pool.server import ServerConnection
from gateway.protocol import messages, replies
from gateway.protocol.replies import Expected

STALE = NAME_PREFIX + b"none"
"""A name that nothing has: a message about it fails, and so does what follows in its batch."""

_FIELDS = (
    ("S", "ERROR"),
    ("V", "ERROR"),
    ("C", "0A000"),
    ("M", "cached plan must not change result type"),
    ("F", "plancache.c"),
    ("R", "RevalidateCachedQuery"),
)
STALE_ERROR = messages.message(
    b"E", b"".join(messages.cstring(code + text) for code, text in _FIELDS) + b"\0"
)
"""PostgreSQL's own error, which drivers know by its fields; without the line of its source."""

_CHECK = NAME_PREFIX + b"check\0"
_CLOSE_CHECK = messages.message(b"C", b"S" + _CHECK)
_DESCRIBE_CHECK = messages.message(b"D", b"S" + _CHECK)
_ROW_DESCRIPTION = ord("T")
_PARAMETERS = ord("t")
_COLUMNS = (_ROW_DESCRIPTION, ord("n"))
"""RowDescription and NoData."""
_BEFORE_TYPE, _TYPE, _SIZE, _MODIFIER, _FORMAT = 6, 4, 2, 4, 2


def keeping(server: ServerConnection, statement: Statement) -> Expected:
    """What to expect of a client's Describe whose answer is to be kept."""
    schema, now = server.schema, server.schema.changes

    def on_message(tag: int, body: bytes) -> None:
        statement.described.setdefault(schema, Described(columns(tag, body), now))

    return Expected(replies.DESCRIBE, on_message=on_message)


def describe_first(server: ServerConnection, statement: Statement, name: bytes) -> bytes:
    """What to send behind a statement's Parse, booked: its client may never ask what it returns.

    ``name`` is what the server knows it by.
    """
    schema = server.schema

    def on_found(found: Described) -> None:
        statement.described.setdefault(schema, found).parameters = found.parameters

    on_message = reading(schema.changes, on_found)
    server.replies.expect(Expected(replies.DESCRIBE, silent=True, on_message=on_message))
    return messages.message(b"D", b"S" + name + b"\0")


def describe_anew(server: ServerConnection, statement: Statement, known: Described) -> bytes:
    """What to send, booked, to learn whether the statement returns what it did."""

    def on_found(found: Described) -> None:
        known.parameters = known.parameters or found.parameters
        known.refusal = refusal(known, found)
        known.checked_at = found.checked_at

    on_message = reading(server.schema.changes, on_found)
    for expected in (
        Expected(replies.CLOSE, silent=True),
        Expected(replies.PARSE, silent=True),
        Expected(replies.DESCRIBE, silent=True, on_message=on_message),
        Expected(replies.CLOSE, silent=True),
    ):
        server.replies.expect(expected)
    parse = statement.parse_message(_CHECK[:-1])
    return b"".join((_CLOSE_CHECK, parse, _DESCRIBE_CHECK, _CLOSE_CHECK))


def refusal(known: Described, found: Described) -> bytes:
    """What PostgreSQL says to who executes what returned ``known``, and now returns ``found``."""
    return b"" if found.columns == known.columns else STALE_ERROR


def reading(now: int, on_found: Callable[[Described], None]) -> Callable[[int, bytes], None]:
    """What reads the answer to a Describe of a statement; ``on_found`` is not told of an error."""
    found = Described(0, now)

    def on_message(tag: int, body: bytes) -> None:
        if tag == _PARAMETERS:
            found.parameters = messages.message(b"t", body)
        elif tag in _COLUMNS:
            found.columns = columns(tag, body)
            on_found(found)

    return on_message


def columns(tag: int, body: bytes) -> int:
    """A digest of a RowDescription's names and types, or of a NoData.

    What doesn't make PostgreSQL refuse a statement is left out: which table and column it comes
    from, and the format.
    """
    if tag != _ROW_DESCRIPTION:
        return 0
    parts: list[bytes] = [b"columns"]
    at = 2
    for _ in range(int.from_bytes(body[:2], "big")):
        name, at = messages.read_cstring(body, at)
        at += _BEFORE_TYPE
        modifier = at + _TYPE + _SIZE
        parts += (name, body[at : at + _TYPE], body[modifier : modifier + _MODIFIER])
        at = modifier + _MODIFIER + _FORMAT
    return hash(tuple(parts))

"""RESET and DISCARD ALL for a client that named settings at its startup: back to those.

To its servers they are a session's settings, which such a statement puts back to the database's.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.pool.server import ServerConnection
from gateway.protocol import messages, replies
from gateway.router.facts import Facts, Verb
from gateway.session.state import ROLE_NAMES, Settings, literal, replay_sql

_RESETTING = (Verb.SET, Verb.DISCARD)
_LISTS = frozenset(
    ["search_path", "temp_tablespaces", "session_preload_libraries", "local_preload_libraries"]
)
"""Lists of names: SET would take their text for one name."""


def restores(startup: Settings, facts: Facts) -> tuple[str, ...]:
    """Commands that give back the startup settings that a statement resets.

    None for SET LOCAL, and none inside a text of several statements: the client has them back
    when the transaction is over.
    """
    if not startup or len(facts.statements) != 1 or facts.statements[0].verb not in _RESETTING:
        return ()
    changes = facts.statements[0].settings
    names = {change.name for change in changes if not change.values and not change.local}
    return tuple(
        _set(name, value)
        for name, value in startup
        if name not in ROLE_NAMES and (name in names or "*" in names)
    )


def _set(name: str, value: str) -> str:
    """SET, which takes no snapshot: it may be followed by SET TRANSACTION."""
    if name in _LISTS:
        return replay_sql((), ((name, value),))
    parts = (part.replace('"', '""') for part in name.split("."))
    return "SET " + ".".join(f'"{part}"' for part in parts) + f" TO {literal(value)}"


def as_batch(server: ServerConnection, text: bytes, commands: Iterable[str]) -> bytes:
    """A simple Query of one statement, and what follows it unseen, answered as the Query is.

    One ReadyForQuery for all: what changed and was changed back is not reported to the client.
    """
    batch = server.prepare_step(text.decode("utf-8", "surrogateescape"), _nothing, silent=False)
    batch += steps(server, commands)
    server.prepared.sync_sent()
    server.replies.expect(replies.CLIENT_SYNC)
    return batch + messages.SYNC


def steps(server: ServerConnection, commands: Iterable[str]) -> bytes:
    """What follows the client's Execute in its batch."""
    return b"".join(server.prepare_step(command, _nothing) for command in commands)


def _nothing() -> None:
    """The batch has failed: nothing was reset."""

"""RESET and DISCARD ALL for a client that named settings at its startup: back to those.

To its servers they are a session's settings, which such a statement puts back to the database's.
"""

from __future__ import annotations

from gateway.pool.server import ServerConnection
from gateway.protocol import messages, replies
from gateway.router.facts import Facts, Verb
from gateway.session.state import ROLE_NAMES, Settings, replay_sql

_RESETTING = (Verb.SET, Verb.DISCARD)


def restore_sql(startup: Settings, facts: Facts) -> str:
    """What gives back the startup settings that a statement resets; empty when it resets none.

    Not for SET LOCAL, and not inside a text of several statements: the client has them back when
    the transaction is over.
    """
    if len(facts.statements) != 1 or facts.statements[0].verb not in _RESETTING:
        return ""
    changes = facts.statements[0].settings
    names = {change.name for change in changes if not change.values and not change.local}
    lost = [
        setting
        for setting in startup
        if setting[0] not in ROLE_NAMES and (setting[0] in names or "*" in names)
    ]
    return replay_sql((), tuple(lost))


def as_batch(server: ServerConnection, text: bytes, restore: str) -> bytes:
    """A simple Query of one statement, and what follows it unseen, answered as the Query is.

    One ReadyForQuery for both: what changed and was changed back is not reported to the client.
    """
    batch = server.prepare_step(text.decode("utf-8", "surrogateescape"), _nothing, silent=False)
    batch += server.prepare_step(restore, _nothing)
    server.prepared.sync_sent()
    server.replies.expect(replies.CLIENT_SYNC)
    return batch + messages.SYNC


def restore_step(server: ServerConnection, restore: str) -> bytes:
    """What follows the client's Execute in its batch."""
    return server.prepare_step(restore, _nothing)


def _nothing() -> None:
    """The batch has failed: nothing was reset."""
